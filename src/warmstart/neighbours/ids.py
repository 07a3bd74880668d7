"""Which id is at which place of an index, which places are deleted, and which ones a filter allows.

Places count up from 0 in the order of adding and are never used twice; a deleted vector leaves a tombstone. An id that
was deleted may be added again and is then at a new place.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from warmstart.core.errors import SettingError

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Filter:
    """Which ids may be answered. Ids that are not in the index are of no account.

    Attributes:
        allow: (ids,), only these; None for all. An attribute predicate gives these (`Attributes.matching`).
        block: (ids,), not these: items that were seen, or must not be shown.
    """

    allow: np.ndarray | None = None
    block: np.ndarray | None = None


@dataclass(frozen=True)
class Allowed:
    """A filter worked out for one state of one index.

    Attributes:
        count: how many places are allowed.
        only: (count,), the allowed places, ascending; None: all that are alive, but for `without`.
        without: (blocked,), places that are alive and not allowed; empty where `only` is given.
        version: of the table it was worked out for.
        size: places in all.
    """

    count: int
    only: np.ndarray | None
    without: np.ndarray
    version: int
    size: int

    @functools.cached_property
    def bits(self) -> np.ndarray:
        """The places of `only` as bits, the lowest first, (size / 8,)."""
        mask = np.zeros(self.size, dtype=bool)
        mask[self.only] = True
        return np.packbits(mask, bitorder="little")


@dataclass
class _Run:
    """Neighbouring places whose ids were sorted together."""

    start: int
    stop: int
    order: np.ndarray | None  # None: the ids ascend as they stand


class IdTable:
    """Ids by place and places by id, in 8 to 16 bytes a vector."""

    def __init__(self) -> None:
        self._ids = np.zeros(0, dtype=np.int64)
        self._bits = np.zeros(0, dtype=np.uint8)
        self._runs: list[_Run] = []
        self._alive = 0
        self.places = 0
        self.version = 0

    def __len__(self) -> int:
        return self._alive

    @property
    def deleted(self) -> int:
        """Places whose vector was deleted."""
        return self.places - self._alive

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        orders = sum(run.order.nbytes for run in self._runs if run.order is not None)
        return self._ids[: self.places].nbytes + (self.places + 7) // 8 + orders

    @property
    def bits(self) -> np.ndarray:
        """One bit for each place, the lowest first: 1 is alive, (places / 8,)."""
        return self._bits[: (self.places + 7) // 8]

    def all_ids(self) -> np.ndarray:
        """Ids by place, deleted ones too, (places,)."""
        return self._ids[: self.places]

    def alive(self) -> np.ndarray:
        """Places that are not deleted, ascending, (alive,)."""
        if not self.deleted:
            return np.arange(self.places)
        return np.flatnonzero(np.unpackbits(self.bits, bitorder="little", count=self.places))

    def alive_ids(self) -> np.ndarray:
        """Ids that are not deleted, in the order of adding, (alive,)."""
        found: np.ndarray = self._ids[self.alive()]
        return found

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The place of each id, −1 where it is not there, (ids,)."""
        wanted = np.asarray(ids, dtype=np.int64)
        found = np.full(wanted.shape, -1, dtype=np.int64)
        for run in self._runs:
            held = self._ids[run.start : run.stop]
            at = np.searchsorted(held, wanted, side="right", sorter=run.order) - 1  # the last of equal ones: the newest
            places = np.maximum(at, 0)
            places = run.start + (places if run.order is None else run.order[places])
            hit = (at >= 0) & (self._ids[places] == wanted) & self._is_alive(places)
            found[hit] = places[hit]
        return found

    def check_new(self, ids: np.ndarray, rows: int) -> np.ndarray:
        """Ids as whole numbers, one per row, each of them new.

        Raises:
            SettingError: one is negative, given twice or there already, or their number is another.
        """
        found = check_ids(ids, rows)
        there = self.find(found) >= 0
        if there.any():
            raise SettingError(f"Id {found[there][0]} is there already: every vector needs an id of its own.")
        return found

    def check_known(self, ids: np.ndarray, rows: int) -> np.ndarray:
        """Ids as whole numbers, one per row, each of them there.

        Raises:
            SettingError: one is given twice or not there, or their number is another.
        """
        found = check_ids(ids, rows)
        absent = self.find(found) < 0
        if absent.any():
            raise SettingError(f"Id {found[absent][0]} is not in the index.")
        return found

    def add(self, ids: np.ndarray) -> None:
        """Put checked ids at the next places."""
        start, stop = self.places, self.places + len(ids)
        if not len(ids):
            return
        self._reserve(stop)
        self._ids[start:stop] = ids
        self.places = stop
        self._alive += len(ids)
        self._set_bits(np.arange(start, stop))
        self._runs.append(self._sorted(start, stop))
        while len(self._runs) > 1 and self._size(-2) < 2 * self._size(-1):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(self._sorted(before.start, last.stop))
        self.version += 1

    def delete(self, ids: np.ndarray) -> None:
        """Make tombstones of checked ids."""
        places = self.find(ids)
        masks = np.left_shift(1, places & 7).astype(np.uint8)
        np.bitwise_and.at(self._bits, places >> 3, ~masks)
        self._alive -= len(places)
        self.version += 1

    def restore(self, ids: np.ndarray, bits: np.ndarray) -> None:
        """Take what a saved index holds: ids by place, and the bits of those alive."""
        self._ids, self._bits, self.places = ids, np.array(bits), len(ids)
        self._alive = int(np.unpackbits(self.bits, bitorder="little", count=self.places).sum())
        self._runs = [self._sorted(0, self.places)] if self.places else []
        self.version += 1

    def allowed(self, where: Filter | Allowed | None) -> Allowed:
        """Work out a filter, or check that one is still right.

        Raises:
            SettingError: it was worked out before vectors were added or deleted.
        """
        if isinstance(where, Allowed):
            if where.version != self.version:
                raise SettingError("The filter was prepared before the index changed: prepare it again.")
            return where
        blocked = self._places_of(where.block) if where is not None and where.block is not None else _NONE
        if where is None or where.allow is None:
            return Allowed(len(self) - len(blocked), None, blocked, self.version, self.places)
        only = self._places_of(where.allow)
        if len(blocked):
            only = np.setdiff1d(only, blocked, assume_unique=True)
        return Allowed(len(only), only, _NONE, self.version, self.places)

    def places_of(self, allowed: Allowed) -> np.ndarray:
        """The allowed places, ascending, (count,)."""
        if allowed.only is not None:
            return allowed.only
        return np.setdiff1d(self.alive(), allowed.without, assume_unique=True) if len(allowed.without) else self.alive()

    def _places_of(self, ids: np.ndarray) -> np.ndarray:
        found = np.unique(self.find(np.atleast_1d(np.asarray(ids, dtype=np.int64))))
        there: np.ndarray = found[found >= 0]
        return there

    def _is_alive(self, places: np.ndarray) -> np.ndarray:
        found: np.ndarray = (self._bits[places >> 3] >> (places & 7).astype(np.uint8)) & 1 == 1
        return found

    def _set_bits(self, places: np.ndarray) -> None:
        first, last = int(places[0]), int(places[-1]) + 1
        low, high = first // 8, (last + 7) // 8
        mask = np.unpackbits(self._bits[low:high], bitorder="little")
        mask[first - 8 * low : last - 8 * low] = 1
        self._bits[low:high] = np.packbits(mask, bitorder="little")

    def _reserve(self, places: int) -> None:
        if places > len(self._ids):
            room = max(places, len(self._ids) + len(self._ids) // 4)
            self._ids = np.concatenate([self._ids, np.zeros(room - len(self._ids), dtype=np.int64)])
            self._bits = np.concatenate([self._bits, np.zeros((room + 7) // 8 - len(self._bits), dtype=np.uint8)])

    def _size(self, run: int) -> int:
        return self._runs[run].stop - self._runs[run].start

    def _sorted(self, start: int, stop: int) -> _Run:
        ids = self._ids[start:stop]
        ascending = bool((ids[1:] > ids[:-1]).all())
        return _Run(start, stop, None if ascending else np.argsort(ids, kind="stable"))


def check_ids(ids: np.ndarray, rows: int) -> np.ndarray:
    """Ids as whole numbers, one per row, none twice.

    Raises:
        SettingError: one is negative or given twice, they are no whole numbers, or their number is another.
    """
    given = np.asarray(ids)
    if given.size and given.dtype.kind not in "iu":
        raise SettingError(f"Ids are whole numbers; these are {given.dtype}.")
    found = np.ascontiguousarray(given, dtype=np.int64)
    if found.shape != (rows,):
        raise SettingError(f"There are {rows} vectors and ids of shape {found.shape}.")
    if len(found) and found.min() < 0:
        raise SettingError(f"Id {found.min()} is negative.")
    ordered = np.sort(found)
    again = ordered[1:] == ordered[:-1]
    if again.any():
        raise SettingError(f"Id {ordered[1:][again][0]} is given twice: every vector needs an id of its own.")
    return found
