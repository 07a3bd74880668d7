"""Which column is the user, the item, the time …, by the names that such columns commonly have."""

from __future__ import annotations

import re

from warmstart.core.errors import DataError
from warmstart.core.option import flag
from warmstart.data.sources import Source

_NAMES: dict[str, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "customer", "customerid", "reviewerid", "visitorid", "member", "memberid"),
    "item": (
        "item", "itemid", "iid", "product", "productid", "movie", "movieid", "parentasin", "asin", "article",
        "articleid", "song", "songid", "track", "trackid", "book", "bookid", "isbn", "sku",
    ),
    "time": ("timestamp", "time", "datetime", "date", "ts", "unixreviewtime", "eventtime", "createdat", "at", "when"),
    "weight": ("rating", "weight", "stars", "overall", "score"),
    "event": ("event", "eventtype", "action", "type", "behavior", "behaviour"),
    "title": ("title", "name", "movietitle", "producttitle", "productname", "itemname", "itemtitle"),
}  # fmt: skip


def plain_name(column: str) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", column.lower())


def guess_role(source: Source, role: str, taken: set[str], *, needed: bool) -> str | None:
    """The column that has one of the role's names, the likeliest name first.

    Raises:
        DataError: a needed one is not there.
    """
    by_name = {plain_name(column): column for column in reversed(source.columns) if column not in taken}
    found = next((by_name[name] for name in _NAMES[role] if name in by_name), None)
    if found is None and needed:
        there = ", ".join(map(repr, source.columns))
        raise DataError(
            f"no column has a name that says it is the {role}",
            remedy=f"Name it with {flag(role)}-column; columns there: {there}.",
            file=source.name,
        )
    return found


def id_column(source: Source, kind: str, option: str) -> str:
    """The column with the ids, by its name: one for the kind of thing that has them, else `id`.

    Args:
        source: the rows.
        kind: "user" or "item".
        option: what names it on the command line.

    Raises:
        DataError: no name says so.
    """
    found = guess_role(source, kind, set(), needed=False)
    if found is None:
        found = next((column for column in source.columns if plain_name(column) == "id"), None)
    if found is None:
        raise DataError(
            f"no column has a name that says it holds the {kind} ids",
            remedy=f"Name it with {option}; columns there: {', '.join(map(repr, source.columns))}.",
            file=source.name,
        )
    return found
