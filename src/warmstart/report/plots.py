"""The charts of results: the comparison and the confusion matrix. Records in, SVG text out.

Every chart is drawn with matplotlib's object interface on its own figure, so nothing here has state. What turns a
figure into markup that fits a page is in `svg`; the charts of a training run are in `training_plots`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from warmstart.report import formats, svg
from warmstart.report.confusion import LABELLED_LIMIT, row_shares
from warmstart.report.summary import SummaryRow

_MATRIX_BLUE, _MATRIX_ORANGE = (0.23, 0.50, 0.87), (0.88, 0.47, 0.10)  # used with transparency on either background


def comparison(rows: Sequence[SummaryRow], floor: float | None, ident: str, *, narrow: bool) -> str | None:
    """Test accuracy of every row that has one, as a dot with its interval.

    Args:
        rows: in the order of display, from the top.
        floor: accuracy of the best floor, drawn as a dashed line; None for no line.
        ident: prefix of the identifiers.
        narrow: for a telephone: names stand above their line instead of beside it.

    Returns:
        SVG, or None when no row has a score.
    """
    shown = [row for row in rows if formats.known(row.accuracy)]
    if not shown:
        return None
    names = [svg.clean(formats.strategy_name(row.name) if row.kind == "strategy" else row.name, 34) for row in shown]
    step, width = (46, 350) if narrow else (32, 960)
    left = 6 if narrow else 20 + max(len(name) for name in names) * 7.2
    right = 10 if narrow else 160
    height = step * len(shown) + 52
    figure = svg.new_figure(width, height)
    axes = figure.add_axes((left / width, 46 / height, 1 - (left + right) / width, step * len(shown) / height))
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(*_accuracy_limits(shown))
    svg.bare(axes, bottom=True)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(5 if narrow else 8, steps=[1, 2, 5, 10]))
    axes.set_xlabel("test accuracy, %", color=svg.MUTED, fontsize=12)
    axes.grid(axis="x", color=svg.GRID, linewidth=1)
    if formats.finite(floor):
        axes.axvline(100 * floor, color=svg.MUTED, linewidth=1.2, dashes=(4, 3))
    offset = 0.14 if narrow else 0.0
    for place, (row, name) in enumerate(zip(shown, names, strict=True)):
        _whisker(axes, row, place + offset)
        _row_labels(axes, row, name, place, left, narrow=narrow)
    return svg.to_svg(figure, ident, "Test accuracy of every floor and strategy, with 95 % intervals")


def confusion_matrix(confusion: Sequence[Sequence[int]], labels: Sequence[str], ident: str) -> str:
    """A heat map: right answers blue, mistakes orange, shaded by the square root of the share of the true class.

    Up to twenty classes show labels and counts; beyond that the matrix is drawn bare, for its pattern only.
    """
    if len(labels) > LABELLED_LIMIT:
        return _bare_matrix(confusion, ident)
    n = len(labels)
    shares = row_shares(confusion)  # (classes, classes)
    cell = {2: 96, 3: 80}.get(n, max(32, 400 / n))
    names = [svg.clean(label, 20) for label in labels]
    left = 34 + 7.0 * max(len(name) for name in names)
    top = 34 + 6.0 * max(len(name) for name in names) if n > 3 else 58
    width, height = left + cell * n + 10, top + cell * n + 10
    figure = svg.new_figure(width, height)
    axes = figure.add_axes((left / width, 10 / height, cell * n / width, cell * n / height))
    axes.set_xlim(0, n)
    axes.set_ylim(n, 0)
    axes.pcolormesh(np.zeros((n, n)), facecolors="none", edgecolors=svg.GRID, linewidth=1)
    for true in range(n):
        for predicted in range(n):
            _cell(axes, true, predicted, confusion[true][predicted], float(shares[true, predicted]))
    svg.bare(axes)
    centres = np.arange(n) + 0.5
    axes.set_xticks(centres, names, rotation=90 if n > 3 else 0, color=svg.INK, parse_math=False)
    axes.set_yticks(centres, names, color=svg.INK, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=5)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", color=svg.MUTED, labelpad=8, fontsize=12)
    axes.set_ylabel("true", color=svg.MUTED, labelpad=8, fontsize=12)
    return svg.to_svg(figure, ident, "Confusion matrix: rows are true classes, columns predicted ones")


def _bare_matrix(confusion: Sequence[Sequence[int]], ident: str) -> str:
    shares = row_shares(confusion)
    n = len(shares)
    image = np.zeros((n, n, 4))  # (classes, classes, red-green-blue-alpha)
    image[..., :3] = _MATRIX_ORANGE
    image[np.arange(n), np.arange(n), :3] = _MATRIX_BLUE
    image[..., 3] = np.where(shares > 0, 0.25 + 0.75 * np.sqrt(shares), 0)
    size, margin = 380, 30
    figure = svg.new_figure(size + margin, size + margin)
    share = size / (size + margin)
    axes = figure.add_axes((1 - share, 0.005, share - 0.005, share - 0.005))
    axes.imshow(image, interpolation="none", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(f"predicted, {n} classes", color=svg.MUTED, fontsize=12)
    axes.set_ylabel(f"true, {n} classes", color=svg.MUTED, fontsize=12)
    for side in axes.spines.values():
        side.set_color(svg.GRID)
    return svg.to_svg(figure, ident, f"Confusion matrix of {n} classes, without labels")


def _cell(axes: Axes, true: int, predicted: int, rows: int, share: float) -> None:
    right = true == predicted
    shade = math.sqrt(share)
    if rows:
        colour = svg.ACCENT if right else svg.WARM
        axes.fill([predicted, predicted + 1, predicted + 1, predicted], [true, true, true + 1, true + 1],
                  facecolor=colour, alpha=shade, linewidth=0)  # fmt: skip
    ink = svg.ON_ACCENT if shade > 0.62 else svg.INK if rows else svg.MUTED
    axes.text(predicted + 0.5, true + 0.5, f"{rows:,}", color=ink, ha="center", va="center_baseline", fontsize=12,
              fontweight="bold" if right else "normal", alpha=1 if rows else 0.55)  # fmt: skip


def _whisker(axes: Axes, row: SummaryRow, y: float) -> None:
    assert row.accuracy is not None
    floor = row.kind == "floor"
    colour = svg.MUTED if floor else svg.ACCENT
    if formats.bounded(row.accuracy):
        width = 4.5 if row.chosen else 2.5
        bounds = [100 * row.accuracy.low, 100 * row.accuracy.high]
        axes.plot(bounds, [y, y], color=colour, linewidth=width, alpha=0.45, solid_capstyle="round")
    if row.seeds > 1:
        axes.plot([100 * v for v in row.seed_accuracies], [y] * row.seeds, "|", color=colour, markersize=11, alpha=0.9)
    axes.plot([100 * row.accuracy.value], [y], "o", color=colour, markersize=11 if row.chosen else 8,
              markerfacecolor=svg.SURFACE if floor else colour, markeredgewidth=1.8)  # fmt: skip


def _row_labels(axes: Axes, row: SummaryRow, name: str, place: int, left: float, *, narrow: bool) -> None:
    weight = "bold" if row.chosen else "normal"
    ink = svg.INK if row.kind == "strategy" else svg.MUTED
    value = formats.interval_percent(row.accuracy)
    y, where = place - 0.28 if narrow else place, axes.get_yaxis_transform()
    size = 13
    if narrow:
        plate = {"facecolor": svg.SURFACE, "edgecolor": "none", "pad": 1.5}
        for x, text, side in ((0, name, "left"), (1, value, "right")):
            axes.text(x, y, text, transform=where, color=ink, weight=weight, fontsize=size, va="center", ha=side,
                      bbox=plate, parse_math=False)  # fmt: skip
        return
    axes.annotate(name, (0, y), (-left, 0), xycoords=where, textcoords="offset points", color=ink, weight=weight,
                  fontsize=size, va="center", parse_math=False, annotation_clip=False)  # fmt: skip
    axes.annotate(value, (1, y), (14, 0), xycoords=where, textcoords="offset points", color=ink, weight=weight,
                  fontsize=size, va="center", annotation_clip=False)  # fmt: skip


def _accuracy_limits(rows: Sequence[SummaryRow]) -> tuple[float, float]:
    values = [row.accuracy for row in rows if row.accuracy is not None]
    every = [100 * v for a in values for v in (a.value, a.low, a.high) if formats.finite(v)]
    every += [100 * v for row in rows for v in row.seed_accuracies]
    margin = max(0.8, 0.04 * (max(every) - min(every)))
    return max(-margin / 2, min(every) - margin), min(100 + margin / 2, max(every) + margin)
