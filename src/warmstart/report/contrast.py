"""A contrastive run as one self-contained HTML page, and as a model card; from its record alone.

The charts are `contrast_plots`; looks are left to `contrast.html.j2` and `report.css`.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.contrast import ContrastRecord, RankScores
from warmstart.core.records import Interval
from warmstart.report import contrast_plots
from warmstart.report.card import plain
from warmstart.report.formats import interval_percent
from warmstart.report.front_matter import front_matter
from warmstart.report.html import markup, page


@dataclass(frozen=True)
class Words:
    """What a verb's rows are called."""

    rows: str
    repeated: str
    asked: str  # who looked for what, before and after the two numbers of them
    among: str


_WORDS = {
    "contrast simclr": Words(
        "images",
        "Images that look like another",
        "test images each gave two random views, and the first looked for the second among those of",
        "images",
    ),
    "contrast clip": Words(
        "pairs",
        "Captions that repeat",
        "test captions each looked for their image among",
        "images, and each image for any of its captions",
    ),
}
_PAIRS = Words("pairs", "Anchors that repeat", "test queries each looked for their own answer among", "candidates")

TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text → image", "image → text"


@dataclass(frozen=True)
class ScoreRow:
    """One line of the comparison: what was ranked with, and how well."""

    name: str
    scores: RankScores


def render_contrast(record: ContrastRecord) -> str:
    """The page that shows a run: verdict, before and after, course, groups, data, model, and how to repeat it.

    Returns:
        An HTML document without scripts or outside references; every text in it is escaped.
    """
    return page(
        "contrast.html.j2",
        record=record,
        headline=headline(record),
        better=verdict(record),
        rows=score_rows(record),
        at_five=at_five(record),
        words=_WORDS.get(record.verb, _PAIRS),
        knn=knn_line(record),
        training=markup(contrast_plots.training(record.history, "training")),
        vectors=markup(contrast_plots.vectors(record.history, "vectors")),
    )


def score_rows(record: ContrastRecord) -> list[ScoreRow]:
    """Before, after, and after with shorter vectors; of images and texts, both ways."""
    if record.image_to_text_before is not None and record.image_to_text_after is not None:
        return [
            ScoreRow(f"{TEXT_TO_IMAGE}, before", record.before),
            ScoreRow(f"{TEXT_TO_IMAGE}, after", record.after),
            ScoreRow(f"{IMAGE_TO_TEXT}, before", record.image_to_text_before),
            ScoreRow(f"{IMAGE_TO_TEXT}, after", record.image_to_text_after),
        ]
    rows = [ScoreRow("before", record.before), ScoreRow("after", record.after)]
    for dimensions, scores in record.by_dimension.items():
        earlier = record.before_by_dimension.get(dimensions)
        rows += [] if earlier is None else [ScoreRow(f"before, {dimensions} dimensions", earlier)]
        rows.append(ScoreRow(f"after, {dimensions} dimensions", scores))
    return rows


def verdict(record: ContrastRecord) -> str:
    """Say "good", "bad" or "mixed": whether the interval after lies above, below, or across the value before."""
    before, after = record.before.reciprocal_rank, record.after.reciprocal_rank
    if after.low > before.value:
        return "good"
    return "bad" if after.high < before.value else "mixed"


def knn_line(record: ContrastRecord) -> str:
    """How well nearest neighbours name the classes of the test images; empty where that was not asked for."""
    if record.knn_before is None or record.knn_after is None:
        return ""
    before, after = (interval_percent(found) for found in (record.knn_before, record.knn_after))
    return (
        f"Test images named by a vote of their nearest labelled images, accuracy in %: {before} before, {after} after."
    )


def headline(record: ContrastRecord) -> str:
    """What came of it, in one line."""
    before, after = record.before.recall_at_10, record.after.recall_at_10
    change = {"good": "rose", "bad": "fell", "mixed": "went"}[verdict(record)]
    what = f"Recall@10 of {TEXT_TO_IMAGE}" if record.text_backbone is not None else "Recall@10"
    if _percent(before) == _percent(after):
        return f"{what} stayed at {_percent(after)} %"
    return f"{what} {change} from {_percent(before)} to {_percent(after)} %"


def at_five(record: ContrastRecord) -> bool:
    """Whether recall@5 was measured."""
    return all(row.scores.recall_at_5 is not None for row in score_rows(record))


