"""Which item is meant: ids and titles as people write them, several in one text, titles with commas in them."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Sequence

from warmstart.core.errors import DataError, SettingError

_TAIL = re.compile(r"\s*\([^()]*\)\s*$")  # "(1995)"
_ARTICLE = re.compile(r"(.*), (the|an?)")  # "usual suspects, the"
_SHOWN = 5  # suggestions, and namesakes in a message
_LONGEST = 12  # pieces between commas that one title may have


class ItemNames:
    """Names of items.

    A text is compared as it is written, then without regard to case and spaces, then without what stands in brackets at
    the end of a title ("the usual suspects" is "Usual Suspects, The (1995)"), then with ids without regard to case, as
    long as one item only is meant. `id:` and `title:` before it say which of both it is.

    Args:
        ids: (items,).
        titles: (items,).
    """

    def __init__(self, ids: Sequence[str], titles: Sequence[str]) -> None:
        self._ids, self._titles = tuple(ids), tuple(titles)
        self._by_id = {name: number for number, name in enumerate(ids)}
        self._loose_id: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(ids):
            self._loose_id[_plain(name)].append(number)
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._loose: dict[str, list[int]] = defaultdict(list)
        self._short: dict[str, list[int]] = defaultdict(list)
        for number, title in enumerate(titles):
            self._exact[title.strip()].append(number)
            self._loose[_plain(title)].append(number)
            short = _plain(_TAIL.sub("", title))
            self._short[short].append(number)
            if _ARTICLE.fullmatch(short):
                self._short[_ARTICLE.sub(r"\2 \1", short)].append(number)

    def read(self, text: str, option: str) -> list[int]:
        """The items that a text names, separated by commas.

        Titles may have commas in them: the text is divided so that every part is known and the parts are as few as
        possible.

        Args:
            text: ids or titles.
            option: where it was given, for messages.

        Raises:
            DataError: a part names no item, with those that are close; or several.
            SettingError: there is nothing in it.
        """
        pieces = [piece for piece in text.split(",") if piece.strip()]
        if not pieces:
            raise SettingError(f"{option} is empty: name items by id or title, separated by commas.")
        best: list[list[str] | None] = [None] * len(pieces) + [[]]  # the fewest known parts of the pieces from each on
        for start in reversed(range(len(pieces))):
            for stop in range(min(len(pieces), start + _LONGEST), start, -1):
                rest, part = best[stop], ",".join(pieces[start:stop]).strip()
                here = best[start]
                if rest is not None and self._find(part) and (here is None or 1 + len(rest) < len(here)):
                    best[start] = [part, *rest]
        parts = best[0]
        if parts is None:
            raise self._unknown(self._first_unknown(pieces), option)
        return [self._one(part, option) for part in parts]

    def one(self, text: str, option: str) -> int:
        """The item that a text names as a whole; commas belong to it.

        Raises:
            DataError: it names no item, or several.
        """
        if not self._find(text.strip()):
            raise self._unknown(text.strip(), option)
        return self._one(text.strip(), option)

    def _find(self, part: str) -> list[int]:
        """Items that a text may mean, by the strictest way of comparing that finds any."""
        kind, _, rest = part.partition(":")
        if kind == "id" and rest.strip() in self._by_id:
            return [self._by_id[rest.strip()]]
        if kind == "title" and self._titled(rest.strip()):
            return self._titled(rest.strip())
        own = [self._by_id[part]] if part in self._by_id else []
        exact = self._exact.get(part, [])
        return list(dict.fromkeys([*own, *exact])) or self._titled(part) or self._loose_id.get(_plain(part), [])

    def _titled(self, text: str) -> list[int]:
        return self._exact.get(text) or self._loose.get(_plain(text)) or self._short.get(_plain(text)) or []

    def _one(self, part: str, option: str) -> int:
        found = self._find(part)
        if len(found) == 1:
            return found[0]
        shown = "; ".join(f"id:{self._ids[number]} is {self._titles[number]!r}" for number in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DataError(f"{option}: {part!r} may be {len(found)} items", remedy=f"Give the id: {shown}{more}.")

    def _first_unknown(self, pieces: Sequence[str]) -> str:
        """Where reading from the left ends: the first piece that no known part begins with."""
        start = 0
        while start < len(pieces):
            stops = range(min(len(pieces), start + _LONGEST), start, -1)
            known = next((stop for stop in stops if self._find(",".join(pieces[start:stop]).strip())), None)
            if known is None:
                return ",".join(pieces[start:]).strip()
            start = known
        return ",".join(pieces).strip()

    def _unknown(self, text: str, option: str) -> DataError:
        """The error for a text; what follows a comma may or may not belong to it."""
        pieces = text.split(",")
        asked = [",".join(pieces[:count]).strip() for count in (1, 2)]
        scored: dict[int, float] = {}
        for ask in map(_plain, asked):
            for key, numbers in self._short.items():
                likeness = 1.0 if ask and key.startswith(ask) else _likeness(ask, key)
                if likeness > 0.6:
                    for number in numbers:
                        scored[number] = max(scored.get(number, 0.0), likeness)
        best = sorted(scored, key=lambda number: (-scored[number], number))[:_SHOWN]
        shown = [repr(self._titles[number]) for number in best] or self._close_ids(_plain(asked[0]))
        remedy = f"Did you mean {', '.join(shown)}?" if shown else ""
        return DataError(f"{option}: there is no item {asked[0]!r} among the {len(self._ids):,}", remedy=remedy)

    def _close_ids(self, ask: str) -> list[str]:
        scored = {name: _likeness(ask, name) for name in self._loose_id}
        best = sorted((name for name in scored if scored[name] > 0.8), key=lambda name: -scored[name])[:_SHOWN]
        return [repr(self._ids[number]) for name in best for number in self._loose_id[name]][:_SHOWN]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _likeness(left: str, right: str) -> float:
    matcher = difflib.SequenceMatcher(None, left, right)
    if matcher.real_quick_ratio() <= 0.6 or matcher.quick_ratio() <= 0.6:
        return 0.0
    return matcher.ratio()
