"""What is known of items, kept for filters: columns of numbers, dates and words that a table had, in one Parquet file.

Unlike `features`, nothing is scaled or left out for being rare. What conditions mean is left to `retrieve.item_table`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from warmstart.core.errors import ResultError
from warmstart.data.cells import cells, odd_ones
from warmstart.data.features import days, split_values

_DATES = 0.9  # of the filled cells must be dates
_LONGEST = 100.0  # characters of a cell, on average, above which a column is prose that nobody filters by


def attribute_columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Every column that can be filtered by.

    Returns:
        Column → (rows,): float64 with gaps as not-a-number (the few words in a column of numbers are gaps, too); or an
        array of tuples of words, several where a cell holds
        several separated by `|` or `;`, none where it is empty. Dates are words like 1995-12-31, which sort by time.
    """
    found = {}
    for name in map(str, frame.columns):
        values = _column(cells(frame[name]))
        if values is not None:
            found[name] = values
    return found


def save_attributes(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write columns as Parquet: numbers, texts, and tuples of words as lists."""
    arrays = {name: _arrow(values) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path)


def load_attributes(path: Path) -> dict[str, np.ndarray]:
    """Read what `save_attributes` wrote.

    Raises:
        ResultError: it is no such file.
    """
    try:
        table = pq.read_table(path)
        return {name: _array(table.column(name)) for name in table.column_names}
    except (OSError, pa.ArrowException) as error:
        raise ResultError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from error


def words_array(rows: list[tuple[str, ...]]) -> np.ndarray:
    """Tuples of words as an array of them, (rows,)."""
    found = np.empty(len(rows), dtype=object)
    found[:] = rows
    return found


def _column(values: list[object]) -> np.ndarray | None:
    filled = [value for value in values if value is not None and str(value).strip()]
    if not filled:
        return None
    if any(isinstance(value, (list, tuple, np.ndarray, dict)) for value in filled):
        return words_array([tuple(split_values(value)) for value in values])
    texts = [str(value).strip() for value in filled]
    if all(isinstance(value, (bool, np.bool_)) for value in filled):
        return np.array([np.nan if value is None else float(bool(value)) for value in values])
    odd = odd_ones(values)
    if odd is not None:
        gaps = {*odd, *(place for place, value in enumerate(values) if value is None or not str(value).strip())}
        return np.array([np.nan if place in gaps else float(str(value)) for place, value in enumerate(values)])
    if np.mean([len(text) for text in texts]) > _LONGEST:
        return None
    moments = days(pd.Series(values, dtype=object))
    if np.mean(~np.isnan(moments)) >= _DATES * len(filled) / len(values):
        dates = np.where(np.isnan(moments), 0, moments).astype("datetime64[D]").astype(str)
        return words_array(
            [(str(date),) if known else () for date, known in zip(dates, ~np.isnan(moments), strict=True)]
        )
    return words_array([tuple(split_values(value)) for value in values])


def _arrow(values: np.ndarray) -> pa.Array:
    if values.dtype.kind != "O":
        return pa.array(values)
    return pa.array([list(words) for words in values], pa.list_(pa.string()))


def _array(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy(), dtype=np.float64)
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=str)
    return words_array([tuple(words) for words in column.to_pylist()])
