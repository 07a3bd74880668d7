"""What labels say by themselves: balance, noise, a learning curve of the cheap strategies, the worth of more labels.

Functions of arrays. What follows from them is left to `warmstart.decide.choice`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warmstart.core.decision import CurvePoint, LabelEvidence
from warmstart.core.errors import DataError
from warmstart.core.metrics import Floats, Ints, fit_temperature, softmax
from warmstart.core.record import Interval
from warmstart.core.statistics import wilson_interval
from warmstart.decide.logit import Z90, from_logit, logit_of
from warmstart.train.folds import assign_folds
from warmstart.train.knn import knn_predict
from warmstart.train.probe_solver import ProbeSolution, fit_like, prior_shift

MORE = 100  # labels whose worth is asked for
SHOWN = 20  # suspicious rows that are listed
CURVE_ROWS = 3000  # rows that a curve is drawn from, at most, and fewer where a fit is dear
_CURVE_WORK = 300_000_000  # rows times width times classes
_SHARES = (0.125, 0.25, 0.5, 1.0)  # of the rows that a fold leaves to learn from
_LEAST_ROWS = 2  # learned from, in the middle class, for a point of the curve
_ENOUGH_FOR_NOISE = 10  # rows of the middle class, below which a contradiction says little
_SLOPE = (
    0.15,
    0.15,
)  # logits that a doubling of the labels adds to a probe, and its deviation, before any was measured


@dataclass(frozen=True)
class Disagreement:
    """Rows whose label cross-validation contradicts with confidence."""

    rows: npt.NDArray[np.int64]  # places, the most confident first
    rate: float  # share of all rows


def confident_disagreement(probabilities: Floats, labels: Ints) -> Disagreement:
    """Estimated label noise: rows that are predicted as another class with the confidence that this class's own get.

    Thresholds are those of confident learning (Northcutt et al. 2021, arXiv 1911.00068, section 3.1): the mean
    probability of a class over the rows labelled with it. Classes that overlap are contradicted as wrong labels are, so
    the rate is an upper estimate of noise; the paper's scaling of the counts to each class's size is left out, because
    where classes overlap it puts the rate above the error of the classifier itself (docs/lab-notes.md).

    Args:
        probabilities: (rows, classes), of held-out rows, calibrated.
        labels: (rows,).

    Raises:
        DataError: when shapes do not fit.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise DataError(f"probabilities of shape {probabilities.shape} do not fit {len(labels)} labels")
    rows, classes = probabilities.shape
    own = probabilities[np.arange(rows), labels]
    counts = np.bincount(labels, minlength=classes)
    thresholds = np.bincount(labels, weights=own, minlength=classes) / np.maximum(counts, 1)
    thresholds[counts == 0] = np.inf
    meant = probabilities.argmax(axis=1)
    highest = probabilities.max(axis=1)
    wrong = np.flatnonzero((meant != labels) & (highest >= thresholds[meant]))
    order = np.argsort(-(highest - own)[wrong], kind="stable")
    return Disagreement(wrong[order], len(wrong) / max(1, rows))


def learning_curve(
    features: Floats, labels: Ints, probe: ProbeSolution, *, seed: int, groups: npt.NDArray[Any] | None = None
) -> tuple[CurvePoint, ...]:
    """Accuracy of the probe and of kNN on an eighth, a quarter, half and all of what each fold leaves to learn from.

    Every point is judged on all rows, each by the fold that held it out. Subsets are nested: the first rows of one
    shuffled order, class by class in turn, so that no class is left out before it must be.

    Args:
        features: (rows, width).
        labels: (rows,).
        probe: solved on all rows; its C, temperature and label names are those of every point.
        seed: of folds and order.
        groups: (rows,) of names; rows that share one are held out together.
    """
    classes = len(probe.weight)
    home = assign_folds(labels, classes, seed=seed, groups=groups)
    hits = {(name, share): 0 for share in _SHARES for name in ("linear_probe", "knn")}
    sizes = dict.fromkeys(_SHARES, 0.0)
    folds = range(int(home.max()) + 1)
    for fold in folds:
        held, train = np.flatnonzero(home == fold), np.flatnonzero(home != fold)
        order = train[in_turn(labels[train], np.random.default_rng((seed, fold)))]
        for share in _SHARES:
            some = order[: max(2, round(share * len(order)))]
            sizes[share] += len(some) / len(folds)
            x, y = features[some], labels[some]
            answers = _probe(probe, x, y, features[held], prior_shift(labels, y, classes))
            hits["linear_probe", share] += int((answers == labels[held]).sum())
            hits["knn", share] += int((knn_predict(x, y, features[held], classes).argmax(axis=1) == labels[held]).sum())
    judged = int((home >= 0).sum())
    least = _LEAST_ROWS * len(np.unique(labels))
    return tuple(
        CurvePoint(name, round(sizes[share]), wilson_interval(count, judged))
        for (name, share), count in sorted(hits.items(), key=lambda item: (item[0][0] == "knn", item[0][1]))
        if sizes[share] >= least or share == _SHARES[-1]
    )


