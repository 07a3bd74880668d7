"""The exact answer: every query against every vector, some at a time. The reference for all other indexes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from warmstart.neighbours.ids import Allowed, Filter, IdTable
from warmstart.neighbours.protocol import Found, check_k, checked

_SCORES = 1 << 24  # scores in memory at a time
_ROWS = 1 << 16  # vectors at a time


class ExactIndex:
    """Keeps the vectors as they are.

    Args:
        width: length of a vector.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._table = IdTable()
        self._vectors = np.zeros((0, width), dtype=np.float32)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._width

    def __len__(self) -> int:
        return len(self._table)

    def ids(self) -> np.ndarray:
        """See `Index.ids`."""
        return self._table.alive_ids()

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `Index.add`."""
        vectors = checked(vectors, self._width)
        self._append(self._table.check_new(ids, len(vectors)), vectors)

    def delete(self, ids: np.ndarray) -> None:
        """See `Index.delete`."""
        self._table.delete(self._table.check_known(ids, len(ids)))

    def update(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `Index.update`."""
        vectors = checked(vectors, self._width)
        ids = self._table.check_known(ids, len(vectors))
        self._table.delete(ids)
        self._append(ids, vectors)

    def prepare(self, where: Filter) -> Allowed:
        """See `Index.prepare`."""
        return self._table.allowed(where)

    def search(self, queries: np.ndarray, k: int, where: Filter | Allowed | None = None) -> Found:
        """See `Index.search`; of equal scores, the one that was added first comes first."""
        queries = checked(queries, self._width)
        check_k(k)
        places = self._table.places_of(self._table.allowed(where))
        scores, found = nearest_of(queries, places, self._vectors.__getitem__, k)
        return Found(self._table.all_ids()[found], scores)

    def _append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self._vectors = np.concatenate([self._vectors, vectors])
        self._table.add(ids)


def nearest_of(
    queries: np.ndarray, places: np.ndarray, read: Callable[[np.ndarray], np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score every place that is given, and keep the best.

    Args:
        queries: (queries, width).
        places: (places,), ascending.
        read: from some places to their vectors, (places, width).
        k: at least 1.

    Returns:
        Scores and places, (queries, k), or fewer columns where there are fewer places; the best first, of equal ones
        the lowest place first.
    """
    k = min(k, len(places))
    scores = np.zeros((len(queries), k), dtype=np.float32)
    found = np.zeros((len(queries), k), dtype=np.int64)
    step = max(1, _SCORES // min(_ROWS, max(1, len(places))))
    for first in range(0, len(queries), step) if k else ():
        rows = slice(first, first + step)
        best = np.zeros((len(queries[rows]), 0), dtype=np.float32)
        at = np.zeros(best.shape, dtype=np.int64)
        for start in range(0, len(places), _ROWS):
            some = places[start : start + _ROWS]
            best = np.concatenate([best, queries[rows] @ read(some).T], axis=1)  # (some queries, kept + some)
            at = np.concatenate([at, np.broadcast_to(some, (len(best), len(some)))], axis=1)
            top = _top(best, min(k, best.shape[1]))
            best, at = np.take_along_axis(best, top, axis=1), np.take_along_axis(at, top, axis=1)
        scores[rows], found[rows] = best, at
    return scores, found


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k highest of each row, highest first, the first of equal ones first, (rows, k)."""
    if k < scores.shape[1]:
        edge = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]  # the k-th highest
        rank = np.where(scores > edge, 0, np.where(scores == edge, 1, 2))
        chosen = np.sort(np.argsort(rank, axis=1, kind="stable")[:, :k], axis=1)
    else:
        chosen = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)
