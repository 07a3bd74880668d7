"""Several processes of one run (torchrun): one of them writes, the others train along and read what it wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Processes:
    """The processes that were started together; one, where there was no launcher.

    Args:
        device: where training runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.is_main = not is_follower()
        self._device = device

    def wait(self) -> None:
        """Go on when every process has come this far."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState(cpu=self._device.type == "cpu").wait_for_everyone()


def is_follower() -> bool:
    """Whether another process of the same run does the talking and the writing."""
    return int(os.environ.get("RANK", "0")) > 0
