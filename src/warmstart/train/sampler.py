"""The order of the training rows: shuffled by (seed, epoch) alone, rows of like length together.

Trainer's own length grouping draws from the global generator, so a resumed run sees another order; this one does not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

_POOL = 32  # batches that are sorted by length together


class LengthSampler(Sampler[int]):
    """Yields every row once per epoch; `set_epoch` picks the order.

    Args:
        lengths: cost of each row, (rows,).
        batch: rows per step over all devices and accumulation; sorted runs are cut at this size.
        seed: seed of the order.
    """

    def __init__(self, lengths: np.ndarray, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.lengths))
        pool = self.batch * _POOL
        runs: list[np.ndarray] = []
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(-self.lengths[rows], kind="stable")]
            runs.extend(rows[at : at + self.batch] for at in range(0, len(rows), self.batch))
        whole = [run for run in runs if len(run) == self.batch]
        rest = [run for run in runs if len(run) < self.batch]
        generator.shuffle(whole)  # type: ignore[arg-type]
        for run in [*whole, *rest]:
            yield from (int(row) for row in run)
