"""One row for every floor and every strategy, several seeds taken together; the same rows as a plain-text table.

The page, the charts and the terminal all read these rows. How a row looks anywhere else is left to its reader.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from warmstart.core.records import Floor, Interval, RunRecord, StrategyRun
from warmstart.report import formats

# Upper 2.5 % points of Student's t for 1 to 30 degrees of freedom; beyond that the normal one is within 0.08.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class SummaryRow:
    """One line of the comparison.

    Attributes:
        name: the floor's or the strategy's own name.
        kind: what it is.
        accuracy: test accuracy with its 95 % interval, as fractions; None without a test score.
        macro_f1: test macro-F1 (mean over seeds), or None.
        log_loss: test log-loss in nats (mean over seeds), or None.
        seconds: wall time of one seed (mean over seeds), or None for a floor.
        peak_memory_mb: the highest of all seeds in megabytes, or None for a floor.
        trainable: trainable parameters, or None for a floor.
        status: "done", "stopped" or "skipped"; of several seeds the one that went furthest.
        note: what the run said, or a floor's cross-validated accuracy.
        chosen: whether this is what the run chose.
        seeds: how many seeds have a test score (0 without one).
        spread: standard deviation of the accuracy between seeds, or None with fewer than two.
        seed_accuracies: the accuracy of each seed, in the record's order.
    """

    name: str
    kind: Literal["floor", "strategy"]
    accuracy: Interval | None
    macro_f1: float | None
    log_loss: float | None
    seconds: float | None
    peak_memory_mb: float | None
    trainable: int | None
    status: str
    note: str
    chosen: bool
    seeds: int = 0
    spread: float | None = None
    seed_accuracies: tuple[float, ...] = ()


def summary_rows(record: RunRecord) -> list[SummaryRow]:
    """Floors in the record's order, then strategies in the order in which they first ran."""
    by_strategy: dict[str, list[StrategyRun]] = {}
    for run in record.runs:
        by_strategy.setdefault(run.strategy, []).append(run)
    rows = [_floor_row(floor) for floor in record.floors]
    return rows + [_strategy_row(name, runs, name == record.chosen) for name, runs in by_strategy.items()]


def by_accuracy(rows: Iterable[SummaryRow]) -> list[SummaryRow]:
    """The best first; rows without a score last, in the order given."""
    return sorted(rows, key=lambda row: -row.accuracy.value if formats.known(row.accuracy) else math.inf)


def best_floor(rows: Iterable[SummaryRow]) -> SummaryRow | None:
    """The floor with the highest test accuracy, or None when no floor was scored on the test rows."""
    floors = [row for row in rows if row.kind == "floor" and formats.known(row.accuracy)]
    return by_accuracy(floors)[0] if floors else None


def chosen_row(rows: Iterable[SummaryRow]) -> SummaryRow | None:
    """The row of the chosen strategy, or None when there is none."""
    return next((row for row in rows if row.chosen), None)


def scored_run(record: RunRecord) -> StrategyRun | None:
    """The run whose scores stand for the result: the chosen strategy's first seed with test scores, or None."""
    return next((run for run in record.runs if run.strategy == record.chosen and run.test is not None), None)


def combine_seeds(intervals: Sequence[Interval]) -> Interval:
    """One interval for the mean over seeds.

    The value is the mean of the seeds' values. Two sources of doubt are added in quadrature: which seeds were drawn
    (Student's t on the seed means, `t(n-1) · s / √n`) and which test rows were drawn (the mean of the seeds' own
    bootstrap half-widths, not divided by `√n`, because all seeds are judged on the same rows). The bounds are cut at 0
    and 1. One seed keeps its own interval, which need not be symmetric.

    Args:
        intervals: a fraction and its 95 % interval for each seed; at least one.

    Returns:
        The mean with its interval; the bounds are not-a-number when a seed has no bounds.
    """
    if len(intervals) == 1:
        return intervals[0]
    values = [interval.value for interval in intervals]
    mean, n = statistics.fmean(values), len(values)
    between = t_quantile(n - 1) * statistics.stdev(values) / math.sqrt(n)
    within = statistics.fmean(formats.half_width(interval) for interval in intervals)
    half = math.hypot(between, within)
    if not math.isfinite(half):
        return Interval(mean, math.nan, math.nan)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def t_quantile(degrees: int) -> float:
    """The 97.5 % point of Student's t distribution for one or more degrees of freedom."""
    return _T[degrees - 1] if degrees <= len(_T) else 1.96


