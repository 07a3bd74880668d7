"""L2-SP: pretrained weights are drawn back to where they started, instead of to zero.

Xuhong, Grandvalet and Davoine 2018, arXiv 1802.01483, with the pull decoupled from the gradient as AdamW does it
(arXiv 1711.05101): after each step, `w ← w − rate · strength · (w − w₀)`.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn


class Anchor:
    """Where the weights started, and the pull towards it.

    Args:
        model: the model as it starts.
        strength: of the pull; 0 for none.
        excluded: parameters that are not pretrained, and so are not drawn anywhere.
    """

    def __init__(self, model: nn.Module, strength: float, excluded: Collection[str]) -> None:
        self.strength = strength
        self._start: dict[int, Tensor] = {}  # by the identity of the parameter
        if strength > 0:
            for name, parameter in model.named_parameters():
                if parameter.requires_grad and name not in excluded:
                    self._start[id(parameter)] = parameter.detach().clone()

    def pull(self, optimizer: torch.optim.Optimizer) -> None:
        """Draw every open parameter back by its own rate; call it after the optimizer's step."""
        if not self._start:
            return
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    start = self._start.get(id(parameter))
                    if start is not None and group["lr"] > 0:
                        parameter.lerp_(start.to(parameter.device), min(1.0, group["lr"] * self.strength))
