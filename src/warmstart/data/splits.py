"""Choosing rows: stratified by class, whole groups at a time, the same again for the same seed.

Works on class ids and group ids alone. Which rows must stay together is decided by the caller (`task`).
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from warmstart.core.errors import SettingError

Ids = NDArray[np.int64]


def as_count(size: float, available: int, name: str) -> int:
    """A size, given as a count or as a fraction below 1, as a count.

    Args:
        size: the option's value, above 0.
        available: how many rows there are.
        name: the option, for the message.

    Raises:
        SettingError: for a count that is no whole number, or exceeds what there is.
    """
    if size < 1:
        return max(1, round(size * available))
    if size != int(size):
        raise SettingError(f"{name} is {size}; it must be a whole number of rows, or a fraction below 1.")
    if size > available:
        raise SettingError(f"{name} is {int(size)}, but there are {available} rows to take them from.")
    return int(size)


def choose(labels: Ids, units: Ids, count: int, seed: int, stream: str) -> Ids:
    """Choose about `count` rows to set aside, in proportion to the classes and whole units at a time.

    Every class keeps at least one row that is not chosen; one with two or more gives at least one where `count`
    suffices. When all units are single rows the count is met exactly.

    Args:
        labels: class ids, (rows,).
        units: rows with equal ids go together, (rows,).
        count: how many.
        seed: of the draw.
        stream: what the draw is for, "test" or "validation"; draws for different purposes are independent.

    Returns:
        Positions in ascending order.

    Raises:
        SettingError: when `count` leaves fewer rows than there are classes.
    """
    labels, units = _dense(labels), _dense(units)
    totals = np.bincount(labels)
    if count > len(labels) - len(totals):
        raise SettingError(
            f"--{stream}-size sets {count} of {len(labels)} rows aside, which leaves fewer than one row for each of "
            f"{len(totals)} classes; at most {len(labels) - len(totals)} can be."
        )
    lowest = np.minimum(totals - 1, 1) if count >= int((totals > 1).sum()) else np.zeros_like(totals)
    wanted = quotas(totals, count, lowest, totals - 1)
    chosen = _whole_units(labels, units, wanted, totals - 1, _generator(seed, stream))
    return np.flatnonzero(chosen[units]).astype(np.int64)


def subsample(labels: Ids, count: int, seed: int) -> Ids:
    """Choose exactly `count` rows to keep, in proportion to the classes, at least two of each that has two.

    Returns:
        Positions in ascending order.

    Raises:
        SettingError: when `count` is less than two for every class.
    """
    labels = _dense(labels)
    totals = np.bincount(labels)
    lowest = np.minimum(totals, 2)
    if count < lowest.sum():
        raise SettingError(
            f"--train-size is {count}, which is fewer than two rows for each of {len(totals)} classes; "
            f"it must be at least {lowest.sum()}."
        )
    left = quotas(totals, count, lowest, totals)
    order = _generator(seed, "train").permutation(len(labels))
    kept = []
    for row in order.tolist():
        if left[labels[row]] > 0:
            left[labels[row]] -= 1
            kept.append(row)
    return np.sort(np.asarray(kept, dtype=np.int64))


def quotas(totals: Ids, count: int, lowest: Ids, highest: Ids) -> Ids:
    """Split `count` in proportion to `totals` by largest remainders, within bounds for each class.

    The sum is `count`, or the nearest that the bounds allow.
    """
    ideal = count * totals / totals.sum()
    given = np.clip(np.floor(ideal).astype(np.int64), lowest, highest)
    while given.sum() < min(count, highest.sum()):
        given[np.argmax(np.where(given < highest, ideal - given, -np.inf))] += 1
    while given.sum() > max(count, lowest.sum()):
        given[np.argmax(np.where(given > lowest, given - ideal, -np.inf))] -= 1
    return np.asarray(given, dtype=np.int64)


def _whole_units(labels: Ids, units: Ids, wanted: Ids, highest: Ids, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which units to take: first those that fit, in random order; then those that come nearest to the quotas."""
    classes = len(wanted)
    cells, held = np.unique(units * classes + labels, return_counts=True)  # one entry for each class of each unit
    cell_unit, cell_class = cells // classes, cells % classes
    starts = np.searchsorted(cell_unit, np.arange(cell_unit[-1] + 2))
    chosen = np.zeros(len(starts) - 1, dtype=np.bool_)
    order = rng.permutation(len(chosen))
    short, room = wanted.copy(), highest.copy()
    for unit in order.tolist():
        entries = slice(starts[unit], starts[unit + 1])
        if np.all(held[entries] <= short[cell_class[entries]]):
            chosen[unit] = True
            short[cell_class[entries]] -= held[entries]
            room[cell_class[entries]] -= held[entries]
    rank = np.argsort(order)  # ties go to the unit that comes first in the random order
    while short.sum() > 0:
        gain = np.abs(short[cell_class]) - np.abs(short[cell_class] - held)
        by_unit = np.bincount(cell_unit, gain, minlength=len(chosen))
        fits = np.bincount(cell_unit, held > room[cell_class], minlength=len(chosen)) == 0
        open_units = np.flatnonzero(fits & ~chosen)
        if not len(open_units):
            break
        best = open_units[np.lexsort((rank[open_units], -by_unit[open_units]))[0]]
        if by_unit[best] <= 0 and chosen.any():
            break
        entries = slice(starts[best], starts[best + 1])
        chosen[best] = True
        short[cell_class[entries]] -= held[entries]
        room[cell_class[entries]] -= held[entries]
    return chosen


def _dense(ids: Ids) -> Ids:
    return np.unique(ids, return_inverse=True)[1].astype(np.int64)


def _generator(seed: int, stream: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(stream.encode())])
