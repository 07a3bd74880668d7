"""Evidence on the domain: the user's rows, the reference rows and scrambled ones, seen by the same model.

Which distances there are is `decide/distance.py`; the reference is the user's, or rows of a sample package.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from warmstart.backbones.embed import forward
from warmstart.backbones.image_inputs import ImagePreprocessor
from warmstart.backbones.load import Backbone
from warmstart.backbones.text_inputs import TextPreprocessor
from warmstart.core.decision import DomainEvidence, DomainMeasure
from warmstart.core.errors import DataError, ModelError
from warmstart.core.metrics import unit_rows
from warmstart.core.progress import reporter
from warmstart.data.reference import ReferenceRows
from warmstart.decide.distance import (
    channel_gap,
    colour_gap,
    frechet_distance,
    mmd_squared,
    pixel_histogram,
    proxy_a_distance,
    scaled,
)
from warmstart.verbs.reference import sample_rows
from warmstart.verbs.situation import REFERENCE_OFF, Situation, feature_key

Columns = Mapping[str, Sequence[Any]]

ROWS = 200  # of either side, at most
FEWEST = 32  # reference rows, below which two halves say nothing
_FEW = 64  # reference rows, however few rows there are to compare with them; from there on, two for each
_LOSS_ROWS = 48  # that the model's own loss is measured on
_PICTURES = 64  # whose pixels are looked at
_PIXELS = 128  # longest side of a picture that is looked at
_ENLARGED = 0.25  # of the side that a model reads: four times enlarged, the far point of resolution
_SCRAMBLED_TEXT = "the reference rows with the letters of every word shuffled"
_SCRAMBLED_IMAGE = "the reference rows with their pixels shuffled"
_HALVES = "one half of the reference rows against the other"


def domain_evidence(situation: Situation, reference_data: str | None, seed: int) -> DomainEvidence | None:
    """How far the task's rows are from the reference; None when none is wanted or there is none to be had.

    Args:
        situation: the task and the model, its labelled rows embedded.
        reference_data: what the user said.
        seed: of draws and scrambling.
    """
    if reference_data == REFERENCE_OFF:
        return None
    limit = min(ROWS, max(_FEW, 2 * len(situation.labelled.labels)))
    try:
        rows = situation.reference_rows
        reference = sample_rows(situation.task, limit, seed) if rows is None else rows
    except DataError as error:
        reporter().warn(f"The distance from the model's domain is not measured: {error}")
        return None
    if len(reference) < FEWEST:
        reporter().warn(
            f"The distance from the model's domain is not measured: {FEWEST} reference rows are needed, "
            f"and there are {len(reference)}."
        )
        return None
    with reporter().bar(f"Distance from the reference: {reference.name}"):
        return _Comparison(situation, reference, limit, seed).evidence()


class _Comparison:
    """The three sets of rows of one comparison: the user's, the reference, and the reference scrambled."""

    def __init__(self, situation: Situation, reference: ReferenceRows, limit: int, seed: int) -> None:
        self.situation = situation
        self.backbone: Backbone = situation.backbone
        self.name, self.seed = reference.name, seed
        self.reference = {role: list(values[:limit]) for role, values in reference.columns.items()}
        draw = np.random.default_rng(seed)
        self.chosen = np.sort(draw.permutation(len(situation.labelled.labels))[:ROWS])
        own = situation.task.labelled
        self.user = {role: [own[int(row)][role] for row in self.chosen] for role in self.reference}
        self.is_image = "image" in self.reference
        scramble = scrambled_pictures if self.is_image else scrambled_texts
        half = min(len(values) for values in self.reference.values()) // 2  # no more are compared
        self.scrambled = {role: scramble(values[:half], seed) for role, values in self.reference.items()}
        same = set(self.reference) == {role for role in ("text", "text_pair", "image") if role in own.column_names}
        self.known = situation.labelled.features[self.chosen] if same and len(situation.labelled.features) else None

    def evidence(self) -> DomainEvidence:
        """All measures that the kind of input allows."""
        notes: list[str] = []
        measures = self._features()
        if self.is_image:
            measures += self._pixels()
        else:
            measures += self._words() + self._loss(notes)
        rows = min(len(self.chosen), len(next(iter(self.reference.values()))))
        return DomainEvidence(self.name, rows, tuple(measures), tuple(notes))

    def _features(self) -> list[DomainMeasure]:
        user = self._embedded(self.user) if self.known is None else self.known
        own, near, scrambled = (unit_rows(p) for p in (user, self._kept(self.reference), self._kept(self.scrambled)))
        far = _SCRAMBLED_IMAGE if self.is_image else _SCRAMBLED_TEXT
        kinds = (
            ("proxy A-distance", proxy_a_distance),
            ("MMD²", mmd_squared),
            ("Fréchet distance", frechet_distance),
        )
        try:
            return [scaled(name, measure, own, near, scrambled, far, self.seed) for name, measure in kinds]
        except DataError as error:
            reporter().warn(f"Distances between features are not measured: {error}")
            return []

    def _kept(self, columns: Columns) -> np.ndarray:
        """Features of rows that are the same for every task: embedded once a model, then taken from the cache."""
        cache = self.situation.cache
        key = feature_key(self.backbone, cache, self.situation.device, {"reference": _digest(columns)})
        found = cache.get(key)
        if found is None or found.shape != (len(next(iter(columns.values()))), self.backbone.card.features):
            found = self._embedded(columns)
            cache.put(key, found)
        return found

    def _embedded(self, columns: Columns) -> np.ndarray:
        inputs = self.backbone.preprocessor.encode(columns)
        return forward(self.backbone.encoder, inputs).features

    def _words(self) -> list[DomainMeasure]:
        preprocessor = self.backbone.preprocessor
        if not isinstance(preprocessor, TextPreprocessor):
            return []
        sides = [token_counts(preprocessor.tokenizer, side["text"]) for side in self._three()]
        return [
            _of_texts(name, [side[place] for side in sides])
            for place, name in enumerate(("tokens per word", "share of unknown tokens"))
        ]

    def _loss(self, notes: list[str]) -> list[DomainMeasure]:
        if self.backbone.pretraining_head is None:
            return []
        try:
            head = self.backbone.pretraining_head()
        except ModelError as error:
            notes.append(f"The model's own loss is not measured: {error}")
            return []
        losses = []
        for side in self._three():
            inputs = self.backbone.preprocessor.encode({role: rows[:_LOSS_ROWS] for role, rows in side.items()})
            losses.append(head.loss(self.backbone.encoder, inputs, seed=self.seed))
        kind = "next-token" if head.objective == "causal" else "masked-token"
        return [_of_texts(f"{kind} loss, nats", losses)]

    def _three(self) -> tuple[dict[str, list[Any]], ...]:
        return self.user, self.reference, self.scrambled

    def _pixels(self) -> list[DomainMeasure]:
        user, reference = (_arrays(side["image"][:_PICTURES]) for side in (self.user, self.reference))
        half = len(reference) // 2
        one, other = pixel_histogram(reference[:half]), pixel_histogram(reference[half:])
        mine, negative = pixel_histogram(user), pixel_histogram([255 - picture for picture in reference[half:]])
        found = [
            DomainMeasure(name, gap(mine, one), gap(other, one), gap(negative, one), _HALVES, "their negatives")
            for name, gap in (("channel statistics gap", channel_gap), ("colour gap", colour_gap))
        ]
        preprocessor = self.backbone.preprocessor
        if isinstance(preprocessor, ImagePreprocessor):
            found.append(_resolution(self.user["image"], preprocessor.size))
        return found


