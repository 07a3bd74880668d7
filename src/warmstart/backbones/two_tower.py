"""CLIP-like models, taken apart into an image tower and a text tower, each a trunk with what stands after it.

`TowerPairModel` is warmstart's own; the others are transformers'. Models whose texts are read otherwise than by a trunk
and a projection (SigLIP's fixed length) keep their text tower whole: it embeds label names, and is not trained.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.sentence_folder import Stated
from warmstart.backbones.tower_pair import TowerPairModel
from warmstart.core.errors import ModelError

VISION_PROJECTIONS = ("visual_projection", "vision_projection", "image_projection")
TEXT_PROJECTIONS = ("text_projection",)
_FIXED_LENGTH = ("siglip", "siglip2")
_TOKENS = 6


@dataclass(frozen=True)
class Tower:
    """One side of a two-tower model: its trunk, and what its folder would state of it."""

    trunk: PreTrainedModel
    stated: Stated


def is_two_tower(model: PreTrainedModel) -> bool:
    """Whether the model embeds images and texts in one space."""
    return hasattr(model, "get_image_features") and hasattr(model, "get_text_features")


def logit_scale(model: PreTrainedModel) -> float:
    """What the model multiplies its cosines by."""
    scale = getattr(model, "logit_scale", None)
    return 20.0 if scale is None else float(scale.detach().exp())


def vision_tower(model: PreTrainedModel) -> Tower:
    """Take the image tower and its projection out of a CLIP-like model.

    Raises:
        ModelError: when it has no `vision_model`.
    """
    vision = getattr(model, "vision_model", None)
    if not isinstance(vision, nn.Module):
        raise ModelError(f"{type(model).__name__} has no vision_model: this kind of two-tower model is not supported.")
    if isinstance(model, TowerPairModel):
        config = model.config
        return _own(vision, config.vision_pooling, config.vision_projections, model.vision_projections)
    vision.config = model.config.vision_config
    return _projected(vision, projection(model, VISION_PROJECTIONS))


def text_tower(model: PreTrainedModel) -> Tower | None:
    """Take the text tower and its projection out of a CLIP-like model; None where they are not all there is to it."""
    text = getattr(model, "text_model", None)
    if not isinstance(text, nn.Module) or model.config.model_type in _FIXED_LENGTH:
        return None
    if isinstance(model, TowerPairModel):
        config = model.config
        return _own(text, config.text_pooling, config.text_projections, model.text_projections, config.prompt)
    text.config = model.config.text_config
    return _projected(text, projection(model, TEXT_PROJECTIONS))


def projection(model: PreTrainedModel, names: Sequence[str]) -> nn.Linear | None:
    """The linear layer that a tower of transformers' models ends with, or None."""
    found = next((getattr(model, name) for name in names if hasattr(model, name)), None)
    return found if isinstance(found, nn.Linear) else None


def _own(
    trunk: PreTrainedModel, pooling: str, specs: list[dict[str, Any]], layers: nn.ModuleList, prompt: str = ""
) -> Tower:
    weights = dict(layers.state_dict())
    return Tower(trunk, Stated(pooling=pooling, normalize=True, projections=specs, weights=weights, prompt=prompt))


def _projected(trunk: PreTrainedModel, linear: nn.Linear | None) -> Tower:
    if linear is None:
        return Tower(trunk, Stated(pooling="pooler", normalize=True))
    spec = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
        "activation": "identity",
    }
    weights = {f"0.0.{name}": tensor for name, tensor in linear.state_dict().items()}
    return Tower(trunk, Stated(pooling="pooler", normalize=True, projections=[spec], weights=weights))


def check_features(model: PreTrainedModel, encoder: PreTrainedModel, name: str) -> None:
    """Compare the image tower that was taken out with the model's own image features, on one random image.

    Raises:
        ModelError: when they differ.
    """
    config = model.config.vision_config
    size, channels = config.image_size, getattr(config, "num_channels", 3)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    pixels = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    if not _same(model, encoder, "get_image_features", {"pixel_values": pixels}):
        raise ModelError(f"{name}: its image features are not those of its vision tower and projection; not supported.")


def reads_alike(model: PreTrainedModel, encoder: PreTrainedModel) -> bool:
    """Whether the text tower that was taken out gives the model's own text features, on a few tokens."""
    vocabulary = int(model.config.text_config.vocab_size)
    ids = torch.randint(vocabulary, (2, _TOKENS), generator=torch.Generator().manual_seed(0))
    return _same(model, encoder, "get_text_features", {"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def _same(model: PreTrainedModel, encoder: PreTrainedModel, method: str, inputs: dict[str, torch.Tensor]) -> bool:
    model.eval()
    encoder.eval()
    with torch.no_grad():
        own = nn.functional.normalize(_vectors(getattr(model, method)(**inputs)), dim=-1)
        ours = encoder.features(**inputs)
    return own.shape == ours.shape and torch.allclose(own, ours, atol=1e-4)


def _vectors(output: Any) -> torch.Tensor:
    vectors: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return vectors


def label_embedder(model: PreTrainedModel, tokenizer: Any) -> Callable[[Sequence[str]], torch.Tensor]:
    """A function from texts to unit-length text features, (texts, features), by the model's own method.

    SigLIP reads the last of a fixed number of places, padding included, and takes no mask.
    """
    longest = model.config.text_config.max_position_embeddings
    fixed = model.config.model_type in _FIXED_LENGTH
    names = ("input_ids",) if fixed else ("input_ids", "attention_mask")

    def embed(texts: Sequence[str]) -> torch.Tensor:
        padding = "max_length" if fixed else True
        batch = tokenizer(list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        model.eval()
        with torch.no_grad():
            found = _vectors(model.get_text_features(**{name: batch[name] for name in names if name in batch}))
        return nn.functional.normalize(found.float(), dim=-1)  # (texts, features)

    return embed


def put_together(model: PreTrainedModel, vision: Classifier, text: Classifier, scale: float) -> PreTrainedModel:
    """A copy of a two-tower model of transformers with the weights of two encoders that were taken out of it.

    Args:
        model: what `vision_tower` and `text_tower` were given; it is not changed.
        vision: of images.
        text: of texts.
        scale: what cosines are multiplied by.
    """
    found: PreTrainedModel = copy.deepcopy(model).float().cpu()
    for encoder, trunk, names in (
        (vision, found.vision_model, VISION_PROJECTIONS),
        (text, found.text_model, TEXT_PROJECTIONS),
    ):
        trunk.load_state_dict(encoder.backbone.state_dict())
        linear = projection(found, names)
        if linear is not None:
            linear.load_state_dict(encoder.projections.get_submodule("0.0").state_dict())
    with torch.no_grad():
        found.logit_scale.fill_(math.log(scale))
    return found.requires_grad_(requires_grad=True).eval()
