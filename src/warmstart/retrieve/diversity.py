"""Maximal marginal relevance: each next item is relevant and unlike those before it (Carbonell and Goldstein 1998)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mmr(
    relevance: NDArray[np.float32], vectors: NDArray[np.float32], k: int, diversity: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Choose k candidates one after another.

    The next one has the largest (1 − d) r − d s: r is its relevance, scaled to 0 … 1 over the candidates, since scores
    of a ranker may have any scale; s is its largest cosine with those already chosen (0 for the first). With d = 0 this
    is the order of relevance. Of equal ones the earlier candidate comes first.

    Args:
        relevance: (candidates,), higher is better.
        vectors: (candidates, dim), of unit length.
        k: how many.
        diversity: d, 0 to 1.

    Returns:
        Places of the chosen ones in order, and s of each, both (min(k, candidates),).
    """
    count = min(k, len(relevance))
    chosen = np.zeros(count, dtype=np.int64)
    penalty = np.zeros(count, dtype=np.float32)
    if not count:
        return chosen, penalty
    span = float(relevance.max() - relevance.min())
    scaled = (relevance - relevance.min()) / span if span > 0 else np.ones(len(relevance), dtype=np.float32)
    nearest = np.zeros(len(relevance), dtype=np.float32)
    left = np.ones(len(relevance), dtype=bool)
    for place in range(count):
        value = np.where(left, (1 - diversity) * scaled - diversity * nearest, -np.inf)
        best = int(value.argmax())
        chosen[place], penalty[place], left[best] = best, nearest[best], False
        likeness = vectors @ vectors[best]
        nearest = likeness if place == 0 else np.maximum(nearest, likeness)
    return chosen, penalty
