"""What a cell says as a label and as a text.

A label is a string however the file spells it: `1`, `1.0` (a column of integers that once had a gap) and `"1"` are one
class. Only an empty cell or a null is missing; `NA` and `None` are words. Which cells are *wrong* is left to `checks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from warmstart.core.errors import DataError

ADDRESS = re.compile(r"(https?:|www\.)", re.IGNORECASE)  # of the web
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_ODD = 0.05  # of the filled cells of a column of numbers may be something else


@dataclass(frozen=True)
class Where:
    """The place of a column: its file, its name and the number of each of its rows."""

    file: str
    column: str
    rows: NDArray[np.int64]


def cells(series: pd.Series) -> list[Any]:
    """Plain Python values; whatever marks a gap becomes None."""
    return [None if _is_gap(value) else value for value in series.tolist()]


def odd_ones(values: Sequence[Any]) -> list[int] | None:
    """Places of the few cells that hold no number in a column of numbers; None when it is no such column."""
    filled = [place for place, value in enumerate(values) if value is not None and str(value).strip()]
    odd = [place for place in filled if not NUMBER.fullmatch(str(values[place]).strip())]
    return odd if filled and len(odd) <= _ODD * len(filled) else None


def label_strings(values: Sequence[Any], where: Where) -> list[str | None]:
    """Labels as strings, without spaces around them; a blank label is missing (None).

    When every label of the column is a number, `1.0` is written `1`.

    Raises:
        DataError: at the first cell that holds more than one value.
    """
    labels = [_label(value, where, place) for place, value in enumerate(values)]
    if all(label is None or NUMBER.fullmatch(label) for label in labels):
        return [
            None if label is None else _WHOLE.sub(r"\1", label) if _WHOLE.fullmatch(label) else label
            for label in labels
        ]
    return labels


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels in order: by value when all are numbers, else by spelling."""
    distinct = set(labels)
    if distinct and all(NUMBER.fullmatch(label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (Decimal(label), label)))
    return tuple(sorted(distinct))


def text_strings(values: Sequence[Any], where: Where) -> list[str]:
    """Texts as they stand; a missing one is the empty string, a number is its spelling.

    Raises:
        DataError: at the first cell that holds a list or another structure.
    """
    return [_text(value, where, place) for place, value in enumerate(values)]


def _label(value: Any, where: Where, place: int) -> str | None:
    if value is None:
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    label = _text(value, where, place, single="warmstart learns one label per row").strip()
    return label or None


def _text(value: Any, where: Where, place: int, single: str = "a text was expected") -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple, dict, set, np.ndarray, bytes)):
        kind = type(value).__name__.replace("ndarray", "list")
        raise DataError(
            f"the cell holds a {kind}; {single}",
            remedy="Name another column, or write one value per row.",
            file=where.file,
            row=int(where.rows[place]),
            column=where.column,
        )
    return value if isinstance(value, str) else str(value)


def _is_gap(value: Any) -> bool:
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, (float, np.floating)) and value != value)
    )
