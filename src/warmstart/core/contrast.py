"""Records of contrastive training: its course, what was reached before and after, alarms, and the whole run.

Like `records.py`: plain values only, with JSON both ways.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from warmstart.core.records import BackboneCard, GroupRow, Interval, Record


@dataclass(frozen=True)
class ContrastPoint(Record):
    """One moment of contrastive training; what was not measured at that moment is None. Losses in nats."""

    step: int
    epoch: float
    seconds: float
    loss: float | None = None  # mean over the steps since the last point
    ceiling: float | None = None  # log N: what guessing costs, and all that the bound can show
    bound: float | None = None  # log N − loss: at least this much information is shared; None where it does not hold
    accuracy: float | None = None  # share of training rows whose positive came first in its batch
    masked: float | None = None  # share of the pool that was excluded as false negatives
    scale: float | None = None  # 1 / temperature
    validation_score: float | None = None  # mean reciprocal rank among all validation candidates
    alignment: float | None = None
    uniformity: float | None = None
    effective_rank: float | None = None
    rates: dict[str, float] | None = None  # group → learning rate


@dataclass(frozen=True)
class Geometry(Record):
    """How vectors lie on the sphere."""

    alignment: float  # mean squared distance of a query and its positive; 0: all pairs coincide
    uniformity: float  # log of the mean Gaussian potential of two vectors; 0: all coincide, about −4: spread evenly
    effective_rank: float  # exponential of the entropy of the singular values: dimensions that are in use


@dataclass(frozen=True)
class RankScores(Record):
    """How well queries find their positives among all candidates of a split."""

    queries: int
    candidates: int
    recall_at_1: Interval
    recall_at_10: Interval
    reciprocal_rank: Interval
    geometry: Geometry
    recall_at_5: Interval | None = None


@dataclass(frozen=True)
class Alarm(Record):
    """Training goes wrong in a way that has a name."""

    kind: str  # "stuck", "scale" or "rank"
    step: int
    message: str
    advice: str


@dataclass(frozen=True)
class PairsCard(Record):
    """What pairs a run learned from: enough to tell them from any other."""

    source: str
    columns: dict[str, str]  # role → column
    sizes: dict[str, int]  # split → pairs
    repeated: int  # pairs whose anchor came before, with another positive
    dropped: int
    seed: int
    fingerprint: str
    images: dict[str, int] = field(default_factory=dict)  # split → images, where anchors are images
    guessed: tuple[str, ...] = ()  # roles whose columns were guessed
    without_negatives: int = 0  # training pairs left out for having too few hard negatives


@dataclass(frozen=True)
class Example(Record):
    """What one test query found."""

    query: str
    rank: int  # of its best answer; 1 for the first
    found: tuple[str, ...]  # thumbnails of the first few, as data URIs
    right: tuple[bool, ...]  # which of these are answers


@dataclass(frozen=True)
class ContrastRecord(Record):
    """Everything that one `contrast` saw: results.json, and all that its report is drawn from."""

    verb: str
    created: str
    data: PairsCard
    backbone: BackboneCard
    settings: dict[str, Any]
    before: RankScores  # of the model as it was, on the test pairs
    after: RankScores
    by_dimension: dict[str, RankScores]  # of vectors cut to so many dimensions; empty unless they were trained for
    history: tuple[ContrastPoint, ...]
    groups: tuple[GroupRow, ...]
    alarms: tuple[Alarm, ...]
    steps: int
    processes: int
    note: str
    seconds: float
    peak_memory_mb: float
    versions: dict[str, str]
    machine: str
    command: str
    advice: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # file in the result folder → sha256
    text_backbone: BackboneCard | None = None  # of two towers, that of texts; `backbone` is then that of images
    image_to_text_before: RankScores | None = None  # of two towers; `before` and `after` are then text → image
    image_to_text_after: RankScores | None = None
    examples: tuple[Example, ...] = ()
    knn_before: Interval | None = None  # accuracy of nearest neighbours on labelled images; None where not asked for
    knn_after: Interval | None = None
    views: str = ""  # a picture, as a data URI: images and views of them
    kept_step: int = 0  # of the checkpoint that was kept; 0 where none was
    before_by_dimension: dict[str, RankScores] = field(default_factory=dict)  # of the model as it was
