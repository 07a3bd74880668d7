"""The linear probe as a convex problem: multinomial logistic regression, its regularisation cross-validated.

Holds the solver and the choice of C, on arrays. Computing and caching the features is left to
`warmstart.backbones`, the head that the solution goes into to `warmstart.strategies`, folds to
`warmstart.train.folds`.

How it is fast: the standardised features are rotated onto their principal axes, of which there are at most as many
as rows, and the weights are measured in the curvature that each axis has there. L2 does not notice the rotation, so the
answer is the same, and L-BFGS starts from a nearly round problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from warmstart.core.errors import DataError, SettingError
from warmstart.core.metrics import Floats, Ints, fit_temperature, row_losses, selection_value
from warmstart.core.options import METRICS
from warmstart.train.folds import FOLDS, assign_folds

Doubles = npt.NDArray[np.float64]

GRID = tuple(float(c) for c in np.logspace(-4.0, 0.0, 9))  # C, half a decade apart
_LEAST_SPREAD = 1e-5  # of the largest deviation; below, it is rounding, and its weight would have no bound
_PATIENCE = 2  # log-loss has one valley along C: the search ends when it rose so often in a row …
_SOLVED = 0.005  # … or is so low, in nats, that nothing is left to choose
EXTENSION = 4  # values added once beyond an edge that is best
_PATH_TOLERANCE = 1e-4  # largest entry of the scaled gradient, in nats
_FINAL_TOLERANCE = 1e-7
_MAX_ITERATIONS = 2000
_WORTH_THREADS = 200_000_000  # rows times rank times classes, below which one thread beats two tenfold
_LARGE = 1_000_000_000  # rows times rank times classes, above which three folds must do


@dataclass(frozen=True, eq=False)
class ProbeSolution:
    """A linear head and what cross-validation says of it.

    Attributes:
        weight: (classes, features) float32, for raw features; the fit's own, divided by the temperature.
        bias: (classes,) float32; the same.
        c: the chosen inverse regularisation, as in scikit-learn: weight of the summed loss against half the squared
            norm, on standardised features.
        temperature: what calibrates the fit at this C, found on the held-out rows.
        cross_validated_logits: (rows, classes) float32, divided by the temperature; each row's come from a fit that did
            not see the row, its intercepts those of all rows' shares of the classes. A row whose class has no other row
            gets the log-shares of the other rows' classes.
        path: (C, score) for every C tried, ascending; higher is better (log-loss is negated).
        names: (classes, features) float32, the part of `weight` that is the label names'; None where it has none.
        names_weight: their exponent in the product (`warmstart.train.name_prior`); 0 where they are no part of it.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    c: float
    temperature: float
    cross_validated_logits: npt.NDArray[np.float32]
    path: tuple[tuple[float, float], ...]
    names: npt.NDArray[np.float32] | None = None
    names_weight: float = 0.0


def solve_probe(
    features: Floats,
    labels: Ints,
    classes: int,
    *,
    class_weights: Floats | None = None,
    metric: str = "log_loss",
    seed: int = 0,
    groups: npt.NDArray[Any] | None = None,
) -> ProbeSolution:
    """Fit softmax(features @ weight.T + bias) with an L2 penalty chosen by cross-validation.

    C is the plain best of the metric over held-out rows; a tie goes to the lower log-loss, then to the smaller C. A
    temperature is fitted at every C before log-loss is taken: a strong penalty finds better directions and makes timid
    answers, which one number sets right; without it log-loss chooses a C that is too large by up to a decade. `GRID`
    grows once by `EXTENSION` values where its edge is best. With class weights, log-loss is weighted too.

    Five folds; three where the problem is large (10,000 rows of 768 features in 150 classes, for example).

    Args:
        features: (rows, features), finite.
        labels: (rows,), from 0 to classes - 1; classes without rows get a column that predicts them next to never.
        classes: how many columns the head has.
        class_weights: (classes,) positive weights of the rows' losses, or None for ones.
        metric: what chooses C: log_loss, accuracy or macro_f1.
        seed: of the folds; the fit itself has no chance in it.
        groups: (rows,) of names; rows that share one are held out together.

    Raises:
        SettingError: for an unknown metric, fewer than two classes, or class weights that do not fit.
        DataError: for rows that do not fit together, features that are not finite, labels out of range, or labels
            that cannot be cross-validated.
    """
    _check(features, labels, classes, class_weights, metric)
    weights = np.ones(classes) if class_weights is None else np.asarray(class_weights, dtype=np.float64)
    work = len(labels) * min(features.shape) * classes
    with threadpool_limits(
        1 if work < _WORTH_THREADS else None, user_api="blas"
    ):  # small products only wait for each other
        return _solve(np.ascontiguousarray(features, dtype=np.float64), labels, classes, weights, metric, seed, groups)


