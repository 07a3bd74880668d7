"""Options of what serves: `index publish`, `index rollback`, `index versions`, and `recommend`."""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.option import check_options, option, required


@dataclass(frozen=True, kw_only=True)
class IndexPublishOptions:
    """Options of `index publish`."""

    towers: str = required("Result of contrast two-tower.")
    index: str = required("Index of its items, by index tune or index build with --towers.")
    ranker: str | None = option(None, "Ranker trained for these towers.")
    to: str = required("Folder that serves; the bundle becomes its next version, and then its current one.")
    keep: int = option(3, "Versions to keep: the current one, and those that were current before it.")
    retrieve: int | None = option(
        None,
        "Items that the index gives, for a ranker or for diversity to choose from. Default: as many as the ranker "
        "learned to order, else 100.",
    )
    min_score: float | None = option(None, "Cosine with the user below which an item is not recommended.")
    diversity: float = option(0.0, "Weight of being unlike the items before it, 0 to 1.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class IndexRollbackOptions:
    """Options of `index rollback`."""

    serving: str = required("Folder that index publish published to.", argument=True)
    to_version: str | None = option(None, "Version to go to. Default: the one that was current before.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class IndexVersionsOptions:
    """Options of `index versions`."""

    serving: str = required("Folder that index publish published to.", argument=True)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class RecommendOptions:
    """Options of `recommend`."""

    source: str = required("Folder that index publish published to, or one bundle in it.", argument=True)
    user: str | None = option(None, "User of the events that the towers were trained on.")
    history: str | tuple[str, ...] = option(
        (),
        "What somebody took, oldest first: titles or ids, separated by commas; titles may have commas. May be given "
        "more than once; @FILE reads one item a line. With --user, it is read in place of the user's own.",
        many=True,
    )
    users: str | None = option(None, "For many users: a table with a column of users, or all. Needs --output.")
    user_column: str | None = option(None, "Column of --users. Guessed by its name when not given.")
    output: str | None = option(None, "File to write for --users: .csv, .tsv, .jsonl or .parquet.")
    overwrite: bool = option(False, "Replace the output file if it exists.")
    drop_invalid: bool = option(False, "Leave out rows of --users that name nobody who is known; they are counted.")
    k: int = option(10, "How many items.")
    retrieve: int | None = option(None, "Items that the index gives to choose from. Default: as published.")
    where: str | tuple[str, ...] = option(
        (),
        'Only items that meet a condition: "genre=Drama", "year>=1990", "genre=Drama|Comedy" for either; given more '
        "than once, all of them.",
        many=True,
    )
    only: str | tuple[str, ...] = option((), "Only these items; written as in --history.", many=True)
    exclude: str | tuple[str, ...] = option((), "Not these items; written as in --history.", many=True)
    include_seen: bool = option(False, "Also recommend what the user took already.")
    min_score: float | None = option(None, "Least cosine with the user. Default: as published.")
    diversity: float | None = option(
        None, "Weight of being unlike the items before it, 0 (relevance alone) to 1. Default: as published."
    )
    ranker: bool = option(True, "Order what was retrieved by the bundle's ranker, where it has one.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.user is not None:
            object.__setattr__(self, "user", str(self.user))  # 42 in Python
