"""A resolved model → `Backbone`: trunk with its pooling, preprocessing and facts, and classifiers made from it.

`load_backbone` takes a name; `backbone_from_folder` works on what `resolve.py` found. Groups are `groups.py`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from warmstart.backbones import sentence_folder, two_tower
from warmstart.backbones.checkpoint import (
    first_line,
    load_classifier,
    load_trunk,
    read_config,
    read_image_processor,
    read_tokenizer,
    weights_digest,
)
from warmstart.backbones.classifier import POOLINGS, Classifier, ClassifierConfig, drop_unused_pooler
from warmstart.backbones.image_inputs import ImagePreprocessor
from warmstart.backbones.packaged import efficientnet_lite0, gguf_decoder
from warmstart.backbones.pretraining_head import PretrainingHead, gguf_head_loader, head_loader
from warmstart.backbones.resolve import Source, resolve
from warmstart.backbones.sentence_folder import Stated
from warmstart.backbones.text_inputs import Preprocessor, TextPreprocessor
from warmstart.core.errors import ModelError
from warmstart.core.records import BackboneCard

MAX_LENGTH = 256  # tokens; what a model states is cut to this unless the user asks for more
_LABELS_PER_BATCH = 64
_NO_LIMIT = 1 << 30  # tokens
POOLING_KEY = "warmstart_pooling"  # in the configuration of an image trunk that was trained with another than its own
Kind = Literal["text", "image"]


@dataclass(frozen=True, eq=False)
class SourceHead:
    """The linear head that a model was pretrained with, for its pooled features.

    Attributes:
        weight: (source classes, features).
        bias: (source classes,).
    """

    weight: np.ndarray
    bias: np.ndarray


@dataclass
class Backbone:
    """A pretrained model, ready to be adapted. Its weights are never changed: classifiers copy them."""

    card: BackboneCard
    kind: Kind
    config: ClassifierConfig
    encoder: Classifier  # the pretrained trunk, with a head of no meaning
    preprocessor: Preprocessor
    whole: PreTrainedModel  # the trunk; of a two-tower model, both towers
    embed_labels: Callable[[Sequence[str]], torch.Tensor] | None = None  # texts → (texts, features), unit length
    logit_scale: float = 20.0  # cosine → logit, for zero-shot
    pretraining_head: Callable[[], PretrainingHead] | None = None  # loads a language model's own head
    source_head: SourceHead | None = None  # of a classifier that was trained on other classes
    text_tower: Backbone | None = None  # of a two-tower model, where its texts can be trained on

    def classifier(self, labels: Sequence[str], modality: str, *, pretrained: bool = True) -> Classifier:
        """A fresh classifier on a copy of the pretrained trunk (or on random weights, from the global generator)."""
        config = copy.deepcopy(self.config)
        config.modality = modality
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        if not pretrained:
            return Classifier(config)
        model = Classifier(config, trunk=copy.deepcopy(self.encoder.backbone))
        model.projections.load_state_dict(self.encoder.projections.state_dict())
        model.requires_grad_(requires_grad=True)
        return model


def load_backbone(
    model: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    image_size: int | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """Find and load a pretrained model.

    Args:
        model: Hub name, folder, or a packaged model's name.
        revision: branch, tag or commit on the Hub.
        pooling: overrides what the model states.
        max_length: longest text, in tokens.
        image_size: side of the square that images are resized to, in pixels.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: not found, not a kind that is known, or part of its trunk would be left at random.
    """
    source = resolve(model, revision)
    return backbone_from_source(
        source, pooling=pooling, max_length=max_length, image_size=image_size, trust_remote_code=trust_remote_code
    )


def backbone_from_source(
    source: Source,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    image_size: int | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load what `resolve` found; the arguments are those of `load_backbone`."""
    if pooling is not None and pooling not in POOLINGS:
        raise ModelError(f"--pooling is {pooling}; it must be one of: {', '.join(POOLINGS)}.")
    if source.format == "efficientnet-lite-checkpoint":
        trunk, processor, head = efficientnet_lite0(source.path)
        backbone = image_backbone(source, trunk, processor, Stated(pooling=pooling or ""), image_size)
        if backbone.config.pooling == "pooler":  # what its head was trained to read
            backbone.source_head = SourceHead(head["weight"].numpy(), head["bias"].numpy())
        return backbone
    if source.format == "gguf":
        trunk, tokenizer = gguf_decoder(source.path)
        backbone = _text_backbone(source, trunk, tokenizer, Stated(), pooling, max_length)
        backbone.pretraining_head = gguf_head_loader(source.path, tokenizer)
        return backbone
    folder = source.path
    stated = sentence_folder.read(folder)
    trunk_folder = folder / stated.trunk if stated.trunk else folder
    config = read_config(trunk_folder, trust_remote_code)
    if config.model_type == ClassifierConfig.model_type:
        return _from_result(source, folder, pooling, max_length, image_size)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{source.name} is an encoder-decoder ({config.model_type}), which is not supported.")
    trunk = load_trunk(trunk_folder, trust_remote_code, pooling)
    if two_tower.is_two_tower(trunk):
        return _two_tower_backbone(source, trunk, trunk_folder, pooling, max_length, image_size)
    if _is_image(trunk):
        processor = read_image_processor(trunk_folder, trust_remote_code)
        chosen = pooling or str(getattr(trunk.config, POOLING_KEY, ""))
        return image_backbone(source, trunk, processor, Stated(pooling=chosen), image_size)
    tokenizer = read_tokenizer(trunk_folder, trust_remote_code)
    backbone = _text_backbone(source, trunk, tokenizer, stated, pooling, max_length)
    backbone.pretraining_head = head_loader(trunk_folder, config, tokenizer, trust_remote_code)
    return backbone


