"""A run as a Hugging Face model card: the README.md of a result folder.

The head follows the Hub's `model-index` schema. The scores are those of the run whose weights are in the folder (the
chosen strategy's first seed). The full comparison is left to the page.
"""

from __future__ import annotations

import re

from warmstart.core.records import Interval, RunRecord, Scores, TaskCard
from warmstart.report import forgetting, formats
from warmstart.report.front_matter import Value, front_matter
from warmstart.report.summary import SummaryRow, best_floor, scored_run, summary_rows

_SPECIAL = re.compile(r"([\\`*_\[\]{}<>#|~$])")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?\Z")
_WEAK_F1 = 0.6
_FEW_ROWS = 30
_SHOWN = 10


def render_card(record: RunRecord, repo_name: str) -> str:
    """The model card as Markdown with a YAML head.

    Args:
        record: the run; missing scores leave out `model-index`.
        repo_name: the model's name in the card, such as "user/name" or the result folder's name.

    Returns:
        The text of README.md. The license is left out: a record does not know it.
    """
    run = scored_run(record)
    scores = run.test if run is not None else None
    parts = [
        front_matter(_head(record, repo_name, scores)),
        _title(record, repo_name),
        _usage(record, repo_name),
        _scores(record, scores),
        _training(record),
        _limitations(record, scores),
        _origin(record),
    ]
    return "\n".join(parts)


def plain(text: str) -> str:
    """Text of unknown origin as one line of Markdown that shows exactly that text."""
    line = _SPECIAL.sub(r"\\\1", formats.shorten(text, 300).replace("&", "&amp;"))
    return line.replace(r"\<", "&lt;").replace(r"\>", "&gt;")


def _head(record: RunRecord, repo_name: str, scores: Scores | None) -> dict[str, Value]:
    task = pipeline_tag(record.task)
    head: dict[str, Value] = {"library_name": "warmstart", "pipeline_tag": task}
    base = _base_model(record)
    if base:
        head["base_model"] = base
    tags: list[Value] = ["warmstart", "transfer-learning"]
    head["tags"] = [*tags, record.chosen.replace("_", "-")] if record.chosen else tags
    metrics = _metrics(scores) if scores is not None else []
    if metrics:
        source = record.task.source
        result: dict[str, Value] = {
            "task": {"type": task, "name": task.replace("-", " ").capitalize()},
            "dataset": {"name": source, "type": _slug(source), "split": "test"},
            "metrics": metrics,
        }
        head["model-index"] = [{"name": repo_name, "results": [result]}]
    return head


def _metrics(scores: Scores) -> list[Value]:
    named = (("accuracy", "Accuracy", scores.accuracy), ("f1", "Macro-F1", scores.macro_f1))
    return [
        {"type": kind, "name": name, "value": found.value, **({"args": {"average": "macro"}} if kind == "f1" else {})}
        for kind, name, found in named
        if formats.known(found)
    ]


def pipeline_tag(task: TaskCard) -> str:
    """The Hub's name for the task."""
    return "image-classification" if task.modality == "image" else "text-classification"


def _base_model(record: RunRecord) -> str:
    """The base model where it has a Hub name; a folder on this machine means nothing to the Hub."""
    local = any(word in record.backbone.source.lower() for word in ("folder", "local", "path"))
    return record.backbone.name if _HUB_NAME.match(record.backbone.name) and not local else ""


def _slug(source: str) -> str:
    """What the Hub takes as a dataset's type: the last part of the source, in its alphabet."""
    last = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    return re.sub(r"[^\w.-]+", "-", last).strip("-.").lower() or "unknown"


def _title(record: RunRecord, repo_name: str) -> str:
    name = formats.strategy_name(record.chosen) if record.chosen else "No strategy"
    kind = {"image": "images", "pair": "pairs of texts"}.get(record.task.modality, "texts")
    return (
        f"# {plain(repo_name)}\n\n"
        f"Sorts {kind} into {len(record.task.labels):,} classes. Adapted from {plain(record.backbone.name)} "
        f"with warmstart; strategy: {plain(name)}.\n"
    )


