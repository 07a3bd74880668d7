"""The frozen encoders of what items say and show: texts and pictures → vectors, computed once and kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.backbones.embed import best_device, fast_dtype, forward
from warmstart.backbones.feature_cache import FeatureCache
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.core.errors import ModelError, ResultError
from warmstart.core.metrics import unit_rows
from warmstart.core.progress import reporter
from warmstart.core.two_tower_options import ContrastTwoTowerOptions
from warmstart.data.catalogue import Catalogue
from warmstart.data.features import Features

NONE = "none"  # in place of a model's name


@dataclass(frozen=True)
class Reader:
    """An encoder that stays as it is."""

    name: str
    backbone: Backbone

    def read(self, rows: Mapping[str, Sequence[Any]], key: Sequence[str], what: str, cache: Path | None) -> np.ndarray:
        """Vectors of unit length, (rows, width), out of the cache where it has them.

        Args:
            rows: "text" or "image" → one of each row.
            key: what tells the rows from all others.
            what: what they are, for the progress bar.
            cache: folder of cached features; None for none.
        """
        dtype = fast_dtype(best_device())
        store = None if cache is None else FeatureCache(cache)
        named = ""
        if store is not None:
            parts = {"weights": self.backbone.card.digest, "inputs": self.backbone.preprocessor.describe()}
            named = store.key(parts | {f"item_{what}": list(key), "precision": str(dtype)})
            kept = store.get(named)
            if kept is not None:
                return kept
        with reporter().bar(f"Reading {len(key):,} {what}") as bar:
            inputs = self.backbone.preprocessor.encode(rows)
            found = forward(
                self.backbone.encoder, inputs, dtype=dtype, progress=lambda done, total: bar(done, total, "")
            ).features
        vectors = unit_rows(found).astype(np.float32)
        if store is not None:
            store.put(named, vectors)
        return vectors


@dataclass(frozen=True)
class Readers:
    """Who reads the items' texts and pictures; None where nobody does."""

    text: Reader | None = None
    image: Reader | None = None

    def read(self, features: Features, cache: Path | None) -> np.ndarray:
        """The text's vector and the picture's behind it, zeros where there is none, (rows, both widths).

        Args:
            features: the rows.
            cache: folder of cached features; None for none.
        """
        parts = []
        if self.text is not None:
            texts = features.texts
            found = self.text.read({"text": list(texts)}, texts, "texts", cache)
            parts.append(np.where(np.array([bool(text) for text in texts], dtype=bool)[:, None], found, np.float32(0)))
        if self.image is not None:
            parts.append(self._pictures(self.image, features, cache))
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(features), 0), dtype=np.float32)

    @staticmethod
    def _pictures(reader: Reader, features: Features, cache: Path | None) -> np.ndarray:
        there = np.flatnonzero([bool(digest) for digest in features.pictures.digests])
        vectors = np.zeros((len(features), reader.backbone.encoder.feature_size), dtype=np.float32)
        if len(there):
            key = [features.pictures.digests[place] for place in there.tolist()]
            vectors[there] = reader.read({"image": features.pictures.decoded(there)}, key, "pictures", cache)
        return vectors


def wanted_readers(options: ContrastTwoTowerOptions, catalogue: Catalogue) -> Readers:
    """The encoders that the items need and the options name.

    Raises:
        ModelError: a model cannot be loaded, or is none of texts or of pictures.
    """
    plan = catalogue.plan
    text = _reader(options.model, "text", "items have texts. Choose another --model.") if plan.texts else None
    image = None
    if plan.image:
        image = _reader(options.image_model, "image", "items have pictures. Choose another --image-model.")
    return Readers(text, image)


def readers_again(text: Mapping[str, str], image: Mapping[str, str]) -> Readers:
    """The encoders that read the items of saved towers.

    Args:
        text: what `told` gave; empty for none.
        image: the same.

    Raises:
        ResultError: the model of that name has other weights.
    """
    return Readers(_again(text, "texts"), _again(image, "pictures"))


def told(reader: Reader | None) -> dict[str, str]:
    """Name and digest of an encoder, to find it again; empty for none."""
    return {} if reader is None else {"name": reader.name, "digest": reader.backbone.card.digest}


def input_digests(features: Features) -> tuple[str, ...]:
    """What tells each row's text and picture from others, (rows,)."""
    found = []
    for text, picture in zip(features.texts, features.pictures.digests or ("",) * len(features), strict=True):
        own = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
        own.update(b"\0" + picture.encode() if picture else b"")
        found.append(own.hexdigest())
    return tuple(found)


def _reader(name: str, kind: str, wanted: str) -> Reader | None:
    if name == NONE:
        return None
    backbone = load_backbone(name)
    if backbone.kind != kind:
        raise ModelError(f"{name} reads {backbone.kind}s, but {wanted}")
    return Reader(name, backbone)


def _again(kept: Mapping[str, str], what: str) -> Reader | None:
    if not kept:
        return None
    backbone = load_backbone(kept["name"])
    if backbone.card.digest != kept["digest"]:
        raise ResultError(f"{kept['name']} is not the model that read the items' {what}: its weights differ.")
    return Reader(kept["name"], backbone)
