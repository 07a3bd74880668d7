"""What every index of vectors offers: search by inner product, and change. Cosine is that of vectors of unit length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from warmstart.core.errors import SettingError
from warmstart.neighbours.ids import Allowed, Filter


@dataclass(frozen=True)
class Found:
    """The nearest vectors of each query, the nearest first.

    Attributes:
        ids: (queries, k), each id once in a row, none made up.
        scores: (queries, k), inner products, float32.
    """

    ids: np.ndarray
    scores: np.ndarray


class Index(Protocol):
    """Vectors by id."""

    @property
    def width(self) -> int:
        """Length of a vector."""

    def __len__(self) -> int:
        """Number of vectors; deleted ones do not count."""

    def ids(self) -> np.ndarray:
        """All ids, in the order of adding, (vectors,)."""

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors.

        Args:
            ids: (rows,), whole numbers that are not there yet.
            vectors: (rows, width).

        Raises:
            SettingError: an id is there already, or vectors are of another width or not finite. Nothing was added.
        """

    def delete(self, ids: np.ndarray) -> None:
        """Delete vectors.

        Raises:
            SettingError: an id is not there. Nothing was deleted.
        """

    def update(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Put other vectors in the place of those that are there.

        Raises:
            SettingError: an id is not there, or vectors are of another width or not finite. Nothing was changed.
        """

    def prepare(self, where: Filter) -> Allowed:
        """Work out a filter once that many searches use; good until the index changes."""

    def search(self, queries: np.ndarray, k: int, where: Filter | Allowed | None = None) -> Found:
        """The k nearest of each query, or all that the filter allows where there are fewer.

        Args:
            queries: (queries, width).
            k: at least 1.
            where: which ids may be answered; None for all.

        Raises:
            SettingError: queries are of another width or not finite, k is below 1, or the filter is out of date.
        """


def checked(vectors: np.ndarray, width: int) -> np.ndarray:
    """Vectors as float32 in one block, (rows, width).

    Raises:
        SettingError: they are of another width, or not finite.
    """
    found = np.ascontiguousarray(vectors, dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != width:
        raise SettingError(f"The index holds vectors of width {width}; these are {found.shape}.")
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise SettingError(f"The vectors hold values that are not finite; the first is in row {row}, counted from 0.")
    return found


def check_k(k: int) -> None:
    """Whether a number of answers makes sense.

    Raises:
        SettingError: it is below 1.
    """
    if k < 1:
        raise SettingError(f"k is {k}; it must be at least 1.")
