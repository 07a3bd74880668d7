"""Each score against a direct, slow computation, and on cases whose answer is known."""

import math

import numpy as np
import pytest

from warmstart.core.errors import DataError
from warmstart.decide.transferability import h_score, leep, log_me


def blobs(rows=60, width=5, classes=3, gap=2.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centres = rng.normal(size=(classes, width)) * gap
    return centres[labels] + rng.normal(size=(rows, width)), labels


def slow_log_me(features, labels, classes):
    """The evidence by its definition, log N(y; 0, I/beta + X X'/alpha), maximised over a fine grid and refined."""
    from scipy.optimize import minimize

    rows = len(labels)
    gram = features @ features.T

    def negative(parameters, target):
        alpha, beta = np.exp(parameters)
        covariance = np.eye(rows) / beta + gram / alpha
        sign, logdet = np.linalg.slogdet(covariance)
        assert sign > 0
        return 0.5 * (rows * math.log(2 * math.pi) + logdet + target @ np.linalg.solve(covariance, target))

    found = []
    for c in range(classes):
        target = (labels == c).astype(float)
        best = min(
            (
                minimize(negative, start, args=(target,), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
                for start in ([0.0, 0.0], [2.0, 2.0], [4.0, 1.0])
            ),
            key=lambda outcome: outcome.fun,
        )
        found.append(-best.fun / rows)
    return float(np.mean(found))


@pytest.mark.parametrize(("rows", "width"), [(60, 5), (24, 40)])
def test_log_me_is_the_maximum_of_the_evidence(rows, width):
    features, labels = blobs(rows, width, gap=0.7)
    assert log_me(features, labels, 3) == pytest.approx(slow_log_me(features, labels, 3), abs=2e-3)


def test_log_me_prefers_features_that_fit():
    near, labels = blobs(gap=3.0)
    far, _ = blobs(gap=0.1)
    assert log_me(near, labels, 3) > log_me(far, labels, 3)


def test_h_score_by_loops():
    features, labels = blobs(gap=1.0)
    mean = features.mean(0)
    covariance = np.zeros((5, 5))
    for row in features:
        covariance += np.outer(row - mean, row - mean) / len(features)
    between = np.zeros((5, 5))
    for label in labels:
        centre = features[labels == label].mean(0) - mean
        between += np.outer(centre, centre) / len(labels)
    slow = np.trace(np.linalg.inv(covariance) @ between)
    assert h_score(features, labels, 3) == pytest.approx(slow, rel=1e-9)
    assert h_score(features @ np.diag([1, 2, 3, 4, 5.0]), labels, 3) == pytest.approx(slow, rel=1e-9)  # any basis


def test_h_score_with_more_features_than_rows_is_at_its_ceiling():
    rng = np.random.default_rng(0)
    assert h_score(rng.normal(size=(12, 50)), np.arange(12) % 3, 3) == pytest.approx(2.0)


def test_leep_by_loops():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(4), size=30)
    labels = np.arange(30) % 3
    total = 0.0
    for row, label in zip(p, labels, strict=True):
        inner = 0.0
        for z in range(4):
            joint = sum(p[i, z] for i in range(30) if labels[i] == label) / 30
            marginal = sum(p[i, z] for i in range(30)) / 30
            inner += row[z] * joint / marginal
        total += math.log(inner)
    assert leep(p, labels, 3) == pytest.approx(total / 30, rel=1e-12)


def test_leep_at_its_ends():
    labels = np.arange(12) % 3
    assert leep(np.eye(3)[labels], labels, 3) == pytest.approx(0.0, abs=1e-12)  # the source says the label
    same = np.full((12, 3), 1 / 3)
    assert leep(same, labels, 3) == pytest.approx(math.log(1 / 3))  # the source says nothing


def test_what_does_not_fit_is_refused():
    features, labels = blobs()
    for score in (log_me, h_score, leep):
        with pytest.raises(DataError, match="do not fit 10 labels"):
            score(features, labels[:10], 3)
    with pytest.raises(DataError, match="two classes"):
        log_me(features, np.zeros(60, dtype=int), 3)
    with pytest.raises(DataError, match="sum to 1"):
        leep(features, labels, 3)
