"""Where a query's wrong answers come from: its batch, the catalogue, the popular part of it, or a mixture.

What is drawn and how often it is to be expected belong together: one object draws and gives the log-Q. The losses that
use both are `info_nce.py`; negatives that are searched for instead of drawn are `mining.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from warmstart.contrastive.frequency import pool_log_q
from warmstart.core.errors import SettingError


class NegativeSampler:
    """Draws shared negatives out of a catalogue, in two ways that may be mixed, beside those of the batch.

    With neither, the pool is the batch. In-batch negatives alone are drawn by popularity, so that much of the catalogue
    is never seen as a wrong answer; uniform draws mend this (Yang et al. 2020, WWW companion: mixed negative sampling).

    Args:
        items: ids are 0 to `items − 1`.
        uniform: draws per batch with equal probabilities.
        popular: draws per batch with probabilities `count ** power`.
        counts: (items,), how often each item is in the training rows; needed for popular draws.
        power: 1 draws as the rows do, 0.75 as word2vec does (arXiv 1310.4546).

    Raises:
        SettingError: a number is negative, or popular draws have nothing to go by.
    """

    def __init__(
        self, items: int, *, uniform: int = 0, popular: int = 0, counts: Tensor | None = None, power: float = 0.75
    ) -> None:
        if items < 1 or uniform < 0 or popular < 0:
            raise SettingError(f"Negatives are drawn from {items} items, {uniform} uniformly, {popular} by popularity.")
        if popular and (counts is None or counts.shape != (items,) or float(counts.sum()) <= 0):
            raise SettingError("Draws by popularity need how often each item occurs in the training rows.")
        self.items, self.uniform, self.popular = items, uniform, popular
        self._popularity = torch.zeros(items, dtype=torch.float64)
        if counts is not None:
            weights = torch.where(counts > 0, counts.double() ** power, 0.0)  # 0 ** 0 is 1
            self._popularity = weights / weights.sum().clamp(min=1e-300)

    def draw(self, generator: torch.Generator) -> Tensor:
        """The ids of one batch's negatives, (uniform + popular,), with replacement."""
        drawn = torch.randint(self.items, (self.uniform,), generator=generator)
        if not self.popular:
            return drawn
        chosen = torch.multinomial(self._popularity, self.popular, replacement=True, generator=generator)
        return torch.cat([drawn, chosen])

    def log_q(self, ids: Tensor, in_batch: int, log_probability: Tensor) -> Tensor:
        """Log of how often each id is expected in a pool, whichever way it got there, (ids,).

        Args:
            ids: (ids,), of the batch or of what was drawn.
            in_batch: other rows of the batch, which are draws, too: rows − 1.
            log_probability: (ids,), of each id in one row of the batch (`FrequencyEstimator`).
        """
        uniform = torch.full_like(log_probability, -math.log(self.items))
        popular = self._popularity.to(ids.device)[ids].log().to(log_probability)
        return pool_log_q((in_batch, log_probability), (self.uniform, uniform), (self.popular, popular))
