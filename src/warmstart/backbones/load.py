"""A resolved model → `Backbone`: trunk with its pooling, preprocessing and facts, and classifiers made from it.

`load_backbone` takes a name; `backbone_from_folder` works on what `resolve.py` found. Groups are `groups.py`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from warmstart.backbones import sentence_folder, two_tower
from warmstart.backbones.classifier import Classifier, ClassifierConfig, drop_unused_pooler, trunk_width
from warmstart.backbones.image_inputs import ImagePreprocessor
from warmstart.backbones.packaged import efficientnet_lite0, gguf_decoder
from warmstart.backbones.resolve import Source, resolve
from warmstart.backbones.text_inputs import Preprocessor, TextPreprocessor
from warmstart.core.errors import ModelError
from warmstart.core.records import BackboneCard

MAX_LENGTH = 256  # tokens; what a model states is cut to this unless the user asks for more
Kind = Literal["text", "image"]


@dataclass
class Backbone:
    """A pretrained model, ready to be adapted. Its weights are never changed: classifiers copy them."""

    card: BackboneCard
    kind: Kind
    config: ClassifierConfig
    encoder: Classifier  # the pretrained trunk, with a head of no meaning
    preprocessor: Preprocessor
    whole: nn.Module  # the trunk; of a two-tower model, both towers
    embed_labels: Callable[[Sequence[str]], torch.Tensor] | None = None  # texts → (texts, features), unit length
    logit_scale: float = 20.0  # cosine → logit, for zero-shot

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
        return model.requires_grad_(requires_grad=True)


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
    if source.format == "efficientnet-lite-checkpoint":
        trunk, processor = efficientnet_lite0(source.path)
        return _image_backbone(source, trunk, processor, "pooler", [], image_size)
    if source.format == "gguf":
        trunk, tokenizer = gguf_decoder(source.path)
        return _text_backbone(source, trunk, tokenizer, sentence_folder.Stated(), pooling, max_length)
    folder = source.path
    stated = sentence_folder.read(folder)
    trunk_folder = folder / stated.trunk if stated.trunk else folder
    config = _read_config(trunk_folder, trust_remote_code)
    if getattr(config, "model_type", "") == ClassifierConfig.model_type:
        return _from_result(source, folder, image_size, max_length)
    trunk = _load_trunk(trunk_folder, config, trust_remote_code, pooling)
    if two_tower.is_two_tower(trunk):
        return _two_tower_backbone(source, trunk, folder, image_size)
    if _is_image(trunk):
        processor = AutoImageProcessor.from_pretrained(trunk_folder, backend="pil", trust_remote_code=trust_remote_code)
        return _image_backbone(source, trunk, processor, pooling, [], image_size)
    tokenizer = _tokenizer(trunk_folder, trust_remote_code)
    return _text_backbone(source, trunk, tokenizer, stated, pooling, max_length)


def _tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"The model in {folder} has no tokenizer that loads ({_first_line(error)}).") from error


def _read_config(folder: Path, trust_remote_code: bool) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        hint = " It brings its own code: --trust-remote-code runs it." if "trust_remote_code" in str(error) else ""
        raise ModelError(
            f"The model in {folder} has no configuration that loads: {_first_line(error)}.{hint}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _load_trunk(folder: Path, config: PretrainedConfig, trust_remote_code: bool, pooling: str | None) -> nn.Module:
    try:
        trunk, info = AutoModel.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise ModelError(f"The weights in {folder} do not load: {_first_line(error)}.") from error
    except Exception as error:  # safetensors raises a class of its own for a cut-off file
        if type(error).__name__ != "SafetensorError":
            raise
        raise ModelError(f"The weights in {folder} are damaged or cut off: {_first_line(error)}.") from error
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(key) for key in info["mismatched_keys"])
    at_random = [key for key in missing if pooling == "pooler" or not key.startswith("pooler.")] + mismatched
    if at_random:
        raise ModelError(
            f"Part of the model in {folder} would be left at random: {len(at_random)} weights are missing or of another "
            f"shape ({', '.join(at_random[:4])}{', …' if len(at_random) > 4 else ''}). Use a complete checkpoint."
        )
    if missing:  # a pooler that the checkpoint never trained
        trunk.pooler = None
    return trunk


def _is_image(trunk: nn.Module) -> bool:
    return getattr(trunk, "main_input_name", "input_ids") == "pixel_values"


def _default_text_pooling(config: PretrainedConfig) -> str:
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "lasttoken" if causal else "mean"


def _text_backbone(
    source: Source,
    trunk: nn.Module,
    tokenizer: Any,
    stated: sentence_folder.Stated,
    pooling: str | None,
    max_length: int | None,
) -> Backbone:
    config = trunk.config
    own_limit = _positions(config, tokenizer)
    asked = stated.max_length if max_length is None else max_length
    length = min(own_limit, MAX_LENGTH if asked is None else asked)
    if max_length is not None and max_length > own_limit:
        raise ModelError(f"--max-length is {max_length}, but {source.name} reads at most {own_limit} tokens.")
    chosen = pooling if pooling is not None else stated.pooling or _default_text_pooling(config)
    preprocessor = TextPreprocessor(tokenizer, length, stated.prompt)
    backbone = _assemble(source, trunk, preprocessor, "text", chosen, stated.projections, stated.normalize)
    backbone.encoder.projections.load_state_dict(stated.weights)
    backbone.embed_labels = _label_embedder(backbone)
    return backbone


def _positions(config: PretrainedConfig, tokenizer: Any) -> int:
    limit = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):  # two positions are taken by padding
        limit -= 2
    return int(min(limit, tokenizer.model_max_length))


def _label_embedder(backbone: Backbone) -> Callable[[Sequence[str]], torch.Tensor]:
    def embed(texts: Sequence[str]) -> torch.Tensor:
        inputs = backbone.preprocessor.encode({"text": list(texts)})
        backbone.encoder.eval()
        with torch.no_grad():
            features = backbone.encoder.features(**inputs.batch(range(len(inputs))))
        return nn.functional.normalize(features.float(), dim=-1)  # (texts, features)

    return embed


def _image_pooling(trunk: nn.Module) -> str:
    names = {name.rpartition(".")[2] for name, _ in trunk.named_parameters()}
    if hasattr(trunk.config, "num_hidden_layers") and "cls_token" in names:
        return "cls"
    return "pooler"


def _image_backbone(
    source: Source,
    trunk: nn.Module,
    processor: Any,
    pooling: str | None,
    projections: list[dict[str, Any]],
    image_size: int | None,
) -> Backbone:
    preprocessor = ImagePreprocessor(processor, image_size)
    chosen = pooling if pooling is not None else _image_pooling(trunk)
    backbone = _assemble(source, trunk, preprocessor, "image", chosen, projections, normalize=False)
    own = getattr(trunk.config, "image_size", None)
    has_positions = any("position_embedding" in name for name, _ in trunk.named_parameters())
    backbone.config.interpolate_positions = bool(has_positions and isinstance(own, int) and own != preprocessor.size)
    backbone.encoder.config.interpolate_positions = backbone.config.interpolate_positions
    return backbone


def _two_tower_backbone(source: Source, trunk: nn.Module, folder: Path, image_size: int | None) -> Backbone:
    towers = two_tower.split(trunk)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    backbone = _image_backbone(source, towers.vision, processor, "pooler", towers.projections, image_size)
    backbone.encoder.projections.load_state_dict(towers.weights)
    backbone.config.normalize = backbone.encoder.config.normalize = True
    backbone.whole = trunk
    backbone.logit_scale = towers.logit_scale
    two_tower.check_features(trunk, backbone.encoder, source.name)
    backbone.embed_labels = two_tower.label_embedder(trunk, _tokenizer(folder, trust_remote_code=False))
    return backbone


def _from_result(source: Source, folder: Path, image_size: int | None, max_length: int | None) -> Backbone:
    """A result folder as the start of the next adaptation: its trunk and pooling, without its head."""
    encoder = Classifier.from_pretrained(folder, dtype=torch.float32)
    preprocessor = load_preprocessor(folder, encoder.config, max_length, image_size)
    kind: Kind = "image" if encoder.config.modality == "image" else "text"
    backbone = Backbone(
        _card(source, encoder.backbone, encoder.config, kind, preprocessor),
        kind,
        encoder.config,
        encoder,
        preprocessor,
        encoder.backbone,
    )
    if kind == "text":
        backbone.embed_labels = _label_embedder(backbone)
    return backbone


def load_preprocessor(
    folder: Path, config: ClassifierConfig, max_length: int | None = None, image_size: int | None = None
) -> Preprocessor:
    """The tokenizer or image processor saved beside a `Classifier`."""
    if config.modality == "image":
        return ImagePreprocessor(AutoImageProcessor.from_pretrained(folder, backend="pil"), image_size)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    length = tokenizer.model_max_length if max_length is None else max_length
    return TextPreprocessor(tokenizer, length, getattr(config, "prompt", ""))


def _assemble(
    source: Source,
    trunk: nn.Module,
    preprocessor: Preprocessor,
    kind: Kind,
    pooling: str,
    projections: list[dict[str, Any]],
    normalize: bool,
) -> Backbone:
    drop_unused_pooler(trunk, pooling)
    config = ClassifierConfig(
        backbone=trunk.config.to_dict(),
        modality=kind,
        pooling=pooling,
        projections=projections,
        normalize=normalize,
        num_labels=2,
    )
    if isinstance(preprocessor, TextPreprocessor):
        config.prompt = preprocessor.prompt
    encoder = Classifier(config, trunk=trunk)
    encoder.eval()
    encoder.requires_grad_(False)
    return Backbone(_card(source, trunk, config, kind, preprocessor), kind, config, encoder, preprocessor, trunk)


def _card(
    source: Source, trunk: nn.Module, config: ClassifierConfig, kind: Kind, preprocessor: Preprocessor
) -> BackboneCard:
    features = config.projections[-1]["out_features"] if config.projections else trunk_width(trunk.config)
    return BackboneCard(
        name=source.name,
        source=source.text,
        architecture=type(trunk).__name__,
        modality=kind,
        parameters=sum(parameter.numel() for parameter in trunk.parameters()),
        features=int(features),
        pooling=config.pooling,
        normalize=config.normalize,
        preprocessing=preprocessor.describe(),
        digest=weights_digest(trunk),
    )


def weights_digest(module: nn.Module) -> str:
    """sha256 over names, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.device.type != "meta":
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
