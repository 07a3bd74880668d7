"""Scores of a classifier as functions of arrays: losses, accuracies, calibration, and the `Scores` record.

The order of arguments is always what the model said, then what is true. Comparisons between classifiers are left to
`warmstart.core.statistics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from warmstart.core.errors import DataError, SettingError
from warmstart.core.records import ClassScores, Interval, Scores
from warmstart.core.statistics import Floats as Floats
from warmstart.core.statistics import resampled_means, wilson_interval

Ints = npt.NDArray[np.integer[Any]]

TEMPERATURES = (0.05, 20.0)  # the bounds of `fit_temperature`


def unit_rows(rows: Floats) -> npt.NDArray[np.float64]:
    """Rows of length one, which is what cosine looks at; rows of zeros stay zero."""
    values = rows.astype(np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = values / np.where(length > 0, length, 1.0)
    return result


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Log-probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    total: npt.NDArray[np.float64] = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    result: npt.NDArray[np.float64] = shifted - total
    return result


def softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Probabilities over the last axis, in float64; safe for logits of any size."""
    powers: npt.NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def row_losses(logits: Floats, labels: Ints) -> npt.NDArray[np.float64]:
    """The log-loss of every row in nats: (rows, classes) and (rows,) → (rows,)."""
    taken: npt.NDArray[np.float64] = np.take_along_axis(log_softmax(logits), labels[:, None], axis=1)  # (rows, 1)
    return -taken[:, 0]


def log_loss(logits: Floats, labels: Ints) -> float:
    """Mean log-loss in nats of logits (rows, classes) against labels (rows,)."""
    return float(row_losses(logits, labels).mean())


def accuracy(predictions: Ints, labels: Ints) -> float:
    """Share of rows whose predicted class is the true one."""
    return float(np.mean(predictions == labels))


def confusion_matrix(predictions: Ints, labels: Ints, classes: int) -> npt.NDArray[np.int64]:
    """Counts (classes, classes): rows are true classes, columns predicted ones."""
    cells = labels.astype(np.int64) * classes + predictions
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def macro_f1(predictions: Ints, labels: Ints, classes: int) -> float:
    """Mean F1 over classes; a class that is neither true nor predicted anywhere is left out."""
    counts = confusion_matrix(predictions, labels, classes)
    return float(_mean_f1(np.diagonal(counts), counts.sum(axis=0), counts.sum(axis=1)))


