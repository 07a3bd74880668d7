"""The item table of a bundle: ids, titles and attributes by number; and conditions such as "genre=Drama" on them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.core.errors import ResultError, SettingError
from warmstart.data.attributes import load_attributes, save_attributes
from warmstart.data.cells import NUMBER
from warmstart.neighbours.attributes import Attributes, Condition

_CONDITION = re.compile(r"\s*(.*?)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)
_DATE = re.compile(r"-?\d{4,}-\d\d-\d\d")
_ID, _TITLE = "id", "title"
_SHOWN = 12  # values or columns named in a message


@dataclass(frozen=True)
class ItemTable:
    """Items by number.

    Attributes:
        ids: (items,).
        titles: (items,).
        attributes: column → (items,), as in `data.attributes`.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    attributes: dict[str, np.ndarray]

    def matching(self, conditions: Sequence[str]) -> np.ndarray:
        """Numbers of the items that meet every condition, ascending.

        A condition is a column, a comparison (=, !=, and of numbers and dates <, <=, >, >=) and a value; of a column
        with several words in a cell, one of them must be equal. Several values between | mean any of them.

        Raises:
            SettingError: a condition cannot be read, names a column or a word that is not there, or asks which of two
                words is more.
        """
        table = Attributes(np.arange(len(self.ids)), self.attributes)
        found: np.ndarray = np.sort(table.matching([self._condition(text) for text in conditions]))
        return found

    def _condition(self, text: str) -> Condition:
        parts = _CONDITION.fullmatch(text)
        if parts is None or not parts[1] or not parts[3]:
            raise SettingError(f"--where {text!r} is no condition: write column=value, or with !=, <, <=, >, >=.")
        column, comparison = self._column(parts[1]), "==" if parts[2] == "=" else parts[2]
        wanted = [part.strip() for part in parts[3].split("|")]
        if len(wanted) > 1 and comparison != "==":
            raise SettingError(f"--where {text!r}: several values go with = only.")
        values = self.attributes[column]
        if values.dtype.kind == "f":
            wrong = [part for part in wanted if not NUMBER.fullmatch(part)]
            if wrong:
                raise SettingError(f"--where {text!r}: {column} holds numbers, and {wrong[0]!r} is none.")
            numbers = [float(part) for part in wanted]
            return (column, "in", numbers) if len(numbers) > 1 else (column, comparison, numbers[0])
        if comparison in ("==", "!="):
            wanted = [_known(part, column, values) for part in wanted]
        elif not all(_DATE.fullmatch(word) for row in values for word in row):
            raise SettingError(f"--where {text!r}: {column} holds words; < and > go with numbers and dates.")
        return (column, "in", wanted) if len(wanted) > 1 else (column, comparison, wanted[0])

    def _column(self, name: str) -> str:
        if not self.attributes:
            raise SettingError(
                "--where needs attributes of the items: train the towers with --items, and publish anew."
            )
        same = [column for column in self.attributes if column.casefold() == name.casefold()]
        if name in self.attributes or same:
            return name if name in self.attributes else same[0]
        raise SettingError(f"--where names {name!r}; items have {_some(self.attributes, name)}.")


def save_items(path: Path, table: ItemTable) -> None:
    """Write the table as Parquet; attributes that are called id or title give way to the ids and titles."""
    rest = {name: values for name, values in table.attributes.items() if name not in (_ID, _TITLE)}
    save_attributes(path, {_ID: np.array(table.ids, dtype=str), _TITLE: np.array(table.titles, dtype=str), **rest})


def load_items(path: Path) -> ItemTable:
    """Read what `save_items` wrote.

    Raises:
        ResultError: it is no such file.
    """
    columns = load_attributes(path)
    try:
        ids, titles = (tuple(columns.pop(name).tolist()) for name in (_ID, _TITLE))
    except KeyError as error:
        raise ResultError(f"{path} is no table of items.") from error
    return ItemTable(ids, titles, columns)


def _known(word: str, column: str, values: np.ndarray) -> str:
    """The word as the column spells it."""
    words: set[str] = {one for row in values for one in row}
    if word in words:
        return word
    same = [one for one in words if one.casefold() == word.casefold()]
    if len(same) == 1:
        return same[0]
    raise SettingError(f"--where: no item has {column}={word}; there are {_some(sorted(words), word)}.")


def _some(names: Sequence[str] | dict[str, np.ndarray], like: str) -> str:
    """The names, the closest first where they are many."""
    every = list(names)
    if len(every) > _SHOWN:
        close = difflib.get_close_matches(like, every, n=5, cutoff=0.5)
        every = [*list(dict.fromkeys([*close, *every]))[:_SHOWN], "…"]
    return ", ".join(every)
