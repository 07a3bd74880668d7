"""One shape for everything that rows can come from.

A `Source` is a table whose values are as they stood in the file, with the number of each row and a name for messages.
The choice of a reader is left to `reading`, what the columns mean to `columns`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from warmstart.core.records import Finding


@dataclass(frozen=True)
class Source:
    """A table and where it came from.

    Attributes:
        frame: the columns in the order of the file; strings for CSV and TSV, exact types otherwise.
        rows: the number of each row: the header of CSV, TSV and Parquet is row 1, so their first row is 2; JSONL lines,
            rows of `datasets` and the sorted images of a folder count from 1.
        name: what messages call it: the file or folder as the user wrote it.
        folder: where relative image paths start.
        pictures: the image columns of a `datasets` dataset, row for row beside the frame, undecoded.
        notes: what the reader has to say that no later check can see.
    """

    frame: pd.DataFrame
    rows: NDArray[np.int64]
    name: str
    folder: Path | None = None
    pictures: datasets.Dataset | None = None
    notes: tuple[Finding, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Every column, those with pictures included."""
        pictures = [] if self.pictures is None else list(self.pictures.column_names)
        return [*map(str, self.frame.columns), *pictures]


@dataclass(frozen=True)
class Sources:
    """The rows to learn from and, where the data say so themselves, those to judge by."""

    main: Source
    test: Source | None = None
    defaults: dict[str, str] = field(default_factory=dict)  # role → column, of a sample
