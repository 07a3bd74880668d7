"""What is asked of many vectors, wherever they are: in memory, in a mapped file, or in several."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class VectorRows(Protocol):
    """Rows of vectors that are read some at a time; an array is one."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """Rows and width."""

    @property
    def dtype(self) -> Any:
        """Type of the values."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Vectors of a slice of rows, or of an array of row numbers."""


def as_float32(vectors: Any) -> np.ndarray:
    """Vectors as float32, in memory."""
    return np.ascontiguousarray(vectors, dtype=np.float32)