def _is_image(trunk: PreTrainedModel) -> bool:
    return getattr(trunk, "main_input_name", "input_ids") == "pixel_values"


def _default_text_pooling(config: PretrainedConfig) -> str:
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "lasttoken" if causal else "mean"


def _text_backbone(
    source: Source,
    trunk: PreTrainedModel,
    tokenizer: Any,
    stated: Stated,
    pooling: str | None,
    max_length: int | None,
) -> Backbone:
    config = trunk.config
    if stated.lower_case:
        sentence_folder.lower_case(tokenizer)
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= trunk.get_input_embeddings().num_embeddings:
        tokenizer.pad_token = None  # one that was added without a row for it: `TextPreprocessor` finds another
    limit = min(_positions(trunk), int(tokenizer.model_max_length))
    length = _text_length(source, limit, stated.max_length, max_length)
    chosen = pooling if pooling is not None else stated.pooling or _default_text_pooling(config)
    if pooling == "pooler" and getattr(trunk, "pooler", None) is None:
        raise ModelError(f"--pooling is pooler, but {type(trunk).__name__} of {source.name} has none.")
    preprocessor = TextPreprocessor(tokenizer, length, stated.prompt)
    backbone = _assemble(source, trunk, preprocessor, "text", chosen, stated)
    backbone.embed_labels = _label_embedder(backbone)
    return backbone


def _text_length(source: Source, limit: int, stated: int | None, asked: int | None) -> int:
    """Tokens per row: what the user asked for, else what the model states, at most `MAX_LENGTH`."""
    if asked is None:
        return min(limit, MAX_LENGTH, MAX_LENGTH if stated is None else stated)
    if asked > limit:
        raise ModelError(f"--max-length is {asked}, but {source.name} reads at most {limit} tokens.")
    return asked


def _positions(trunk: PreTrainedModel) -> int:
    """Tokens that the model has positions for. RoBERTa's and MPNet's tables keep their first rows for padding."""
    limits = [_NO_LIMIT]
    stated = getattr(trunk.config, "max_position_embeddings", None)
    if isinstance(stated, int) and stated > 0:
        limits.append(stated)
    for name, module in trunk.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    return min(limits)


def _label_embedder(backbone: Backbone) -> Callable[[Sequence[str]], torch.Tensor]:
    def embed(texts: Sequence[str]) -> torch.Tensor:
        inputs = backbone.preprocessor.encode({"text": list(texts)})
        backbone.encoder.eval()
        found = []
        with torch.no_grad():
            for start in range(0, len(inputs), _LABELS_PER_BATCH):
                rows = range(start, min(start + _LABELS_PER_BATCH, len(inputs)))
                found.append(backbone.encoder.features(**inputs.batch(rows)).float())
        return nn.functional.normalize(torch.cat(found), dim=-1)  # (texts, features)

    return embed


def _image_pooling(trunk: PreTrainedModel, asked: str) -> str:
    """What was asked for, where the trunk can give it; else the class token of a transformer, else its pooler."""
    names = {name.rpartition(".")[2] for name, _ in trunk.named_parameters()}
    if not asked:
        return "cls" if hasattr(trunk.config, "num_hidden_layers") and "cls_token" in names else "pooler"
    if asked not in ("pooler", "mean", "max", "cls") or (
        asked == "cls" and not names & {"cls_token", "class_embedding"}
    ):
        raise ModelError(f"--pooling is {asked}, which {type(trunk).__name__} cannot give: use mean, max or pooler.")
    return asked


def image_backbone(
    source: Source,
    trunk: PreTrainedModel,
    processor: Any,
    stated: Stated,
    image_size: int | None,
) -> Backbone:
    """A backbone from an image trunk with its processor; the pooling is that of `stated`, or the trunk's own."""
    preprocessor = ImagePreprocessor(processor, image_size)
    chosen = _image_pooling(trunk, stated.pooling)
    backbone = _assemble(source, trunk, preprocessor, "image", chosen, stated)
    _fit_positions(backbone, preprocessor)
    return backbone


