"""The verdict of a run in plain words: what was chosen, what it reached, and whether that beats what costs nothing.

Numbers come from `summary`; how the words are set on a page is left to the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from warmstart.core.records import Interval, PairedDifference, RunRecord
from warmstart.report import formats
from warmstart.report.summary import SummaryRow, best_floor, by_accuracy, chosen_row, scored_run

Tone = Literal["good", "mixed", "bad"]


@dataclass(frozen=True)
class Tile:
    """One large figure with its label and a line of context."""

    label: str
    value: str
    context: str


@dataclass(frozen=True)
class Verdict:
    """The headline, the sentences below it, the large figures, and whether the news is good."""

    headline: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]
    tone: Tone


@dataclass(frozen=True)
class DifferenceRow:
    """A paired difference and what follows from it."""

    strategy: str
    baseline: str
    difference: Interval
    separated: bool
    meaning: str


def give_verdict(record: RunRecord, rows: Sequence[SummaryRow]) -> Verdict:
    """Put the outcome into words; a run without scores is said to be just that."""
    chosen, floor = chosen_row(rows), best_floor(rows)
    if chosen is None or not formats.known(chosen.accuracy):
        return _without_scores(record, rows, floor)
    name = formats.strategy_name(chosen.name)
    tone, against = _against_floor(record, chosen, floor)
    mean = f", mean of {chosen.seeds} seeds" if chosen.seeds > 1 else ""
    headline = f"{name} reached {formats.percent(chosen.accuracy.value)} test accuracy{_ahead(chosen, floor)}"
    interval = f"95 % interval {formats.span(chosen.accuracy)} %" if formats.bounded(chosen.accuracy) else "no interval"
    sentences = [f"{_test_rows(record)} ({interval}{mean}).", *against, *_over_runner_up(record, chosen, rows)]
    return Verdict(headline, tuple(sentences), _tiles(record, chosen, floor), tone)


def difference_rows(record: RunRecord) -> list[DifferenceRow]:
    """Every paired difference with whether its interval excludes zero."""
    return [
        DifferenceRow(d.strategy, d.baseline, d.difference, excludes_zero(d.difference), _meaning(d.difference))
        for d in record.differences
    ]


def excludes_zero(interval: Interval) -> bool:
    """Whether both bounds lie on one side of zero; False when a bound is missing."""
    return formats.bounded(interval) and (interval.low > 0 or interval.high < 0)


def _meaning(difference: Interval) -> str:
    if not formats.bounded(difference):
        return "No interval was taken"
    if not excludes_zero(difference):
        return "No: not told apart"
    return "Yes: better" if difference.low > 0 else "Yes: worse"


def _without_scores(record: RunRecord, rows: Sequence[SummaryRow], floor: SummaryRow | None) -> Verdict:
    tried = [row for row in rows if row.kind == "strategy"]
    name = formats.strategy_name(record.chosen)
    headline = f"{name} has no test score" if record.chosen else "No strategy has a test score"
    sentences = [f"{formats.strategy_name(row.name)}: {row.status}. {row.note}".strip() for row in tried]
    if not tried:
        sentences = ["No strategy was run."]
    if floor is not None and floor.accuracy is not None:
        sentences.append(f"The best floor, {floor.name}, reaches {formats.percent(floor.accuracy.value)}.")
    tiles = (_time_tile(record, None),) if formats.finite(record.seconds) else ()
    return Verdict(headline, tuple(sentences), tiles, "bad")


def _test_rows(record: RunRecord) -> str:
    run = scored_run(record)
    rows = run.test.rows if run is not None and run.test is not None else record.task.sizes.get("test", 0)
    return f"Measured on {rows:,} held-out rows" if rows else "Measured on held-out rows"


def _ahead(chosen: SummaryRow, floor: SummaryRow | None) -> str:
    if floor is None or floor.accuracy is None or chosen.accuracy is None:
        return ""
    gap = chosen.accuracy.value - floor.accuracy.value
    size = formats.points(abs(gap)).lstrip("+")
    if float(size) == 0:
        return ", level with the best floor"
    return f", {size} points {'above' if gap > 0 else 'below'} the best floor"


def _against_floor(record: RunRecord, chosen: SummaryRow, floor: SummaryRow | None) -> tuple[Tone, list[str]]:
    """How sure it is that the chosen strategy beats the best floor: by the paired interval, else by overlap."""
    if floor is None or floor.accuracy is None or chosen.accuracy is None:
        return "mixed", ["No floor was scored on the test rows, so there is nothing to hold this against."]
    told = f"The best floor is {floor.name} with {formats.percent(floor.accuracy.value)}"
    paired = _difference(record.differences, chosen.name, floor.name)
    if chosen.accuracy.value < floor.accuracy.value:
        return "bad", [f"{told}: the strategy did not beat it."]
    if chosen.accuracy.value == floor.accuracy.value:
        return "mixed", [f"{told}: the strategy is right as often, and no more."]
    if paired is not None and formats.bounded(paired):
        sure = excludes_zero(paired)
        bounds = f"{formats.points(paired.low)} to {formats.points(paired.high)} points"
        verb = "excludes" if sure else "contains"
        return "good" if sure else "mixed", [f"{told}; the paired 95 % interval of the gain, {bounds}, {verb} zero."]
    if formats.bounded(chosen.accuracy) and formats.bounded(floor.accuracy):
        if chosen.accuracy.low > floor.accuracy.high:
            return "good", [f"{told}; the two intervals do not overlap."]
        return "mixed", [f"{told}; the two intervals overlap, so the gain may be smaller than it looks."]
    return "mixed", [f"{told}."]


def _over_runner_up(record: RunRecord, chosen: SummaryRow, rows: Sequence[SummaryRow]) -> list[str]:
    others = [row for row in rows if row.kind == "strategy" and not row.chosen and formats.known(row.accuracy)]
    if not others:
        return []
    second = by_accuracy(others)[0]
    assert second.accuracy is not None
    told = f"Best of the others: {formats.strategy_name(second.name)} with {formats.percent(second.accuracy.value)}"
    paired = _difference(record.differences, chosen.name, second.name)
    if paired is None or not formats.bounded(paired):
        return [f"{told}."]
    verb = "a difference that excludes zero" if excludes_zero(paired) else "not told apart from the chosen one"
    return [f"{told}, {verb} ({formats.points(paired.value)} [{_bounds(paired)}] points)."]


def _bounds(interval: Interval) -> str:
    return f"{formats.points(interval.low)}, {formats.points(interval.high)}"


def _difference(differences: Sequence[PairedDifference], strategy: str, baseline: str) -> Interval | None:
    """The recorded difference of two names, turned round where it was taken the other way; None when not recorded."""
    for found in differences:
        if (found.strategy, found.baseline) == (strategy, baseline):
            return found.difference
        if (found.strategy, found.baseline) == (baseline, strategy):
            d = found.difference
            return Interval(-d.value, -d.high, -d.low)
    return None


def _tiles(record: RunRecord, chosen: SummaryRow, floor: SummaryRow | None) -> tuple[Tile, ...]:
    value = chosen.accuracy.value if chosen.accuracy is not None else None
    sure = f"95 % interval {formats.span(chosen.accuracy)}" if formats.bounded(chosen.accuracy) else "no interval"
    tiles = [Tile("Test accuracy", formats.percent(value), sure)]
    if floor is not None and floor.accuracy is not None and chosen.accuracy is not None:
        gap = formats.points(chosen.accuracy.value - floor.accuracy.value)
        tiles.append(
            Tile("Over the best floor", f"{gap} points", f"{floor.name}: {formats.percent(floor.accuracy.value)}")
        )
    tiles.append(Tile("Macro-F1", formats.percent(chosen.macro_f1), "every class counts the same"))
    tiles.append(_time_tile(record, chosen))
    if chosen.trainable is not None:
        share = chosen.trainable / record.backbone.parameters if record.backbone.parameters > 0 else None
        of = f"{formats.percent(share)} of the model's size" if formats.finite(share) else "parameters"
        tiles.append(Tile("Trained parameters", formats.short_count(chosen.trainable), of))
    return tuple(tiles)


def _time_tile(record: RunRecord, chosen: SummaryRow | None) -> Tile:
    own = f"{formats.seconds(chosen.seconds)} for the chosen strategy" if chosen is not None else "from start to end"
    return Tile("Whole run", formats.seconds(record.seconds), own)
