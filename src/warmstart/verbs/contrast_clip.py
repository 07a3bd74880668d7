"""`contrast clip`: two towers, captioned images → one space, in a result folder that adapts further."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from warmstart.backbones.embed import best_device
from warmstart.backbones.feature_cache import FeatureCache
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.resolve import cache_root
from warmstart.contrastive.clip import (
    TEXT,
    VISION,
    Judge,
    Side,
    check_sides,
    check_training,
    encode,
    new_side,
    old_side,
    train_clip,
)
from warmstart.contrastive.fitting import ContrastOutcome
from warmstart.contrastive.settings import ContrastSettings, settings_from
from warmstart.contrastive.temperature import MAX_SCALE, MIN_SCALE
from warmstart.core.clock import Clock
from warmstart.core.contrast import ContrastRecord, Example, PairsCard, RankScores
from warmstart.core.contrast_options import ContrastClipOptions
from warmstart.core.errors import ModelError, SettingError
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.data.captions import Captioned, CaptionTask, load_captions, retrieval
from warmstart.data.pictures import as_jpeg
from warmstart.verbs.clip_saving import save_pair
from warmstart.verbs.contrast import ContrastResult, begin, contrast_record, result_of
from warmstart.verbs.processes import Processes
from warmstart.verbs.vector_check import text_side
from warmstart.verbs.workspace import Workspace

TEMPERATURE = 0.07  # where a new pair starts (arXiv 2103.00020, sec. 2.5)
_RESERVE_SHARE = 1.5  # of the seconds that ranking the test images took before, kept for what follows training
_RESERVE_LEAST = 30.0  # seconds: saving, and loading again in a new process
_EXAMPLES, _FOUND = 6, 5  # test captions in the report, and images found for each
_THUMBNAIL = 112  # pixels, the longer side


@dataclass(frozen=True)
class Pair:
    """The two towers, and what they come from.

    Attributes:
        vision: of images.
        text: of texts.
        whole: a pair of transformers' own or of warmstart's that is gone on with; None for two models.
        backbones: the loaded models, images first.
    """

    vision: Side
    text: Side
    whole: PreTrainedModel | None
    backbones: tuple[Backbone, Backbone]

    def digests(self) -> dict[str, str]:
        """What tells the weights from any other."""
        return {name: backbone.card.digest for name, backbone in zip((VISION, TEXT), self.backbones, strict=True)}


@verb(ContrastClipOptions)
def contrast_clip(options: ContrastClipOptions) -> ContrastResult:
    """Train an image encoder and a text encoder on captioned images, so that each finds the other's.

    The result embeds images and texts in one space: `adapt --strategy zero_shot --model OUT` classifies images by the
    names of their labels. Under torchrun every process trains on its share of each batch, and the first one writes.

    Raises:
        UserError: something in the call, the data or the machine must change; nothing was written.
        ContrastError: training diverged.
        RoundTripError: the saved model differs from the tested one; there is no result folder.
    """
    clock = Clock(options.time_budget)
    device = best_device()
    processes = Processes(device)
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    if processes.is_main:
        workspace.check()
    start = TEMPERATURE if options.temperature is None else options.temperature
    settings = settings_from(dataclasses.replace(options, temperature=start), options.seed, device)
    _check_models(options)
    task = load_captions(options)
    _show(task.card)
    pair = load_pair(options)
    if options.temperature is None and pair.whole is not None:
        settings = _at_temperature(settings, 1 / pair.backbones[0].logit_scale)
    check_sides(pair.vision, pair.text, learns_temperature=options.learn_temperature)
    check_training(pair.vision, pair.text, len(task.train), settings, processes.world)
    begin(workspace, processes, clock, options, {"data": task.card.fingerprint, **pair.digests()})
    outcome, scores, judge = _train(options, settings, task, pair, workspace.stage("training"), clock)
    processes.tell()
    if processes.is_main:
        vectors = judge.vectors(outcome.encoders[VISION], outcome.encoders[TEXT])
        after = (judge.text_to_image(*vectors), judge.image_to_text(*vectors))
        _show_scores("After", after)
        record = _record(options, task, pair, settings, outcome, (scores, after), clock)
        record = dataclasses.replace(record, examples=_examples(judge, vectors, task.test, options.seed))
        reporter().say("Saving, and loading again in a new process …")
        sides = (pair.vision, pair.text)
        name = Path(options.output_dir).name
        save_pair(workspace.staging(), name, pair.whole, sides, outcome, record, task.test)
        workspace.publish()
    processes.wait()
    return result_of(workspace)


def _train(
    options: ContrastClipOptions,
    settings: ContrastSettings,
    task: CaptionTask,
    pair: Pair,
    work: Path,
    clock: Clock,
) -> tuple[ContrastOutcome, tuple[RankScores, RankScores], Judge]:
    """Train; also how both directions were before, and what judges the test images."""
    cache = FeatureCache(cache_root(options.cache_dir))
    key = {"data": task.card.fingerprint, **pair.digests()}
    with reporter().bar("Locked towers") if options.lock != "none" else reporter().bar("Reading") as bar:
        splits = {
            name: encode(
                part,
                pair.vision,
                pair.text,
                cache,
                {**key, "split": name},
                judged=name != "train",
                bar=bar if options.lock != "none" else None,
            )
            for name, part in (("train", task.train), ("validation", task.validation), ("test", task.test))
        }
    judge = Judge(splits["test"])
    start = clock.spent()
    vectors = judge.vectors(pair.vision.encoder, pair.text.encoder)
    before = (judge.text_to_image(*vectors), judge.image_to_text(*vectors))
    reserve = max(_RESERVE_LEAST, _RESERVE_SHARE * (clock.spent() - start))
    _show_scores("Before", before)
    augment = not pair.vision.locked if options.augment == "auto" else options.augment == "true"
    with reporter().bar(f"Contrast, {len(task.train):,} pairs") as progress:
        outcome = train_clip(
            pair.vision,
            pair.text,
            splits["train"],
            splits["validation"],
            settings,
            augment=augment,
            work=work,
            clock=clock,
            reserve=reserve,
            progress=progress,
        )
    return outcome, before, judge


def _at_temperature(settings: ContrastSettings, temperature: float) -> ContrastSettings:
    """The settings with the temperature of a pair that is gone on with, as far as a learnt one may reach."""
    options = settings.options
    if options.learn_temperature:
        temperature = min(max(temperature, 1 / MAX_SCALE), 1 / MIN_SCALE)
    return dataclasses.replace(settings, options=dataclasses.replace(options, temperature=temperature))


def _check_models(options: ContrastClipOptions) -> None:
    pair = (options.vision_model, options.text_model)
    if options.model is not None and any(name is not None for name in pair):
        raise SettingError("--model is a pair already: leave out --vision-model and --text-model, or --model.")
    if options.model is None and None in pair:
        raise SettingError("Name --vision-model and --text-model, or --model for a CLIP-like model to go on with.")
    if options.augment == "true" and options.lock in ("vision", "both"):
        raise SettingError("--augment is true, but what a locked image tower gives is computed once: not augmented.")


def load_pair(options: ContrastClipOptions) -> Pair:
    """Load the towers that the options name.

    Raises:
        ModelError: one is not found, reads something else, or cannot be trained.
    """
    locked = {name: options.lock in (name, "both") for name in (VISION, TEXT)}
    if options.model is not None:
        return _load_whole(options, options.model, locked)
    vision = _load(str(options.vision_model), options, options.vision_pooling)
    if vision.kind != "image":
        raise ModelError(
            f"--vision-model is {vision.card.name}, which reads {vision.kind}s. Name one that reads images."
        )
    text = text_side(_load(str(options.text_model), options, options.text_pooling))
    if text.kind != "text":
        raise ModelError(f"--text-model is {text.card.name}, which reads {text.kind}s. Name one that reads texts.")
    made = [
        new_side(
            backbone,
            options.projection_dim,
            hidden=options.projection == "mlp",
            locked=locked[name],
            seed=options.seed + number,
        )
        for number, (name, backbone) in enumerate(((VISION, vision), (TEXT, text)))
    ]
    for what, backbone in (("Images", vision), ("Texts", text)):
        card = backbone.card
        reporter().say(f"{what}: {card.name}, {card.parameters:,} parameters, from {card.source}")
    return Pair(made[0], made[1], None, (vision, text))


def _load_whole(options: ContrastClipOptions, name: str, locked: dict[str, bool]) -> Pair:
    if options.vision_pooling is not None or options.text_pooling is not None:
        raise SettingError(f"{name} has two towers with a pooling of their own: leave out the pooling.")
    backbone = _load(name, options, None)
    if backbone.embed_labels is None or backbone.kind != "image":
        raise ModelError(f"--model is {name}, which is no CLIP-like model. Name --vision-model and --text-model.")
    if backbone.text_tower is None:
        raise ModelError(
            f"--model is {name}, whose text tower reads texts in a way of its own, which cannot be trained here."
        )
    card = backbone.card
    reporter().say(f"Model: {card.name}, from {card.source}, two towers")
    vision = old_side(backbone, locked=locked[VISION])
    text = old_side(backbone.text_tower, locked=locked[TEXT])
    return Pair(vision, text, backbone.whole, (backbone, backbone.text_tower))


def _load(name: str, options: ContrastClipOptions, pooling: str | None) -> Backbone:
    return load_backbone(
        name,
        pooling=pooling,
        max_length=options.max_length,
        image_size=options.image_size,
        trust_remote_code=options.trust_remote_code,
    )


def _show(card: PairsCard) -> None:
    roles = ", ".join(
        f"{role} = {column!r}{' (guessed)' if role in card.guessed else ''}" for role, column in card.columns.items()
    )
    sizes = ", ".join(
        f"{images:,} images with {card.sizes[name]:,} captions for {name}" for name, images in card.images.items()
    )
    reporter().say(f"Data: {card.source} ({roles}): {sizes}")
    if card.dropped:
        reporter().warn(f"{card.dropped:,} rows were left out: no image that can be read, or an empty caption.")


def _show_scores(when: str, scores: tuple[RankScores, RankScores]) -> None:
    said = []
    for way, found in zip(("text → image", "image → text"), scores, strict=True):
        recalls = [found.recall_at_1, found.recall_at_5, found.recall_at_10]
        shown = "/".join(f"{100 * recall.value:.1f}" for recall in recalls if recall is not None)
        said.append(f"{way} recall@1/5/10 {shown} % among {found.candidates:,}")
    reporter().say(f"{when}: {'; '.join(said)}")


def _record(
    options: ContrastClipOptions,
    task: CaptionTask,
    pair: Pair,
    settings: ContrastSettings,
    outcome: ContrastOutcome,
    scores: tuple[tuple[RankScores, RankScores], tuple[RankScores, RankScores]],
    clock: Clock,
) -> ContrastRecord:
    (before, before_back), (after, after_back) = scores
    chosen = {"lock": options.lock, "image_size": options.image_size}
    if pair.whole is None:
        chosen |= {"projection": options.projection, "projection_dim": options.projection_dim}
    shown = settings.shown() | {name: value for name, value in chosen.items() if value is not None}
    record = contrast_record(
        "contrast clip", options, task.card, pair.backbones[0], settings, outcome, before, after, clock
    )
    return dataclasses.replace(
        record,
        settings=shown,
        text_backbone=pair.backbones[1].card,
        image_to_text_before=before_back,
        image_to_text_after=after_back,
    )


def _examples(judge: Judge, vectors: tuple[np.ndarray, np.ndarray], test: Captioned, seed: int) -> tuple[Example, ...]:
    """A few test captions by chance, with the images that they found."""
    asked = retrieval(test)
    chosen = np.random.default_rng(seed).permutation(len(asked.texts))[:_EXAMPLES]
    examples = []
    for text in chosen.tolist():
        places, rank = judge.found(*vectors, text, _FOUND)
        thumbnails = tuple(as_jpeg(test.pictures[place]["image"], _THUMBNAIL) for place in places)
        right = tuple(place in asked.images_of[text] for place in places)
        examples.append(Example(asked.texts[text], rank, thumbnails, right))
    return tuple(examples)