def _fit_positions(backbone: Backbone, preprocessor: ImagePreprocessor) -> None:
    """Have position embeddings resized where the images are not of the size that they were trained for.

    Raises:
        ModelError: when the trunk cannot read images of this size.
    """
    trunk, size = backbone.encoder.backbone, preprocessor.size
    own = getattr(trunk.config, "image_size", None)
    differs = own is not None and [size] * 2 != ([own] * 2 if isinstance(own, int) else list(own))
    resizes = "interpolate_pos_encoding" in inspect.signature(trunk.forward).parameters  # DINOv2 does it unasked
    has_positions = any("position_embedding" in name for name, _ in trunk.named_parameters())
    backbone.encoder.config.interpolate_positions = bool(differs and resizes and has_positions)
    backbone.config.interpolate_positions = backbone.encoder.config.interpolate_positions
    try:
        with torch.no_grad():
            backbone.encoder.features(pixel_values=torch.zeros(1, len(preprocessor.mean), size, size))
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:
        name = backbone.card.name
        raise ModelError(f"{name} cannot read images of {size} × {size} pixels: {first_line(error)}.") from error


def _two_tower_backbone(
    source: Source,
    trunk: PreTrainedModel,
    folder: Path,
    pooling: str | None,
    max_length: int | None,
    image_size: int | None,
) -> Backbone:
    if pooling not in (None, "pooler"):
        raise ModelError(f"--pooling is {pooling}, but {source.name} has two towers with a pooling of their own.")
    vision, text = two_tower.vision_tower(trunk), two_tower.text_tower(trunk)
    processor = read_image_processor(folder)
    tokenizer = read_tokenizer(folder)
    backbone = image_backbone(source, vision.trunk, processor, vision.stated, image_size)
    backbone.whole = trunk
    backbone.logit_scale = two_tower.logit_scale(trunk)
    two_tower.check_features(trunk, backbone.encoder, source.name)
    backbone.embed_labels = two_tower.label_embedder(trunk, tokenizer)
    if text is not None:
        texts = _text_backbone(source, text.trunk, tokenizer, text.stated, None, max_length)
        if two_tower.reads_alike(trunk, texts.encoder):
            backbone.text_tower, backbone.embed_labels = texts, texts.embed_labels
    return backbone


def _from_result(
    source: Source, folder: Path, pooling: str | None, max_length: int | None, image_size: int | None
) -> Backbone:
    """A result folder as the start of the next adaptation: its trunk and pooling, without its head."""
    encoder = load_classifier(folder)
    config, trunk = encoder.config, encoder.backbone
    if pooling not in (None, config.pooling):
        raise ModelError(f"--pooling is {pooling}, but {source.name} was adapted with {config.pooling}.")
    if config.modality != "image":
        _text_length(source, _positions(trunk), None, max_length)
    preprocessor = load_preprocessor(folder, config, max_length, image_size)
    kind: Kind = "image" if config.modality == "image" else "text"
    config.feature_scale = config.calibration_temperature = 1.0  # these belong to the old head
    encoder.eval().requires_grad_(requires_grad=False)
    backbone = Backbone(_card(source, encoder, kind, preprocessor), kind, config, encoder, preprocessor, trunk)
    if isinstance(preprocessor, ImagePreprocessor):
        _fit_positions(backbone, preprocessor)
    else:
        backbone.embed_labels = _label_embedder(backbone)
    return backbone


def load_preprocessor(
    folder: Path, config: ClassifierConfig, max_length: int | None = None, image_size: int | None = None
) -> Preprocessor:
    """The tokenizer or image processor saved beside a `Classifier`."""
    if config.modality == "image":
        return ImagePreprocessor(read_image_processor(folder), image_size)
    tokenizer = read_tokenizer(folder)
    length = tokenizer.model_max_length if max_length is None else max_length
    return TextPreprocessor(tokenizer, length, getattr(config, "prompt", ""))


def _assemble(
    source: Source,
    trunk: PreTrainedModel,
    preprocessor: Preprocessor,
    kind: Kind,
    pooling: str,
    stated: Stated,
) -> Backbone:
    drop_unused_pooler(trunk, pooling)
    config = ClassifierConfig(
        backbone=trunk.config.to_dict(),
        modality=kind,
        pooling=pooling,
        projections=stated.projections,
        normalize=stated.normalize,
        num_labels=2,
    )
    if isinstance(preprocessor, TextPreprocessor):
        config.prompt = preprocessor.prompt
    encoder = Classifier(config, trunk=trunk)
    try:
        encoder.projections.load_state_dict(stated.weights)
    except RuntimeError as error:
        raise ModelError(f"The dense layers of {source.name} do not fit their weights: {first_line(error)}.") from error
    encoder.eval()
    encoder.requires_grad_(False)
    return Backbone(_card(source, encoder, kind, preprocessor), kind, config, encoder, preprocessor, trunk)


def _card(source: Source, encoder: Classifier, kind: Kind, preprocessor: Preprocessor) -> BackboneCard:
    config, trunk = encoder.config, encoder.backbone
    return BackboneCard(
        name=source.name,
        source=source.text,
        architecture=type(trunk).__name__,
        modality=kind,
        parameters=sum(parameter.numel() for parameter in trunk.parameters()),
        features=encoder.feature_size,
        pooling=config.pooling,
        normalize=config.normalize,
        preprocessing=preprocessor.describe(),
        digest=weights_digest(trunk, encoder.projections),
    )