def _probe(probe: ProbeSolution, x: Floats, y: Ints, queries: Floats, shift: Floats) -> npt.NDArray[np.int64]:
    if len(np.unique(y)) < 2:
        return np.full(len(queries), y[0], dtype=np.int64)
    weight, bias = fit_like(probe, x, y)
    return np.asarray((queries @ weight.T + bias + shift).argmax(axis=1), dtype=np.int64)


def in_turn(labels: Ints, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A shuffled order in which every beginning holds the classes in about their shares, each once before any twice."""
    order = rng.permutation(len(labels))
    place = np.zeros(len(labels))
    for c in np.unique(labels):
        own = order[labels[order] == c]
        place[own] = np.arange(len(own)) / len(own)  # the first of every class comes before all others
    return order[np.argsort(place[order], kind="stable")]


@dataclass(frozen=True)
class Slope:
    """Logits of accuracy that a doubling of the labels adds, with its standard deviation."""

    value: float
    deviation: float

    def over(self, rows: float, more: float) -> tuple[float, float]:
        """Logits that going from some rows to others adds, and the deviation."""
        doublings = math.log2(more / rows)
        return self.value * doublings, self.deviation * abs(doublings)


def slope_of(points: Sequence[CurvePoint]) -> Slope:
    """The slope of a curve in logits a doubling, never below 0: weighted least squares, with a prior of 0.15 ± 0.15.

    Accuracies along a curve are close to a line in these units while they are far from their ceiling. The points share
    the rows that they are judged on, which would make the slope look better known than it is; so the deviation is
    taken from the points' own intervals as if they were independent, which is the careful side.

    Args:
        points: of one strategy.
    """
    precision = [1.0 / _SLOPE[1] ** 2]
    weighted = [_SLOPE[0] / _SLOPE[1] ** 2]
    if len(points) > 1:
        x = np.log2([point.rows for point in points])
        y, deviation = (np.array(part) for part in zip(*(logit_of(point.score) for point in points), strict=True))
        w = 1.0 / deviation**2
        centred = x - (w * x).sum() / w.sum()
        power = float((w * centred**2).sum())
        if power > 0:
            precision.append(power)
            weighted.append(float((w * centred * y).sum()))
    total = sum(precision)
    return Slope(max(0.0, sum(weighted) / total), total**-0.5)


def gain_of_more(probe: Interval, rows: int, slope: Slope, more: int = MORE) -> Interval:
    """Accuracy that more labels would add to a probe, along its curve, with a 90 % interval; never below 0.

    Args:
        probe: its score by cross-validation.
        rows: labelled now.
        slope: of its curve.
        more: labels on top.
    """
    here = logit_of(probe)[0]
    value, deviation = slope.over(rows, rows + more)
    ends = [value + sign * Z90 * deviation for sign in (0.0, -1.0, 1.0)]
    middle, low, high = (max(0.0, from_logit(here + step) - from_logit(here)) for step in ends)
    return Interval(middle, low, high)


def label_evidence(
    features: Floats,
    labels: Ints,
    classes: int,
    probe: ProbeSolution,
    score: Interval,
    *,
    seed: int,
    groups: npt.NDArray[Any] | None = None,
) -> LabelEvidence:
    """All of the above for one set of labelled rows.

    Args:
        features: (rows, width), frozen.
        labels: (rows,).
        classes: how many classes there are.
        probe: solved on these rows.
        score: of the probe, by cross-validation.
        seed: of folds and orders.
        groups: (rows,) of names; rows that share one are held out together.
    """
    counts = np.bincount(labels, minlength=classes)
    some = np.arange(len(labels))
    most = min(CURVE_ROWS, max(4 * classes, _CURVE_WORK // (features.shape[1] * classes)))
    if len(some) > most:
        some = np.sort(np.random.default_rng(seed).permutation(len(some))[:most])
    curve = learning_curve(
        features[some],
        labels[some],
        probe,
        seed=seed,
        groups=None if groups is None else groups[some],
    )
    noise, suspicious = None, ()
    if np.median(counts[counts > 0]) >= _ENOUGH_FOR_NOISE:
        logits = probe.cross_validated_logits
        found = confident_disagreement(softmax(logits / fit_temperature(logits, labels)), labels)
        around = wilson_interval(round(found.rate * len(labels)), len(labels))
        noise, suspicious = Interval(found.rate, around.low, around.high), tuple(found.rows[:SHOWN].tolist())
    slope = slope_of([point for point in curve if point.strategy == "linear_probe"])
    return LabelEvidence(
        counts=tuple(counts.tolist()),
        balance=balance(counts),
        noise=noise,
        suspicious=suspicious,
        curve=curve,
        more_labels=MORE,
        gain_probe=gain_of_more(score, len(labels), slope),
    )


def balance(counts: Ints) -> float:
    """Entropy of the classes' shares over its maximum: 1 when all are as common; 1 for a single class or no rows."""
    total = counts.sum()
    if len(counts) < 2 or total == 0:
        return 1.0
    shares = counts[counts > 0] / total
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))