def _mean_f1(hits: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> Floats:
    """Macro-F1 over the last axis of per-class counts (…, classes) → (…)."""
    total = predicted + true
    f1 = 2.0 * hits / np.maximum(total, 1)
    result: Floats = f1.sum(axis=-1) / np.maximum((total > 0).sum(axis=-1), 1)
    return result


def per_class(confusion: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[ClassScores, ...]:
    """Precision, recall and F1 of each class from a confusion matrix; 0 where nothing was predicted or true."""
    hits, predicted, true = np.diagonal(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    rows = []
    for name, hit, said, there in zip(names, hits.tolist(), predicted.tolist(), true.tolist(), strict=True):
        rows.append(
            ClassScores(
                label=name,
                rows=there,
                precision=hit / said if said else 0.0,
                recall=hit / there if there else 0.0,
                f1=2.0 * hit / (said + there) if said + there else 0.0,
            )
        )
    return tuple(rows)


def expected_calibration_error(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of the confidence, weighted by rows.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3: bin m holds confidences in ((m-1)/M, m/M].

    Args:
        probabilities: (rows, classes), each row summing to 1.
        labels: (rows,).
        bins: the number M of bins.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    home = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], confidence, side="left")
    gaps = np.bincount(home, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def fit_temperature(logits: Floats, labels: Ints, weights: Floats | None = None, prior: Floats | float = 0.0) -> float:
    """The temperature T that minimises the log-loss of `logits / T + prior` (Guo et al. 2017, section 4.2).

    One row's worth of doubt is added: the labels have 1/(n+1) of their weight spread over all classes, as Platt (1999,
    section 2.2) does it for two. Without it a classifier that is right on every row would be sharpened without end.

    The loss is convex in 1/T, so Newton's method inside a shrinking bracket finds the minimum. The result lies
    within `TEMPERATURES`; it is 1.0 for fewer than two rows and for logits that are not numbers.

    Args:
        logits: (rows, classes).
        labels: (rows,).
        weights: (rows,) positive weights of the rows' losses, or None for ones.
        prior: (classes,) of logits that no temperature touches.
    """
    if len(labels) < 2 or np.isnan(logits).any():
        return 1.0
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    shifted = np.maximum(shifted, -1e6)  # -inf would make 0 * inf below
    possible = shifted > -1e6
    spread = np.where(possible, shifted, 0.0).sum(axis=1) / possible.sum(axis=1)  # (rows,): every class alike
    true = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    share = np.full(len(labels), 1 / len(labels)) if weights is None else weights / weights.sum()  # (rows,)
    target = float(share @ (len(labels) * true + spread) / (len(labels) + 1))
    low, high = 1.0 / TEMPERATURES[1], 1.0 / TEMPERATURES[0]
    inverse = 1.0
    for _ in range(60):
        p = inverse * shifted + prior
        p = np.exp(p - p.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * shifted).sum(axis=1)  # (rows,)
        slope = float(share @ mean) - target
        curvature = float(share @ ((p * shifted**2).sum(axis=1) - mean**2))
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 1e-300 else low - 1.0
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - inverse) < 1e-9 * inverse:
            break
        inverse = following
    return float(1.0 / inverse)


def score(
    logits: Floats,
    labels: Ints,
    names: Sequence[str],
    temperature: float,
    seed: int = 0,
    resamples: int = 1000,
) -> Scores:
    """Everything a classifier reached on one set of rows, with 95 % intervals over rows.

    Accuracy is a proportion and has Wilson's interval, which keeps its width where every row is right. The others have
    percentile bootstrap intervals. Resampling rows with replacement makes the confusion matrix a multinomial draw over
    its own cells, so macro-F1 is resampled there: exactly the row bootstrap, without touching rows.

    Args:
        logits: (rows, classes).
        labels: (rows,).
        names: the classes' names, in the order of the logits' columns.
        temperature: divides the logits before log-loss and calibration error.
        seed: of the resamples.
        resamples: how many.

    Raises:
        DataError: when there are no rows.
    """
    if len(labels) == 0:
        raise DataError("there are no rows to score", remedy="Give at least one labelled row.")
    rng = np.random.default_rng(seed)
    predictions = logits.argmax(axis=1)
    confusion = confusion_matrix(predictions, labels, len(names))
    f1s = _resampled_f1s(confusion, rng, resamples)
    scaled = logits.astype(np.float64) / temperature
    losses = row_losses(scaled, labels)
    return Scores(
        rows=len(labels),
        accuracy=wilson_interval(int(np.trace(confusion)), len(labels)),
        macro_f1=_percentiles(macro_f1(predictions, labels, len(names)), f1s),
        log_loss=_percentiles(float(losses.mean()), resampled_means(losses, rng, resamples)),
        calibration_error=expected_calibration_error(softmax(scaled), labels),
        calibration_error_raw=expected_calibration_error(softmax(logits), labels),
        per_class=per_class(confusion, names),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def selection_value(metric: str, logits: Floats, labels: Ints) -> float:
    """A score that is always better when higher: accuracy, macro-F1, or log-loss negated.

    Logits that are not numbers (a run that diverged) are worth minus infinity whatever the metric.

    Args:
        metric: accuracy, macro_f1 or log_loss.
        logits: (rows, classes).
        labels: (rows,).

    Raises:
        SettingError: for another metric.
        DataError: when there are no rows.
    """
    if metric not in ("accuracy", "macro_f1", "log_loss"):
        raise SettingError(f"the metric is {metric!r}; it must be one of: accuracy, macro_f1, log_loss.")
    if len(labels) == 0:
        raise DataError("there are no rows to score", remedy="Give at least one labelled row.")
    if np.isnan(logits).any():
        return -float("inf")
    if metric == "accuracy":
        return accuracy(logits.argmax(axis=1), labels)
    if metric == "macro_f1":
        return macro_f1(logits.argmax(axis=1), labels, logits.shape[1])
    return -log_loss(logits, labels)


def _resampled_f1s(confusion: npt.NDArray[np.int64], rng: np.random.Generator, resamples: int) -> Floats:
    """Macro-F1 of bootstrap samples (resamples,)."""
    classes, rows = len(confusion), int(confusion.sum())
    true, predicted = np.nonzero(confusion)
    draws = rng.multinomial(rows, confusion[true, predicted] / rows, size=resamples)  # (resamples, cells in use)
    hit = true == predicted
    hits = np.zeros((resamples, classes), dtype=np.int64)
    hits[:, true[hit]] = draws[:, hit]
    by_true, by_predicted = (_sum_by(draws, home, classes) for home in (true, predicted))
    return _mean_f1(hits, by_predicted, by_true)


def _sum_by(draws: npt.NDArray[np.int64], home: npt.NDArray[np.intp], classes: int) -> npt.NDArray[np.int64]:
    """Add the columns that share a home: (resamples, cells) and (cells,) → (resamples, classes)."""
    totals = np.zeros((len(draws), classes), dtype=np.int64)
    for index in np.unique(home):
        totals[:, index] = draws[:, home == index].sum(axis=1)
    return totals


def _percentiles(value: float, draws: Floats) -> Interval:
    if np.isnan(draws).any():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, float(low), float(high))
