"""Floors: what costs next to nothing, and what any model must beat. Accuracies, on arrays and texts.

A majority guess, logistic regression on TF-IDF, and nearest neighbours in the frozen features; each judged on rows
it did not see. What follows from them is left to `warmstart.decide.rules`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from warmstart.core.errors import DataError
from warmstart.core.metrics import Floats, Ints
from warmstart.core.records import Floor, Interval
from warmstart.core.statistics import wilson_interval
from warmstart.train.folds import assign_folds
from warmstart.train.knn import NEIGHBOURS, knn_leave_one_out, knn_predict

Texts = Sequence[str] | Sequence[tuple[str, str]]

TFIDF_GRID = (1.0, 10.0, 100.0)  # C
CROSS_VALIDATION_ROWS = 5000  # TF-IDF is cross-validated on at most so many rows, drawn with the seed
_PRUNE_FROM = 200  # from so many rows on, a term must occur in two of them


def majority_floor(labels: Ints, classes: int, *, test_labels: Ints | None = None) -> Floor:
    """Always the commonest class of the training rows.

    Args:
        labels: (rows,) training labels.
        classes: how many classes there are.
        test_labels: (test rows,), or None.

    Raises:
        DataError: when there are no training rows.
    """
    commonest = _commonest(labels, classes)
    test = None if test_labels is None else accuracy_interval(np.full_like(test_labels, commonest), test_labels)
    return Floor("majority", accuracy_interval(np.full_like(labels, commonest), labels), test)


def tfidf_floor(
    texts: Texts,
    labels: Ints,
    classes: int,
    *,
    seed: int,
    groups: npt.NDArray[Any] | None = None,
    test_texts: Texts | None = None,
    test_labels: Ints | None = None,
) -> Floor:
    """Logistic regression on TF-IDF of words and word pairs; of a pair of texts, both together.

    C is the one of `TFIDF_GRID` with the most held-out rows right (the smaller on a tie); the score is that of the
    same held-out rows, so it is higher by the little that a choice among three can give.

    Args:
        texts: the training texts, or pairs of texts.
        labels: (rows,).
        classes: how many classes there are.
        seed: of the folds.
        groups: (rows,) of names; rows that share one are held out together.
        test_texts: with `test_labels`, what the fit on all training rows is judged by.
        test_labels: (test rows,).

    Raises:
        DataError: when texts and labels differ in number, or nothing can be held out.
    """
    words = _joined(texts)
    if len(words) != len(labels):
        raise DataError(f"there are {len(words)} texts for {len(labels)} labels")
    rows = np.arange(len(words))
    if len(rows) > CROSS_VALIDATION_ROWS:
        rows = np.sort(np.random.default_rng(seed).permutation(len(rows))[:CROSS_VALIDATION_ROWS])
    chosen = labels[rows]
    home = assign_folds(chosen, classes, seed=seed, groups=None if groups is None else groups[rows])
    predictions = np.full((len(TFIDF_GRID), len(rows)), _commonest(chosen, classes))  # for rows that are never held out
    for fold in range(int(home.max()) + 1):
        held, train = np.flatnonzero(home == fold), np.flatnonzero(home != fold)
        predictions[:, held] = _tfidf_predictions(
            [words[i] for i in rows[train]], chosen[train], [words[i] for i in rows[held]], TFIDF_GRID
        )
    right = (predictions == chosen).sum(axis=1)
    best = int(right.argmax())
    test = None
    if test_texts is not None and test_labels is not None:
        test = accuracy_interval(
            _tfidf_predictions(words, labels, _joined(test_texts), TFIDF_GRID[best : best + 1])[0], test_labels
        )
    return Floor("tfidf", accuracy_interval(predictions[best], chosen), test)


def knn_floor(
    features: Floats,
    labels: Ints,
    classes: int,
    *,
    k: int = NEIGHBOURS,
    groups: npt.NDArray[Any] | None = None,
    test_features: Floats | None = None,
    test_labels: Ints | None = None,
) -> Floor:
    """The vote of the nearest neighbours in the frozen features, leaving one row (or group) out.

    Args:
        features: (rows, features).
        labels: (rows,).
        classes: how many classes there are.
        k: neighbours that vote.
        groups: (rows,) of names; a row is not judged by rows that share its own.
        test_features: with `test_labels`, rows judged by all training rows.
        test_labels: (test rows,).

    Raises:
        DataError: when there are fewer than two rows or groups, or shapes do not fit.
    """
    out = knn_leave_one_out(features, labels, classes, k, groups).argmax(axis=1)
    test = None
    if test_features is not None and test_labels is not None:
        test = accuracy_interval(knn_predict(features, labels, test_features, classes, k).argmax(axis=1), test_labels)
    return Floor("knn", accuracy_interval(out, labels), test)


def accuracy_interval(predictions: Ints, labels: Ints) -> Interval:
    """Accuracy with its Wilson interval, every row taken as one independent trial."""
    return wilson_interval(int(np.sum(predictions == labels)), len(labels))


def _commonest(labels: Ints, classes: int) -> int:
    if len(labels) == 0:
        raise DataError("there are no labelled rows", remedy="Label some, or use zero_shot.")
    return int(np.bincount(labels, minlength=classes).argmax())


def _joined(texts: Texts) -> list[str]:
    return [text if isinstance(text, str) else "\n".join(text) for text in texts]


def _tfidf_predictions(
    train: list[str], labels: Ints, queries: list[str], grid: Sequence[float]
) -> npt.NDArray[np.int64]:
    """Predicted classes (len(grid), queries) of one fit a value of C."""
    commonest = np.bincount(labels).argmax()
    result = np.full((len(grid), len(queries)), commonest, dtype=np.int64)
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        token_pattern=r"(?u)\w+|[^\w\s]",  # noqa: S106 - emoji and signs are words too
        min_df=2 if len(train) >= _PRUNE_FROM else 1,
        max_features=100_000,
    )
    if len(np.unique(labels)) < 2 or not any(text.strip() for text in train):
        return result
    try:
        known = vectorizer.fit_transform(train)
    except ValueError:  # no word stands in two rows
        known = vectorizer.set_params(min_df=1).fit_transform(train)
    asked = vectorizer.transform(queries)
    for row, c in enumerate(grid):
        with warnings.catch_warnings(), threadpool_limits(1):  # the sparse products have one thread; the others wait
            warnings.simplefilter("ignore", ConvergenceWarning)  # a floor may stop short; a probe may not
            model = LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(known, labels)
        result[row] = model.predict(asked)
    return result
