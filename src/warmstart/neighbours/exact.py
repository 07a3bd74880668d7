"""The exact answer: every query against every vector, some at a time. The reference for all other indexes."""

from __future__ import annotations

import numpy as np

from warmstart.core.errors import SettingError
from warmstart.neighbours.protocol import Found, checked, checked_ids

_SCORES = 1 << 24  # scores in memory at a time


class ExactIndex:
    """Keeps the vectors as they are.

    Args:
        width: length of a vector.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._ids = np.zeros(0, dtype=np.int64)
        self._vectors = np.zeros((0, width), dtype=np.float32)
        self._known: set[int] = set()

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._width

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `Index.add`."""
        vectors = checked(vectors, self._width)
        ids = checked_ids(ids, vectors, self._known)
        self._ids = np.concatenate([self._ids, ids])
        self._vectors = np.concatenate([self._vectors, vectors])
        self._known.update(ids.tolist())

    def search(self, queries: np.ndarray, k: int) -> Found:
        """See `Index.search`; of equal scores, the one that was added first comes first."""
        queries = checked(queries, self._width)
        if k < 1:
            raise SettingError(f"k is {k}; it must be at least 1.")
        k = min(k, len(self))
        places = np.zeros((len(queries), k), dtype=np.int64)
        scores = np.zeros((len(queries), k), dtype=np.float32)
        step = max(1, _SCORES // max(1, len(self)))
        for start in range(0, len(queries), step) if k else ():
            found = queries[start : start + step] @ self._vectors.T  # (some, vectors)
            top = _top(found, k)
            places[start : start + step] = top
            scores[start : start + step] = np.take_along_axis(found, top, axis=1)
        return Found(self._ids[places], scores)


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the k highest of each row, highest first, the first of equal ones first, (rows, k)."""
    if k < scores.shape[1]:
        edge = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]  # the k-th highest
        rank = np.where(scores > edge, 0, np.where(scores == edge, 1, 2))
        chosen = np.sort(np.argsort(rank, axis=1, kind="stable")[:, :k], axis=1)
    else:
        chosen = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)
