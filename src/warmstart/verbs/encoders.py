"""A pretrained model, or a result of `adapt` or `contrast`, as something that turns rows into vectors.

Reading folders and pooling is `backbones`'; batches sorted by length are `backbones.embed`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import Progress, best_device, fast_dtype, forward, inference_copy
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.text_inputs import Preprocessor, TextPreprocessor
from warmstart.core.encode_options import IndexEncodeOptions
from warmstart.core.errors import ModelError, ResultError, SettingError
from warmstart.core.index import EncoderCard
from warmstart.core.metrics import unit_rows


@dataclass(frozen=True)
class Encoder:
    """Rows → vectors.

    Attributes:
        card: what it is made of.
        width: length of a vector.
    """

    card: EncoderCard
    width: int
    _runner: Classifier
    _preprocessor: Preprocessor

    def encode(self, rows: Mapping[str, Sequence[Any]], progress: Progress | None = None) -> np.ndarray:
        """Vectors of rows ("text", "text" and "text_pair", or "image"), (rows, width), float32.

        Batches are sorted by length, so a row's vector hangs on its neighbours by no more than rounding.
        """
        inputs = self._preprocessor.encode(rows)
        dtype = torch.bfloat16 if self.card.bf16 else torch.float32
        found = forward(self._runner, inputs, dtype=dtype, device=best_device(), progress=progress).features
        return unit_rows(found).astype(np.float32) if self.card.normalize else found


def item_encoder(options: IndexEncodeOptions, modality: str, columns: dict[str, str]) -> Encoder:
    """The encoder of items.

    Args:
        options: which model, and how to read it.
        modality: what items are: text, pair or image.
        columns: role → column of the table.

    Raises:
        ModelError: the model cannot be loaded, or does not read such items.
        SettingError: an option means nothing to it.
    """
    if modality == "image" and options.prompt is not None:
        raise SettingError("--prompt goes before texts; these items are images.")
    backbone = load_backbone(
        options.model,
        revision=options.revision,
        pooling=options.pooling,
        max_length=options.max_length,
        image_size=options.image_size,
        trust_remote_code=options.trust_remote_code,
    )
    fast = fast_dtype(best_device()) == torch.bfloat16 if options.bf16 == "auto" else options.bf16 == "true"
    asked = EncoderCard(
        model=options.model,
        revision=options.revision,
        reads=modality,
        columns={role: column for role, column in columns.items() if role in ("id", "text", "text_pair", "image")},
        pooling=options.pooling,
        max_length=options.max_length,
        image_size=options.image_size,
        prompt=options.prompt,
        normalize=options.normalize,
        bf16=fast,
        dtype=options.dtype,
        weights="",
        preprocessing="",
    )
    return _encoder(_side(backbone, modality, options.model), asked)


def query_encoder(card: EncoderCard, reads: str, prompt: str | None) -> Encoder:
    """The encoder of queries that are compared with items.

    Args:
        card: of the items' encoder.
        reads: what queries are: text or image.
        prompt: text before every query; None for what stood before the items.

    Raises:
        ModelError: the model cannot be loaded, or does not read such queries.
        ResultError: it is another model than the items'.
    """
    backbone = load_backbone(
        card.model,
        revision=card.revision,
        pooling=card.pooling,
        max_length=card.max_length,
        image_size=card.image_size,
    )
    if _side(backbone, card.reads, card.model).card.digest != card.weights:
        raise ResultError(f"{card.model} is not the model that encoded the items: its weights differ.")
    values = card.to_dict() | {"reads": reads, "columns": {}, "weights": "", "preprocessing": ""}
    values["prompt"] = card.prompt if prompt is None else prompt
    return _encoder(_side(backbone, reads, card.model), EncoderCard.from_dict(values))


def _side(backbone: Backbone, modality: str, name: str) -> Backbone:
    """Of a model with two towers the one that reads such rows.

    Raises:
        ModelError: there is none.
    """
    if modality == "image":
        if backbone.kind != "image":
            raise ModelError(f"{name} reads texts, and the rows are images. Choose another --model.")
        return backbone
    if backbone.kind == "text":
        return backbone
    if backbone.text_tower is None:
        raise ModelError(f"{name} reads images, and the rows are texts. Choose another --model.")
    return backbone.text_tower


def _encoder(side: Backbone, asked: EncoderCard) -> Encoder:
    preprocessor = side.preprocessor
    if asked.prompt is not None and isinstance(preprocessor, TextPreprocessor):
        preprocessor.prompt = asked.prompt
    described = hashlib.sha256(json.dumps(preprocessor.describe(), sort_keys=True).encode()).hexdigest()
    card = EncoderCard.from_dict(asked.to_dict() | {"weights": side.card.digest, "preprocessing": described})
    runner = inference_copy(side.encoder, torch.bfloat16 if card.bf16 else torch.float32, best_device())
    return Encoder(card, side.encoder.feature_size, runner, preprocessor)