def _digest(columns: Columns) -> str:
    """Tells rows by what is in them, not by where they came from."""
    found = hashlib.sha256()
    for role, values in sorted(columns.items()):
        for value in values:
            content = value.tobytes() if isinstance(value, Image.Image) else str(value).encode()
            size = f"{value.mode} {value.size}" if isinstance(value, Image.Image) else str(len(content))
            found.update(f"{role} {size} ".encode() + content)
    return found.hexdigest()


def _of_texts(name: str, values: Sequence[float]) -> DomainMeasure:
    """What was found on the user's, the reference and the scrambled texts."""
    own, near, far = values
    return DomainMeasure(name, own, near, far, "the reference rows", _SCRAMBLED_TEXT)


def _resolution(pictures: Sequence[Image.Image], size: int) -> DomainMeasure:
    """How much of the side that the model reads is there before resizing: 1 where nothing is enlarged."""
    side = float(np.median([min(picture.size) for picture in pictures]))
    share = min(1.0, side / size)
    return DomainMeasure(
        "resolution, share of what the model reads",
        share,
        1.0,
        _ENLARGED,
        f"pictures of {size} pixels and more",
        f"pictures of {round(_ENLARGED * size)} pixels",
    )


def _arrays(pictures: Sequence[Image.Image]) -> list[np.ndarray]:
    found = []
    for picture in pictures:
        small = picture.convert("RGB")
        small.thumbnail((_PIXELS, _PIXELS))
        found.append(np.asarray(small, dtype=np.uint8))
    return found


def token_counts(tokenizer: Any, texts: Sequence[str]) -> tuple[float, float]:
    """Tokens per word, and the share of tokens that are unknown; without the special tokens around a text.

    Args:
        tokenizer: a transformers tokenizer.
        texts: words are what stands between white space.
    """
    ids = tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False, verbose=False)["input_ids"]
    tokens = sum(len(row) for row in ids)
    words = sum(len(text.split()) for text in texts)
    unknown = tokenizer.unk_token_id
    missed = 0 if unknown is None else sum(row.count(unknown) for row in ids)
    return tokens / max(1, words), missed / max(1, tokens)


def scrambled_texts(texts: Sequence[str], seed: int) -> list[str]:
    """The same texts with the letters of every word in another order: the same letters, no language."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    return [" ".join("".join(draw.sample(word, len(word))) for word in text.split()) for text in texts]


def scrambled_pictures(pictures: Sequence[Image.Image], seed: int) -> list[Image.Image]:
    """The same pictures with their pixels in another order: the same colours, no shapes."""
    draw = np.random.default_rng(seed)
    found = []
    for picture in pictures:
        pixels = np.asarray(picture.convert("RGB"))
        flat = draw.permutation(pixels.reshape(-1, pixels.shape[2]))
        found.append(Image.fromarray(flat.reshape(pixels.shape)))
    return found
