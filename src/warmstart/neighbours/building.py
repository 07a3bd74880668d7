"""From many vectors to an index: trained on a sample, filled some at a time, so that a mapped file stays one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from warmstart.core.index import IndexPlan
from warmstart.core.vector_rows import VectorRows, as_float32
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.plans import training_rows

ROWS = 1 << 16  # vectors at a time
Progress = Callable[[int, int, str], None]


def build(
    plan: IndexPlan,
    ids: np.ndarray,
    vectors: VectorRows,
    seed: int = 0,
    progress: Progress = lambda done, total, note: None,
    enough: Callable[[], bool] = lambda: False,
) -> FaissIndex | None:
    """Train and fill an index.

    Args:
        plan: what to build.
        ids: (rows,).
        vectors: (rows, width), in memory or mapped.
        seed: of the sample that is trained on.
        progress: told how many vectors are in.
        enough: asked between blocks whether to give up.

    Returns:
        The index, or None when it was given up.

    Raises:
        SettingError: vectors or ids are not fit, or too few to train on.
    """
    index = FaissIndex(vectors.shape[1], plan, _sample(vectors, training_rows(plan, len(vectors)), seed))
    for start in range(0, len(vectors), ROWS):
        if enough():
            return None
        rows = slice(start, start + ROWS)
        index.add(ids[rows], vectors[rows])
        progress(min(start + ROWS, len(vectors)), len(vectors), plan.name)
    return index


def _sample(vectors: VectorRows, rows: int, seed: int) -> np.ndarray:
    if rows >= len(vectors):
        return as_float32(vectors[:])
    chosen = np.sort(np.random.default_rng(seed).choice(len(vectors), rows, replace=False))
    return as_float32(vectors[chosen])
