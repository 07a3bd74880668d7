"""`recommend`: what a user, or somebody with a history, is shown; or a table for many users."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from warmstart.core.errors import DataError, SettingError
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.records import Record
from warmstart.core.serving import Recommendations
from warmstart.core.serving_options import RecommendOptions
from warmstart.data.cells import Where, cells, label_strings
from warmstart.data.columns import require
from warmstart.data.event_files import read_events
from warmstart.data.ids import listed
from warmstart.data.role_names import guess_role
from warmstart.data.writing import check_table_path, write_table
from warmstart.verbs.recommender import Recommender, Wanted, load_recommender

_TOGETHER = 256  # users encoded at a time
_ALL = "all"


@dataclass(frozen=True)
class RecommendResult(Record):
    """One answer, or what was written for many users.

    Attributes:
        bundle: the version that answered.
        answer: for --user and --history.
        output: for --users.
        users: how many users are in it.
        rows: how many rows were written.
        short: users with fewer than k items.
        left_out: rows of --users that name nobody who is known.
    """

    bundle: str
    answer: Recommendations | None = None
    output: str = ""
    users: int = 0
    rows: int = 0
    short: int = 0
    left_out: int = 0


@verb(RecommendOptions)
def recommend(options: RecommendOptions) -> RecommendResult:
    """Recommend items to one user, to somebody new with a history, or to many users.

    Raises:
        UserError: the bundle is not whole, or something in the call or the file must change; nothing was written.
    """
    _check(options)
    if options.output is not None:
        check_table_path(options.output, options.overwrite)
    recommender = load_recommender(options.source, mmap=True)
    wanted = Wanted(
        k=options.k,
        retrieve=options.retrieve,
        where=_texts(options.where),
        only=_texts(options.only),
        exclude=_texts(options.exclude),
        include_seen=options.include_seen,
        min_score=options.min_score,
        diversity=options.diversity,
        ranker=options.ranker,
    )
    if options.users is not None:
        return _for_many(recommender, wanted, options)
    history = None
    if options.history != ():
        history = [item for text in _texts(options.history) for item in recommender.read(text, "--history")]
    return RecommendResult(str(recommender.folder), recommender.answer(options.user, history, wanted))


def _check(options: RecommendOptions) -> None:
    one = options.user is not None or options.history != ()
    if options.users is None and not one:
        raise SettingError("Give --user, --history, or --users with --output.")
    if options.users is not None and one:
        raise SettingError("--users is for many; give it without --user and --history.")
    if options.users is not None and options.output is None:
        raise SettingError("--users needs --output, a file to write to.")
    if options.users is None and options.output is not None:
        raise SettingError("--output goes with --users; for one answer as JSON there is --json.")


def _texts(given: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(str, listed(given)))


def _for_many(recommender: Recommender, wanted: Wanted, options: RecommendOptions) -> RecommendResult:
    users, left_out = _users(recommender, options)
    rows: list[dict[str, object]] = []
    short = 0
    with reporter().bar("Recommending") as bar:
        for start in range(0, len(users), _TOGETHER):
            some = users[start : start + _TOGETHER]
            for answer in recommender.answers(some, wanted):
                short += len(answer.items) < wanted.k
                rows += [{"user": answer.user, **item.to_dict()} for item in answer.items]
            bar(start + len(some), len(users), "")
    columns = ["user", "rank", "item", "title", "score", "ranker", "penalty"]
    frame = pd.DataFrame(rows, columns=columns).dropna(axis="columns", how="all")
    write_table(frame, str(options.output), options.overwrite)
    if short:
        reporter().warn(f"{short:,} users have fewer than {wanted.k} items: the filters leave no more.")
    return RecommendResult(str(recommender.folder), None, str(options.output), len(users), len(frame), short, left_out)


def _users(recommender: Recommender, options: RecommendOptions) -> tuple[list[int], int]:
    """Numbers of the users, each once, in the order of the file; and how many rows were left out."""
    known = recommender.towers.users
    if options.users == _ALL:
        return [user for user, history in enumerate(recommender.towers.histories) if len(history)], 0
    source = read_events(str(options.users), "--users")
    if options.user_column is not None:
        require([options.user_column], source)
    column = options.user_column or guess_role(source, "user", set(), needed=True)
    names = label_strings(cells(source.frame[column]), Where(source.name, str(column), source.rows))
    numbers = known.find([str(name) for name in names])
    unknown = [place for place, number in enumerate(numbers) if number < 0]
    if unknown and not options.drop_invalid:
        name, row = names[unknown[0]], int(source.rows[unknown[0]])
        what = (
            "the user is missing"
            if name is None
            else f"there is no user {name!r} among the {len(known):,} that are known"
        )
        more = f" ({len(unknown):,} such rows)" if len(unknown) > 1 else ""
        raise DataError(
            what + more, remedy="--drop-invalid leaves them out.", file=source.name, row=row, column=str(column)
        )
    if unknown:
        reporter().warn(f"{len(unknown):,} rows of {source.name} name nobody who is known, and were left out.")
    return list(dict.fromkeys(int(number) for number in numbers if number >= 0)), len(unknown)
