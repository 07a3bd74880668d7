"""Records of an index of vectors: how it is built, how hard it searches, what was measured of it, and a tuning run.

Like `records.py`: plain values only, with JSON both ways. Names are FAISS's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from warmstart.core.record import Interval, Record

KINDS = ("flat", "fp16", "sq8", "ivf", "ivffp16", "ivfsq8", "ivfpq", "hnsw", "hnswsq8")


@dataclass(frozen=True)
class IndexPlan(Record):
    """What an index is made of.

    Attributes:
        kind: one of `KINDS`.
        nlist: cells of the kinds that begin with ivf; 0 elsewhere.
        m: links of a vector in the kinds that begin with hnsw (twice as many at the bottom); 0 elsewhere.
        ef_construction: candidates looked at when a vector is linked; 0 elsewhere.
    """

    kind: str
    nlist: int = 0
    m: int = 0
    ef_construction: int = 0

    @property
    def name(self) -> str:
        """Kind and size: "ivfsq8, 4096 cells"."""
        if self.nlist:
            return f"{self.kind}, {self.nlist} cells"
        return f"{self.kind}, {self.m} links" if self.m else self.kind


@dataclass(frozen=True)
class Effort(Record):
    """How hard an index searches; can be changed at any time without building anew.

    Attributes:
        nprobe: cells looked into (ivf…).
        ef_search: candidates kept on the way (hnsw…).
        k_factor: candidates that are scored again on stored vectors, as a multiple of k (ivfpq).
    """

    nprobe: int = 0
    ef_search: int = 0
    k_factor: float = 0.0

    @property
    def name(self) -> str:
        """What is not 0: "nprobe 16, k_factor 4"."""
        parts = {"nprobe": self.nprobe, "efSearch": self.ef_search, "k_factor": self.k_factor}
        return ", ".join(f"{name} {value:g}" for name, value in parts.items() if value) or "none"


@dataclass(frozen=True)
class Goal(Record):
    """What an index must reach: recall of the `at` nearest, and milliseconds of a single query on one thread."""

    recall: float
    at: int
    p99_ms: float


@dataclass(frozen=True)
class EffortPoint(Record):
    """One effort of one index, measured."""

    effort: Effort
    recall: Interval
    p50_ms: float
    p99_ms: float
    timed: int  # single queries in each round


@dataclass(frozen=True)
class Candidate(Record):
    """One kind of index: what it takes, and what it gave at each effort that was tried."""

    plan: IndexPlan
    memory_bytes: int
    build_seconds: float
    points: tuple[EffortPoint, ...] = ()
    chosen: EffortPoint | None = None  # the fastest point that meets the goal
    note: str = ""  # why it was not tried, or not to the end


@dataclass(frozen=True)
class EncoderCard(Record):
    """What made the vectors of a folder; vectors of two folders are comparable where all of it is equal.

    Attributes:
        model: Hub name or folder, as it was given.
        revision: on the Hub.
        reads: text, pair or image.
        columns: role → column of the table.
        pooling: as given; None for the model's own, as for those that follow.
        max_length: tokens.
        image_size: pixels.
        prompt: text before every text.
        normalize: whether vectors are brought to unit length.
        bf16: whether the arithmetic is bfloat16.
        dtype: how vectors are kept.
        weights: digest of the model's weights.
        preprocessing: digest of what tokenizer or image processor do.
    """

    model: str
    revision: str | None
    reads: str
    columns: dict[str, str]
    pooling: str | None
    max_length: int | None
    image_size: int | None
    prompt: str | None
    normalize: bool
    bf16: bool
    dtype: str
    weights: str
    preprocessing: str

    def settings(self) -> dict[str, Any]:
        """All that vectors depend on; not where the model was found."""
        return {name: value for name, value in self.to_dict().items() if name not in ("model", "revision")}


@dataclass(frozen=True)
class EncodeRecord(Record):
    """What the last `index encode` into a folder did: results.json."""

    verb: str
    created: str
    source: str
    encoder: EncoderCard
    guessed: tuple[str, ...]  # roles whose columns were guessed
    items: int
    new: int
    changed: int
    removed: int
    kept: int
    dropped: int  # rows that could not be used and were left out
    encoded: int  # by this call; the others were there already
    width: int
    shards: int
    seconds: float
    items_per_second: float  # encoded, by the seconds that encoding took
    peak_memory_mb: float
    versions: dict[str, str]
    machine: str
    command: str


@dataclass(frozen=True)
class VectorsCard(Record):
    """What vectors an index holds."""

    source: str
    vectors: int
    width: int
    unit_length: bool  # all of them; an inner product is then a cosine
    digest: str
    towers: dict[str, str] = field(default_factory=dict)  # of items of towers: file of theirs → sha256
    encoder: EncoderCard | None = None  # of a folder that `index encode` wrote


@dataclass(frozen=True)
class TuneRecord(Record):
    """Everything that `index tune` measured: results.json, and all that its report is drawn from."""

    verb: str
    created: str
    data: VectorsCard
    queries: int
    queries_source: str
    goal: Goal
    candidates: tuple[Candidate, ...]
    chosen: int  # place among the candidates
    seconds: float
    peak_memory_mb: float
    versions: dict[str, str]
    machine: str
    command: str
    advice: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # file in the result folder → sha256


@dataclass(frozen=True)
class BuildRecord(Record):
    """What `index build` did: results.json."""

    verb: str
    created: str
    data: VectorsCard
    plan: IndexPlan
    effort: Effort
    memory_bytes: int
    build_seconds: float
    versions: dict[str, str]
    machine: str
    command: str
    files: dict[str, str] = field(default_factory=dict)  # file in the result folder → sha256
