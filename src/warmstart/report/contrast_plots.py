"""The charts of a contrastive training: loss under its ceiling, the bound, the score, how vectors lie, the scale.

Records in, SVG text out, no state; markup is left to `svg`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from warmstart.core.contrast import ContrastPoint
from warmstart.report import formats, svg

_WIDTH, _PANEL, _GAP = 460, 120, 46  # CSS pixels
_APART = 13  # pixels that two texts need


@dataclass(frozen=True)
class _Panel:
    """A chart of the stack: its title, and for each line the field of a point and what to call it."""

    title: str
    lines: tuple[tuple[str, str], ...]
    low: float | None = None  # what the axis reaches down to
    span: float = 0.0  # least height of the axis, so that a small change looks small


def training(history: Sequence[ContrastPoint], ident: str) -> str | None:
    """Loss below log N, and below it the bound on the information that queries and candidates share.

    Returns:
        SVG, or None when no loss was recorded.
    """
    panels = [_Panel("loss and log N, nats", (("loss", "loss"), ("ceiling", "log N")), low=0.0)]
    if _lines(history, "bound"):
        panels.append(
            _Panel("shared information, at least, nats", (("bound", "log N − loss"), ("ceiling", "log N")), low=0.0)
        )
    if _lines(history, "accuracy"):
        panels.append(_Panel("positive first in its batch, share", (("accuracy", ""),), span=0.1))
    if len({point.scale for point in history if point.scale is not None}) > 1:
        panels.append(_Panel("scale (1 / temperature)", (("scale", ""),), span=1.0))
    return _stack(history, panels, ident, "Course of the contrastive loss") if _lines(history, "loss") else None


def vectors(history: Sequence[ContrastPoint], ident: str, score: str = "validation mean reciprocal rank") -> str | None:
    """Validation score (whose name is given), alignment, uniformity and effective rank.

    Returns:
        SVG, or None when nothing was evaluated.
    """
    panels = [
        _Panel(score, (("validation_score", ""),), span=0.05),
        _Panel("alignment (lower: pairs nearer)", (("alignment", ""),), span=0.1),
        _Panel("uniformity (lower: spread more evenly)", (("uniformity", ""),), span=0.2),
        _Panel("effective rank, dimensions", (("effective_rank", ""),), low=0.0),
    ]
    panels = [panel for panel in panels if _lines(history, panel.lines[0][0])]
    found = _lines(history, "validation_score")
    return _stack(history, panels, ident, "How the vectors of the validation pairs lie") if found else None


def _stack(
    history: Sequence[ContrastPoint],
    panels: Sequence[_Panel],
    ident: str,
    label: str,
) -> str:
    height = len(panels) * (_PANEL + _GAP) + 14
    figure = svg.new_figure(_WIDTH, height)
    last = max(point.step for point in history)
    for place, panel in enumerate(panels):
        bottom = height - (place + 1) * (_PANEL + _GAP) + 18
        axes = figure.add_axes((58 / _WIDTH, bottom / height, 1 - 140 / _WIDTH, _PANEL / height))
        drawn = [(_lines(history, name), text) for name, text in panel.lines]
        for number, (points, _) in enumerate(drawn):
            _line(axes, points, first=number == 0)
        axes.set_xlim(0, max(1, last) * 1.02)
        _heights(axes, [value for points, _ in drawn for _, value in points], panel)
        _ends(axes, [(points[-1], text) for points, text in drawn if points])
        _frame(axes, panel.title, last=place == len(panels) - 1)
    return svg.to_svg(figure, ident, label)


def _line(axes: Axes, points: Sequence[tuple[int, float]], *, first: bool) -> None:
    if not points:
        return
    steps, values = zip(*points, strict=True)
    colour, style = (svg.ACCENT, "-") if first else (svg.MUTED, "--")
    axes.plot(steps, values, style, color=colour, linewidth=1.8, marker="o" if len(points) < 12 else "", markersize=3.5)


def _heights(axes: Axes, values: Sequence[float], panel: _Panel) -> None:
    """From below the least to above the greatest value, and at least as high as the panel asks for."""
    low, high = min(values), max(values)
    missing = max(0.0, panel.span - (high - low)) / 2
    low, high = low - missing, high + missing
    if panel.low is not None:
        low = min(panel.low, low)
    room = 0.12 * (high - low) if high > low else 0.12 * abs(high) + 1e-6
    axes.set_ylim(low if panel.low is not None else low - room, high + room)


def _ends(axes: Axes, ends: Sequence[tuple[tuple[int, float], str]]) -> None:
    """What a line is called, or its last value, beside its end; two that end close together are moved apart."""
    bottom, top = axes.get_ylim()
    heights = [(value - bottom) / (top - bottom) * _PANEL for (_, value), _ in ends]
    moved = [0.0] * len(ends)
    if len(ends) == 2 and abs(heights[0] - heights[1]) < _APART:
        push = (_APART - abs(heights[0] - heights[1])) / 2
        moved = [push, -push] if heights[0] > heights[1] else [-push, push]
    for number, ((step, value), text) in enumerate(ends):
        axes.annotate(
            text if text else formats.number(value),
            (step, value),
            xytext=(6, moved[number]),
            textcoords="offset points",
            color=svg.ACCENT if number == 0 else svg.MUTED,
            fontsize=11,
            va="center",
        )


def _lines(history: Sequence[ContrastPoint], name: str) -> list[tuple[int, float]]:
    """Step and value wherever a value was measured."""
    found = [(point.step, getattr(point, name)) for point in history]
    return [(step, float(value)) for step, value in found if value is not None and math.isfinite(value)]


def _frame(axes: Axes, title: str, *, last: bool) -> None:
    svg.bare(axes, bottom=True)
    axes.set_title(title, loc="left", fontsize=12, color=svg.MUTED, pad=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y", color=svg.GRID, linewidth=1)
    if last:
        axes.set_xlabel("optimizer step", color=svg.MUTED, fontsize=12)
    else:
        axes.tick_params(axis="x", labelbottom=False)
