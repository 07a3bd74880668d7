"""The k-nearest-neighbour classifier: an exact vote by cosine similarity, on arrays.

A floor that needs no training and no setting. Approximate search over large collections is not done here, and
intervals of its score are left to `warmstart.decide.floors`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from warmstart.core.errors import DataError, SettingError
from warmstart.core.metrics import Floats, Ints, unit_rows

NEIGHBOURS = 10
SHARPNESS = 0.07  # a neighbour's vote weighs exp(cosine / SHARPNESS): Wu et al. 2018 (arXiv 1805.01978), equation 8
SMOOTHING = 0.1  # one vote in ten of the nearest neighbour's weight, spread over all classes
_CHUNK = 8_000_000  # similarities held at once


def knn_predict(
    train: Floats, labels: Ints, queries: Floats, classes: int, k: int = NEIGHBOURS
) -> npt.NDArray[np.float32]:
    """Log-probabilities (queries, classes) from the k training rows of highest cosine similarity.

    Votes are weighted by exp(cosine / 0.07) relative to the nearest neighbour and smoothed, so that no class has
    probability zero. A row of zeros is equally far from everything.

    Args:
        train: (rows, features).
        labels: (rows,), from 0 to classes - 1.
        queries: (queries, features).
        classes: how many classes there are.
        k: neighbours that vote; all rows when there are fewer.

    Raises:
        SettingError: when k is below 1.
        DataError: when there are no training rows, or shapes do not fit.
    """
    _check(train, labels, k)
    if queries.ndim != 2 or queries.shape[1] != train.shape[1]:
        raise DataError(f"queries of shape {queries.shape} do not fit features of shape {train.shape}")
    return _vote_all(_compact(train), labels, _compact(queries), classes, k, None)


def knn_leave_one_out(
    features: Floats,
    labels: Ints,
    classes: int,
    k: int = NEIGHBOURS,
    groups: npt.NDArray[Any] | None = None,
) -> npt.NDArray[np.float32]:
    """What `knn_predict` says of every training row when the row itself is taken away: (rows, classes).

    Args:
        features: (rows, features).
        labels: (rows,).
        classes: how many classes there are.
        k: neighbours that vote.
        groups: (rows,) of names; all rows that share the row's group are taken away with it.

    Raises:
        SettingError: when k is below 1, or the groups do not fit.
        DataError: when a row has no other row to be judged by.
    """
    _check(features, labels, k)
    if groups is not None and len(groups) != len(labels):
        raise SettingError(f"there are {len(groups)} groups for {len(labels)} labels; every row needs one.")
    member = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if len(np.unique(member)) < 2:
        raise DataError("there is no other row or group to judge a row by", remedy="Give at least two.")
    unit = _compact(features)
    return _vote_all(unit, labels, unit, classes, k, member.astype(np.int64))


def _vote_all(
    train: npt.NDArray[np.float32],
    labels: Ints,
    queries: npt.NDArray[np.float32],
    classes: int,
    k: int,
    member: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.float32]:
    """Vote a block of queries at a time; with `member`, rows of the query's own group have no vote."""
    block = max(1, _CHUNK // len(train))
    result = np.zeros((len(queries), classes), dtype=np.float32)
    for start in range(0, len(queries), block):
        part = slice(start, start + block)
        similarity = queries[part] @ train.T  # (block, rows)
        if member is not None:
            similarity[member[part, None] == member] = -np.inf
        result[part] = _vote(similarity, labels, classes, min(k, len(train)))
    return result


def _vote(similarity: npt.NDArray[np.float32], labels: Ints, classes: int, k: int) -> npt.NDArray[np.float64]:
    """Similarities (queries, rows), -inf where a row may not vote → log-probabilities (queries, classes)."""
    near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]  # (queries, k), in no order
    close = np.take_along_axis(similarity, near, axis=1).astype(np.float64)
    weight = np.exp((close - close.max(axis=1, keepdims=True)) / SHARPNESS)
    votes = np.full((len(similarity), classes), SMOOTHING / classes)
    np.add.at(votes, (np.arange(len(similarity))[:, None], labels[near]), weight)
    votes /= votes.sum(axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = np.log(votes)
    return result


def _compact(rows: Floats) -> npt.NDArray[np.float32]:
    return unit_rows(rows).astype(np.float32)


def _check(features: Floats, labels: Ints, k: int) -> None:
    if k < 1:
        raise SettingError(f"k is {k}; at least one neighbour must vote.")
    if features.ndim != 2 or len(features) != len(labels) or len(labels) == 0:
        raise DataError(f"features of shape {features.shape} do not fit {len(labels)} labels")
