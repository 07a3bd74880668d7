import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from warmstart.core import statistics
from warmstart.core.errors import DataError


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_equals_scipy(n, share):
    successes = round(share * n)
    got = statistics.wilson_interval(successes, n)
    want = binomtest(successes, n).proportion_ci(method="wilson")
    assert got.value == successes / n
    assert (got.low, got.high) == pytest.approx((want.low, want.high), abs=1e-9)
    assert 0.0 <= got.low <= got.value <= got.high <= 1.0


def test_wilson_ends():
    assert statistics.wilson_interval(0, 10).low == 0.0
    assert statistics.wilson_interval(10, 10).high == 1.0
    nothing = statistics.wilson_interval(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    for successes, n in ((11, 10), (-1, 10), (0, -1)):
        with pytest.raises(DataError):
            statistics.wilson_interval(successes, n)


def test_bootstrap_interval_matches_the_normal_one():
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    got = statistics.bootstrap_interval(values, seed=1)
    half = 1.96 * values.std() / 2000**0.5
    assert got.value == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - half, abs=0.01)
    assert got.high == pytest.approx(values.mean() + half, abs=0.01)
    narrow = statistics.bootstrap_interval(values, seed=1, level=0.5)
    assert got.low < narrow.low < narrow.high < got.high
    assert statistics.bootstrap_interval(values, seed=1) == got
    assert statistics.bootstrap_interval(np.array([1.0]), seed=0).low == 1.0
    with pytest.raises(DataError):
        statistics.bootstrap_interval(np.array([]), seed=0)


def test_bootstrap_interval_covers_the_mean():
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(300):
        got = statistics.bootstrap_interval(rng.exponential(1.0, 100), seed=trial)
        hits += got.low <= 1.0 <= got.high
    assert 0.89 <= hits / 300 <= 0.98


def right(rng, seeds, rows, seed_sd, level=0.8):
    """Rows of differing difficulty, seeds of differing luck."""
    chance = np.clip(level + rng.normal(0, 0.3, rows) + rng.normal(0, seed_sd, (seeds, 1)), 0, 1)
    return rng.random((seeds, rows)) < chance


def truth(seed_sd, level=0.8):
    rng = np.random.default_rng(99)
    return np.clip(level + rng.normal(0, 0.3, 10**6) + rng.normal(0, seed_sd, 10**6), 0, 1).mean()


@pytest.mark.parametrize(("seeds", "rows", "seed_sd"), [(1, 400, 0.0), (3, 400, 0.01), (5, 400, 0.03)])
def test_mean_interval_covers(seeds, rows, seed_sd):
    rng, target = np.random.default_rng(7), truth(seed_sd)
    got = [statistics.mean_interval(right(rng, seeds, rows, seed_sd), trial) for trial in range(200)]
    assert 0.91 <= np.mean([i.low <= target <= i.high for i in got]) <= 1.0
    spread = np.std([i.value for i in got]) * 3.92
    assert np.mean([i.high - i.low for i in got]) < 1.6 * spread  # wide enough to cover, not wider than is of use


def test_seeds_that_differ_widen_the_interval():
    rows = np.tile(np.random.default_rng(0).random((1, 2000)) < 0.8, (3, 1))
    same = statistics.mean_interval(rows, 0)
    apart = rows.copy()
    apart[0, :400], apart[1, -400:] = True, False
    other = statistics.mean_interval(apart, 0)
    assert other.high - other.low > 1.5 * (same.high - same.low)


def test_mean_interval_of_numbers_and_bad_shapes():
    values = np.random.default_rng(0).normal(size=(2, 50))
    got = statistics.mean_interval(values, 0)
    assert got.value == pytest.approx(values.mean())
    assert got.low < got.value < got.high
    for shape in ((0, 3), (3, 0), (4,)):
        with pytest.raises(DataError, match="shape"):
            statistics.mean_interval(np.zeros(shape), 0)


def test_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(1)
    a = right(rng, 3, 1000, 0.0)
    b = a.copy()
    b[:, :30] = False  # B loses up to thirty rows and is otherwise A
    got = statistics.paired_difference(a, b, 0)
    assert got.value == pytest.approx(a.mean() - b.mean())
    assert got.low > 0
    single = statistics.mean_interval(a, 0)
    assert got.high - got.low < 0.6 * (single.high - single.low)
    reverse = statistics.paired_difference(b, a, 0)
    assert (reverse.low, reverse.high) == pytest.approx((-got.high, -got.low), abs=0.003)


def test_paired_difference_rarely_finds_what_is_not_there():
    rng = np.random.default_rng(2)
    claims = 0
    for trial in range(200):
        chance = np.clip(0.8 + rng.normal(0, 0.3, 400), 0, 1)
        a, b = (rng.random((3, 400)) < np.clip(chance + rng.normal(0, 0.01, (3, 1)), 0, 1) for _ in range(2))
        got = statistics.paired_difference(a, b, trial)
        claims += not got.low <= 0.0 <= got.high
    assert claims / 200 <= 0.08


def test_paired_difference_of_equals_and_of_unequal_shapes():
    a = np.random.default_rng(0).random((3, 40)) < 0.5
    got = statistics.paired_difference(a, a, 0)
    assert (got.value, got.low, got.high) == (0.0, 0.0, 0.0)
    with pytest.raises(DataError, match="paired"):
        statistics.paired_difference(a, a[:, :39], 0)
