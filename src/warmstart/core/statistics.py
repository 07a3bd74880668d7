"""Intervals around means, proportions and paired differences, numpy only.

What each one assumes is in its docstring. A classifier's own scores are left to `warmstart.core.metrics`, and which
claims an interval allows to the caller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from warmstart.core.errors import DataError
from warmstart.core.records import Interval

Floats = npt.NDArray[np.floating[Any]]

RESAMPLES = 2000
_CHUNK = 2_000_000  # random numbers held at once by a bootstrap
_CELLS = 4_000_000  # row weights held at once


def bootstrap_interval(values: Floats, seed: int, level: float = 0.95) -> Interval:
    """The mean of values (rows,) with its percentile bootstrap interval (Efron 1979).

    Assumes independent rows drawn like those to come. Too narrow below some twenty rows, and of no width at all when
    every value is the same: for proportions near 0 or 1 use `wilson_interval`.

    Raises:
        DataError: when there are no values.
    """
    if len(values) == 0:
        raise DataError("there are no values to average", remedy="Give at least one row.")
    numbers = np.asarray(values, dtype=np.float64)
    draws = resampled_means(numbers, np.random.default_rng(seed), RESAMPLES)
    return _interval(float(numbers.mean()), draws, level)


def wilson_interval(successes: float, n: float) -> Interval:
    """A proportion with its 95 % score interval (Wilson 1927); sensible for small n and near 0 and 1.

    Assumes n independent trials of one probability; n may be an effective number, not a whole one. With n = 0 nothing
    is known: the value is not a number and the interval is [0, 1].

    Raises:
        DataError: when successes lie outside 0…n.
    """
    if not 0 <= successes <= n:
        raise DataError(f"{successes} successes in {n} trials", remedy="Successes must lie between 0 and the trials.")
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0)
    z = 1.959963984540054
    share = successes / n
    scale = 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / scale
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, where rounding would miss by 1e-17
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high)


def mean_interval(values: npt.NDArray[np.bool_] | Floats, seed: int) -> Interval:
    """The mean of values (seeds, rows) with a two-sided 95 % interval over seeds and rows.

    Both are resampled: rows once for all seeds, because every seed was judged on the same rows, and seeds with
    replacement (Owen 2007, "The pigeonhole bootstrap"). Seed deviations are widened by √(S/(S-1)), which undoes the
    bootstrap's too small variance for few seeds.

    Assumes rows independent of each other, and seeds too. What a seed does to a single row counts more than once, which
    makes the interval somewhat wide where rows dominate; with two or three seeds that differ more than rows do it is
    still too narrow (a variance of three values is poorly known). One seed: the interval is over rows only, and says
    nothing about other seeds.

    Raises:
        DataError: for an array without rows or that is not (seeds, rows).
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise DataError(f"scores have shape {table.shape}", remedy="They must be (seeds, rows), at least one of each.")
    seeds = len(table)
    rng = np.random.default_rng(seed)
    per_seed = _resampled_rows(table, rng)  # (resamples, seeds): each seed's mean over the resampled rows
    centre = per_seed.mean(axis=1)
    draws = centre
    if seeds > 1:
        picks = rng.integers(0, seeds, size=(RESAMPLES, seeds))
        drawn = np.take_along_axis(per_seed, picks, axis=1).mean(axis=1)
        draws = centre + (drawn - centre) * (seeds / (seeds - 1)) ** 0.5
    return _interval(float(table.mean()), draws, 0.95)


def paired_difference(correct_a: npt.NDArray[np.bool_], correct_b: npt.NDArray[np.bool_], seed: int) -> Interval:
    """Accuracy of A minus that of B on the same rows and seeds, with a two-sided 95 % interval.

    The interval is that of `mean_interval` over the row-by-row differences, so what makes a row hard for both cancels.
    Assumes what `mean_interval` does, and that A's seed i belongs to B's seed i (same split, same order).

    Args:
        correct_a: (seeds, rows), whether A was right.
        correct_b: the same for B.
        seed: of the resamples.

    Raises:
        DataError: when the shapes differ or there are no rows.
    """
    if correct_a.shape != correct_b.shape:
        raise DataError(
            f"a paired difference got {correct_a.shape} and {correct_b.shape}",
            remedy="Both sides must be (seeds, rows) on the same seeds and rows.",
        )
    return mean_interval(correct_a.astype(np.float64) - correct_b.astype(np.float64), seed)


def _resampled_rows(table: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Means over bootstrap samples of the rows: (seeds, rows) → (resamples, seeds).

    Rows that look the same to every seed are drawn together: for right-or-wrong values there are few such patterns.
    """
    rows = table.shape[1]
    patterns, counts = np.unique(table, axis=1, return_counts=True)  # (seeds, patterns), (patterns,)
    block = max(1, _CELLS // len(counts))
    sums = [
        rng.multinomial(rows, counts / rows, size=min(block, RESAMPLES - start)) @ patterns.T
        for start in range(0, RESAMPLES, block)
    ]
    means: npt.NDArray[np.float64] = np.concatenate(sums) / rows
    return means


def resampled_means(values: Floats, rng: np.random.Generator, resamples: int) -> npt.NDArray[np.float64]:
    """Means of `resamples` bootstrap samples of values (rows,) → (resamples,), a bounded block at a time."""
    block = max(1, _CHUNK // len(values))
    means = []
    for start in range(0, resamples, block):
        picks = rng.integers(0, len(values), size=(min(block, resamples - start), len(values)))
        means.append(values[picks].mean(axis=1))
    return np.concatenate(means).astype(np.float64)


def _interval(value: float, draws: Floats, level: float) -> Interval:
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))
