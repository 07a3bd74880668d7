"""What a confusion matrix says: shares of each true class, and the pairs that are mixed up most.

Drawing it is left to `plots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LABELLED_LIMIT = 20  # more classes than this are drawn without labels and counts


@dataclass(frozen=True)
class ConfusedPair:
    """Rows of one class that were taken for another: how many, and their share of the class's rows."""

    label: str
    prediction: str
    rows: int
    share: float


def row_shares(confusion: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """The matrix with each row divided by its sum.

    Args:
        confusion: counts, rows are true classes and columns predicted ones.

    Returns:
        (classes, classes) shares between 0 and 1; a class without rows is all zeros.
    """
    counts = np.asarray(confusion, dtype=np.float64)  # (classes, classes)
    totals = counts.sum(axis=1, keepdims=True)  # (classes, 1)
    shares = np.zeros_like(counts)
    np.divide(counts, totals, out=shares, where=totals > 0)
    return shares


def confused_pairs(confusion: Sequence[Sequence[int]], labels: Sequence[str], limit: int) -> list[ConfusedPair]:
    """The pairs (true, predicted) with the most rows; ties go to the larger share, then to the earlier class."""
    shares = row_shares(confusion)
    pairs = [
        ConfusedPair(labels[true], labels[predicted], rows, float(shares[true, predicted]))
        for true, line in enumerate(confusion)
        for predicted, rows in enumerate(line)
        if true != predicted and rows > 0
    ]
    return sorted(pairs, key=lambda pair: (-pair.rows, -pair.share))[:limit]
