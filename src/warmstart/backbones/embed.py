"""Running a classifier over many rows, fast: features and logits, sorted by length, in batches of equal cost.

Precision follows the machine (`fast_dtype`); the head always runs in float32. Results that cost time are kept on disk
by `feature_cache.py`.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.text_inputs import Inputs

TOKENS_PER_BATCH = 2048
IMAGES_PER_BATCH = 32
Progress = Callable[[int, int], None]  # rows done, rows in all
Around = Callable[[Classifier, list[int], dict[str, torch.Tensor]], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Forward:
    """Features (rows, width), logits (rows, labels), and what they cost."""

    features: np.ndarray
    logits: np.ndarray
    seconds: float


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def best_device() -> torch.device:
    """The accelerator when there is one, else the processor."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if accelerator is None else accelerator


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.backends.cpu.get_capabilities() if hasattr(torch.backends.cpu, "get_capabilities") else {}
        known = ("avx512_bf16", "amx_bf16", "bf16")
        if capabilities:
            return any(bool(capabilities.get(name)) for name in known)
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported())
    return False


def fast_dtype(device: torch.device) -> torch.dtype:
    """The quickest type for inference that keeps features within a cosine of .999 of float32."""
    return torch.bfloat16 if has_fast_bf16(device) else torch.float32


def inference_copy(model: Classifier, dtype: torch.dtype, device: torch.device) -> Classifier:
    """The model in evaluation mode, its trunk in `dtype`, its head in float32; the same object when nothing changes.

    Buffers that are no weights (rotary frequencies) stay in float32, as they do when transformers loads in bfloat16.
    """
    own = next(model.backbone.parameters()).dtype
    if dtype == own and device_of(model) == device and not model.training:
        return model
    clone: Classifier = copy.deepcopy(model).to(device).eval()
    computed = [
        (module, name, module._buffers[name])
        for module in clone.backbone.modules()
        for name in module._non_persistent_buffers_set
    ]
    clone.backbone.to(dtype)
    for module, name, buffer in computed:
        module._buffers[name] = buffer
    if model.config.modality == "image":
        clone.backbone.to(memory_format=torch.channels_last)
    return clone


def batches(lengths: np.ndarray, tokens: int = TOKENS_PER_BATCH) -> list[np.ndarray]:
    """Rows in batches of equal cost, longest first, so that padding and the first batch's memory are known early.

    Args:
        lengths: of the rows, (rows,): tokens, or 1 for images.
        tokens: in a batch of texts, at most; at least one row whatever its length.
    """
    order = np.argsort(-lengths, kind="stable")
    images = bool(len(lengths)) and int(lengths.max()) == 1
    out, start = [], 0
    while start < len(order):
        size = IMAGES_PER_BATCH if images else max(1, tokens // int(lengths[order[start]]))
        out.append(order[start : start + size])
        start += size
    return out


def ready_batches(
    runner: Classifier, inputs: Inputs, device: torch.device, tokens: int = TOKENS_PER_BATCH
) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
    """Rows (batch,) and the model's arguments for them, where the model is and in its trunk's type.

    Args:
        runner: from `inference_copy`.
        inputs: encoded rows.
        device: where the runner is.
        tokens: see `batches`.
    """
    dtype = next(runner.backbone.parameters()).dtype
    for rows in batches(inputs.lengths, tokens):
        batch = {name: value.to(device) for name, value in inputs.batch([int(row) for row in rows]).items()}
        if "pixel_values" in batch:
            batch["pixel_values"] = batch["pixel_values"].to(dtype)
        yield rows, batch


def forward(
    model: Classifier,
    inputs: Inputs,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    around: Around | None = None,
) -> Forward:
    """Features and logits of every row.

    Args:
        model: the classifier; it is not changed.
        inputs: encoded rows.
        dtype: type of the trunk's arithmetic; `fast_dtype` by default.
        device: where to run; `best_device` by default.
        progress: called after each batch.
        around: a context that each batch is run in, made from the model that runs it, its rows and its inputs.
    """
    device = best_device() if device is None else device
    runner = inference_copy(model, fast_dtype(device) if dtype is None else dtype, device)
    features = np.zeros((len(inputs), model.feature_size), dtype=np.float32)
    logits = np.zeros((len(inputs), model.config.num_labels), dtype=np.float32)
    start, done = time.perf_counter(), 0
    with torch.inference_mode():
        for rows, batch in ready_batches(runner, inputs, device):
            context = contextlib.nullcontext() if around is None else around(runner, rows.tolist(), batch)
            with context:
                found = runner.features(**batch)
            features[rows] = found.float().cpu().numpy()
            scaled = (found * runner.config.feature_scale).to(runner.head.weight.dtype)
            logits[rows] = runner.head(scaled).float().cpu().numpy()
            done += len(rows)
            if progress is not None:
                progress(done, len(inputs))
    return Forward(features, logits, time.perf_counter() - start)
