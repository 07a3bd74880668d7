"""What every index of vectors offers: add, and search by inner product. Cosine is that of vectors of unit length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from warmstart.core.errors import SettingError


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
        """Number of vectors."""

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors.

        Args:
            ids: (rows,), whole numbers that are not there yet.
            vectors: (rows, width).

        Raises:
            SettingError: an id is there already, or vectors are of another width or not finite.
        """

    def search(self, queries: np.ndarray, k: int) -> Found:
        """The k nearest of each query, or all where there are fewer.

        Args:
            queries: (queries, width).
            k: at least 1.

        Raises:
            SettingError: queries are of another width or not finite, or k is below 1.
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
        raise SettingError("The vectors hold values that are not finite.")
    return found


def checked_ids(ids: np.ndarray, vectors: np.ndarray, known: set[int]) -> np.ndarray:
    """Ids as whole numbers, one per vector, each of them new.

    Raises:
        SettingError: one is negative or there already, or their number is another.
    """
    found = np.ascontiguousarray(ids, dtype=np.int64)
    if found.shape != (len(vectors),):
        raise SettingError(f"There are {len(vectors)} vectors and ids of shape {found.shape}.")
    if len(found) and found.min() < 0:
        raise SettingError(f"Id {found.min()} is negative.")
    again = len(set(found.tolist())) < len(found) or not known.isdisjoint(found.tolist())
    if again:
        raise SettingError("An id is given twice, or is there already: every vector needs an id of its own.")
    return found