def render_clip_card(record: ContrastRecord, name: str, *, own_form: bool) -> str:
    """The model card of an image tower and a text tower.

    Args:
        record: the run.
        name: what the model is called.
        own_form: whether it is a `TowerPairModel`, which transformers loads once warmstart is imported.
    """
    head = front_matter(
        {
            "library_name": "transformers",
            "pipeline_tag": "zero-shot-image-classification",
            "tags": ["image-text-retrieval", "feature-extraction", "warmstart"],
        }
    )
    towers = [record.backbone] if record.text_backbone is None else [record.backbone, record.text_backbone]
    models = " and ".join(dict.fromkeys(plain(card.name) for card in towers))
    code = (
        ["from warmstart import load_backbone  # makes the architecture known to transformers", ""] if own_form else []
    )
    code += [
        "from PIL import Image",
        "from transformers import AutoImageProcessor, AutoModel, AutoTokenizer",
        "",
        'folder = "this folder"',
        "model = AutoModel.from_pretrained(folder).eval()",
        'image = Image.open("a.jpg").convert("RGB")',
        'pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        'tokens = tokenizer(["a dog", "a beach"], padding=True, return_tensors="pt")',
        'scores = model(tokens["input_ids"], pixels["pixel_values"], tokens["attention_mask"]).logits_per_image',
    ]
    lines = [
        head,
        f"# {plain(name)}",
        "",
        f"{models}, trained by contrast on {record.data.sizes['train']:,} captions of "
        f"{record.data.images.get('train', 0):,} images of {plain(record.data.source)}.",
        "",
        "```python",
        *code,
        "```",
        "",
        "Zero-shot classification: `warmstart adapt --strategy zero_shot --model THIS_FOLDER --data IMAGES …`.",
        "",
        f"## On {record.after.queries:,} test captions and {record.after.candidates:,} images",
        "",
        "| | recall@1, % | recall@5, % | recall@10, % | mean reciprocal rank |",
        "|---|---|---|---|---|",
    ]
    for row in score_rows(record):
        found = row.scores
        recalls = [found.recall_at_1, found.recall_at_5, found.recall_at_10]
        cells = ["–" if recall is None else _percent(recall) for recall in recalls]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {found.reciprocal_rank.value:.3f} |")
    lines += ["", "## How", "", f"`{record.command}`", ""]
    return "\n".join(lines)


def render_contrast_card(record: ContrastRecord, name: str) -> str:
    """The model card as Markdown with a YAML head, in the form that sentence-transformers' models have on the Hub."""
    head = front_matter(
        {
            "library_name": "sentence-transformers",
            "pipeline_tag": "sentence-similarity",
            "tags": ["sentence-transformers", "feature-extraction", "sentence-similarity", "warmstart"],
        }
    )
    lines = [
        head,
        f"# {plain(name)}",
        "",
        f"{plain(record.backbone.name)}, trained by contrast on {record.data.sizes['train']:,} pairs of "
        f"{plain(record.data.source)}.",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        'model = SentenceTransformer("this folder")',
        'vectors = model.encode(["a text", "another"])',
        "```",
        "",
        f"## On {record.after.queries:,} test queries among {record.after.candidates:,} candidates",
        "",
        "| | recall@1, % | recall@10, % | mean reciprocal rank |",
        "|---|---|---|---|",
    ]
    for row in score_rows(record):
        found = row.scores
        cells = [_percent(found.recall_at_1), _percent(found.recall_at_10), f"{found.reciprocal_rank.value:.3f}"]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    lines += ["", "## How", "", f"`{record.command}`", ""]
    return "\n".join(lines)


def render_image_card(record: ContrastRecord, name: str) -> str:
    """The model card of an image encoder, as Markdown with a YAML head."""
    head = front_matter(
        {
            "library_name": "transformers",
            "pipeline_tag": "image-feature-extraction",
            "tags": ["image-feature-extraction", "warmstart"],
        }
    )
    before, after = record.before, record.after
    lines = [
        head,
        f"# {plain(name)}",
        "",
        f"{plain(record.backbone.name)} ({plain(record.backbone.source)}), trained by contrast of random views of "
        f"{record.data.sizes['train']:,} images of {plain(record.data.source)}.",
        "",
        "```python",
        "import warmstart",
        "",
        'backbone = warmstart.load_backbone("this folder")',
        "```",
        "",
        f"Vectors are pooled by `{record.backbone.pooling}`. The encoder alone also loads with transformers' "
        "`AutoModel.from_pretrained`, its image processor with `AutoImageProcessor`.",
        "",
        f"## On {after.queries:,} test images",
        "",
        "| | a view finds the other, first, % | among the first ten, % | effective rank |",
        "|---|---|---|---|",
    ]
    for when, found in (("before", before), ("after", after)):
        cells = [_percent(found.recall_at_1), _percent(found.recall_at_10), f"{found.geometry.effective_rank:.1f}"]
        lines.append(f"| {when} | {' | '.join(cells)} |")
    if knn_line(record):
        lines += ["", knn_line(record)]
    return "\n".join([*lines, "", "## How", "", f"`{record.command}`", ""])


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f}"
