"""Weights of classes in a loss: what a probe and a trained strategy share when classes are weighed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def balanced_class_weights(labels: npt.NDArray[np.integer], classes: int) -> npt.NDArray[np.float64]:
    """Inverse frequencies, (classes,), that average 1 over the rows; 1 for a class without rows, where none is used.

    Args:
        labels: (rows,).
        classes: how many classes there are.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    present = counts > 0
    return np.where(present, len(labels) / (np.maximum(counts, 1) * present.sum()), 1.0)
