"""The charts of a contrastive training: loss under its ceiling, the bound, the score, how vectors lie, the scale.

Records in, SVG text out, no state; markup is left to `svg`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from warmstart.core.contrast import ContrastPoint
from warmstart.report import formats, svg

_WIDTH, _PANEL, _GAP = 460, 120, 46  # CSS pixels


def training(history: Sequence[ContrastPoint], ident: str) -> str | None:
    """Loss below log N, and below it the bound on the information that queries and candidates share.

    Returns:
        SVG, or None when no loss was recorded.
    """
    panels: list[tuple[str, tuple[tuple[str, str], ...], float | None]] = [
        ("loss and log N, nats", (("loss", "loss"), ("ceiling", "log N")), 0.0)
    ]
    if _lines(history, "bound"):
        panels.append(("shared information, at least, nats", (("bound", "log N − loss"), ("ceiling", "log N")), 0.0))
    if _lines(history, "accuracy"):
        panels.append(("positive first in its batch, share", (("accuracy", ""),), None))
    if len({point.scale for point in history if point.scale is not None}) > 1:
        panels.append(("scale (1 / temperature)", (("scale", ""),), None))
    return _stack(history, panels, ident, "Course of the contrastive loss") if _lines(history, "loss") else None


def vectors(history: Sequence[ContrastPoint], ident: str, score: str = "validation mean reciprocal rank") -> str | None:
    """Validation score (whose name is given), alignment, uniformity and effective rank.

    Returns:
        SVG, or None when nothing was evaluated.
    """
    panels: list[tuple[str, tuple[tuple[str, str], ...], float | None]] = [
        (score, (("validation_score", ""),), None),
        ("alignment (lower: pairs nearer)", (("alignment", ""),), None),
        ("uniformity (lower: spread more evenly)", (("uniformity", ""),), None),
        ("effective rank, dimensions", (("effective_rank", ""),), 0.0),
    ]
    panels = [panel for panel in panels if _lines(history, panel[1][0][0])]
    found = _lines(history, "validation_score")
    return _stack(history, panels, ident, "How the vectors of the validation pairs lie") if found else None


def _stack(
    history: Sequence[ContrastPoint],
    panels: Sequence[tuple[str, tuple[tuple[str, str], ...], float | None]],
    ident: str,
    label: str,
) -> str:
    height = len(panels) * (_PANEL + _GAP) + 14
    figure = svg.new_figure(_WIDTH, height)
    last = max(point.step for point in history)
    for place, (title, lines, low) in enumerate(panels):
        bottom = height - (place + 1) * (_PANEL + _GAP) + 18
        axes = figure.add_axes((58 / _WIDTH, bottom / height, 1 - 140 / _WIDTH, _PANEL / height))
        for number, (name, text) in enumerate(lines):
            _line(axes, _lines(history, name), text, first=number == 0)
        axes.set_xlim(0, max(1, last) * 1.02)
        axes.margins(y=0.12)
        if low is not None:
            axes.set_ylim(bottom=min([low, *(value for name, _ in lines for _, value in _lines(history, name))]))
        _frame(axes, title, last=place == len(panels) - 1)
    return svg.to_svg(figure, ident, label)


def _line(axes: Axes, points: Sequence[tuple[int, float]], text: str, *, first: bool) -> None:
    if not points:
        return
    steps, values = zip(*points, strict=True)
    colour, style = (svg.ACCENT, "-") if first else (svg.MUTED, "--")
    axes.plot(steps, values, style, color=colour, linewidth=1.8, marker="o" if len(points) < 12 else "", markersize=3.5)
    shown = text or formats.number(values[-1])
    axes.annotate(
        shown,
        (steps[-1], values[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        color=colour,
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
