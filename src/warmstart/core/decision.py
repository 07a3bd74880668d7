"""Records of a decision: what was measured, what each strategy is expected to give and to cost, and the plan.

Where the numbers come from is left to `warmstart.decide`, how they are shown to `warmstart.report` and `warmstart.cli`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from warmstart.core.record import Interval, Record


@dataclass(frozen=True)
class CurvePoint(Record):
    """A cheap strategy on some of the labelled rows, judged on all of them by cross-validation."""

    strategy: str  # "linear_probe" or "knn"
    rows: int  # that were learned from
    score: Interval


@dataclass(frozen=True)
class LabelEvidence(Record):
    """What the labels themselves say."""

    counts: tuple[int, ...]  # labelled rows of each class
    balance: float  # entropy of the classes' shares over its maximum: 1 when all are as common, 0 for one class
    noise: Interval | None  # share of rows whose label cross-validation confidently contradicts; 95 % interval
    suspicious: tuple[int, ...]  # places of such rows among the labelled ones, the most confident first
    curve: tuple[CurvePoint, ...]
    more_labels: int  # how many more labels `gain_probe` is about
    gain_probe: Interval | None  # accuracy that so many more would add to the probe, along its curve; 90 % interval


@dataclass(frozen=True)
class DomainMeasure(Record):
    """One distance between the user's inputs and the model's reference domain, with the two points of its scale."""

    name: str
    value: float  # of the user's rows
    near: float  # the same measure where nothing is far
    far: float  # the same measure where everything is
    near_is: str  # what `near` was measured on, in words
    far_is: str

    @property
    def position(self) -> float:
        """0 at the near point, 1 at the far one, beyond either where the rows are; not-a-number without a scale."""
        if not math.isfinite(self.far - self.near) or self.far == self.near:
            return math.nan
        return (self.value - self.near) / (self.far - self.near)


@dataclass(frozen=True)
class DomainEvidence(Record):
    """How far the user's inputs are from the model's reference domain."""

    reference: str  # what stands for the domain, in words
    rows: int  # of either side
    measures: tuple[DomainMeasure, ...]
    notes: tuple[str, ...] = ()

    @property
    def position(self) -> float:
        """The middle of the measures' positions, each held between 0 and 1; not-a-number without any."""
        places = sorted(min(1.0, max(0.0, m.position)) for m in self.measures if math.isfinite(m.position))
        if not places:
            return math.nan
        middle = len(places) // 2
        return places[middle] if len(places) % 2 else (places[middle - 1] + places[middle]) / 2


@dataclass(frozen=True)
class ComputeEvidence(Record):
    """What memory and time follow from. Bytes; the activations are those of one row of the longest batch."""

    parameters: int  # of the trunk
    stored_bytes: int  # the same weights in the type that the checkpoint holds them in
    lora_parameters: int  # that LoRA would add at the rank asked for
    activation_bytes: float  # kept for the backward pass, one row
    forward_bytes: float  # held at once without a backward pass, one row
    batch: int  # rows a step
    resident_bytes: int  # that the process holds before any training, the model included
    device_bytes: int | None  # that there are; None where no limit is known
    measured: bool  # by real steps; False: by arithmetic on the configuration
    averaged: bool = True  # whether a moving average of what learns is kept


@dataclass(frozen=True)
class Evidence(Record):
    """What was measured before the decision. Scores are accuracies; times are seconds per example on this machine."""

    labelled: int
    classes: int
    per_class_min: int
    per_class_median: float
    majority: float
    zero_shot: Interval | None
    tfidf: Interval | None
    knn: Interval
    probe: Interval
    seconds_forward: float
    seconds_train: float
    parameters: int
    budget_seconds: float | None
    device: str
    effort: str = "probe"  # "rules", "probe" or "pilot"
    labels: LabelEvidence | None = None
    domain: DomainEvidence | None = None
    compute: ComputeEvidence | None = None
    label_names: float = 0.0  # exponent of zero-shot in the probe's product with it; 0: the probe is of the rows alone
    transferability: dict[str, float] | None = None  # score → value; inputs to a decision, not oracles


@dataclass(frozen=True)
class Forecast(Record):
    """What a strategy is expected to give and to cost, or why it is ruled out."""

    strategy: str
    seconds: float  # from features in hand to a model that is judged on the test rows
    allowed: bool
    reason: str
    score: Interval | None = None  # expected accuracy, with a 90 % interval
    peak_memory_mb: float = math.nan
    learning_seconds: float = math.nan  # the part of `seconds` that adapting takes, judging left out
    epochs: float = 0.0  # that the seconds stand for


@dataclass(frozen=True)
class PilotRun(Record):
    """A short training of one strategy, judged on rows that it did not see, beside the probe on the same rows."""

    strategy: str
    rung: int  # of the successive halving, from 0
    rows: int  # learned from
    epochs: float
    judged: int
    right: int
    probe_right: int
    only_right: int  # rows that this strategy has right and the probe wrong
    only_probe: int
    seconds: float


@dataclass(frozen=True)
class RankedModel(Record):
    """One backbone among several, with what its own plan expects."""

    model: str
    parameters: int
    strategy: str
    score: Interval | None
    seconds: float
    peak_memory_mb: float
    transferability: dict[str, float]
    note: str = ""


@dataclass(frozen=True)
class Plan(Record):
    """The decision: what to run, with which settings, why, and what would change it."""

    strategy: str  # or "none": nothing fits
    runner_up: str
    settings: dict[str, Any]
    reasons: tuple[str, ...]
    would_change: tuple[str, ...]
    forecasts: tuple[Forecast, ...]
    evidence: Evidence
    model: str = ""
    pilots: tuple[PilotRun, ...] = ()
    ranking: tuple[RankedModel, ...] = ()

    def forecast_of(self, strategy: str) -> Forecast | None:
        """The forecast of one strategy, or None."""
        return next((entry for entry in self.forecasts if entry.strategy == strategy), None)
