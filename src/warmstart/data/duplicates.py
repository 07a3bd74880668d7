"""Which rows are the same input: to the byte, or nearly.

Two texts are nearly the same when lower-casing and folding everything that is no letter or digit makes them equal; two
pictures when their difference hashes are within 3 of 64 bits and their thumbnails within 6 grey levels on average. (On
the 2,800 satellite scenes of RSSCN7 no two different pictures are that close, and nine in ten copies saved again at
JPEG quality 70 are.) What follows from it is left to `checks` and `splits`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from warmstart.data.pictures import THUMB_COLUMNS, THUMB_ROWS, Probe

_FOLD = re.compile(r"[\W_]+")
_BITS = 3  # the Hamming distance up to which four bands of 16 bits must share one
_GREYS = 6.0
_FLAT = 2.0  # standard deviation of grey levels below which a thumbnail says nothing
_CROWDED = 0.1  # share of the rows beyond which units are not joined for having an input in common
_FEW = 8  # rows that may always be joined
_CROWD = 1000  # pictures that share a band; more say that the band says nothing


@dataclass(frozen=True)
class Sameness:
    """Rows with equal numbers are the same input; `near` is never finer than `exact`."""

    exact: NDArray[np.int64]
    near: NDArray[np.int64]


def same_texts(texts: Sequence[tuple[str, ...]]) -> Sameness:
    """Sameness of texts, or of pairs of texts."""
    exact = numbered([tuple(part.strip() for part in row) for row in texts])
    return Sameness(exact, unite(exact, numbered([tuple(map(fold, row)) for row in texts])))


def same_pictures(probes: Sequence[Probe]) -> Sameness:
    """Sameness of pictures; one that could not be opened is the same as none."""
    exact = numbered([probe.digest or place for place, probe in enumerate(probes)])
    thumbnails = np.stack([probe.thumbnail for probe in probes]).astype(np.int16)  # (pictures, 72)
    return Sameness(exact, merge(exact, near_pairs(thumbnails)))


def fold(text: str) -> str:
    """Lower case, with one space for whatever is no letter or digit; a text of signs only stays as it is."""
    return _FOLD.sub(" ", text.lower()).strip() or text.strip()


def numbered(keys: Iterable[Hashable]) -> NDArray[np.int64]:
    """Number keys by first appearance."""
    seen: dict[Hashable, int] = {}
    return np.asarray([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def unite(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The finest partition in which rows together in either one are together."""
    order = np.argsort(second, kind="stable")
    together = second[order][1:] == second[order][:-1]
    return merge(first, np.stack([order[:-1][together], order[1:][together]], axis=1))


def merge(groups: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups joined wherever a pair of rows, (pairs, 2), links two of them."""
    ids = numbered(groups.tolist())
    parent = list(range(int(ids.max()) + 1)) if len(ids) else []

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for left, right in ids[pairs].tolist() if len(pairs) else []:
        parent[root(left)] = root(right)
    return numbered([root(group) for group in ids.tolist()])


def joined(same: Sameness, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Units joined that share an input: nearly the same, else the very same, else none.

    Joining goes along chains (customers who wrote "great", and others who wrote "great" and "nice"); where it would
    gather more than a tenth of all rows in one unit, beyond the largest set there was, the stricter rule is used.
    """
    limit = max(_CROWDED * len(own), _FEW, _largest(own), _largest(same.exact))
    for kind in (same.near, same.exact):
        units = unite(own, kind)
        if _largest(units) <= limit:
            return units
    return own


def _largest(ids: NDArray[np.int64]) -> int:
    return int(np.unique(ids, return_counts=True)[1].max()) if len(ids) else 0


def near_pairs(thumbnails: NDArray[np.int16]) -> NDArray[np.int64]:
    """Pairs of rows whose pictures look the same, (pairs, 2).

    Four bands of 16 bits: two hashes within 3 bits agree in at least one band, so only rows that share a band are
    compared.
    """
    grid = thumbnails.reshape(-1, THUMB_ROWS, THUMB_COLUMNS)
    bits = (grid[:, :, 1:] > grid[:, :, :-1]).reshape(len(grid), 4, 16)  # (pictures, bands, bits)
    bands = bits @ (1 << np.arange(16))  # (pictures, bands)
    telling = np.flatnonzero(thumbnails.std(axis=1) >= _FLAT)
    found: set[tuple[int, int]] = set()
    for band in range(4):
        buckets: defaultdict[int, list[int]] = defaultdict(list)
        for place in telling.tolist():
            buckets[int(bands[place, band])].append(place)
        for members in buckets.values():
            if 1 < len(members) <= _CROWD:
                found.update(_close(np.asarray(members), bits.reshape(len(grid), 64), thumbnails))
    return np.asarray(sorted(found), dtype=np.int64).reshape(-1, 2)


def _close(members: NDArray[np.int64], bits: NDArray[np.bool_], thumbnails: NDArray[np.int16]) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for place, row in enumerate(members[:-1].tolist()):
        others = members[place + 1 :]
        near = others[(bits[others] != bits[row]).sum(axis=1) <= _BITS]
        alike = near[np.abs(thumbnails[near] - thumbnails[row]).mean(axis=1) <= _GREYS]
        pairs.extend((row, int(other)) for other in alike)
    return pairs