def _usage(record: RunRecord, repo_name: str) -> str:
    folder = re.sub(r"[^\w./-]", "-", repo_name.split("/")[-1]) or "result"
    image = record.task.modality == "image"
    file, example = ("photos/", '"photo.jpg"') if image else ("more.csv", '"A text to classify."')
    if record.task.modality == "pair":
        example = '("The first text.", "The second text.")'
    return (
        "## Use\n\n"
        f"```bash\nwarmstart predict {folder} --data {file}\n```\n\n"
        f'```python\nimport warmstart\n\nmodel = warmstart.load("{folder}")\nmodel.predict([{example}])\n```\n'
    )


def _scores(record: RunRecord, scores: Scores | None) -> str:
    if scores is None:
        return "## Scores\n\nThis model has no test scores.\n"
    lines = [
        f"On {scores.rows:,} held-out rows; brackets are 95 % intervals.",
        "",
        "| measure | value |",
        "|---|---|",
        f"| accuracy, % | {formats.interval_percent(scores.accuracy)} |",
        f"| macro-F1, % | {formats.interval_percent(scores.macro_f1)} |",
        f"| log-loss, nats | {_nats(scores.log_loss)} |",
        f"| calibration error, points | {formats.bare_percent(scores.calibration_error)} "
        f"(before temperature scaling {formats.bare_percent(scores.calibration_error_raw)}) |",
        *_floor_line(best_floor(summary_rows(record))),
    ]
    return "## Scores\n\n" + "\n".join(lines) + "\n"


def _nats(interval: Interval) -> str:
    if not formats.bounded(interval):
        return formats.number(interval.value)
    return f"{formats.number(interval.value)} [{formats.number(interval.low)}, {formats.number(interval.high)}]"


def _floor_line(floor: SummaryRow | None) -> list[str]:
    if floor is None:
        return []
    return [f"| for comparison, accuracy of {plain(floor.name)}, % | {formats.interval_percent(floor.accuracy)} |"]


def _training(record: RunRecord) -> str:
    task = record.task
    sizes = ", ".join(f"{rows:,} {plain(formats.split_name(split))}" for split, rows in task.sizes.items()) or "unknown"
    lines = [f"- Source: {plain(task.source)}", f"- Rows: {sizes}"]
    if task.dropped:
        lines.append(f"- Left out as invalid: {task.dropped:,} rows")
    names = [plain(label) for label in task.labels[: 2 * _SHOWN]]
    more = len(task.labels) - len(names)
    lines.append(f"- Classes: {', '.join(names) or 'unknown'}{f' and {more:,} more' if more else ''}")
    lines.append(f"- Split seed: {task.seed}; fingerprint: {plain(task.fingerprint)}")
    return "## Training data\n\n" + "\n".join(lines) + "\n"


def _limitations(record: RunRecord, scores: Scores | None) -> str:
    lines = [
        _ended(plain(finding.message)) + (" They were left out." if finding.dropped else "")
        for finding in record.task.findings
    ]
    train = record.task.counts.get("train", {})
    few = [label for label in record.task.labels if label in train and train[label] < _FEW_ROWS]
    if few:
        lines.append(f"Fewer than {_FEW_ROWS} training rows: {_listed([f'{x} ({train[x]})' for x in few])}.")
    if scores is not None:
        weak = sorted((c for c in scores.per_class if c.f1 < _WEAK_F1), key=lambda c: c.f1)
        if weak:
            named = _listed([f"{c.label} ({formats.percent(c.f1)})" for c in weak])
            lines.append(f"F1 below {formats.percent(_WEAK_F1)}: {named}.")
    kept = forgetting.kept_sentence([run for run in record.runs if run.strategy == record.chosen][:1])
    if kept:
        lines.append(f"{plain(kept)} What it could do beyond this task may be worse than before.")
    lines.append("Rows unlike the training data may be classified with unwarranted confidence.")
    return "## Limitations\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(plain(name) for name in names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _origin(record: RunRecord) -> str:
    command = record.command.replace("```", "` ` `")
    facts = {
        "Made": formats.moment(record.created),
        "Seconds": formats.number(record.seconds) if formats.finite(record.seconds) else "",
        "Machine": record.machine,
        "Versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    }
    told = "\n".join(f"- {name}: {plain(fact)}" for name, fact in facts.items() if fact)
    block = f"```bash\n{command}\n```\n\n" if command else ""
    gap = "\n\n" if told else ""
    tail = "The full comparison is in `report.html` and `results.json`."
    return f"## How it was made\n\n{block}{told}{gap}{tail}\n"
