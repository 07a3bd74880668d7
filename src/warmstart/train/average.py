"""An exponential moving average of the weights that learn: judged, kept and returned in their place.

The average after step t uses `min(decay, (1 + t) / (10 + t))`, so that the first steps do not hold it back. It is
brought up to date every fourth step, with the fourth power: a pass over all weights costs a twentieth of a CPU's step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FILE = "average.safetensors"
EVERY = 4
"""Steps between updates."""


class Average:
    """The average of a model's learning weights.

    Args:
        model: the model as it starts; what is frozen now is not averaged.
        decay: weight of the past, from 0 (no average) to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = {name: p for name, p in model.named_parameters() if p.requires_grad} if decay > 0 else {}
        self._mean = {name: parameter.detach().clone() for name, parameter in self._live.items()}

    def __bool__(self) -> bool:
        return bool(self._live)

    def update(self, step: int) -> None:
        """Take in the weights as they are after a number of steps; those of closed groups have not moved."""
        if step % EVERY:
            return
        keep = min(self._decay, (1 + step) / (10 + step)) ** EVERY
        with torch.no_grad():
            for name, parameter in self._live.items():
                if parameter.requires_grad:
                    self._mean[name].lerp_(parameter, 1 - keep)

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within it, the model has the averaged weights."""
        live = {name: parameter.detach().clone() for name, parameter in self._live.items()}
        self._copy(self._mean)
        try:
            yield
        finally:
            self._copy(live)

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        if self:
            save_file({name: mean.contiguous() for name, mean in self._mean.items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read the average of a checkpoint."""
        if self:
            for name, mean in load_file(folder / FILE).items():
                self._mean[name].copy_(mean)

    def put_in(self) -> None:
        """Give the model the averaged weights for good."""
        self._copy(self._mean)

    def _copy(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self._live[name].copy_(value)
