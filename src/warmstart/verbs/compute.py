"""Evidence on compute: what one row of training keeps in memory, what is held already, and how much there is."""

from __future__ import annotations

import psutil
import torch

from warmstart.backbones.outline import Outline
from warmstart.core.decision import ComputeEvidence
from warmstart.core.errors import StrategyNotPossibleError
from warmstart.decide import memory
from warmstart.strategies.protocol import Settings
from warmstart.train.calibrate import StepCost
from warmstart.train.lora import choose_targets, lora_size
from warmstart.verbs.situation import Situation

_CONTEXT = 600_000_000  # bytes that an accelerator's runtime and libraries hold before any tensor
_LAYERS = 12  # of a trunk whose configuration does not say


def compute_evidence(
    situation: Situation, settings: Settings, step: StepCost, device_bytes: int | None
) -> ComputeEvidence:
    """What memory follows from, of a model that was loaded and stepped.

    Args:
        situation: the task and the model.
        settings: of a trained strategy: batch, rank and targets of LoRA.
        step: what a row cost.
        device_bytes: memory to train in, if the user says; else the device's own.
    """
    parameters = situation.backbone.card.parameters
    encoder = situation.backbone.encoder
    try:
        lora = lora_size(encoder, choose_targets(encoder, settings.target_modules), settings.r)
    except StrategyNotPossibleError:
        lora = 0
    layers = getattr(encoder.backbone.config, "num_hidden_layers", None)
    return ComputeEvidence(
        parameters=parameters,
        stored_bytes=parameters * memory.FLOAT,
        lora_parameters=lora,
        activation_bytes=step.activation_bytes,
        forward_bytes=2.0 * step.activation_bytes / (layers if isinstance(layers, int) and layers > 0 else _LAYERS),
        batch=settings.per_device_train_batch_size,
        resident_bytes=_resident(situation.device),
        device_bytes=_available(situation.device) if device_bytes is None else device_bytes,
        measured=True,
        averaged=settings.ema_decay > 0,
    )


def outlined_compute(
    outline: Outline, settings: Settings, device: torch.device, device_bytes: int | None
) -> ComputeEvidence:
    """The same of a model that is known by its configuration alone.

    Args:
        outline: its shape.
        settings: of a trained strategy.
        device: where it would be trained.
        device_bytes: memory to train in, if the user says; else the device's own.
    """
    kept, held = 0.0, 0.0
    if outline.layers and outline.hidden:
        kept = memory.activation_bytes(outline.layers, outline.hidden, outline.heads, outline.tokens)
        held = memory.forward_bytes(outline.hidden, outline.tokens, outline.inner, outline.heads)
        if settings.gradient_checkpointing:
            kept = kept / outline.layers + memory.layer_inputs(outline.layers, outline.hidden, outline.tokens)
    return ComputeEvidence(
        parameters=outline.parameters,
        stored_bytes=outline.stored_bytes,
        lora_parameters=lora_size(outline.trunk, choose_targets(outline.trunk, settings.target_modules), settings.r),
        activation_bytes=kept,
        forward_bytes=held,
        batch=settings.per_device_train_batch_size,
        resident_bytes=_CONTEXT,
        device_bytes=_available(device) if device_bytes is None else device_bytes,
        measured=False,
        averaged=settings.ema_decay > 0,
    )


def _resident(device: torch.device) -> int:
    """What is held before any training: on a processor by this process, on an accelerator by its runtime."""
    return int(psutil.Process().memory_info().rss) if device.type == "cpu" else _CONTEXT


def _available(device: torch.device) -> int | None:
    """The device's memory; None where it does not say."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().total)
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return None
