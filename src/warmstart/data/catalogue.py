"""The tables of items and users: which columns are texts, categories, numbers, pictures; one row of features an id.

Columns are named, or guessed from their values and shown. What a column's values become is `features`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from warmstart.core.errors import DataError, SettingError
from warmstart.core.progress import reporter
from warmstart.data.attributes import attribute_columns
from warmstart.data.cells import ADDRESS, Where, cells, label_strings, odd_ones
from warmstart.data.columns import find_image, require
from warmstart.data.event_files import read_events
from warmstart.data.features import FeaturePlan, Features, apply_plan, days, fit_plan, split_values
from warmstart.data.ids import IdMap
from warmstart.data.item_pictures import ItemPictures, item_pictures
from warmstart.data.role_names import guess_role, id_column, plain_name
from warmstart.data.sources import Source

_DATES = 0.9  # of the filled cells must be dates
_FEW = 0.2  # a category's share of different values, at most


@dataclass(frozen=True)
class Columns:
    """Which columns are named; None leaves it to a guess, an empty tuple means none."""

    id_column: str | None = None
    title: str | None = None
    texts: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None
    numbers: tuple[str, ...] | None = None
    image: str | None = None  # "" means none, too


@dataclass(frozen=True)
class Catalogue:
    """What is known of each id of a map.

    Attributes:
        ids: the map, with the table's own ids behind those that came first.
        features: of every id of the map, (ids,); nothing of those that the table lacks.
        titles: (ids,), what to call each; the id itself where there is no title.
        plan: how they were made.
        columns: role → column or columns, for the record.
        known: (ids,), whether the table has the id.
        counts: what was found, by name.
        source: the file.
        attributes: what can be filtered by, as in `attributes`.
    """

    ids: IdMap
    features: Features
    titles: tuple[str, ...]
    plan: FeaturePlan
    columns: dict[str, str]
    known: np.ndarray
    counts: dict[str, int]
    source: str
    attributes: dict[str, np.ndarray] = field(default_factory=dict)


def bare_catalogue(ids: IdMap) -> Catalogue:
    """A catalogue of ids of which nothing is known."""
    plan = FeaturePlan()
    features = apply_plan(plan, [{} for _ in ids.ids])
    return Catalogue(ids, features, ids.ids, plan, {}, np.zeros(len(ids), dtype=bool), {}, "")


def load_catalogue(
    data: str, option: str, ids: IdMap, named: Columns, like: str, *, add: bool, drop_invalid: bool = False
) -> Catalogue:
    """Read a table with one row for each id.

    Args:
        data: the file, or a sample's name.
        option: its name on the command line.
        ids: those that occur in the events.
        named: the columns that are named.
        like: the column of the events that holds the same ids; taken where the table has one of that name.
        add: whether ids that only the table has are added to the map (new items), or left out (users without events).
        drop_invalid: whether a picture that cannot be used counts as none.

    Raises:
        DataError: the table cannot be read, a column is not there, an id is missing or there twice, or a picture cannot
            be used.
        SettingError: one column is to be two things.
    """
    source = read_events(data, option)
    id_column = _id_column(source, ids.kind, named, like)
    names = label_strings(cells(source.frame[id_column]), Where(source.name, id_column, source.rows))
    _check_ids(names, source, id_column)
    roles = _roles(source, named, id_column)
    image = "".join(roles.pop("image"))
    used = sorted({column for columns in roles.values() for column in columns})
    columns = {column: cells(source.frame[column]) for column in used}
    if named.numbers is None:
        columns |= {column: _numbers_only(columns[column], source, column) for column in roles["numbers"]}
    table = [{column: columns[column][line] for column in used} for line in range(len(names))]
    where = Where(source.name, image, source.rows)
    plan = fit_plan(table, roles["texts"], roles["categories"], roles["numbers"], roles["dates"], where, image)
    pictures, broken = _pictures(source, image, drop_invalid=drop_invalid)
    line_of = {str(name): line for line, name in enumerate(names)}
    _check_overlap(line_of, ids, source, id_column)
    new = [name for name in line_of if name not in ids] if add else []
    every = IdMap(ids.kind, (*ids.ids, *new))
    known = np.array([name in line_of for name in every.ids], dtype=bool)
    rows: list[dict[str, Any]] = [table[line_of[name]] if name in line_of else {} for name in every.ids]
    title = roles["title"][0] if roles["title"] else None
    titles = tuple(
        str(row[title]) if title and row.get(title) is not None else name
        for row, name in zip(rows, every.ids, strict=True)
    )
    counts = {
        "rows": len(names),
        "without_events": sum(name not in ids for name in line_of),
        "not_in_table": int((~known).sum()),
    }
    if image:
        counts |= {"with_picture": sum(map(bool, pictures.digests)), "broken_pictures": broken}
    shown = {"id": id_column} | {role: ", ".join(found) for role, found in roles.items() if found}
    shown |= {"image": image} if image else {}
    places = [line_of.get(name, -1) for name in every.ids]  # −1 is a row of gaps
    rest = _without(source, id_column, image).reset_index(drop=True).reindex(places)
    features = replace(apply_plan(plan, rows), pictures=pictures.placed(places))
    return Catalogue(every, features, titles, plan, shown, known, counts, source.name, attribute_columns(rest))


@dataclass(frozen=True)
class ItemTableRows:
    """A table of items as it is read for a plan that is there already.

    Attributes:
        ids: (rows,), each once.
        titles: (rows,); the id where there is no title.
        features: of each row.
        attributes: what can be filtered by, as in `attributes`.
        broken_pictures: how many could not be used, and count as none.
    """

    ids: tuple[str, ...]
    features: Features
    titles: tuple[str, ...]
    attributes: dict[str, np.ndarray]
    broken_pictures: int


def read_item_table(
    data: str, option: str, id_column: str, title: str | None, plan: FeaturePlan, *, drop_invalid: bool = False
) -> ItemTableRows:
    """Read a table with the columns of one that was read before.

    Args:
        data: the file, or a sample's name.
        option: its name on the command line.
        id_column: column of the ids.
        title: column of the titles; None for none.
        plan: how rows become features.
        drop_invalid: whether a picture that cannot be used counts as none.

    Raises:
        DataError: the table cannot be read, a column is not there, an id is missing or there twice, or a picture cannot
            be used.
    """
    source = read_events(data, option)
    require([id_column, *([] if title is None else [title]), *plan.columns], source)
    names = label_strings(cells(source.frame[id_column]), Where(source.name, id_column, source.rows))
    _check_ids(names, source, id_column)
    ids = tuple(str(name) for name in names)
    columns = [column for column in plan.columns if column != plan.image]
    wanted = dict.fromkeys([*columns, *([] if title is None else [title])])
    values = {column: cells(source.frame[column]) for column in wanted}
    values |= {column: _numbers_only(values[column], source, column) for column in plan.numbers}
    rows = [{column: values[column][line] for column in columns} for line in range(len(ids))]
    titles = (
        ids
        if title is None
        else tuple(name if value is None else str(value) for name, value in zip(ids, values[title], strict=True))
    )
    pictures, broken = _pictures(source, plan.image, drop_invalid=drop_invalid)
    features = replace(apply_plan(plan, rows, Where(source.name, "", source.rows)), pictures=pictures)
    rest = _without(source, id_column, plan.image)
    return ItemTableRows(ids, features, titles, attribute_columns(rest), broken)


def _pictures(source: Source, column: str, *, drop_invalid: bool) -> tuple[ItemPictures, int]:
    if not column:
        return ItemPictures(), 0
    where = Where(source.name, column, source.rows)
    return item_pictures(cells(source.frame[column]), where, source.folder, drop_invalid=drop_invalid)


def _without(source: Source, *columns: str) -> pd.DataFrame:
    return source.frame.drop(columns=[column for column in columns if column])


def _id_column(source: Source, kind: str, named: Columns, like: str) -> str:
    if named.id_column is not None:
        require([named.id_column], source)
        return named.id_column
    same = [column for column in source.columns if plain_name(column) == plain_name(like)]
    if same:
        return same[0]
    return id_column(source, kind, f"--{kind}s-id-column")


def _check_ids(names: Sequence[str | None], source: Source, column: str) -> None:
    seen: dict[str, int] = {}
    for line, name in enumerate(names):
        row = int(source.rows[line])
        if name is None:
            raise DataError(
                "the id is missing", remedy="Fill or remove the row.", file=source.name, row=row, column=column
            )
        if name in seen:
            raise DataError(
                f"the id {name!r} is there already, in row {seen[name]}",
                remedy="Keep one row for each id.",
                file=source.name,
                row=row,
                column=column,
            )
        seen[name] = row


def _check_overlap(line_of: dict[str, int], ids: IdMap, source: Source, column: str) -> None:
    """Some id must be in the events, or one of both columns is the wrong one, or written otherwise."""
    if not len(ids) or any(name in ids for name in line_of):
        return
    raise DataError(
        f"no id is among the {ids.kind}s of the events: {next(iter(line_of))!r} here, {ids.ids[0]!r} there",
        remedy=f"Name the column with --{ids.kind}s-id-column, or write the ids alike.",
        file=source.name,
        column=column,
    )


def _roles(source: Source, named: Columns, id_column: str) -> dict[str, tuple[str, ...]]:
    """Role → columns; those not named are guessed where nothing at all is named."""
    given = {"texts": named.texts, "categories": named.categories, "numbers": named.numbers}
    chosen = [column for columns in given.values() if columns for column in columns]
    chosen += [named.image] if named.image else []
    require([*chosen, *([named.title] if named.title else [])], source)
    if len(set(chosen)) < len(chosen) or id_column in chosen:
        raise SettingError(f"One column of {source.name} is to be two things: {', '.join([id_column, *chosen])}.")
    title = named.title or guess_role(source, "title", {id_column}, needed=False)
    roles: dict[str, list[str]] = {role: list(columns or ()) for role, columns in given.items()} | {"dates": []}
    roles["image"] = [named.image] if named.image else []
    free = [column for column in map(str, source.frame.columns) if column not in {id_column, *chosen}]
    if all(columns is None for columns in given.values()):
        if named.image is None:
            found_image = find_image(source, (c for c in free if not _holds_addresses(_filled(cells(source.frame[c])))))
            roles["image"] = [] if found_image is None else [found_image]
        for column in (column for column in free if column not in roles["image"]):
            role = "texts" if column == title else _kind(cells(source.frame[column]))
            if role is not None:
                roles[role].append(column)
    found = {role: tuple(columns) for role, columns in roles.items()}
    return {"title": (title,) if title else (), **found}


def _kind(values: list[Any]) -> str | None:
    """What a column holds, by its values; None for nothing to learn from."""
    filled = _filled(values)
    lists = any(isinstance(value, (list, tuple, np.ndarray)) for value in filled)
    texts = [str(value).strip() for value in filled]
    if len({*texts}) < 2 or (not lists and _holds_addresses(texts)):
        return None
    if not lists and odd_ones(texts) is not None:
        return "numbers"
    if not lists and np.mean(~np.isnan(days(pd.Series(texts, dtype=object)))) >= _DATES:
        return "dates"
    several = [split_values(value) for value in filled]
    different = {value for row in several for value in row}
    if len(different) <= max(20, _FEW * len(filled)):
        return "categories"
    return "texts" if np.mean([len(text.split()) for text in texts]) > 1.5 else None


def _numbers_only(values: list[Any], source: Source, column: str) -> list[Any]:
    """The cells with the few that hold no number emptied, which is said; all of them where they are many."""
    odd = odd_ones(values)
    if not odd:
        return values
    first = odd[0]
    more = f" (and {len(odd) - 1:,} more)" if len(odd) > 1 else ""
    place = f"{source.name}, row {int(source.rows[first])}, column {column!r}"
    reporter().warn(
        f"{place}: {str(values[first])[:40]!r} is no number{more}; counted as empty, as the column holds numbers."
    )
    emptied = {*odd}
    return [None if place in emptied else value for place, value in enumerate(values)]


def _filled(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None and str(value).strip()]


def _holds_addresses(values: list[Any]) -> bool:
    """Whether most are addresses of the web."""
    return sum(bool(ADDRESS.match(str(value).strip())) for value in values) > len(values) / 2
