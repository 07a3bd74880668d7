"""Distances against direct computations, on shifts of known size, and on their scales."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from warmstart.core.errors import DataError
from warmstart.core.metrics import unit_rows
from warmstart.decide.distance import (
    channel_gap,
    colour_gap,
    frechet_distance,
    mmd_squared,
    pixel_histogram,
    proxy_a_distance,
    scaled,
)


def draws(shift=0.0, rows=80, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)) + shift


def test_mmd_by_loops():
    one, other = draws(rows=20), draws(0.8, rows=20, seed=1)
    both = np.concatenate([one, other])
    squares = [float(((a - b) ** 2).sum()) for i, a in enumerate(both) for b in both[i + 1 :]]
    width = float(np.median(squares))

    def kernel(a, b):
        return math.exp(-float(((a - b) ** 2).sum()) / width)

    n = 20
    within = sum(kernel(x[i], x[j]) for x in (one, other) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(a, b) for a in one for b in other)
    assert mmd_squared(one, other) == pytest.approx(within / (n * (n - 1)) - 2 * across / n**2, rel=1e-10)


def test_frechet_by_the_matrix_root():
    for rows, width in ((60, 6), (20, 30)):  # also with fewer rows than features
        one, other = draws(rows=rows, width=width), 1.5 * draws(0.5, rows=rows, width=width, seed=1)
        first, second = np.cov(one.T), np.cov(other.T)
        slow = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
        assert frechet_distance(one, other) == pytest.approx(slow, rel=1e-3)


def test_proxy_a_distance_is_that_of_an_independent_classifier():
    one, other = draws(), draws(0.5, seed=1)
    x, y = np.concatenate([one, other]), np.repeat([0, 1], 80)
    error = (cross_val_predict(LogisticRegression(), x, y, cv=5) != y).mean()
    assert proxy_a_distance(one, other) == pytest.approx(2 * (1 - 2 * error), abs=0.2)
    assert proxy_a_distance(one, draws(9.0, seed=1)) == 2.0
    assert proxy_a_distance(one, draws(0.0, seed=1)) < 0.6


@pytest.mark.parametrize("measure", [proxy_a_distance, mmd_squared, frechet_distance])
def test_distances_grow_with_the_shift_and_mind_shapes(measure):
    one = draws()
    far = [measure(one, draws(shift, seed=1)) for shift in (0.0, 0.7, 2.0)]
    assert far[0] < far[1] < far[2]
    with pytest.raises(DataError, match="8 rows"):
        measure(one, one[:5])
    with pytest.raises(DataError, match="cannot be compared"):
        measure(one, one[:, :2])


def test_a_scale_has_its_own_rows_near_and_scrambled_rows_far():
    reference, scrambled = draws(rows=120), draws(3.0, rows=120, seed=2)
    same = scaled("MMD", mmd_squared, draws(rows=60, seed=3), reference, scrambled, "shifted")
    half = scaled("MMD", mmd_squared, draws(1.0, rows=60, seed=3), reference, scrambled, "shifted")
    assert abs(same.position) < 0.1
    assert 0.1 < half.position < 1.0
    assert same.far == half.far > 10 * abs(same.near)
    assert same.far_is == "shifted"


def test_all_three_distances_are_between_as_many_rows():
    seen = []

    def rows(one, other, seed):
        seen.append((len(one), len(other)))
        return 1.0

    scaled("rows", rows, draws(rows=9, seed=3), draws(rows=120), draws(3.0, rows=60, seed=2), "shifted")
    assert seen == [(9, 9)] * 3


def test_colours_by_hand():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    grey = np.full((2, 2, 3), 51, np.uint8)  # a fifth of the way
    histogram = pixel_histogram([black])
    assert histogram.shape == (3, 256)
    assert colour_gap(histogram, pixel_histogram([white])) == pytest.approx(1.0)
    assert colour_gap(histogram, pixel_histogram([grey])) == pytest.approx(0.2)
    assert colour_gap(histogram, pixel_histogram([black, white])) == pytest.approx(0.5)
    assert channel_gap(histogram, pixel_histogram([grey])) == pytest.approx(0.2 / math.sqrt(2))  # means alone differ
    assert channel_gap(histogram, pixel_histogram([black, white])) == pytest.approx(0.5)  # means and deviations


def test_colour_gap_is_scipys_distance():
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, high, (9, 9, 3)).astype(np.uint8) for high in (200, 256))
    slow = [wasserstein_distance(one[..., c].ravel(), other[..., c].ravel()) / 255 for c in range(3)]
    assert colour_gap(pixel_histogram([one]), pixel_histogram([other])) == pytest.approx(np.mean(slow))


def test_unit_rows():
    found = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert found.tolist() == [[0.6, 0.8], [0.0, 0.0]]
