"""Images and texts in one space: a batch → (images, captions). What a locked tower gives is computed once.

A tower is a `Side`: an encoder that may have a new head, and may be locked. How pairs are read is `data.captions`'.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import best_device, fast_dtype, forward
from warmstart.backbones.feature_cache import FeatureCache
from warmstart.backbones.load import Backbone
from warmstart.backbones.text_inputs import Inputs, PooledInputs, Preprocessor, Subset
from warmstart.contrastive.batches import PairRows
from warmstart.contrastive.fitting import ContrastOutcome, check_groups, fit_towers
from warmstart.contrastive.info_nce import Direction
from warmstart.contrastive.pair_loss import PairLoss
from warmstart.contrastive.ranking import score_ranks
from warmstart.contrastive.settings import ContrastSettings
from warmstart.contrastive.towers import Towers, tower_groups
from warmstart.contrastive.trainer import ContrastJob, ContrastTrainer
from warmstart.core.clock import Clock
from warmstart.core.contrast import RankScores
from warmstart.core.contrast_options import ContrastClipOptions
from warmstart.core.errors import ModelError, SettingError
from warmstart.core.metrics import unit_rows
from warmstart.data.captions import Captioned, Retrieval, retrieval
from warmstart.train.job import LossPlan, Rows

VISION, TEXT = "vision", "text"


@dataclass(frozen=True)
class Side:
    """One tower.

    Attributes:
        encoder: a copy of the pretrained one, with its new head if it has one.
        preprocessor: what its inputs are made with.
        kept: how many of its dense layers were pretrained; None without a new head.
        locked: whether what was pretrained keeps its weights.
    """

    encoder: Classifier
    preprocessor: Preprocessor
    kept: int | None
    locked: bool

    @property
    def new(self) -> tuple[str, ...]:
        """Dotted names of the new head's layers."""
        first = len(self.encoder.projections) if self.kept is None else self.kept
        return tuple(f"projections.{place}" for place in range(first, len(self.encoder.projections)))


def new_side(backbone: Backbone, width: int, *, hidden: bool, locked: bool, seed: int) -> Side:
    """A tower with a new head on what the model gives; without a bias, so that the length of that does not matter.

    Args:
        backbone: the model.
        width: of the space that is shared.
        hidden: whether the head has a hidden layer, as wide.
        locked: see `Side`.
        seed: of the head's weights, which are drawn with a deviation of 1 / √inputs.
    """
    config = copy.deepcopy(backbone.config)
    kept, features = len(config.projections), backbone.card.features
    first = {"in_features": features, "out_features": width, "bias": hidden, "activation": "identity"}
    specs = [first]
    if hidden:
        last = {"in_features": width, "out_features": width, "bias": False, "activation": "identity"}
        specs = [{**first, "activation": "gelu"}, last]
    config.projections = [*config.projections, *specs]
    config.normalize = True
    encoder = Classifier(config, trunk=copy.deepcopy(backbone.encoder.backbone))
    encoder.projections[:kept].load_state_dict(backbone.encoder.projections.state_dict())
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in encoder.projections[kept:]:
            linear = cast("nn.Linear", cast("nn.Sequential", layer)[0])
            linear.weight.normal_(std=linear.in_features**-0.5, generator=draw)
            if linear.bias is not None:
                linear.bias.zero_()
    return Side(encoder.eval(), backbone.preprocessor, kept, locked)


def old_side(backbone: Backbone, *, locked: bool) -> Side:
    """A tower of a pair, as it is."""
    return Side(copy.deepcopy(backbone.encoder), backbone.preprocessor, None, locked)


def check_sides(vision: Side, text: Side, *, learns_temperature: bool) -> None:
    """Whether two towers can be trained together.

    Raises:
        ModelError: their vectors are not of one width.
        SettingError: nothing would learn.
    """
    widths = [side.encoder.feature_size for side in (vision, text)]
    if widths[0] != widths[1]:
        raise ModelError(f"The image tower gives vectors of {widths[0]} numbers, the text tower of {widths[1]}.")
    if all(side.locked and not side.new for side in (vision, text)) and not learns_temperature:
        raise SettingError("--lock is both, and the towers have no new heads: nothing would learn.")


