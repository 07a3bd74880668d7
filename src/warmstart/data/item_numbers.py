"""Items of an encoded folder by the whole number that an index knows them by: ids, digests of their content, titles.

A number is given once, to one id; it stays with the id whatever happens to others, and is never given again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from warmstart.core.errors import DataError, ResultError
from warmstart.data.shards import write_parquet
from warmstart.data.tables import not_found, read_table

_SHOWN = 3


@dataclass(frozen=True)
class ItemNumbers:
    """Items, row for row.

    Attributes:
        numbers: (items,), int64.
        ids: (items,).
        digests: (items,), of 16 bytes: of all that an item's vector depends on.
        titles: (items,), what to call each; None where no column says.
    """

    numbers: np.ndarray
    ids: list[str]
    digests: list[bytes]
    titles: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def row_of(self) -> dict[int, int]:
        """The row of each number."""
        return {number: row for row, number in enumerate(self.numbers.tolist())}

    @functools.cached_property
    def number_of(self) -> dict[str, int]:
        """The number of each id."""
        return dict(zip(self.ids, self.numbers.tolist(), strict=True))

    def find(self, names: Sequence[str], file: str) -> np.ndarray:
        """Numbers of ids, (names,).

        Raises:
            DataError: one is not known.
        """
        unknown = [name for name in names if name not in self.number_of]
        if unknown:
            shown = ", ".join(map(repr, unknown[:_SHOWN])) + (", …" if len(unknown) > _SHOWN else "")
            raise DataError(f"{len(unknown)} of {len(names)} ids are not in the index ({shown})", file=file)
        return np.array([self.number_of[name] for name in names], dtype=np.int64)

    def take(self, rows: Sequence[int]) -> ItemNumbers:
        """Some rows."""
        titles = None if self.titles is None else [self.titles[row] for row in rows]
        return ItemNumbers(
            self.numbers[list(rows)], [self.ids[row] for row in rows], [self.digests[row] for row in rows], titles
        )

    def joined(self, more: ItemNumbers) -> ItemNumbers:
        """These, and behind them others that have other numbers; titles where both have them."""
        titles = None if self.titles is None or more.titles is None else [*self.titles, *more.titles]
        numbers = np.concatenate([self.numbers, more.numbers])
        return ItemNumbers(numbers, [*self.ids, *more.ids], [*self.digests, *more.digests], titles)

    def named(self, numbers: np.ndarray) -> tuple[list[str], list[str] | None]:
        """Ids and titles of numbers."""
        rows = [self.row_of[number] for number in numbers.tolist()]
        return [self.ids[row] for row in rows], None if self.titles is None else [self.titles[row] for row in rows]

    def columns(self) -> dict[str, pa.Array]:
        """As columns of a table."""
        found = {
            "number": pa.array(self.numbers, pa.int64()),
            "id": pa.array(self.ids, pa.string()),
            "digest": pa.array(self.digests, pa.binary(16)),
        }
        return found if self.titles is None else {**found, "title": pa.array(self.titles, pa.string())}


def from_columns(table: pa.Table) -> ItemNumbers:
    """What `ItemNumbers.columns` made a table of."""
    titles = table.column("title").to_pylist() if "title" in table.column_names else None
    return ItemNumbers(
        np.asarray(table.column("number").to_numpy(), dtype=np.int64),
        table.column("id").to_pylist(),
        table.column("digest").to_pylist(),
        titles,
    )


def save_numbers(path: Path, items: ItemNumbers) -> None:
    """Write items as Parquet."""
    write_parquet(path, pa.table(items.columns()))


def load_numbers(path: Path) -> ItemNumbers:
    """Read what `save_numbers` wrote.

    Raises:
        ResultError: it is no such file.
    """
    try:
        return from_columns(pq.read_table(path))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ResultError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from error


def read_names(path: str) -> list[str]:
    """Ids as words: one a line of a .txt file, or the column `id` of a table.

    Raises:
        DataError: there is no such file or column.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise not_found(place, path)
    if place.suffix.lower() == ".txt":
        lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    frame = read_table(place, path).frame
    if "id" not in frame.columns:
        raise DataError(f"there is no column 'id'; there are {', '.join(map(str, frame.columns))}", file=path)
    return [str(value).strip() for value in frame["id"]]
