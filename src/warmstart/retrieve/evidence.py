"""What the events before some questions say of pairs of items: how often one user took both, and in which order.

Counts come from the histories that are given and from nothing else, so whoever asks about a moment gives what came
before it. What a ranker makes of them is `ranker.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from warmstart.retrieve.baselines import matrix

PAIR_FEATURES = 2  # together, then
_SHRINK = 3.0  # added to the product of the norms, so that pairs of rare items weigh less
_REACH = 10  # how many items later still counts as following
_LATEST = 1000  # items of a history that are paired; a longer one would give millions of pairs


@dataclass(frozen=True)
class Evidence:
    """Counts of items and of pairs of items; only pairs that some user took are kept.

    Attributes:
        counts: (items,), how many users took each item.
        starts: (items + 1,), where each item's pairs start.
        others: (pairs,), the second item of each pair, ascending within the first.
        values: (pairs, 2), `together`: users who took both, and `then`: how often and how soon the second followed the
            first (1 / the number of items between, plus one), both over √(n · m) + 3 for items that n and m users took.
    """

    counts: np.ndarray
    starts: np.ndarray
    others: np.ndarray
    values: np.ndarray

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.counts)

    def pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Values of pairs, (…, 2); zeros where nobody took both.

        Args:
            first: items, of any shape.
            second: items, of a shape that goes with the first.
        """
        wanted = first * self.items + second  # (…)
        keys = self._keys()
        if not len(keys):
            return np.zeros((*wanted.shape, PAIR_FEATURES), dtype=np.float32)
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[places] == wanted)[..., None], self.values[places], np.float32(0))

    def _keys(self) -> np.ndarray:
        kept: np.ndarray | None = self.__dict__.get("_kept")
        if kept is None:
            first = np.repeat(np.arange(self.items, dtype=np.int64), np.diff(self.starts))
            kept = self.__dict__["_kept"] = first * self.items + self.others
        return kept


def gather(histories: Sequence[np.ndarray], items: int) -> Evidence:
    """Count.

    Args:
        histories: of every user, all that came before what is asked about, oldest first.
        items: number of items.
    """
    latest = [history[-_LATEST:] for history in histories]
    taken = matrix(latest, items)
    both = (taken.T @ taken).tocsr()
    both.setdiag(0)
    both.eliminate_zeros()
    both.sort_indices()
    then = _following(latest, items)
    first = np.repeat(np.arange(items), np.diff(both.indptr))
    norms = np.sqrt(np.asarray(taken.sum(0), dtype=np.float64)).ravel()
    over = norms[first] * norms[both.indices] + _SHRINK
    keys = first.astype(np.int64) * items + both.indices
    order = np.zeros(len(keys))
    rows = np.repeat(np.arange(items, dtype=np.int64), np.diff(then.indptr))
    order[np.searchsorted(keys, rows * items + then.indices)] = then.data
    values = np.stack([both.data / over, order / over], axis=-1).astype(np.float32)
    return Evidence(
        np.asarray(matrix(histories, items).sum(0), dtype=np.int64).ravel(),
        both.indptr.astype(np.int64),
        both.indices.astype(np.int64),
        values,
    )


def _following(histories: Sequence[np.ndarray], items: int) -> sparse.csr_matrix:
    """Sum of 1 / distance over all pairs of a history that lie at most `_REACH` apart, (items, items)."""
    line = np.concatenate([*histories, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    user = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    found = sparse.csr_matrix((items, items))
    for distance in range(1, _REACH + 1):
        kept = (user[distance:] == user[:-distance]) & (line[distance:] != line[:-distance])
        first, second = line[:-distance][kept], line[distance:][kept]
        found = found + sparse.csr_matrix((np.full(len(first), 1 / distance), (first, second)), shape=(items, items))
    found.sum_duplicates()
    return found