@dataclass(frozen=True)
class Encoded:
    """A split as both towers read it.

    Attributes:
        part: its images and captions.
        images: each image once.
        captions: (rows,).
        asked: what is asked of it; None where it is only learned from.
    """

    part: Captioned
    images: Inputs
    captions: Inputs
    asked: Retrieval | None


def encode(
    part: Captioned,
    vision: Side,
    text: Side,
    cache: FeatureCache | None = None,
    key: Mapping[str, Any] | None = None,
    *,
    judged: bool = True,
    bar: Callable[[int, int, str], None] | None = None,
) -> Encoded:
    """Read a split for both towers, and compute what locked towers give.

    Args:
        part: the split.
        vision: the image tower.
        text: the text tower.
        cache: where what locked towers give is kept.
        key: tells the split from every other; with the cache.
        judged: whether each caption is read once, as a question; else row by row.
        bar: told how far the computing is.
    """
    asked = retrieval(part) if judged else None
    images = vision.preprocessor.encode({"image": part.pictures["image"]})
    captions = text.preprocessor.encode({"text": part.captions if asked is None else asked.texts})
    if vision.locked:
        images = _pooled(vision, images, cache, {**(key or {}), "tower": VISION}, bar)
    if text.locked:
        captions = _pooled(text, captions, cache, {**(key or {}), "tower": TEXT, "judged": judged}, bar)
    return Encoded(part, images, captions, asked)


def _pooled(
    side: Side,
    inputs: Inputs,
    cache: FeatureCache | None,
    key: dict[str, Any],
    bar: Callable[[int, int, str], None] | None,
) -> PooledInputs:
    """What the trunk of a locked tower gives for every row, from the cache where it is there."""
    config = copy.deepcopy(side.encoder.config)
    config.projections, config.normalize = [], False
    trunk = Classifier(config, trunk=side.encoder.backbone).eval()
    device = best_device()
    dtype = fast_dtype(device)
    name = None
    if cache is not None:
        made = {"preprocessing": side.preprocessor.describe(), "pooling": config.pooling}
        name = cache.key({**key, **made, "rows": len(inputs), "precision": f"{dtype} on {device.type}"})
        found = cache.get(name)
        if found is not None and found.shape == (len(inputs), trunk.feature_size):
            return PooledInputs(found)
    progress = None if bar is None else lambda done, total: bar(done, total, "")
    features = forward(trunk, inputs, dtype=dtype, device=device, progress=progress).features
    if cache is not None and name is not None:
        cache.put(name, features)
    return PooledInputs(features)


class Judge:
    """Ranks a split both ways.

    Args:
        encoded: the split, read as questions.
    """

    def __init__(self, encoded: Encoded) -> None:
        if encoded.asked is None:
            raise ValueError("a split that is judged must be read as questions")
        self._asked, self._images, self._texts = encoded.asked, encoded.images, encoded.captions

    def rows(self) -> Rows:
        """The images as rows, for what estimates how long ranking takes."""
        return Rows(self._images, np.zeros(len(self._images), dtype=np.int64))

    def vectors(self, vision: Classifier, text: Classifier) -> tuple[np.ndarray, np.ndarray]:
        """Of the images, (images, width), and of the texts, (texts, width)."""
        return forward(vision, self._images).features, forward(text, self._texts).features

    def text_to_image(self, images: np.ndarray, texts: np.ndarray) -> RankScores:
        """Every text looks for its image."""
        return score_ranks(texts, images, self._asked.images_of)

    def image_to_text(self, images: np.ndarray, texts: np.ndarray) -> RankScores:
        """Every image looks for any of its texts."""
        return score_ranks(images, texts, self._asked.texts_of)

    def __call__(self, model: Towers) -> RankScores:
        """Text to image, with the towers as they are."""
        return self.text_to_image(*self.vectors(model.encoder(VISION), model.encoder(TEXT)))

    def found(self, images: np.ndarray, texts: np.ndarray, text: int, first: int) -> tuple[list[int], int]:
        """The places of the first few images for a text, and the rank of its best answer."""
        scores = unit_rows(images) @ unit_rows(texts[text : text + 1])[0]
        order = np.argsort(-scores, kind="stable")
        best = min(int(np.flatnonzero(order == place)[0]) for place in self._asked.images_of[text])
        return order[:first].tolist(), best + 1


