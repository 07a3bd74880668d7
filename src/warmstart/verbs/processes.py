"""Several processes of one run (torchrun): one of them writes, the others train along and read what it wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from warmstart.core.progress import reporter

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState


class Processes:
    """The processes that were started together; one, where there was no launcher.

    Args:
        device: where training runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.world = world_size()
        self.is_main = not is_follower()
        self._device = device
        if self.world > 1:
            self._state()  # gives each process its own accelerator

    def _state(self) -> PartialState:
        from accelerate import PartialState

        return PartialState(cpu=self._device.type == "cpu")

    def wait(self) -> None:
        """Go on when every process has come this far."""
        if self.world > 1:
            self._state().wait_for_everyone()

    def tell(self) -> None:
        """Say how many processes trained, where there were several."""
        if self.world > 1:
            reporter().say(f"Trained on {self.world} processes.")


def world_size() -> int:
    """How many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_follower() -> bool:
    """Whether another process of the same run does the talking and the writing."""
    return int(os.environ.get("RANK", "0")) > 0
