"""Records of recommending: what was read, how well items are ranked, whole runs of `contrast two-tower` and `ranker`.

Like `records.py`: plain values only, with JSON both ways.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from warmstart.core.contrast import Alarm, ContrastPoint
from warmstart.core.records import GroupRow, Interval, Record

_IDENTITY = ("config.json", "ids.json", "items.safetensors", "model.safetensors")


@dataclass(frozen=True)
class InteractionsCard(Record):
    """What events a run learned from: enough to tell them from any other."""

    source: str
    columns: dict[str, str]  # role → column
    guessed: tuple[str, ...]
    users: int
    items: int
    counts: dict[str, int]  # what was read and left out
    item_source: str
    item_columns: dict[str, str]
    item_counts: dict[str, int]
    user_source: str
    user_columns: dict[str, str]
    split: str
    questions: dict[str, int]  # split → users asked about
    left_out: int  # users about whom nothing is asked in the test
    cold: int  # items that training never saw on purpose
    seed: int
    fingerprint: str
    wanted: dict[str, Any] = field(default_factory=dict)  # kinds and weights of events that count, where not all do


@dataclass(frozen=True)
class ActivityRow(Record):
    """Users with histories of like length."""

    name: str
    users: int
    hit_10: float
    ndcg_10: float


@dataclass(frozen=True)
class RankingScores(Record):
    """How well the next item is ranked among all items that the user has not seen; one item is right per question."""

    questions: int
    hit_10: Interval  # share with the right item among the first ten; with one right item also recall@10
    hit_100: Interval
    ndcg_10: Interval
    reciprocal_rank: Interval
    coverage_10: float  # share of the catalogue that is in any user's first ten
    novelty_10: float  # mean of −log2 of the share of users who took a recommended item, bits
    popular_10: float  # share of the first tens that is among the most popular tenth of the items
    by_activity: tuple[ActivityRow, ...]


@dataclass(frozen=True)
class RankedRow(Record):
    """One line of the table: what was ranked with, its settings, and how well it did."""

    name: str
    settings: dict[str, Any]
    test: RankingScores


@dataclass(frozen=True)
class Example(Record):
    """What one user took last, what came next, and what was recommended; by title."""

    user: str
    history: tuple[str, ...]
    target: str
    recommended: tuple[str, ...]
    rank: int


@dataclass(frozen=True)
class TwoTowerRecord(Record):
    """Everything that one `contrast two-tower` saw: results.json, and all that its report is drawn from."""

    verb: str
    created: str
    data: InteractionsCard
    settings: dict[str, Any]
    towers: RankedRow
    floors: tuple[RankedRow, ...]
    cold: RankingScores | None  # of the test questions among the cold items alone
    history: tuple[ContrastPoint, ...]  # its validation score is the NDCG@10
    groups: tuple[GroupRow, ...]
    alarms: tuple[Alarm, ...]
    examples: tuple[Example, ...]
    parameters: int
    steps: int
    note: str
    seconds: float
    peak_memory_mb: float
    versions: dict[str, str]
    machine: str
    command: str
    text_model: dict[str, str] = field(default_factory=dict)  # name and digest of the frozen encoder of texts
    image_model: dict[str, str] = field(default_factory=dict)  # and of pictures
    advice: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # file in the result folder → sha256

    def identity(self) -> dict[str, str]:
        """Files that tell these towers from all others → sha256: model, ids and item vectors.

        Whatever is made for towers notes them. Histories and the report are not among them.
        """
        return {name: self.files[name] for name in _IDENTITY if name in self.files}


@dataclass(frozen=True)
class TowersUpdate(Record):
    """What `index encode --towers` found, beside what the towers knew."""

    items: int  # in all, now
    new: int
    changed: int
    kept: int
    absent: int  # items of the towers that the table lacks; they stay as they were
    users: int  # in all, now
    new_users: int
    new_events: int
    unknown_events: int  # of items that neither the towers nor the table know; left out
    seconds: float


@dataclass(frozen=True)
class RerankedExample(Record):
    """What one user took last, what came next, and the first ten before and after the ranker; by title."""

    user: str
    history: tuple[str, ...]
    target: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    rank_before: int
    rank_after: int


@dataclass(frozen=True)
class RankerRecord(Record):
    """Everything that one `ranker` saw: results.json, and all that its report is drawn from."""

    verb: str
    created: str
    data: InteractionsCard  # of the towers
    towers: dict[str, str]  # file of the towers → sha256
    settings: dict[str, Any]
    questions: dict[str, int]  # "learn", "found" (those with the right item among the candidates), "choose", "test"
    before: RankedRow  # the towers alone, on the test questions
    after: RankedRow  # with the ranker
    gains: dict[str, Interval]  # metric → after less before, question by question
    ceiling: Interval  # share of the test questions whose right item is among the candidates
    choose_before: float  # NDCG@10 of the questions kept for choosing
    choose_after: float
    helps: bool  # whether it rose there; if not, the ranker adds nothing
    history: tuple[ContrastPoint, ...]  # its validation score is the NDCG@10 of the questions kept for choosing
    groups: tuple[GroupRow, ...]
    examples: tuple[RerankedExample, ...]
    parameters: int
    milliseconds: float  # median to score one user's candidates, batch of one, as trained
    steps: int
    note: str
    seconds: float
    peak_memory_mb: float
    versions: dict[str, str]
    machine: str
    command: str
    advice: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # file in the result folder → sha256
