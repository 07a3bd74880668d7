"""Splits: disjoint, complete, stratified, whole units, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.core.errors import SettingError
from warmstart.data.splits import as_count, choose, quotas, subsample

LABELS = st.lists(st.integers(0, 4), min_size=8, max_size=80).map(np.asarray)
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=100, deadline=None)
@given(labels=LABELS, share=st.floats(0.01, 0.99), seed=SEEDS)
def test_single_rows_are_split_exactly(labels, share, seed):
    most = len(labels) - len(np.unique(labels))
    count = max(1, round(share * most))
    if most < 1:
        return
    units = np.arange(len(labels))
    chosen = choose(labels, units, count, seed, "test")
    assert len(chosen) == len(np.unique(chosen)) == count
    assert np.array_equal(chosen, choose(labels, units, count, seed, "test"))
    rest = np.delete(labels, chosen)
    assert set(rest) == set(labels)  # every class keeps a row
    several = [c for c in np.unique(labels) if (labels == c).sum() > 1]
    if count >= len(several):
        assert set(labels[chosen]) == set(several)
    for c in np.unique(labels):
        total = (labels == c).sum()
        ideal = count * total / len(labels)
        assert abs((labels[chosen] == c).sum() - ideal) <= max(2, len(np.unique(labels)))


@settings(max_examples=100, deadline=None)
@given(labels=LABELS, groups=st.integers(2, 30), share=st.floats(0.05, 0.6), seed=SEEDS)
def test_groups_never_straddle(labels, groups, share, seed):
    units = np.random.default_rng(seed).integers(0, groups, len(labels))
    count = max(1, round(share * (len(labels) - len(np.unique(labels)))))
    if count > len(labels) - len(np.unique(labels)):
        return
    chosen = choose(labels, units, count, seed, "test")
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    assert not set(units[chosen]) & set(units[rest])
    assert set(labels[rest]) == set(labels)


def test_groups_come_near_the_size():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(300), rng.integers(1, 9, 300))
    labels = rng.integers(0, 5, len(units))
    chosen = choose(labels, units, 200, 1, "test")
    assert abs(len(chosen) - 200) <= 10
    shares = np.bincount(labels[chosen], minlength=5) / np.bincount(labels)
    assert np.ptp(shares) < 0.05


def test_a_few_large_groups():
    units = np.repeat(np.arange(5), 20)
    labels = np.tile([0, 1], 50)
    assert len(choose(labels, units, 20, 3, "test")) == 20
    assert len(choose(labels, units, 5, 3, "test")) == 20  # a whole group, or nothing could be judged


def test_seeds_and_purposes_differ():
    labels, units = np.tile([0, 1], 50), np.arange(100)
    first = choose(labels, units, 20, 1, "test")
    assert not np.array_equal(first, choose(labels, units, 20, 2, "test"))
    assert not np.array_equal(first, choose(labels, units, 20, 1, "validation"))


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, share=st.floats(0, 1), seed=SEEDS)
def test_subsample(labels, share, seed):
    totals = np.unique(labels, return_counts=True)[1]
    least = int(np.minimum(totals, 2).sum())
    count = least + round(share * (len(labels) - least))
    kept = subsample(labels, count, seed)
    assert len(kept) == len(np.unique(kept)) == count
    for c, total in zip(np.unique(labels), totals, strict=True):
        assert (labels[kept] == c).sum() >= min(2, total)


def test_a_larger_subsample_holds_the_smaller_one():
    labels = np.tile([0, 1, 2, 3], 50)
    assert set(subsample(labels, 20, 7)) <= set(subsample(labels, 40, 7))


@settings(max_examples=100, deadline=None)
@given(totals=st.lists(st.integers(1, 50), min_size=1, max_size=8).map(np.asarray), share=st.floats(0, 1))
def test_quotas(totals, share):
    count = round(share * totals.sum())
    given_out = quotas(totals, count, np.zeros_like(totals), totals)
    assert given_out.sum() == count
    assert (np.abs(given_out - count * totals / totals.sum()) < 1).all()


def test_sizes():
    assert as_count(0.2, 10, "--test-size") == 2
    assert as_count(0.001, 10, "--test-size") == 1
    assert as_count(10, 10, "--test-size") == 10
    with pytest.raises(SettingError, match="--test-size is 11, but there are 10 rows"):
        as_count(11, 10, "--test-size")
    with pytest.raises(SettingError, match="whole number"):
        as_count(2.5, 10, "--test-size")
    with pytest.raises(SettingError, match="at most 8 can be"):
        choose(np.tile([0, 1], 5), np.arange(10), 9, 0, "test")
    with pytest.raises(SettingError, match="must be at least 4"):
        subsample(np.tile([0, 1], 5), 3, 0)
