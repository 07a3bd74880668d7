"""A tuning of an index as one self-contained HTML page, from its record alone.

The chart is `index_plots`; looks are left to `index.html.j2` and `report.css`.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.index import Candidate, EffortPoint, TuneRecord
from warmstart.core.sizes import show_bytes
from warmstart.report import formats, index_plots
from warmstart.report.html import markup, page


@dataclass(frozen=True)
class CandidateRow:
    """One candidate at one effort, as text."""

    name: str
    effort: str
    recall: str
    p50: str
    p99: str
    memory: str
    per_vector: str  # bytes
    seconds: str
    note: str
    meets: bool
    chosen: bool


def render_tune(record: TuneRecord) -> str:
    """The page: what was chosen, the frontier of recall and latency, every candidate, and how to repeat it.

    Returns:
        An HTML document without scripts or outside references; every text in it is escaped.
    """
    chart = {
        name: index_plots.frontier(record, f"frontier-{name}", narrow=name == "narrow") for name in ("wide", "narrow")
    }
    return page(
        "index.html.j2",
        record=record,
        headline=headline(record),
        chosen=record.candidates[record.chosen],
        memory=show_bytes(record.candidates[record.chosen].memory_bytes),
        rows=candidate_rows(record, every_effort=False),
        points=candidate_rows(record, every_effort=True),
        charts={name: markup(drawing) for name, drawing in chart.items() if drawing is not None},
    )


def headline(record: TuneRecord) -> str:
    """What was chosen, in one line."""
    candidate = record.candidates[record.chosen]
    point = candidate.chosen
    reached = "" if point is None else f": recall@{record.goal.at} {_recall(point)}, p99 {point.p99_ms:.2f} ms"
    return f"{candidate.plan.name}{reached}"


def candidate_rows(record: TuneRecord, *, every_effort: bool) -> list[CandidateRow]:
    """Every candidate at the effort chosen for it, or else at the one that came nearest; or at every effort."""
    rows = []
    for place, candidate in enumerate(record.candidates):
        shown = candidate.points if every_effort else [_shown(candidate, record)]
        for point in shown:
            chosen = place == record.chosen and (not every_effort or point == candidate.chosen)
            rows.append(_row(candidate, point, record, chosen=chosen))
    return rows


def _shown(candidate: Candidate, record: TuneRecord) -> EffortPoint | None:
    if candidate.chosen is not None:
        return candidate.chosen
    fast = [point for point in candidate.points if point.p99_ms <= record.goal.p99_ms]
    if fast:
        return max(fast, key=lambda point: point.recall.low)
    return min(candidate.points, key=lambda point: point.p99_ms, default=None)


def _row(candidate: Candidate, point: EffortPoint | None, record: TuneRecord, *, chosen: bool) -> CandidateRow:
    built = candidate.memory_bytes > 0
    meets = point is not None and point.recall.low >= record.goal.recall and point.p99_ms <= record.goal.p99_ms
    return CandidateRow(
        name=candidate.plan.name,
        effort=formats.MISSING if point is None else point.effort.name,
        recall=formats.MISSING if point is None else f"{point.recall:.4f}",
        p50=formats.MISSING if point is None else f"{point.p50_ms:.3f}",
        p99=formats.MISSING if point is None else f"{point.p99_ms:.3f}",
        memory=show_bytes(candidate.memory_bytes) if built else formats.MISSING,
        per_vector=f"{candidate.memory_bytes / max(1, record.data.vectors):.0f}" if built else formats.MISSING,
        seconds=f"{candidate.build_seconds:.1f}" if built else formats.MISSING,
        note=candidate.note,
        meets=meets,
        chosen=chosen,
    )


def _recall(point: EffortPoint) -> str:
    return f"{point.recall.value:.3f}"
