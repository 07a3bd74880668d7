"""Ids: strings outside, whole numbers inside, one frozen map between them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from warmstart.core.errors import DataError, ResultError
from warmstart.core.files import write_text

_COMPARED = 50_000  # ids that a misspelt one is compared with


class IdMap:
    """Numbers 0 to n − 1 for n different strings, in the order given; it never changes.

    Args:
        kind: what the ids are of, for messages ("item").
        ids: the strings, each once.

    Raises:
        DataError: an id is there twice.
    """

    def __init__(self, kind: str, ids: Iterable[str]) -> None:
        self.kind = kind
        self.ids = tuple(ids)
        self._numbers = {name: number for number, name in enumerate(self.ids)}
        if len(self._numbers) < len(self.ids):
            raise DataError(f"{len(self.ids) - len(self._numbers)} {kind} ids are there more than once")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and (self.kind, self.ids) == (other.kind, other.ids)

    __hash__ = None  # type: ignore[assignment]

    def number(self, name: str) -> int:
        """The number of one id.

        Raises:
            DataError: it is not known.
        """
        if name not in self._numbers:
            raise DataError(
                f"there is no {self.kind} {name!r} among the {len(self):,} that were learned from",
                remedy=self._meant(name),
            )
        return self._numbers[name]

    def _meant(self, name: str) -> str:
        same = [one for one in self.ids if one.casefold() == name.casefold()]
        close = same or difflib.get_close_matches(name, self.ids[:_COMPARED], n=3, cutoff=0.8)
        return f"Did you mean {' or '.join(map(repr, close))}?" if close else ""

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """The numbers of some ids, (ids,)."""
        return np.array([self.number(name) for name in names], dtype=np.int64)

    def find(self, names: Sequence[str]) -> np.ndarray:
        """The numbers of some ids, (ids,), −1 for those not known."""
        return np.array([self._numbers.get(name, -1) for name in names], dtype=np.int64)


def save_maps(path: Path, maps: Iterable[IdMap]) -> None:
    """Write maps as one JSON file, kind → ids in order."""
    write_text(path, json.dumps({found.kind: list(found.ids) for found in maps}, ensure_ascii=False))


def load_maps(path: Path) -> dict[str, IdMap]:
    """Read what `save_maps` wrote, by kind.

    Raises:
        ResultError: it is no such file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(kind): IdMap(str(kind), map(str, ids)) for kind, ids in values.items()}
    except (OSError, ValueError, AttributeError, TypeError, DataError) as error:
        raise ResultError(f"{path} holds no id maps ({type(error).__name__}): the result folder is damaged.") from error


def listed(value: str | int | Sequence[str | int]) -> tuple[str | int, ...]:
    """Several as they are; a single one as the only one, so that a text is not read as its letters."""
    return (value,) if isinstance(value, (str, int)) else tuple(value)