def caption_rows(encoded: Encoded, part_rows: int, *, augment: bool, seed: int) -> PairRows:
    """Images and captions as rows to train on; the captions of one image are no wrong answers to each other's image."""
    part = encoded.part
    sides = [Subset(encoded.images, part.images), encoded.captions]
    ids = part.caption_ids[None]
    return PairRows(sides, part.images, ids, part.known(), part_rows, augment=augment, seed=seed)


def towers_of(vision: Side, text: Side, settings: ContrastSettings) -> Towers:
    """Both towers as they are trained: locked, open, or inside of LoRA. The sides' encoders are changed."""
    encoders: dict[str, nn.Module] = {}
    for name, side in ((VISION, vision), (TEXT, text)):
        side.encoder.requires_grad_(requires_grad=not side.locked)
        for path in side.new:
            side.encoder.get_submodule(path).requires_grad_(requires_grad=True)
        encoders[name] = side.encoder if side.locked else settings.adapted(side.encoder, side.new)
    return Towers(encoders, settings.temperature(), {VISION: vision.new, TEXT: text.new})


def check_training(vision: Side, text: Side, rows: int, settings: ContrastSettings, world: int) -> None:
    """Find the mistakes that only loaded models and a number of rows show, before anything is written.

    Raises:
        SettingError: rates or openings for groups, or LoRA for modules, that the towers do not have; or too few pairs
            in a batch.
    """
    check_groups(tower_groups(towers_of(copy.deepcopy(vision), copy.deepcopy(text), settings)), rows, settings, world)


def train_clip(
    vision: Side,
    text: Side,
    train: Encoded,
    validation: Encoded,
    settings: ContrastSettings,
    *,
    augment: bool,
    work: Path,
    clock: Clock,
    reserve: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> ContrastOutcome:
    """Train copies of two towers on captioned images.

    Args:
        vision: the image tower.
        text: the text tower.
        train: to learn from, read row by row.
        validation: what checkpoints are chosen by: the mean reciprocal rank of texts that look for their images.
        settings: how.
        augment: whether training images are augmented.
        work: folder of the checkpoints; what is there already is gone on from.
        clock: seconds spent and left.
        reserve: seconds to keep for what follows.
        progress: told after every step.

    Raises:
        SettingError: settings do not fit the towers or the number of rows.
        ContrastError: training diverged.
    """
    torch.manual_seed(settings.seed)
    towers = towers_of(copy.deepcopy(vision), copy.deepcopy(text), settings)
    rows = caption_rows(train, settings.options.mini_batch_size, augment=augment, seed=settings.seed)
    score = Judge(validation)
    args = settings.arguments(work, len(rows), best_device())
    direction = cast("ContrastClipOptions", settings.options).direction
    job = ContrastJob(
        train=rows,
        validation=score.rows(),
        groups=tower_groups(towers),
        rates=settings.rates,
        loss=LossPlan(),
        metric="reciprocal_rank",
        clock=clock,
        reserve=reserve,
        progress=progress,
        fixed_statistics=True,
        sides=(VISION, TEXT),
        pair_loss=PairLoss(cast("Direction", direction), gather=args.world_size > 1),
        score=score,
        start_rank=score.text_to_image(*score.vectors(vision.encoder, text.encoder)).geometry.effective_rank,
    )
    return fit_towers(ContrastTrainer(towers, args, job, settings.options.early_stopping_patience))
