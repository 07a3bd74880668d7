"""The temperature: fixed, or learnt between stated bounds (arXiv 2103.00020, sec. 2.5; openai/CLIP#46: do clamp)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from warmstart.core.errors import SettingError

MAX_SCALE = 100.0
MIN_SCALE = 1.0


class Temperature(nn.Module):
    """Gives the scale, 1 / temperature, that cosines are multiplied by.

    A learnt scale is kept as its logarithm, and put back between its bounds after every step (`project`). It must not
    be decayed: it has no dimension, so `train.rates` leaves it out.

    Args:
        temperature: where it starts.
        learnable: whether it is trained.
        min_scale: lowest scale that a learnt one may reach.
        max_scale: highest scale that a learnt one may reach.

    Raises:
        SettingError: the temperature is not above 0, or a learnt one starts outside of its bounds.
    """

    log_scale: Tensor

    def __init__(
        self,
        temperature: float,
        *,
        learnable: bool = False,
        min_scale: float = MIN_SCALE,
        max_scale: float = MAX_SCALE,
    ) -> None:
        super().__init__()
        if not (temperature > 0 and math.isfinite(temperature)):
            raise SettingError(f"--temperature is {temperature}; it must be above 0.")
        if learnable and not min_scale <= 1 / temperature <= max_scale:
            raise SettingError(
                f"--temperature is {temperature:g}; a learnt one must start between {1 / max_scale:g} and "
                f"{1 / min_scale:g}."
            )
        start = torch.tensor(-math.log(temperature))
        self.learnable, self.min_scale, self.max_scale = learnable, min_scale, max_scale
        if learnable:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    def forward(self) -> Tensor:
        """The scale, a scalar; the gradient passes at the bounds, so that a learnt scale can come back from them."""
        if not self.learnable:
            return self.log_scale.exp()
        return self.log_scale.clamp(math.log(self.min_scale), math.log(self.max_scale)).exp()

    @torch.no_grad()
    def project(self) -> None:
        """Put a learnt scale back between its bounds; to be called after every step of the optimizer."""
        if self.learnable:
            self.log_scale.clamp_(math.log(self.min_scale), math.log(self.max_scale))
