"""What is known of each id, and which ids meet conditions on it: the predicate form of a filter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from warmstart.core.errors import SettingError
from warmstart.neighbours.ids import check_ids

Condition = tuple[str, str, Any]  # column, comparison, value
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Attributes:
    """Columns of values by id.

    Args:
        ids: (rows,).
        columns: name → (rows,): numbers, texts, or tuples of several texts.

    Raises:
        SettingError: an id is given twice, or a column is of another length.
    """

    def __init__(self, ids: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        self._ids = check_ids(ids, len(ids))
        self._columns = {name: np.asarray(values) for name, values in columns.items()}
        for name, values in self._columns.items():
            if values.shape != self._ids.shape:
                raise SettingError(f"Column {name!r} has shape {values.shape}, and there are {len(ids)} ids.")

    def matching(self, conditions: Sequence[Condition]) -> np.ndarray:
        """Ids that meet every condition, such as ("year", ">=", 1990) or ("genre", "in", ["Comedy", "Drama"]).

        Raises:
            SettingError: there is no such column or comparison, or the value is of another type than the column.
        """
        mask = np.ones(len(self._ids), dtype=bool)
        for column, comparison, value in conditions:
            if column not in self._columns:
                raise SettingError(f"There is no attribute {column!r}; there are {', '.join(self._columns)}.")
            mask &= _holds(self._columns[column], column, comparison, value)
        return self._ids[mask]


def _holds(values: np.ndarray, column: str, comparison: str, value: Any) -> np.ndarray:
    wanted = np.asarray(value)
    if values.dtype == object and all(isinstance(one, tuple) for one in values):
        return _several(values, column, comparison, value)
    if (values.dtype.kind in "biuf") != (wanted.dtype.kind in "biuf"):
        raise SettingError(f"Attribute {column!r} holds {values.dtype} values, and {value!r} is none.")
    if comparison == "in":
        return np.isin(values, wanted)
    if comparison not in _COMPARE:
        raise SettingError(f"There is no comparison {comparison!r}; there are {', '.join([*_COMPARE, 'in'])}.")
    found: np.ndarray = np.asarray(_COMPARE[comparison](values, value), dtype=bool)
    return found


def _several(values: np.ndarray, column: str, comparison: str, value: Any) -> np.ndarray:
    """Of rows with several texts: whether one of them meets the condition; for "!=", whether all do."""
    wanted = (value,) if isinstance(value, str) else tuple(value) if comparison == "in" else (value,)
    if not all(isinstance(one, str) for one in wanted):
        raise SettingError(f"Attribute {column!r} holds texts, and {value!r} is none.")
    if comparison not in (*_COMPARE, "in"):
        raise SettingError(f"There is no comparison {comparison!r}; there are {', '.join([*_COMPARE, 'in'])}.")
    combine = all if comparison == "!=" else any
    test = (lambda one, _: one in wanted) if comparison == "in" else _COMPARE[comparison]
    return np.array([combine(test(one, wanted[0]) for one in row) for row in values], dtype=bool)
