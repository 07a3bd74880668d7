"""From a ledger to a scorecard: forecasts held against outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from warmstart.core.ledger import LedgerEntry, Scorecard, ScorecardRow
from warmstart.decide.logit import Z90, to_logit

ALL = "all"
CLOSE = 0.25  # relative error of seconds that counts as close
_FEW = 5


def make_scorecard(entries: Sequence[LedgerEntry], ledger: str, notes: Sequence[str] = ()) -> Scorecard:
    """The scorecard of some entries; numbers that nothing is known of are not-a-number.

    Args:
        entries: in any order.
        ledger: where they came from.
        notes: what to say beside them.
    """
    names = sorted({entry.strategy for entry in entries})
    rows = [_row(name, [entry for entry in entries if entry.strategy == name]) for name in names]
    rows += [_row(ALL, entries)] if entries else []
    regrets = _regrets(entries)
    said = list(notes)
    if 0 < len(entries) < _FEW:
        said.append(f"With {len(entries)} entries these figures say little.")
    return Scorecard(
        ledger=ledger,
        entries=len(entries),
        runs=len({(entry.created, entry.verb, entry.data) for entry in entries}),
        rows=tuple(rows),
        regret=float(np.mean(regrets)) if regrets else math.nan,
        comparisons=len(regrets),
        notes=tuple(said),
    )


def covered(entry: LedgerEntry) -> bool | None:
    """Whether the outcome is inside its interval; None without a forecast.

    The interval is about the true accuracy, and the outcome was measured on so many test rows: in logits, the
    deviation of that measurement is added to the forecast's.
    """
    forecast = entry.forecast_score
    if forecast is None or math.isnan(forecast.value) or math.isnan(entry.score) or entry.test_rows < 1:
        return None
    low, high = to_logit(forecast.low), to_logit(forecast.high)
    share = min(1.0 - 0.5 / entry.test_rows, max(0.5 / entry.test_rows, entry.score))
    luck = 1.0 / (entry.test_rows * share * (1.0 - share))
    half = Z90 * math.hypot((high - low) / (2.0 * Z90), math.sqrt(luck))
    return abs(to_logit(share) - (low + high) / 2.0) <= half


def _row(name: str, entries: Sequence[LedgerEntry]) -> ScorecardRow:
    gaps = [
        entry.score - entry.forecast_score.value
        for entry in entries
        if entry.forecast_score is not None and math.isfinite(entry.score - entry.forecast_score.value)
    ]
    inside = [found for entry in entries if (found := covered(entry)) is not None]
    seconds = _ratios(entries, lambda entry: (entry.seconds, entry.forecast_seconds))
    memory = _ratios(entries, lambda entry: (entry.memory_mb, entry.forecast_memory_mb))
    return ScorecardRow(
        strategy=name,
        runs=len(entries),
        bias=_mean(gaps),
        error=_mean([abs(gap) for gap in gaps]),
        covered=_mean([float(found) for found in inside]),
        seconds_ratio=float(np.median(seconds)) if seconds else math.nan,
        seconds_within=_mean([float(abs(ratio - 1.0) <= CLOSE) for ratio in seconds]),
        memory_ratio=float(np.median(memory)) if memory else math.nan,
    )


def _ratios(entries: Sequence[LedgerEntry], pair: Callable[[LedgerEntry], tuple[float, float]]) -> list[float]:
    found = []
    for entry in entries:
        actual, forecast = pair(entry)
        if math.isfinite(actual) and math.isfinite(forecast) and forecast > 0:
            found.append(actual / forecast)
    return found


def _regrets(entries: Sequence[LedgerEntry]) -> list[float]:
    """Of each comparison: mean accuracy over seeds of its best strategy, minus that of the planned one.

    The best is picked on the same test rows, so this is a little more than the regret really is.
    """
    runs: dict[tuple[str, str], list[LedgerEntry]] = {}
    for entry in entries:
        if entry.verb == "compare" and math.isfinite(entry.score):
            runs.setdefault((entry.created, entry.data), []).append(entry)
    found = []
    for own in runs.values():
        scores = {name: _mean([e.score for e in own if e.strategy == name]) for name in {e.strategy for e in own}}
        planned = [entry.strategy for entry in own if entry.planned]
        if planned and len(scores) > 1:
            found.append(max(scores.values()) - scores[planned[0]])
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
