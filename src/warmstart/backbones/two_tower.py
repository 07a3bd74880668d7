"""CLIP-like models: their vision tower with its projection, and their text tower as an embedder of label names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from warmstart.backbones.sentence_folder import Stated
from warmstart.core.errors import ModelError

_PROJECTIONS = ("visual_projection", "vision_projection", "image_projection")
_FIXED_LENGTH = ("siglip", "siglip2")


@dataclass(frozen=True)
class Towers:
    """The vision side of a two-tower model, and the scale that it compares by."""

    vision: PreTrainedModel
    stated: Stated
    logit_scale: float


def is_two_tower(model: PreTrainedModel) -> bool:
    """Whether the model embeds images and texts in one space."""
    return hasattr(model, "get_image_features") and hasattr(model, "get_text_features")


def split(model: PreTrainedModel) -> Towers:
    """Take the vision tower and its projection out of a CLIP-like model.

    Raises:
        ModelError: when it has no `vision_model`.
    """
    vision = getattr(model, "vision_model", None)
    if not isinstance(vision, nn.Module):
        raise ModelError(f"{type(model).__name__} has no vision_model: this kind of two-tower model is not supported.")
    vision.config = model.config.vision_config
    linear = next((getattr(model, name) for name in _PROJECTIONS if hasattr(model, name)), None)
    projections: list[dict[str, Any]] = []
    weights: dict[str, torch.Tensor] = {}
    if linear is not None:
        projections.append(
            {
                "in_features": linear.in_features,
                "out_features": linear.out_features,
                "bias": linear.bias is not None,
                "activation": "identity",
            }
        )
        weights = {f"0.0.{name}": tensor for name, tensor in linear.state_dict().items()}
    scale = getattr(model, "logit_scale", None)
    return Towers(
        vision,
        Stated(pooling="pooler", normalize=True, projections=projections, weights=weights),
        20.0 if scale is None else float(scale.detach().exp()),
    )


def check_features(model: PreTrainedModel, encoder: PreTrainedModel, name: str) -> None:
    """Compare the tower that was taken out with the model's own image features, on one random image.

    Raises:
        ModelError: when they differ.
    """
    size, channels = model.config.vision_config.image_size, model.config.vision_config.num_channels
    pixels = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0))
    model.eval()
    encoder.eval()
    with torch.no_grad():
        own = nn.functional.normalize(_vectors(model.get_image_features(pixel_values=pixels)), dim=-1)
        ours = encoder.features(pixel_values=pixels)
    if not torch.allclose(own, ours, atol=1e-4):
        raise ModelError(f"{name}: its image features are not those of its vision tower and projection; not supported.")


def _vectors(output: Any) -> torch.Tensor:
    vectors: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return vectors


def label_embedder(model: PreTrainedModel, tokenizer: Any) -> Callable[[Sequence[str]], torch.Tensor]:
    """A function from texts to unit-length text features, (texts, features).

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
