"""Records of serving: what a bundle is made of, how it is asked, what it answers, and what publishing saw of it.

Like `records.py`: plain values only, with JSON both ways.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from warmstart.core.record import Record


@dataclass(frozen=True)
class ServingSettings(Record):
    """How a bundle answers where a request does not say otherwise.

    Attributes:
        retrieve: items that the index gives, for a ranker or for diversity to choose from.
        min_score: cosine with the query below which an item is not recommended; None for no bound.
        diversity: weight of being unlike the items before it, 0 to 1.
    """

    retrieve: int = 100
    min_score: float | None = None
    diversity: float = 0.0


@dataclass(frozen=True)
class BundleManifest(Record):
    """bundle.json: what is in a bundle, and what its parts belong to.

    Attributes:
        format: of the bundle.
        created: when, ISO 8601.
        items: number of items of the towers.
        vectors: number of items in the index.
        users: number of users of the towers.
        ranker: whether there is one.
        recall: share of the exact `retrieve` nearest items that the index finds for real users.
        settings: how it answers.
        versions: of what it depends on.
        files: file in the bundle → sha256.
    """

    format: int
    created: str
    items: int
    vectors: int
    users: int
    ranker: bool
    recall: float
    settings: ServingSettings
    versions: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Funnel(Record):
    """How many items were left after each step of one answer."""

    indexed: int
    allowed: int  # by lists, conditions and what was seen
    retrieved: int  # by the index, and above the least score
    ranked: int  # 0 without a ranker
    shown: int


@dataclass(frozen=True)
class RecommendedItem(Record):
    """An item in an answer, with its score at each step."""

    rank: int
    item: str
    title: str
    score: float  # cosine with the query, as the index tells it
    ranker: float | None = None
    penalty: float | None = None  # largest cosine with an item before it, where diversity is asked for


@dataclass(frozen=True)
class Recommendations(Record):
    """The answer for one user or history."""

    user: str | None
    history: tuple[str, ...]  # titles, oldest first
    items: tuple[RecommendedItem, ...]
    funnel: Funnel


@dataclass(frozen=True)
class StepTime(Record):
    """Milliseconds that one step of a single answer took."""

    name: str  # "query tower", "index", "ranker", "whole answer"
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class ServingRecord(Record):
    """What `index publish` saw when it asked a bundle: results.json of a version, beside those of its parts.

    Attributes:
        verb: "index publish".
        created: when, ISO 8601.
        manifest: of the bundle, without the digests of its files.
        sources: part → the folder it was copied from.
        asked: users who were asked for, one after another.
        left: step of the funnel → items left after it, mean over these users.
        times: of the steps, on the machine that published.
        examples: answers to some of them; of the histories, the latest items.
        machine: what published.
        command: how to repeat it.
    """

    verb: str
    created: str
    manifest: BundleManifest
    sources: dict[str, str]
    asked: int
    left: dict[str, float]
    times: tuple[StepTime, ...]
    examples: tuple[Recommendations, ...]
    machine: str
    command: str
