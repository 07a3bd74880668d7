"""The chart of a tuning: recall against latency of every candidate, the goal, and what was chosen.

A record in, SVG text out, no state; markup is left to `svg`.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from warmstart.core.index import Candidate, TuneRecord
from warmstart.report import svg

_MARKS = "osD^vPX*<>h"


def frontier(record: TuneRecord, ident: str, *, narrow: bool) -> str | None:
    """Recall over the 99th percentile of latency, one line per candidate; the field of the goal is shaded.

    Args:
        record: of the tuning.
        ident: prefix of the identifiers.
        narrow: for a telephone.

    Returns:
        SVG, or None when nothing was measured.
    """
    shown = [(place, candidate) for place, candidate in enumerate(record.candidates) if candidate.points]
    if not shown:
        return None
    width, height = (350, 330 + 20 * len(shown)) if narrow else (860, 430)
    legend = 20 * len(shown) + 12 if narrow else 0
    right = 12 if narrow else 190
    figure = svg.new_figure(width, height)
    axes = figure.add_axes(
        (56 / width, (50 + legend) / height, 1 - (56 + right) / width, 1 - (50 + legend + 20) / height)
    )
    _frame(axes, record, [candidate for _, candidate in shown])
    for place, candidate in shown:
        _line(axes, candidate, place, chosen=place == record.chosen)
    box = (-0.02, -50 / (height - 70 - legend)) if narrow else (1.02, 1.0)
    axes.legend(loc="upper left", bbox_to_anchor=box, frameon=False, fontsize=11, labelcolor=svg.INK, borderaxespad=0)
    return svg.to_svg(figure, ident, "Recall against latency of every candidate at every effort")


def _frame(axes: Axes, record: TuneRecord, shown: list[Candidate]) -> None:
    goal = record.goal
    points = [point for candidate in shown for point in candidate.points]
    low = min(goal.p99_ms, *(point.p99_ms for point in points)) / 1.4
    high = max(goal.p99_ms, *(point.p99_ms for point in points)) * 1.4
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    floor = min([goal.recall, *(point.recall.value for point in points)])
    axes.set_ylim(floor - 0.06 * (1 - floor) - 0.002, 1 + 0.03 * (1 - floor) + 0.002)
    top = axes.get_ylim()[1]
    axes.fill([low, goal.p99_ms, goal.p99_ms, low], [goal.recall, goal.recall, top, top], facecolor=svg.ACCENT,
              alpha=0.10, linewidth=0)  # fmt: skip
    axes.plot([low, goal.p99_ms, goal.p99_ms], [goal.recall, goal.recall, top], "--", color=svg.ACCENT, linewidth=1)
    svg.bare(axes, bottom=True)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(color=svg.GRID, linewidth=1)
    axes.set_xlabel("99th percentile of a single query, ms", color=svg.MUTED, fontsize=12)
    axes.set_title(f"recall@{goal.at}; shaded: the goal", loc="left", color=svg.MUTED, fontsize=12)


def _line(axes: Axes, candidate: Candidate, place: int, *, chosen: bool) -> None:
    points = candidate.points
    colour = svg.ACCENT if chosen else svg.MUTED
    groups = {point.effort.k_factor for point in points}
    for number, factor in enumerate(sorted(groups)):
        line = [point for point in points if point.effort.k_factor == factor]
        axes.plot(
            [point.p99_ms for point in line],
            [point.recall.value for point in line],
            color=colour,
            marker=_MARKS[place % len(_MARKS)],
            markersize=5,
            linewidth=2.2 if chosen else 1.1,
            alpha=1.0 if chosen else 0.75,
            label=svg.clean(candidate.plan.name, 30) if number == 0 else None,
        )
    point = candidate.chosen
    if chosen and point is not None:
        axes.plot([point.p99_ms], [point.recall.value], "o", color=svg.WARM, markersize=13, markerfacecolor="none",
                  markeredgewidth=2.2)  # fmt: skip