def fit_like(probe: ProbeSolution, features: Floats, labels: Ints) -> tuple[Doubles, Doubles]:
    """The probe of other rows, without choosing again: weight (classes, features) and bias (classes,) for raw features.

    Args:
        probe: whose C, temperature and label names are taken.
        features: (rows, features), finite.
        labels: (rows,), of two classes at least.

    Raises:
        DataError: as `solve_probe`.
    """
    classes = len(probe.weight)
    _check(features, labels, classes, None, "log_loss")
    raw, ones = np.ascontiguousarray(features, dtype=np.float64), np.ones(classes)
    with threadpool_limits(1 if len(labels) * min(raw.shape) * classes < _WORTH_THREADS else None, user_api="blas"):
        weight, bias = _Problem(raw, labels, classes, ones).solve(probe.c, _PATH_TOLERANCE)
    weight, bias = _tempered(weight, bias, probe.temperature, log_shares(labels, classes, ones))
    return weight + (0.0 if probe.names is None else probe.names), bias


def _solve(
    raw: Doubles,
    labels: Ints,
    classes: int,
    weights: Doubles,
    metric: str,
    seed: int,
    groups: npt.NDArray[Any] | None,
) -> ProbeSolution:
    large = len(labels) * min(raw.shape) * classes > _LARGE
    home = assign_folds(labels, classes, seed=seed, groups=groups, folds=3 if large else FOLDS)
    folds = [_Fold(raw, labels, classes, weights, home, fold) for fold in range(int(home.max()) + 1)]
    tried: dict[float, Doubles] = {}
    scores: dict[float, tuple[float, float]] = {}

    prior = log_shares(labels, classes, weights)

    def try_all(grid: tuple[float, ...]) -> None:
        rises = 0
        for c in grid:
            best = max((score for score, _ in scores.values()), default=-np.inf)
            tried[c] = _held_out_logits(folds, len(labels), classes, c)
            scores[c] = _score(metric, tried[c], labels, weights, home >= 0, prior)
            rises = rises + 1 if scores[c][0] < best else 0
            if metric == "log_loss" and (rises == _PATIENCE or scores[c][0] > -_SOLVED):
                return

    try_all(GRID)
    best = _best(scores)
    if best in (GRID[0], GRID[-1]):  # an edge
        try_all(_beyond(best))
        best = _best(scores)
    temperature = _temperature(tried[best], labels, weights, home >= 0, prior)
    logits = (tried[best] - prior) / temperature + prior
    logits[home < 0] = _shares_of_others(labels, classes)[home < 0]
    weight, bias = _Problem(raw, labels, classes, weights).solve(best, _FINAL_TOLERANCE)
    weight, bias = _tempered(weight, bias, temperature, prior)
    return ProbeSolution(
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        c=best,
        temperature=temperature,
        cross_validated_logits=logits.astype(np.float32),
        path=tuple((c, scores[c][0]) for c in sorted(scores)),
    )


