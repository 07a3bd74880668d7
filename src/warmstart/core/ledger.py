"""Records of the ledger: what was forecast and what came of it, one line a strategy and run, and the scorecard."""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.record import Interval, Record


@dataclass(frozen=True)
class LedgerEntry(Record):
    """One strategy of one run of `adapt` or `compare`. Scores are accuracies, memory is in MiB."""

    created: str
    verb: str
    data: str  # fingerprint of the task
    model: str
    machine: str
    effort: str
    strategy: str
    seed: int
    planned: bool  # whether it is what the plan said
    chosen: bool  # whether it is what the run ended with
    labels_a_class: float
    classes: int
    test_rows: int
    forecast_score: Interval | None  # 90 %
    score: float
    forecast_seconds: float  # of adapting; not-a-number where it was for another length of training
    seconds: float
    forecast_memory_mb: float
    memory_mb: float  # not-a-number where an earlier strategy of the run had held more


@dataclass(frozen=True)
class ScorecardRow(Record):
    """How far the forecasts of one strategy were off."""

    strategy: str
    runs: int
    bias: float  # mean of outcome minus forecast, in accuracy
    error: float  # mean absolute difference, in accuracy
    covered: float  # share of outcomes inside their 90 % interval, widened by the luck of the test rows
    seconds_ratio: float  # median of actual seconds over forecast ones
    seconds_within: float  # share of runs whose seconds were within 25 % of the forecast
    memory_ratio: float  # median of actual peak memory over forecast


@dataclass(frozen=True)
class Scorecard(Record):
    """The ledger in one table."""

    ledger: str  # its path
    entries: int
    runs: int
    rows: tuple[ScorecardRow, ...]  # of each strategy, then all together
    regret: float  # mean over comparisons: best test accuracy minus that of the strategy that was planned
    comparisons: int  # that the regret is over
    notes: tuple[str, ...] = ()
