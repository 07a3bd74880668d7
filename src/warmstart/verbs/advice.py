"""What to do next, read off a record: plain sentences, most useful first."""

from __future__ import annotations

from collections.abc import Sequence

from warmstart.core.contrast import ContrastPoint
from warmstart.core.records import RunRecord, Scores, StrategyRun

_WEAK_F1 = 0.5
_IMBALANCE = 20.0


def advice_for(record: RunRecord) -> tuple[str, ...]:
    """Advice for a finished run; empty when there is nothing worth saying."""
    runs = [run for run in record.runs if run.strategy == record.chosen and run.test is not None]
    if not runs:
        return ()
    chosen = runs[0]
    assert chosen.test is not None
    reached = [run.test.accuracy.value for run in runs if run.test is not None]
    beaten = _beaten(record)
    found = [
        beaten,
        "" if beaten else _against_floor(record, sum(reached) / len(reached)),
        "" if record.chosen == "zero_shot" else _weak_classes(record, chosen.test),
        _imbalance(record),
        _stopped(chosen),
        _still_improving(chosen, counted="--max-steps" in record.command),
        _intervals(chosen.test),
        _labels(record),
    ]
    return tuple(line for line in found if line)


def course_advice(note: str, history: Sequence[ContrastPoint], *, counted: bool) -> list[str]:
    """What the course of a training says: that it was cut short, or that it was still getting better.

    Args:
        note: why training ended before its time; empty if it did not.
        history: its course.
        counted: whether its length was given in steps.
    """
    if note:
        return [f"{note[:1].upper()}{note[1:]}; a larger --time-budget would let it finish."]
    scores = [point.validation_score for point in history if point.validation_score is not None]
    if len(scores) > 2 and scores[-1] > max(scores[:-1]):
        return [_rising(counted=counted)]
    return []


def _rising(*, counted: bool) -> str:
    longer = "--max-steps" if counted else "--num-train-epochs"
    return f"The validation score was still rising at the end: try more {longer}."


def _beaten(record: RunRecord) -> str:
    worse = [pair for pair in record.differences if pair.strategy == record.chosen and pair.difference.high < 0]
    best = min(worse, key=lambda pair: pair.difference.value, default=None)
    if best is None:
        return ""
    return (
        f"{best.baseline} is clearly better on the test rows, by {-100 * best.difference.value:.1f} points: "
        f"use --strategy {best.baseline}."
    )


def _against_floor(record: RunRecord, accuracy: float) -> str:
    tested = [floor for floor in record.floors if floor.test is not None]
    best = max(tested, key=lambda floor: floor.test.value if floor.test else 0.0, default=None)
    if best is None or best.test is None or accuracy > best.test.high:
        return ""
    if accuracy == 1.0:
        return (
            f"Every test row was answered right, and the floor “{best.name}” reached {100 * best.test.value:.1f} %: "
            "use the cheapest of them, or judge by harder rows."
        )
    return (
        f"The result ({100 * accuracy:.1f} %) is not clearly above the floor “{best.name}” "
        f"({100 * best.test.value:.1f} %): "
        "look at the most confident mistakes for wrong labels before training more."
    )


def _weak_classes(record: RunRecord, scores: Scores) -> str:
    weak = [row for row in scores.per_class if row.rows > 0 and row.f1 < _WEAK_F1]
    if not weak:
        return ""
    trained = record.task.counts.get("labelled", {})
    named = ", ".join(
        f"{row.label} (F1 {row.f1:.2f}, {trained.get(row.label, 0)} labelled rows)"
        for row in sorted(weak, key=lambda row: row.f1)[:4]
    )
    return f"Label more rows of the classes that are answered worst: {named}."


def _imbalance(record: RunRecord) -> str:
    counts = [count for count in record.task.counts.get("labelled", {}).values() if count]
    if len(counts) < 2 or max(counts) < _IMBALANCE * min(counts) or "--class-weights balanced" in record.command:
        return ""
    return (
        f"The largest class has {max(counts) / min(counts):.0f} times the rows of the smallest: "
        "if the small ones matter, use --class-weights balanced and --metric-for-best-model macro_f1."
    )


def _stopped(run: StrategyRun) -> str:
    if run.status != "stopped":
        return ""
    return f"{run.note[:1].upper()}{run.note[1:]}; a larger --time-budget would let it finish."


def _still_improving(run: StrategyRun, *, counted: bool) -> str:
    scores = [point.validation_score for point in run.history if point.validation_score is not None]
    if len(scores) < 3 or run.status == "stopped" or scores[-1] <= max(scores[:-1]):
        return ""
    return _rising(counted=counted)


def _intervals(scores: Scores) -> str:
    half = (scores.accuracy.high - scores.accuracy.low) / 2
    if not half > 0.03:
        return ""
    return (
        f"With {scores.rows} test rows accuracy is known to ±{100 * half:.0f} points: a larger --test-size says more."
    )


def _labels(record: RunRecord) -> str:
    counts = [count for count in record.task.counts.get("labelled", {}).values() if count]
    if not counts or min(counts) >= 8:
        return ""
    return f"The smallest class has {min(counts)} labelled rows: a few dozen per class change the picture most."
