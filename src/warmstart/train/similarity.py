"""How alike two sets of features, or two sets of weights, are: pure functions of arrays and tensors.

Where the features come from is left to `snapshot`, what the figures are for to `forgetting`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch

_CONSTANT = 1e-12  # features that vary by less than this share of their squared length vary by rounding alone


def neighbours_kept(before: np.ndarray, after: np.ndarray, k: int = 10) -> float:
    """Share of each row's k nearest rows, by cosine, that are still among its k nearest; a row is not its own.

    Features that have nothing to do with each other keep k / (rows − 1).

    Args:
        before: features of the rows, (rows, width).
        after: other features of the same rows, (rows, other width).
        k: how many neighbours.

    Returns:
        The mean over the rows, 0 to 1; not-a-number for k + 1 rows and fewer, where any features keep all.

    Raises:
        ValueError: the two hold different numbers of rows.
    """
    rows = len(before)
    if len(after) != rows:
        raise ValueError(f"features of {rows} and of {len(after)} rows cannot be compared")
    if rows <= k + 1:
        return math.nan
    both = _nearest(before, k) & _nearest(after, k)  # (rows, rows)
    return float(both.sum() / (rows * k))


def _nearest(features: np.ndarray, k: int) -> np.ndarray:
    """Which rows are among the k nearest of each, (rows, rows)."""
    values = np.asarray(features, dtype=np.float64)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True).clip(min=1e-12)
    cosine = unit @ unit.T  # (rows, rows)
    np.fill_diagonal(cosine, -np.inf)
    chosen = np.argsort(-cosine, axis=1, kind="stable")[:, :k]  # (rows, k)
    nearest = np.zeros(cosine.shape, dtype=bool)
    np.put_along_axis(nearest, chosen, values=True, axis=1)
    return nearest


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414, eq. 3).

    ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖) of centred columns, in Frobenius norms. It does not change when either side is rotated or
    scaled as a whole. With few rows beside the width, features that have nothing in common stay well above 0.

    Args:
        x: features of the rows, (rows, width).
        y: other features of the same rows, (rows, other width).

    Returns:
        0 to 1, and exactly 1 for the same features; not-a-number when one side does not vary from row to row.

    Raises:
        ValueError: the two hold different numbers of rows.
    """
    if len(x) != len(y):
        raise ValueError(f"features of {len(x)} and of {len(y)} rows cannot be compared")
    first, second = _gram(x), _gram(y)
    if first is None or second is None:
        return math.nan
    cross = float((first * second).sum())  # ‖Yᵀ X‖²
    return min(1.0, cross / math.sqrt(float((first * first).sum()) * float((second * second).sum())))


def _gram(features: np.ndarray) -> np.ndarray | None:
    """Inner products of the centred rows, (rows, rows), of mean trace 1; None when the rows do not vary."""
    values = np.asarray(features, dtype=np.float64)
    centred = values - values.mean(0)
    size = float((centred**2).sum())
    if len(values) < 2 or not size > _CONSTANT * float((values**2).sum()):
        return None
    gram: np.ndarray = centred @ centred.T / size  # (rows, rows)
    return gram


def relative_distance(before: Iterable[torch.Tensor], after: Iterable[torch.Tensor]) -> float:
    """‖w − w₀‖ / ‖w₀‖ over all the tensors of a group together; not-a-number where zeros alone have moved.

    Raises:
        ValueError: there is another number of tensors on either side.
    """
    moved, length = 0.0, 0.0
    for first, second in zip(before, after, strict=True):
        own = first.detach().cpu().double()
        moved += float((second.detach().cpu().double() - own).square().sum())
        length += float(own.square().sum())
    if not moved:
        return 0.0
    return math.sqrt(moved / length) if length else math.nan