class _Problem:
    """One training set in its principal axes, solved for one C after the other, each from the last one's answer."""

    def __init__(self, features: Doubles, labels: Ints, classes: int, class_weights: Doubles) -> None:
        self.classes, self.present = classes, np.unique(labels)
        self.rows = len(labels)
        self.mean, deviation = features.mean(axis=0), features.std(axis=0)
        deviation[deviation <= _LEAST_SPREAD * deviation.max()] = np.inf  # a constant feature gets no weight
        self.scale = 1.0 / deviation
        self.axes, self.points = _principal((features - self.mean) * self.scale)  # (features, rank), (rows, rank)
        self.row_weights = class_weights[labels] / self.rows
        self.true = (np.arange(self.rows), np.searchsorted(self.present, labels))  # each row's own column
        variance = self.row_weights @ self.points**2  # (rank,)
        share = np.bincount(self.true[1], weights=self.row_weights)  # (present,)
        self.curvature = np.append(variance, share.sum()) * max(1e-3, (share * (1.0 - share)).mean())
        self.start: Doubles = np.zeros((len(self.present), self.points.shape[1] + 1))
        self.start[:, -1] = np.log(share)
        self.solved: dict[float, Doubles] = {}  # C → (present, rank + 1)

    def solve(self, c: float, tolerance: float) -> tuple[Doubles, Doubles]:
        """Weight (classes, features) and bias (classes,) for raw features at this C."""
        solution = self._guess(c)
        if len(self.present) > 1:
            penalty = np.append(np.full(self.points.shape[1], 1.0 / (c * self.rows)), 0.0)
            unit = 1.0 / np.sqrt(self.curvature + penalty)  # (rank + 1,): the scale in which the problem is round
            outcome = minimize(
                self._objective,
                (solution / unit).ravel(),
                args=(unit, penalty),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": _MAX_ITERATIONS, "maxfun": 2 * _MAX_ITERATIONS, "gtol": tolerance, "ftol": 1e-15},
            )
            solution = outcome.x.reshape(solution.shape) * unit
        self.solved[c] = solution
        return self._in_raw_space(solution)

    def _guess(self, c: float) -> Doubles:
        """Where to start: on the line through the answers for the two nearest C, which bends little in log C."""
        near = sorted(self.solved, key=lambda other: abs(np.log(other / c)))[:2]
        if len(near) < 2:
            return self.solved[near[0]] if near else self.start
        one, two = near
        along = float(np.log(c / one) / np.log(one / two))
        return self.solved[one] + along * (self.solved[one] - self.solved[two])

    def _objective(self, flat: Doubles, unit: Doubles, penalty: Doubles) -> tuple[float, Doubles]:
        """Weighted mean loss plus penalty, and its gradient, of the scaled weights."""
        solution = flat.reshape(len(self.present), -1) * unit  # (present, rank + 1)
        logits = self.points @ solution[:, :-1].T + solution[:, -1]  # (rows, present)
        logits -= logits.max(axis=1, keepdims=True)
        true = logits[self.true]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1)
        loss = self.row_weights @ (np.log(total) - true) + 0.5 * float((penalty * solution**2).sum())
        logits /= total[:, None]
        logits[self.true] -= 1.0
        logits *= self.row_weights[:, None]  # the loss's derivative by the logits
        gradient = penalty * solution
        gradient[:, :-1] += logits.T @ self.points
        gradient[:, -1] += logits.sum(axis=0)
        return float(loss), (gradient * unit).ravel()

    def _in_raw_space(self, solution: Doubles) -> tuple[Doubles, Doubles]:
        weight = np.zeros((self.classes, len(self.mean)))
        weight[self.present] = (solution[:, :-1] @ self.axes.T) * self.scale
        bias = np.zeros(self.classes)
        bias[self.present] = solution[:, -1] - weight[self.present] @ self.mean
        absent = np.setdiff1d(np.arange(self.classes), self.present)
        if len(absent):  # as likely as half a row among all rows, whatever the input
            logits = self.points @ solution[:, :-1].T + solution[:, -1]
            top = logits.max(axis=1)
            level = float((top + np.log(np.exp(logits - top[:, None]).sum(axis=1))).mean())
            bias[absent] = level + np.log(0.5 / self.rows)
        return weight, bias


class _Fold:
    """The rows held out once and the problem that the others make."""

    def __init__(
        self, raw: Doubles, labels: Ints, classes: int, weights: Doubles, home: npt.NDArray[np.int64], fold: int
    ) -> None:
        self.held = np.flatnonzero(home == fold)
        train = home != fold
        self.raw = raw[self.held]
        self.problem = _Problem(raw[train], labels[train], classes, weights)
        self.shift = prior_shift(labels, labels[train], classes, weights)

    def logits(self, c: float) -> Doubles:
        """Logits (held, classes) of the held-out rows, as if all rows' shares of the classes had been learned."""
        weight, bias = self.problem.solve(c, _PATH_TOLERANCE)
        return self.raw @ weight.T + bias + self.shift


def prior_shift(every: Ints, learned: Ints, classes: int, class_weights: Floats | None = None) -> Doubles:
    """What to add to logits learned from some rows, so that the classes are as common as among all rows, (classes,).

    A held-out row is missing from its class in the rows that are learned from: with four rows a class, every answer is
    drawn away from the right one, and cross-validation ends far below chance. The intercept takes up the shares of the
    classes, so the difference of their logarithms undoes it (King and Zeng 2001, prior correction).

    Args:
        every: labels of all rows.
        learned: labels of those that were learned from.
        classes: how many there are; those that were not learned from stay as they are.
        class_weights: (classes,) of the rows' losses; ones by default.
    """
    weights = np.ones(classes) if class_weights is None else class_weights
    all_rows, rows = (weights * np.bincount(side, minlength=classes) for side in (every, learned))
    there = rows > 0
    found = np.zeros(classes)
    found[there] = np.log(all_rows[there] / all_rows[there].sum()) - np.log(rows[there] / rows.sum())
    return found


def _tempered(weight: Doubles, bias: Doubles, temperature: float, prior: Doubles) -> tuple[Doubles, Doubles]:
    """A head divided by the temperature, but for the classes' shares."""
    return weight / temperature, (bias - prior) / temperature + prior