def text_table(record: RunRecord) -> str:
    """The comparison as plain text with aligned columns; the chosen strategy is marked with an asterisk."""
    head = ("", "test accuracy %", "macro-F1 %", "log-loss", "time", "memory", "trainable", "")
    body = [_text_cells(row) for row in by_accuracy(summary_rows(record))]
    widths = [max(len(cells[column]) for cells in (head, *body)) for column in range(len(head))]
    return "\n".join(_text_line(cells, widths) for cells in (head, *body)) + "\n"


def _floor_row(floor: Floor) -> SummaryRow:
    within = floor.cross_validated
    return SummaryRow(
        name=floor.name,
        kind="floor",
        accuracy=floor.test if formats.known(floor.test) else None,
        macro_f1=None,
        log_loss=None,
        seconds=None,
        peak_memory_mb=None,
        trainable=None,
        status="done",
        note=f"cross-validated {formats.percent(within.value)}" if formats.known(within) else "",
        chosen=False,
        seeds=1 if formats.known(floor.test) else 0,
    )


def _strategy_row(name: str, runs: Sequence[StrategyRun], chosen: bool) -> SummaryRow:
    tests = [run.test for run in runs if run.test is not None and formats.known(run.test.accuracy)]
    values = [test.accuracy.value for test in tests]
    ran = [run for run in runs if run.status != "skipped"]
    memory = [run.peak_memory_mb for run in ran if formats.finite(run.peak_memory_mb)]
    return SummaryRow(
        name=name,
        kind="strategy",
        accuracy=combine_seeds([test.accuracy for test in tests]) if tests else None,
        macro_f1=_mean(test.macro_f1.value for test in tests),
        log_loss=_mean(test.log_loss.value for test in tests),
        seconds=_mean(run.seconds for run in ran),
        peak_memory_mb=max(memory) if memory else None,
        trainable=ran[0].trainable if ran else None,
        status=next(status for status in ("done", "stopped", "skipped") if any(r.status == status for r in runs)),
        note=_note(runs),
        chosen=chosen,
        seeds=len(tests),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        seed_accuracies=tuple(values),
    )


def _note(runs: Sequence[StrategyRun]) -> str:
    """The runs' notes, each once; with several seeds, how many of them did not finish."""
    notes = list(dict.fromkeys(run.note for run in runs if run.note))
    if len(runs) > 1:
        for status in ("stopped", "skipped"):
            number = sum(run.status == status for run in runs)
            if 0 < number < len(runs):
                notes.append(f"{number} of {len(runs)} seeds {status}")
    return "; ".join(notes)


def _mean(values: Iterable[float]) -> float | None:
    finite = [value for value in values if formats.finite(value)]
    return statistics.fmean(finite) if finite else None


def _text_cells(row: SummaryRow) -> tuple[str, ...]:
    remark = row.note if row.status == "done" else f"{row.status}: {row.note}".rstrip(": ")
    return (
        f"{'* ' if row.chosen else '  '}{row.name}{' (floor)' if row.kind == 'floor' else ''}",
        formats.interval_percent(row.accuracy),
        formats.bare_percent(row.macro_f1),
        formats.number(row.log_loss),
        formats.seconds(row.seconds),
        formats.megabytes(row.peak_memory_mb),
        formats.short_count(row.trainable),
        formats.shorten(remark, 72),
    )


def _text_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = cells
    numbers = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *numbers, last]).rstrip()
