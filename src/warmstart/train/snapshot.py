"""What a classifier makes of some rows: their features, and one pooled activation for each group of its layers.

The activation of a group is the last thing that its modules give for the batch: tokens averaged under the attention
mask, maps over height and width. What is done with it is left to `forgetting`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import Progress, best_device, inference_copy, ready_batches
from warmstart.backbones.groups import Group, called_modules
from warmstart.backbones.text_inputs import Inputs


@dataclass(frozen=True)
class Snapshot:
    """Features (rows, width), activations of each group by its label, (rows, width of the group), and what they cost.

    A group whose modules give nothing that belongs to single rows has no activation.
    """

    features: np.ndarray
    activations: dict[str, np.ndarray]
    seconds: float


def snapshot(
    model: Classifier,
    inputs: Inputs,
    groups: Sequence[Group],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Snapshot:
    """Run a classifier over all rows and keep what its groups give; no hook stays behind.

    Args:
        model: the classifier; it is not changed.
        inputs: encoded rows.
        groups: of this model, or of one of the same structure.
        dtype: type of the trunk's arithmetic; float32 by default, because what is compared here differs by little.
        device: where to run; `best_device` by default.
        progress: called after each batch with rows done and rows in all.

    Returns:
        All in float32, whatever `dtype` is.
    """
    device = best_device() if device is None else device
    runner = inference_copy(model, dtype, device)
    features = np.zeros((len(inputs), model.feature_size), dtype=np.float32)
    start, done = time.perf_counter(), 0
    with _Recorder(runner, groups) as recorder, torch.inference_mode():
        for rows, batch in ready_batches(runner, inputs, device):
            recorder.begin(rows, batch.get("attention_mask"))
            features[rows] = runner.features(**batch).float().cpu().numpy()
            done += len(rows)
            if progress is not None:
                progress(done, len(inputs))
    return Snapshot(features, recorder.activations(len(inputs)), time.perf_counter() - start)


class _Recorder:
    """Hooks on the modules of groups, and what they gave in every batch."""

    def __init__(self, model: Classifier, groups: Sequence[Group]) -> None:
        self._watched = [
            (group.label, path, module)
            for group in groups
            for top in group.modules
            for path, module in called_modules(top, model.get_submodule(top))
            if next(module.parameters(), None) is not None
        ]
        self._handles: list[RemovableHandle] = []
        self._batches: list[tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]] = []
        self._mask: Tensor | None = None

    def __enter__(self) -> Self:
        for label, path, module in self._watched:
            self._handles.append(module.register_forward_hook(self._hook(label, path)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def begin(self, rows: np.ndarray, mask: Tensor | None) -> None:
        """From here on, what is given belongs to these rows, (batch,), with this mask, (batch, tokens)."""
        self._batches.append((rows, defaultdict(dict)))
        self._mask = mask

    def _hook(self, label: str, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            rows, made = self._batches[-1]
            pool = partial(pooled, rows=len(rows), mask=self._mask)
            found = next((value for value in map(pool, _tensors(output)) if value is not None), None)
            if found is not None:
                made[label].pop(path, None)  # a module that is called again counts from its last call
                made[label][path] = found.cpu().numpy()

        return note

    def activations(self, rows: int) -> dict[str, np.ndarray]:
        """Of each group, what the last of those modules gave that gave something in every batch, (rows, width)."""
        found = {}
        for label in dict.fromkeys(label for label, _, _ in self._watched):
            parts = [(places, made.get(label, {})) for places, made in self._batches]
            for path in reversed(parts[-1][1] if parts else {}):
                widths = {made[path].shape[1] if path in made else None for _, made in parts}
                if len(widths) == 1 and None not in widths:
                    found[label] = _assembled(rows, [(places, made[path]) for places, made in parts])
                    break
        return found


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of what a module gives: itself, or the members of a tuple or a mapping in their order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list, Mapping)):
        members = output.values() if isinstance(output, Mapping) else output
        yield from (member for member in members if isinstance(member, Tensor))


def pooled(values: Tensor, rows: int, mask: Tensor | None) -> Tensor | None:
    """One float32 vector a row, (rows, width), of what a module gives; None for what does not belong to single rows.

    Args:
        values: (rows, width); (rows, tokens, width), averaged under the mask; or, where there is no mask, maps (rows,
            width, height, width of the map), averaged over their places.
        rows: of the batch.
        mask: 1 for real tokens, (rows, tokens); None for images.
    """
    if values.dim() < 2 or len(values) != rows or not values.is_floating_point():
        return None
    values = values.float()
    if values.dim() == 2:
        return values
    if values.dim() == 3 and mask is None:
        return values.mean(1)
    if values.dim() == 3 and mask is not None and values.shape[1] == mask.shape[1]:
        weights = mask.to(torch.float32).unsqueeze(-1)  # (rows, tokens, 1)
        return (values * weights).sum(1) / weights.sum(1).clamp(min=1.0)
    if values.dim() == 4 and mask is None:
        return values.mean((2, 3))
    return None


def _assembled(rows: int, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    whole = np.zeros((rows, parts[0][1].shape[1]), dtype=np.float32)
    for places, values in parts:
        whole[places] = values
    return whole  # (rows, width)