def log_shares(labels: Ints, classes: int, class_weights: Doubles) -> Doubles:
    """Logarithm of each class's share of the rows' weights, (classes,); a class without rows counts as half a row."""
    rows = class_weights * np.maximum(np.bincount(labels, minlength=classes), 0.5)
    found: Doubles = np.log(rows / rows.sum())
    return found


def _principal(standard: Doubles) -> tuple[Doubles, Doubles]:
    """Axes (features, rank) with orthonormal columns and the rows' coordinates (rows, rank) on them."""
    rows, width = standard.shape
    if width <= rows:
        values, axes = np.linalg.eigh(standard.T @ standard)
        kept = values > values[-1] * 1e-12
        axes = axes[:, kept]
        return axes, standard @ axes
    values, left = np.linalg.eigh(standard @ standard.T)
    kept = values > values[-1] * 1e-12
    lengths = np.sqrt(values[kept])
    return (standard.T @ left[:, kept]) / lengths, left[:, kept] * lengths


def _held_out_logits(folds: list[_Fold], rows: int, classes: int, c: float) -> Doubles:
    logits = np.zeros((rows, classes))
    for fold in folds:
        logits[fold.held] = fold.logits(c)
    return logits


def _score(
    metric: str, logits: Doubles, labels: Ints, weights: Doubles, judged: npt.NDArray[np.bool_], prior: Doubles
) -> tuple[float, float]:
    """The metric and the negated weighted log-loss over the judged rows, both higher when better."""
    tempered = (logits - prior) / _temperature(logits, labels, weights, judged, prior) + prior
    calm = -float(np.average(row_losses(*_present(tempered, labels, judged)), weights=weights[labels[judged]]))
    return (calm if metric == "log_loss" else selection_value(metric, tempered[judged], labels[judged])), calm


def _temperature(
    logits: Doubles, labels: Ints, weights: Doubles, judged: npt.NDArray[np.bool_], prior: Doubles
) -> float:
    """What calibrates the part of the judged rows' logits that is not the classes' shares.

    A strong penalty makes the weights small and leaves the intercepts, which take no penalty, as they are: divided by
    one number, they would drown what the features say as soon as one class has a row more than another.
    """
    said, true = _present(logits - prior, labels, judged)
    return fit_temperature(said, true, weights[labels[judged]], prior[np.unique(labels)])


def _present(logits: Doubles, labels: Ints, judged: npt.NDArray[np.bool_]) -> tuple[Doubles, Ints]:
    """Logits (judged, present) and labels (judged,) of the classes that have rows: of others nothing can be learned."""
    present, rows = np.unique(labels), np.flatnonzero(judged)
    return logits[np.ix_(rows, present)], np.searchsorted(present, labels[rows])


def _best(scores: dict[float, tuple[float, float]]) -> float:
    return max(sorted(scores), key=lambda c: scores[c])  # max keeps the first of equals: the smaller C


def _beyond(edge: float) -> tuple[float, ...]:
    step = (GRID[1] / GRID[0]) ** (-1.0 if edge == GRID[0] else 1.0)
    return tuple(edge * step ** (i + 1) for i in range(EXTENSION))


def _shares_of_others(labels: Ints, classes: int) -> Doubles:
    """Log-shares of the classes among all other rows, half a row added to each: (rows, classes)."""
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    others: Doubles = counts + 0.5 - np.eye(classes)[labels]
    others /= others.sum(axis=1, keepdims=True)
    return np.log(others)


def _check(features: Floats, labels: Ints, classes: int, class_weights: Floats | None, metric: str) -> None:
    if metric not in METRICS:
        raise SettingError(f"the metric is {metric!r}; it must be one of: {', '.join(METRICS)}.")
    if classes < 2:
        raise SettingError(f"a probe needs at least two classes, not {classes}.")
    if class_weights is not None and (len(class_weights) != classes or not np.all(np.asarray(class_weights) > 0)):
        raise SettingError(f"class weights must be {classes} numbers above 0.")
    if features.ndim != 2 or len(features) != len(labels):
        raise DataError(f"features of shape {features.shape} do not fit {len(labels)} labels")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels must be numbers from 0 to {classes - 1}, one a row")
    if len(np.unique(labels)) < 2:
        raise DataError("all labelled rows are of one class", remedy="Label rows of at least two classes.")
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        raise DataError(
            f"the features of {len(broken)} rows are not finite, the first being row {int(broken[0])} (counted from 0)",
            remedy="Check the model's outputs for these inputs, and its precision.",
        )
