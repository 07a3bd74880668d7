"""Who took what and when: a file of events → one sequence of items per user, oldest first.

Events of the same time keep the order of the file. A second event of the same user with the same item is left out, so
that what is asked for was never seen. Which events are learned from is `histories`', what is known of the items
`catalogue`'s.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from warmstart.core.errors import DataError, SettingError
from warmstart.core.two_tower_options import InteractionOptions
from warmstart.data.cells import NUMBER, Where, cells, label_strings
from warmstart.data.columns import require
from warmstart.data.event_files import read_events
from warmstart.data.ids import IdMap
from warmstart.data.role_names import guess_role
from warmstart.data.sources import Source

_SHOWN = 5  # row numbers in a message


@dataclass(frozen=True)
class Interactions:
    """Events sorted by user, then time, then row in the file.

    Attributes:
        user: (events,), numbers.
        item: (events,), numbers; no user has an item twice.
        time: (events,), as the file has it: a number, or seconds since 1970.
        users: ids of the users.
        items: ids of the items that occur.
        columns: role → column, guessed ones included.
        guessed: the roles whose columns were guessed.
        counts: what was read and left out, by name.
        fingerprint: of the events.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    users: IdMap
    items: IdMap
    columns: dict[str, str]
    guessed: tuple[str, ...]
    counts: dict[str, int]
    fingerprint: str
    source: str

    def bounds(self) -> np.ndarray:
        """Where each user's events start, and the end of the last one's, (users + 1,)."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1))


def load_interactions(options: InteractionOptions) -> Interactions:
    """Read and check.

    Raises:
        DataError: the file cannot be read, a column is not there, or rows cannot be used.
        SettingError: options contradict each other.
    """
    source = read_events(options.interactions, "--interactions")
    columns, guessed = _columns(source, options)
    frame, counts = _events(source, columns, options)
    repeated = frame.duplicated(["user", "item"])
    counts["repeated"] = int(repeated.sum())
    frame = frame[~repeated]
    users, items = (IdMap(kind, dict.fromkeys(frame[kind])) for kind in ("user", "item"))
    user, item = users.numbers(frame["user"].tolist()), items.numbers(frame["item"].tolist())
    time = frame["time"].to_numpy()
    order = np.lexsort((np.arange(len(frame)), time, user))
    user, item, time = user[order], item[order], time[order]
    counts |= _told(user, time)
    digest = hashlib.sha256()
    for values in (*users.ids, "", *items.ids, ""):
        digest.update(values.encode("utf-8", "surrogatepass") + b"\0")
    for numbers in (user, item, np.asarray(time, dtype=np.float64)):
        digest.update(np.ascontiguousarray(numbers).tobytes())
    return Interactions(user, item, time, users, items, columns, guessed, counts, digest.hexdigest(), source.name)


def _told(user: np.ndarray, time: np.ndarray) -> dict[str, int]:
    """What is worth knowing of the events kept."""
    lengths = np.bincount(user)
    last = np.flatnonzero(np.diff(user, append=-1))  # the last event of each user
    ties = [place for place in last.tolist() if place and user[place - 1] == user[place]]
    tied = sum(bool(time[place - 1] == time[place]) for place in ties)
    return {
        "events": len(user),
        "users_with_one_event": int((lengths == 1).sum()),
        "users_with_two_events": int((lengths == 2).sum()),
        "users_tied_at_the_end": tied,
    }


def _columns(source: Source, options: InteractionOptions) -> tuple[dict[str, str], tuple[str, ...]]:
    named = {role: getattr(options, f"{role}_column") for role in ("user", "item", "time", "weight", "event")}
    columns = {role: column for role, column in named.items() if column is not None}
    require(columns.values(), source)
    if len(set(columns.values())) < len(columns):
        raise SettingError(f"One column is named twice: {', '.join(columns.values())}.")
    guessed = []
    for role in ("user", "item", "time", "weight", "event"):
        if role in columns:
            continue
        needed = role in ("user", "item") or (role, True) in (
            ("weight", options.min_weight is not None),
            ("event", options.events is not None),
        )
        found = guess_role(source, role, set(columns.values()), needed=needed)
        if found is not None:
            columns[role] = found
            guessed.append(role)
    return columns, tuple(guessed)


def _events(
    source: Source, columns: dict[str, str], options: InteractionOptions
) -> tuple[pd.DataFrame, dict[str, int]]:
    """User, item and time of the rows that count, oldest first; and how many were read and left out."""

    def where(role: str) -> Where:
        return Where(source.name, columns[role], source.rows)

    def column(role: str) -> list[str | None]:
        return label_strings(cells(source.frame[columns[role]]), where(role))

    user, item = column("user"), column("item")
    missing = {
        role: np.array([value is None for value in values], dtype=bool)
        for role, values in (("user", user), ("item", item))
    }
    if "time" in columns:
        time = _times(cells(source.frame[columns["time"]]), where("time"), drop_invalid=options.drop_invalid)
        missing["time"] = np.isnan(time)
    else:
        time = np.arange(len(user), dtype=np.float64)
    bad = np.zeros(len(user), dtype=bool)
    for role, empty in missing.items():
        if empty.any() and not options.drop_invalid:
            rows = ", ".join(str(int(row)) for row in source.rows[empty][:_SHOWN])
            raise DataError(
                f"{int(empty.sum())} rows are empty here (rows {rows}{', …' if empty.sum() > _SHOWN else ''})",
                remedy="--drop-invalid leaves them out.",
                file=source.name,
                column=columns[role],
            )
        bad |= empty
    kept = ~bad & _wanted(source, columns, options)
    if not kept.any():
        raise DataError("no event is left", remedy="Look at --events and --min-weight.", file=source.name)
    frame = pd.DataFrame({"user": user, "item": item, "time": time, "row": np.arange(len(user))})[kept]
    counts = {"rows": len(user), "empty": int(bad.sum()), "not_wanted": int((~kept & ~bad).sum())}
    return frame.sort_values(["time", "row"], kind="stable"), counts


def _wanted(source: Source, columns: dict[str, str], options: InteractionOptions) -> np.ndarray:
    """Which rows have a kind and a weight that count, (rows,)."""
    kept = np.ones(len(source.rows), dtype=bool)
    if options.events is not None:
        kinds = {kind.strip() for kind in options.events.split(",") if kind.strip()}
        values = label_strings(cells(source.frame[columns["event"]]), Where(source.name, columns["event"], source.rows))
        unknown = sorted(kinds - set(values))
        if unknown or not kinds:
            there = ", ".join(sorted({value for value in values if value is not None})[:10])
            raise SettingError(f"--events names {', '.join(unknown) or 'nothing'}; kinds there: {there}.")
        kept &= np.array([value in kinds for value in values], dtype=bool)
    if options.min_weight is not None:
        where = Where(source.name, columns["weight"], source.rows)
        weights = _numbers(cells(source.frame[columns["weight"]]), where, "a number")
        kept &= np.nan_to_num(weights, nan=-np.inf) >= options.min_weight
    return kept


def _numbers(values: list[object], where: Where, expected: str) -> np.ndarray:
    """Numbers, not-a-number for gaps, (rows,)."""
    found = np.full(len(values), np.nan)
    for place, value in enumerate(values):
        if value is None or str(value).strip() == "":
            continue
        text = str(value).strip()
        if not NUMBER.fullmatch(text):
            raise DataError(
                f"{text[:40]!r} is not {expected}",
                remedy="Mend the row, or name another column.",
                file=where.file,
                row=int(where.rows[place]),
                column=where.column,
            )
        found[place] = float(text)
    return found


def _times(values: list[object], where: Where, *, drop_invalid: bool) -> np.ndarray:
    """Times as numbers: as they stand where most are numbers, else dates as seconds since 1970; (rows,).

    What is neither is an error, or not-a-number.
    """
    texts = ["" if value is None else str(value).strip() for value in values]
    filled = [text for text in texts if text]
    plain = [bool(NUMBER.fullmatch(text)) for text in filled]
    if sum(plain) > len(plain) / 2:
        found = np.array([float(text) if NUMBER.fullmatch(text) else np.nan for text in texts])
        expected, remedy = "a number, as the other times are", "Mend the row"
    else:
        series = pd.Series(texts, dtype=object).replace("", None)
        parsed = pd.to_datetime(series, errors="coerce", utc=True, format="mixed")
        found = (parsed - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)
        expected, remedy = "a date", "Write times as numbers, or as dates such as 2024-05-31 18:00"
    wrong = [place for place, text in enumerate(texts) if text and np.isnan(found[place])]
    if wrong and not drop_invalid:
        more = f" ({len(wrong):,} such rows)" if len(wrong) > 1 else ""
        raise DataError(
            f"{texts[wrong[0]][:40]!r} is not {expected}{more}",
            remedy=f"{remedy}, or leave such rows out with --drop-invalid.",
            file=where.file,
            row=int(where.rows[wrong[0]]),
            column=where.column,
        )
    return np.asarray(found)
