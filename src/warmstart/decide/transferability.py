"""Transferability scores: how well frozen features fit labels, without training. Functions of arrays.

They are inputs to a decision, not oracles: over ten networks and eight data sets LogME's first choice is on average
worse than always taking the same network (docs/advise.md). kNN and the cross-validated probe are `train/knn.py` and
`train/probe_solver.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from warmstart.core.errors import DataError
from warmstart.core.metrics import Floats, Ints

_ROUNDS = 100  # of the fixed point; it settles within some ten
_SETTLED = 1e-5  # relative change of alpha / beta at which it has
_RANK = 1e-10  # singular values below this share of the largest are rounding


def log_me(features: Floats, labels: Ints, classes: int) -> float:
    """Log maximum evidence a row, averaged over one-against-rest targets; higher is better.

    The evidence of a Bayesian linear model, its two precisions maximised by the fixed point of You et al. 2021 (LogME,
    arXiv 2102.11005, equations 2 to 5 and algorithm 1).

    Args:
        features: (rows, width).
        labels: (rows,), from 0 to classes - 1.
        classes: how many classes there are; those without rows are left out.

    Raises:
        DataError: when shapes do not fit, or there is one class only.
    """
    x, present = _checked(features, labels, classes)
    left, values, _ = np.linalg.svd(x, full_matrices=False)  # (rows, rank), (rank,)
    kept = values > _RANK * max(values[0], 1e-300)
    left, squares = left[:, kept], values[kept] ** 2
    found = [_evidence(left, squares, (labels == c).astype(np.float64), x.shape[1]) for c in present]
    return float(np.mean(found))


def _evidence(
    left: npt.NDArray[np.float64], squares: npt.NDArray[np.float64], target: npt.NDArray[np.float64], width: int
) -> float:
    """The maximal log evidence a row of one target (rows,), features given by their singular vectors and values."""
    rows = len(target)
    along = (left.T @ target) ** 2  # (rank,): the target's power on each axis
    outside = float(target @ target - along.sum())  # what no weights can reach
    alpha, beta = 1.0, 1.0
    for _ in range(_ROUNDS):
        shrunk = alpha + beta * squares  # (rank,)
        gamma = float((beta * squares / shrunk).sum())  # directions that the data decide
        weights = float((beta**2 * squares * along / shrunk**2).sum())  # |m|²
        residual = float((alpha**2 * along / shrunk**2).sum()) + max(outside, 0.0)  # |X m - y|²
        new_alpha, new_beta = gamma / max(weights, 1e-12), (rows - gamma) / max(residual, 1e-12)
        settled = abs(new_alpha / new_beta - alpha / beta) <= _SETTLED * (alpha / beta)
        alpha, beta = new_alpha, new_beta
        if settled:
            break
    shrunk = alpha + beta * squares
    weights = float((beta**2 * squares * along / shrunk**2).sum())
    residual = float((alpha**2 * along / shrunk**2).sum()) + max(outside, 0.0)
    determinant = float(np.log(shrunk).sum()) + (width - len(squares)) * np.log(alpha)  # of alpha I + beta X'X
    evidence = 0.5 * (width * np.log(alpha) + rows * np.log(beta) - rows * np.log(2 * np.pi))
    evidence -= 0.5 * (beta * residual + alpha * weights + determinant)
    return float(evidence / rows)


def h_score(features: Floats, labels: Ints, classes: int) -> float:
    """Trace of (covariance of the features)⁻¹ times (covariance of the class means); higher is better.

    Bao et al. 2019 ("An Information-Theoretic Approach to Transferability in Task Transfer Learning", definition 2).
    The inverse is the pseudo-inverse: with fewer rows than features the score nears classes - 1 whatever the features.

    Args:
        features: (rows, width).
        labels: (rows,).
        classes: how many classes there are.

    Raises:
        DataError: as `log_me`.
    """
    x, present = _checked(features, labels, classes)
    centred = x - x.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    white = left[:, values > _RANK * max(values[0], 1e-300)] * np.sqrt(len(x))  # (rows, rank), covariance one
    means = np.stack([white[labels == c].mean(axis=0) for c in present])  # (present, rank)
    shares = np.array([(labels == c).mean() for c in present])
    return float((shares[:, None] * means**2).sum())


def leep(source_probabilities: Floats, labels: Ints, classes: int) -> float:
    """Log expected empirical prediction, in nats a row; at most 0, higher is better.

    Nguyen et al. 2020 (LEEP, arXiv 2002.12462, equation 2): the mean log-probability of the labels when each is
    predicted through the source classes that the model knows.

    Args:
        source_probabilities: (rows, source classes), each row summing to 1.
        labels: (rows,).
        classes: how many target classes there are.

    Raises:
        DataError: as `log_me`, or for rows that do not sum to 1.
    """
    p, _ = _checked(source_probabilities, labels, classes)
    if (p < 0).any() or not np.allclose(p.sum(axis=1), 1.0, atol=1e-3):
        raise DataError("the source model's probabilities do not sum to 1 in every row")
    joint = np.zeros((classes, p.shape[1]))
    np.add.at(joint, labels, p)
    joint /= len(p)  # P(y, z)
    conditional = joint / np.maximum(joint.sum(axis=0), 1e-300)  # P(y | z), (classes, source classes)
    return float(np.log(np.maximum((p * conditional[labels]).sum(axis=1), 1e-300)).mean())


def _checked(features: Floats, labels: Ints, classes: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    if features.ndim != 2 or len(features) != len(labels):
        raise DataError(f"features of shape {features.shape} do not fit {len(labels)} labels")
    present = np.unique(labels).astype(np.int64)
    if len(present) < 2 or present[0] < 0 or present[-1] >= classes:
        raise DataError(f"a transferability score needs labels of two classes or more, from 0 to {classes - 1}")
    return np.asarray(features, dtype=np.float64), present
