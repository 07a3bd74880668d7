"""Vectors in several mapped files as one array that is read some rows at a time, without a copy of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class ShardedVectors:
    """Rows of several arrays, one after another.

    Args:
        parts: each (rows of its own, width), of one width and type.
        chosen: for each part the rows that count, ascending; None for all of them.
    """

    def __init__(self, parts: Sequence[np.ndarray], chosen: Sequence[np.ndarray | None]) -> None:
        self._parts, self._chosen = list(parts), list(chosen)
        lengths = [len(part) if rows is None else len(rows) for part, rows in zip(parts, chosen, strict=True)]
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width."""
        return len(self), int(self._parts[0].shape[1])

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return self._parts[0].dtype

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Vectors of a slice, or of an array of row numbers of any shape, (…, width)."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self._run(start, stop) if step == 1 else self._gather(np.arange(start, stop, step))
        return self._gather(np.asarray(rows, dtype=np.int64))

    def _run(self, start: int, stop: int) -> np.ndarray:
        """Neighbouring rows; a view where they are in one part."""
        pieces = []
        first, last = np.searchsorted(self._starts, (start, stop), side="right") - 1
        for place in range(int(first), min(int(last) + 1, len(self._parts))):
            a, b = (int(value) for value in np.clip((start, stop), *self._starts[place : place + 2]))
            if a >= b:
                continue
            own = slice(a - int(self._starts[place]), b - int(self._starts[place]))
            rows = self._chosen[place]
            pieces.append(self._parts[place][own if rows is None else rows[own]])
        if not pieces:
            return np.zeros((0, self.shape[1]), dtype=self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        flat = np.where(rows < 0, rows + len(self), rows).ravel()
        if len(flat) and not (flat.min() >= 0 and flat.max() < len(self)):
            raise IndexError(f"row {rows.max()} of {len(self)}")
        found = np.empty((len(flat), self.shape[1]), dtype=self.dtype)
        owner = np.searchsorted(self._starts, flat, side="right") - 1
        for place in np.unique(owner).tolist():
            here = np.flatnonzero(owner == place)
            own = flat[here] - self._starts[place]
            chosen = self._chosen[place]
            found[here] = self._parts[place][own if chosen is None else chosen[own]]
        return found.reshape(*rows.shape, self.shape[1])
