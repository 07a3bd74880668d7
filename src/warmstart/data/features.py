"""What is known of items or users besides their ids: texts, categories, numbers and pictures, the same for new ones.

A plan is fitted once on a table, kept beside the model, and applied to whatever comes later: a value that the plan does
not know counts as none, a missing number as the mean. How texts and pictures become vectors is left to backbones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from warmstart.core.errors import DataError
from warmstart.core.record import Record
from warmstart.data.cells import NUMBER, Where
from warmstart.data.item_pictures import ItemPictures

_SEPARATORS = ("|", ";")
_LEAST_ROWS = 2  # rows that must share a category, or nothing is learned of it
_MOST_VALUES = 10_000  # categories that are kept, the most frequent ones


@dataclass(frozen=True)
class FeaturePlan(Record):
    """How a row becomes features.

    Attributes:
        texts: columns joined into one text.
        categories: columns of one value, or of several separated by `|` or `;` (or lists).
        numbers: columns of numbers.
        dates: columns of dates, which count as numbers of days.
        values: the categories that are known, "column=value"; each is one input.
        means: of the numbers and dates, before scaling.
        scales: their standard deviations.
        image: column of pictures; empty without one.
    """

    texts: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    image: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (*self.texts, *self.categories, *self.numbers, *self.dates, *([self.image] if self.image else []))


@dataclass(frozen=True)
class Features:
    """Rows as arrays.

    Attributes:
        texts: (rows,), empty where there is none.
        bags: the places of each row's categories among the plan's values, (rows,) arrays.
        numbers: (rows, numbers), scaled to mean 0 and deviation 1.
        pictures: row for row, or none at all.
    """

    texts: tuple[str, ...]
    bags: tuple[np.ndarray, ...]
    numbers: np.ndarray
    pictures: ItemPictures = field(default_factory=ItemPictures)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Features:
        """Some rows."""
        places = rows.tolist()
        texts, bags = (tuple(part[place] for place in places) for part in (self.texts, self.bags))
        return Features(texts, bags, self.numbers[rows], self.pictures.placed(places))


def fit_plan(
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    categories: Sequence[str],
    numbers: Sequence[str],
    dates: Sequence[str],
    where: Where,
    image: str = "",
) -> FeaturePlan:
    """Learn the vocabulary and the scales of some columns; `where` has the rows' file and numbers, for messages.

    Raises:
        DataError: a number is none, or a date is none.
    """
    counted = Counter(value for row in rows for value in set(_values(row, categories)))
    kept = [value for value, count in counted.most_common(_MOST_VALUES) if count >= _LEAST_ROWS]
    bare = FeaturePlan(tuple(texts), tuple(categories), tuple(numbers), tuple(dates))
    table = _numbers(bare, rows, where)
    with np.errstate(invalid="ignore"):
        filled = ~np.isnan(table)
        count = np.maximum(1, filled.sum(0))
        means = np.where(filled, table, 0.0).sum(0) / count
        scales = np.sqrt(np.where(filled, (table - means) ** 2, 0.0).sum(0) / count)
    return FeaturePlan(
        bare.texts,
        bare.categories,
        bare.numbers,
        bare.dates,
        tuple(sorted(kept)),
        tuple(float(mean) for mean in means),
        tuple(float(scale) if scale > 0 else 1.0 for scale in scales),
        image,
    )


def apply_plan(plan: FeaturePlan, rows: Sequence[Mapping[str, Any]], where: Where | None = None) -> Features:
    """Rows (column → value; what is missing is None or absent) as features, without their pictures.

    Raises:
        DataError: a number is none, or a date is none.
    """
    place = {value: number for number, value in enumerate(plan.values)}
    table = _numbers(plan, rows, where or given_rows(len(rows)))
    scaled = (table - np.array(plan.means)) / np.array(plan.scales) if table.shape[1] else table
    return Features(
        tuple(". ".join(text for text in (_text(row.get(c)) for c in plan.texts) if text) for row in rows),
        tuple(
            np.array(sorted({place[v] for v in _values(row, plan.categories) if v in place}), dtype=np.int64)
            for row in rows
        ),
        np.clip(np.nan_to_num(scaled, nan=0.0), -10, 10).astype(np.float32),
    )


def given_rows(count: int) -> Where:
    """The place of rows that are in no file, numbered from 1."""
    return Where("the given rows", "", np.arange(1, count + 1))


def split_values(cell: object) -> list[str]:
    """The values of a cell of categories: a list's, those between `|` or `;`, or the cell itself."""
    if cell is None:
        return []
    if isinstance(cell, (list, tuple, np.ndarray)):
        return [text for text in (str(value).strip() for value in cell) if text]
    text = str(cell).strip()
    mark = next((mark for mark in _SEPARATORS if mark in text), None)
    parts = [text] if mark is None else text.split(mark)
    return [part.strip() for part in parts if part.strip()]


def _values(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [f"{column}={value}" for column in columns for value in split_values(row.get(column))]


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _numbers(plan: FeaturePlan, rows: Sequence[Mapping[str, Any]], where: Where) -> np.ndarray:
    """(rows, numbers and dates), not-a-number where there is none."""
    table = np.full((len(rows), len(plan.numbers) + len(plan.dates)), np.nan)
    for number, column in enumerate(plan.numbers):
        for line, row in enumerate(rows):
            text = _text(row.get(column))
            if not text:
                continue
            if not NUMBER.fullmatch(text):
                raise DataError(
                    f"{text[:40]!r} is no number", file=where.file, row=int(where.rows[line]), column=column
                )
            table[line, number] = float(text)
    for number, column in enumerate(plan.dates, start=len(plan.numbers)):
        table[:, number] = days(pd.Series([row.get(column) for row in rows], dtype=object))
    return table


def days(values: pd.Series) -> np.ndarray:
    """Dates as days since 1970, not-a-number where a value is no date, (rows,).

    A bare number is none: it may be a code, and is a year at best.
    """
    bare = values.map(lambda value: value is not None and bool(NUMBER.fullmatch(str(value).strip())))
    found = pd.to_datetime(values.mask(bare, None), errors="coerce", utc=True, format="mixed")
    seconds = found.dt.tz_convert(None).to_numpy().astype("datetime64[s]")  # which reach further than nanoseconds
    return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64) / 86_400)
