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
        forward: rows of one forward pass, which `batch` is a multiple of; `batch` when None.
        at_least: rows that the last forward pass must have (batch norm cannot learn from one row); where it would
            have fewer, the epoch's first rows come a second time.
    """

    def __init__(
        self, lengths: np.ndarray, batch: int, seed: int, *, forward: int | None = None, at_least: int = 1
    ) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0
        left = len(lengths) % (batch if forward is None else forward)
        self._again = max(0, at_least - left) if left else 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + self._again

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
        ordered = [*(whole[place] for place in generator.permutation(len(whole))), *rest]
        rows = np.concatenate(ordered) if ordered else order
        for row in (*rows, *rows[: self._again]):
            yield int(row)
