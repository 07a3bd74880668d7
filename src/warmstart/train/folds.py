"""Folds for cross-validation on small and lopsided sets: stratified, and whole groups when there are groups.

Train, validation and test splits of a task are made in `warmstart.data`; this only says which rows of the fit split
are held out together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from warmstart.core.errors import DataError, SettingError
from warmstart.core.metrics import Ints

FOLDS = 5


def assign_folds(
    labels: Ints, classes: int, *, seed: int, groups: npt.NDArray[Any] | None = None, folds: int = FOLDS
) -> npt.NDArray[np.int64]:
    """The fold in which each row is held out, or -1 for a row that always stays in training.

    A class with fewer rows than there are folds is spread one row a fold, so the rest of it is always in training and
    no class forces fewer folds on all the others. A class of a single row stays in training. With groups, whole groups
    are held out, and a class inside one group is then absent from the training rows of one fold.

    Args:
        labels: (rows,), from 0 to classes - 1.
        classes: how many classes there are.
        seed: decides which rows go together.
        groups: (rows,) of group names, or None.
        folds: how many; fewer when there are fewer rows, groups, or rows in the largest class.

    Returns:
        (rows,) of fold numbers, without gaps.

    Raises:
        DataError: when there is nothing to hold out: fewer than two groups, or one row of every class.
        SettingError: when groups and labels differ in length.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels, minlength=classes)
    if groups is not None:
        return _group_folds(labels, classes, groups, folds, rng)
    if counts.max(initial=0) < 2:
        raise DataError(
            "no class has two labelled rows, so nothing can be held out", remedy="Label at least two rows of a class."
        )
    kept = np.flatnonzero(counts[labels] >= 2)
    folds = min(folds, len(kept))
    home = np.full(len(labels), -1, dtype=np.int64)
    order = kept[rng.permutation(len(kept))]
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, shuffled inside
    home[order] = np.arange(len(order)) % folds  # neighbours differ: a class fills all folds evenly
    return home


def _group_folds(
    labels: Ints, classes: int, groups: npt.NDArray[Any], folds: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Whole groups, the most lopsided first, each to the fold whose class shares it evens out best."""
    if len(groups) != len(labels):
        raise SettingError(f"there are {len(groups)} groups for {len(labels)} labels; every row needs one.")
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"all labelled rows share {len(names)} group, so nothing can be held out",
            remedy="Choose another group column, or none.",
        )
    folds = min(folds, len(names))
    table = np.zeros((len(names), classes), dtype=np.float64)  # rows of each class in each group
    np.add.at(table, (member, labels), 1.0)
    table /= np.maximum(table.sum(axis=0), 1.0)  # share of its class, so that rare classes count
    order = rng.permutation(len(names))
    order = order[np.argsort(-table[order].max(axis=1), kind="stable")]
    load = np.zeros((folds, classes), dtype=np.float64)
    used = np.zeros(folds, dtype=bool)
    home = np.zeros(len(names), dtype=np.int64)
    for place, group in enumerate(order):
        cost = ((load + table[group]) ** 2 - load**2).sum(axis=1)  # growth of the sum of squares: least is evenest
        if len(order) - place <= folds - used.sum():
            cost[used] = np.inf  # every fold gets a group
        best = int(cost.argmin())
        home[group], used[best] = best, True
        load[best] += table[group]
    return home[member]
