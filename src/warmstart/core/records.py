"""Frozen records with JSON both ways: what the rooms hand each other and what a saved run is rebuilt from.

A record holds plain values only (numbers, strings, tuples, dictionaries, other records). Nothing here computes a
score, reads data or knows torch. What a decision is made of is in `decision`, what every record can do in `record`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from warmstart.core.decision import Evidence as Evidence
from warmstart.core.decision import Forecast as Forecast
from warmstart.core.decision import Plan as Plan
from warmstart.core.record import Interval as Interval
from warmstart.core.record import Record as Record

Modality = Literal["text", "pair", "image"]
Severity = Literal["stop", "warn"]


@dataclass(frozen=True)
class Finding(Record):
    """What a data check found: `stop` ends the run with exit code 2, `warn` only tells."""

    check: str
    severity: Severity
    message: str
    remedy: str = ""
    file: str = ""
    column: str = ""
    rows: tuple[int, ...] = ()  # the first twenty, counted as a spreadsheet shows them
    count: int = 0
    dropped: bool = False  # left out on request (--drop-invalid)


@dataclass(frozen=True)
class TaskCard(Record):
    """What the data is: enough to reproduce the task and to tell it from any other."""

    source: str
    modality: Modality
    columns: dict[str, str]  # role ("text", "text_pair", "image", "label", "group") → column
    guessed: tuple[str, ...]  # roles whose column was guessed
    labels: tuple[str, ...]
    sizes: dict[str, int]  # split → rows
    counts: dict[str, dict[str, int]]  # split → label → rows
    findings: tuple[Finding, ...]
    dropped: int
    seed: int
    fingerprint: str


@dataclass(frozen=True)
class BackboneCard(Record):
    """Which pretrained model this is and how its features are made."""

    name: str
    source: str
    architecture: str
    modality: str
    parameters: int
    features: int
    pooling: str
    normalize: bool
    preprocessing: dict[str, Any]
    digest: str


@dataclass(frozen=True)
class GroupRow(Record):
    """One line of the parameter → group → rate table. Depth 0 is next to the input."""

    tower: str
    group: str
    depth: int
    parameters: int
    trainable: int
    learning_rate: float
    weight_decay: float
    opens_at: float  # fraction of training at which the group starts to learn; 1 and above: never
    names: tuple[str, ...]


@dataclass(frozen=True)
class ClassScores(Record):
    """One row of the per-class table."""

    label: str
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Scores(Record):
    """What a classifier reached on one split. Log-loss in nats; calibration error after temperature scaling."""

    rows: int
    accuracy: Interval
    macro_f1: Interval
    log_loss: Interval
    calibration_error: float
    calibration_error_raw: float
    per_class: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]  # rows: true label, columns: predicted label


@dataclass(frozen=True)
class Point(Record):
    """One moment of training; what was not measured at that moment is None."""

    step: int
    epoch: float
    seconds: float
    loss: float | None = None
    validation_loss: float | None = None
    validation_score: float | None = None
    rates: dict[str, float] | None = None  # group → learning rate


@dataclass(frozen=True)
class MixPoint(Record):
    """One mixture of original and adapted weights: `alpha` is the share of the adapted ones."""

    alpha: float
    validation: float  # the selection metric on the validation rows, higher is better
    kept: float | None  # share of the reference rows' ten nearest neighbours that stay; None where not measured
    chosen: bool


@dataclass(frozen=True)
class Remedy(Record):
    """What was done against forgetting, and what it bought: the same training without it and with it."""

    name: str  # "weight interpolation", "moving average" or "L2-SP"
    setting: float
    validation_without: float | None = None  # the selection metric on the validation rows, higher is better
    validation_with: float | None = None
    kept_without: float | None = None  # share of the reference rows' ten nearest neighbours that stay
    kept_with: float | None = None
    curve: tuple[MixPoint, ...] = ()


@dataclass(frozen=True)
class Ability(Record):
    """What the model could do before it was adapted, on the reference rows: before and after."""

    name: str  # "perplexity", "masked-token loss" (nats a token) or "zero-shot accuracy"
    before: float
    after: float
    higher_is_better: bool


@dataclass(frozen=True)
class GroupDrift(Record):
    """How far one group of layers went from the original. Depth 0 is next to the input."""

    tower: str
    group: str
    depth: int
    cka: float  # linear CKA of its activations on the reference rows; 1: the same up to rotation and scale
    weight_distance: float  # length of the change of its weights, as a share of their length


@dataclass(frozen=True)
class Forgetting(Record):
    """What an adapted model kept of the original, measured on reference rows that have nothing to do with the task."""

    reference: str  # what the rows are
    rows: int
    neighbours_kept: float  # share of each row's ten nearest rows that are still among its ten nearest
    abilities: tuple[Ability, ...]
    groups: tuple[GroupDrift, ...]  # input to output, tower after tower; without the head
    notes: tuple[str, ...] = ()  # what was not measured, and why


@dataclass(frozen=True)
class RateSearch(Record):
    """A range test of the learning rate: what each rate did to the loss, and the rate that was chosen."""

    rates: tuple[float, ...]  # tried, rising, up to where the loss was no longer finite
    losses: tuple[float, ...]  # after a step at each rate, nats; smoothed, the noise of the batches taken out
    reference: float  # the mean loss of the same batches with nothing ramped, nats
    learning_rate: float  # chosen
    diverged: float | None  # the lowest rate at which the loss was half way from its best to guessing; None: at none
    runs: int  # short runs that the losses are means of
    note: str
    seconds: float


@dataclass(frozen=True)
class StrategyRun(Record):
    """One strategy, one seed: what it was told, what it gave, what it cost."""

    strategy: str
    seed: int
    status: Literal["done", "stopped", "skipped"]
    note: str
    settings: dict[str, Any]
    validation: float  # the selection metric on the validation rows
    test: Scores | None
    seconds: float
    peak_memory_mb: float
    trainable: int
    history: tuple[Point, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    forgetting: Forgetting | None = None  # of trained strategies
    rate_search: RateSearch | None = None


@dataclass(frozen=True)
class Floor(Record):
    """What costs next to nothing: any model must beat it. Cross-validated on the training rows, and on test."""

    name: str
    cross_validated: Interval
    test: Interval | None


@dataclass(frozen=True)
class Mistake(Record):
    """A confident error on a test row. `text` is the input, or the image file's name with a data-URI thumbnail."""

    row: int
    text: str
    thumbnail: str
    label: str
    prediction: str
    probability: float


@dataclass(frozen=True)
class PairedDifference(Record):
    """`strategy` minus `baseline` in test accuracy, on the same rows and seeds, with a 95 % interval."""

    strategy: str
    baseline: str
    difference: Interval


@dataclass(frozen=True)
class RunRecord(Record):
    """Everything one `adapt` or `compare` saw: results.json, and all that a report is drawn from."""

    verb: str
    created: str
    metric: str
    task: TaskCard
    backbone: BackboneCard
    plan: Plan | None
    floors: tuple[Floor, ...]
    runs: tuple[StrategyRun, ...]
    chosen: str
    differences: tuple[PairedDifference, ...]
    mistakes: tuple[Mistake, ...]
    temperature: float
    seconds: float
    peak_memory_mb: float
    versions: dict[str, str]
    machine: str
    command: str
    advice: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # file in the result folder → sha256

    def run_of(self, strategy: str) -> StrategyRun:
        """The first run of a strategy. Raises KeyError when it did not run."""
        for run in self.runs:
            if run.strategy == strategy and run.status != "skipped":
                return run
        raise KeyError(strategy)
