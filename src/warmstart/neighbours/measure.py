"""Recall against the exact answer, and the latency of single queries: what an index is judged by."""

from __future__ import annotations

import gc
import time

import faiss
import numpy as np

from warmstart.core.record import Interval
from warmstart.core.statistics import bootstrap_interval
from warmstart.core.vector_rows import VectorRows, as_float32
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.ids import IdTable

_ROWS = 1 << 18  # vectors at a time
_QUERIES = 128  # at a time, when answers are scored again
_TIE = 1e-5  # scores nearer than this share are one score: sums in another order differ by as much
_ROUNDS = 3
_FEWEST = 100  # single queries in a round, however slow


class ExactAnswer:
    """The exact answer to some queries: how high a score must be to belong to the k nearest.

    An answer counts as right when its true inner product reaches that of the k-th nearest, so that of vectors that are
    alike either will do.

    Args:
        queries: (queries, width), float32.
        ids: (rows,), of the vectors.
        vectors: (rows, width).
        k: how many nearest.
    """

    def __init__(self, queries: np.ndarray, ids: np.ndarray, vectors: VectorRows, k: int) -> None:
        self.queries, self.k = queries, min(k, len(vectors))
        self._vectors, self._rows = vectors, IdTable()
        self._rows.add(ids)
        best = np.zeros((len(queries), 0), dtype=np.float32)
        for start in range(0, len(vectors), _ROWS):
            block = as_float32(vectors[start : start + _ROWS])
            scores, _ = faiss.knn(queries, block, min(self.k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
            best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, : self.k]  # (queries, k)
        self._edge = best[:, -1] - _TIE * np.abs(best[:, -1])

    def recall(self, index: FaissIndex) -> np.ndarray:
        """Share of each query's k answers that are right, (queries,)."""
        found = self._rows.find(index.search(self.queries, self.k).ids.ravel()).reshape(len(self.queries), self.k)
        right = np.zeros(len(self.queries))
        for start in range(0, len(self.queries), _QUERIES):
            rows = slice(start, start + _QUERIES)
            vectors = np.asarray(self._vectors[found[rows]], dtype=np.float32)  # (some queries, k, width)
            scores = np.einsum("qkw,qw->qk", vectors, self.queries[rows])
            right[rows] = (scores >= self._edge[rows, None]).mean(axis=1)
        return right


def recall_interval(recalls: np.ndarray, seed: int, looks: int = 1) -> Interval:
    """Mean recall with its 95 % interval over the queries, (queries,) → interval.

    Args:
        recalls: of the queries.
        seed: of the bootstrap.
        looks: how many such intervals are looked at for one that reaches a goal; together they hold with 95 %
            (Bonferroni), so that the best of many lucky draws does not count as good.
    """
    return bootstrap_interval(recalls, seed, 1.0 - 0.05 / looks)


def latency(index: FaissIndex, queries: np.ndarray, k: int, seconds: float = 2.0) -> tuple[float, float, int]:
    """Milliseconds of a single query on one thread: median and 99th percentile, and how many queries were timed.

    Queries are asked one by one, after a warm-up; each figure is the median of three rounds, so that one disturbance
    of the machine does not decide. Python's share of the work is counted in.

    Args:
        index: what is asked.
        queries: (queries, width); asked over and over when there are fewer than a round needs.
        k: how many nearest.
        seconds: what all rounds may take together, but for a hundred queries a round, which are always asked.
    """
    singles = [queries[row : row + 1] for row in range(len(queries))]
    start = time.perf_counter()
    warm = min(len(singles), 50)
    for query in singles[:warm]:
        index.search(query, k)
    each = (time.perf_counter() - start) / warm
    count = max(_FEWEST, min(1000, int(seconds / _ROUNDS / each)))
    taken = np.zeros((_ROUNDS, count))
    collecting = gc.isenabled()
    gc.disable()
    try:
        for round_taken in taken:
            for place in range(count):
                query = singles[place % len(singles)]
                start = time.perf_counter()
                index.search(query, k)
                round_taken[place] = time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()
    p50, p99 = np.median(np.quantile(taken, [0.5, 0.99], axis=1), axis=1) * 1000
    return float(p50), float(p99), count
