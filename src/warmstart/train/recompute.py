"""Gradient checkpointing that also reaches frozen layers.

transformers checkpoints a layer only where its own `training` flag is set. A frozen layer, above all every layer of a
base under LoRA, is in evaluation mode, so it would keep all its activations without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from warmstart.core.errors import SettingError


def check_supported(model: nn.Module) -> None:
    """Whether a model has layers that can be checkpointed.

    Raises:
        SettingError: when it has none.
    """
    if next(_layers(model), None) is None:
        raise SettingError(
            "--gradient-checkpointing: this model has no layers that can be checkpointed; leave the option out."
        )


def start(model: Any) -> None:
    """Switch gradient checkpointing on, by its name in this version of transformers."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    if enable is None:
        enable = model.gradient_checkpointing_enable
    enable()


def reach_frozen(model: nn.Module) -> None:
    """Have the frozen layers checkpointed as well. Call it before each pass, once modes are set.

    The flag that transformers looks at is set on the layer, and taken back while the layer itself computes: dropout
    and statistics inside stay as they are for a frozen layer.
    """
    for layer in _layers(model):
        if layer.gradient_checkpointing:
            layer._gradient_checkpointing_func = _learning if layer.training else _frozen(layer)
            layer.training = True


def stop(model: nn.Module) -> None:
    """Checkpoint nothing any more."""
    module: Any
    for module in model.modules():
        if "gradient_checkpointing" in module.__dict__:
            module.gradient_checkpointing = False
            module.__dict__.pop("_gradient_checkpointing_func", None)


def _layers(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))


def _learning(function: Callable[..., Any], *args: Any) -> Any:
    return checkpoint(function, *args, use_reentrant=False)


def _frozen(layer: nn.Module) -> Callable[..., Any]:
    def run(function: Callable[..., Any], *args: Any) -> Any:
        layer.training = False
        try:
            return function(*args)
        finally:
            layer.training = True

    return lambda function, *args: checkpoint(run, function, *args, use_reentrant=False)
