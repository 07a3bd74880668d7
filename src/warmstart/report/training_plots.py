"""The charts of a training run: losses and scores over the steps, the learning rate of each group, and its search.

Records in, SVG text out, no state. Charts of results are in `plots`; markup is left to `svg`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from warmstart.core.records import GroupRow, Point, StrategyRun
from warmstart.report import formats, svg

Series = tuple[NDArray[np.float64], NDArray[np.float64]]  # steps and values, both (moments,)

PANEL, HEIGHT = 460, 350  # CSS pixels: a chart that stands beside another
# Input → output. Hue and lightness both rise in one direction, so the order survives colour blindness and grey print,
# and every step keeps its contrast on white and on near-black.
DEPTH_COLOURS = LinearSegmentedColormap.from_list("depth", ["#3f5fc4", "#8a5cc9", "#cc5694", "#e2704a", "#e0932a"])
_KEYED_GROUPS = 14  # more groups than this are named only in part beside the rate chart


class CurveLimits:
    """The ranges that all learning curves of a page share.

    Attributes:
        loss: lowest and highest loss shown, in nats; a few wild first steps may be cut.
        score: lowest and highest validation score shown, in per cent.
    """

    def __init__(self, runs: Sequence[StrategyRun]) -> None:
        points = [point for run in runs for point in run.history]
        losses = [v for p in points for v in (p.loss, p.validation_loss) if formats.finite(v)]
        scores = [100 * v for v in (p.validation_score for p in points) if formats.finite(v)]
        self.loss = (0.0, 1.06 * float(np.percentile(losses, 99.5))) if losses else (0.0, 1.0)
        if self.loss[1] <= 0:
            self.loss = (0.0, 1.0)
        low, high = (min(scores), max(scores)) if scores else (0.0, 100.0)
        margin = max(1.0, 0.12 * (high - low))
        self.score = (max(0.0, low - margin), min(100.0 + margin / 2, high + margin))


def curves(runs: Sequence[StrategyRun], metric: str, limits: CurveLimits, ident: str) -> str | None:
    """Losses, and below them the validation score, over the steps of one strategy; one line a seed.

    Args:
        runs: of one strategy.
        metric: what the validation score is, such as "accuracy".
        limits: ranges shared by the strategies of a page, so that they can be compared.
        ident: prefix of the identifiers.

    Returns:
        SVG, or None when nothing was measured during training.
    """
    measures = (_loss, _validation_loss, _score)
    histories = [run.history for run in runs if any(_series(run.history, read)[0].size for read in measures)]
    if not histories:
        return None
    scored = metric != "log_loss" and any(_series(h, _score)[0].size for h in histories)
    height = HEIGHT if scored else HEIGHT - 130
    figure = svg.new_figure(PANEL, height)
    loss_axes = figure.add_axes((46 / PANEL, 1 - 176 / height, 1 - 130 / PANEL, 146 / height))
    _losses(loss_axes, histories)
    _shape(loss_axes, limits.loss, "loss, nats", last=not scored)
    _end_labels(loss_axes, histories[0])
    if scored:
        score_axes = figure.add_axes((46 / PANEL, 44 / height, 1 - 130 / PANEL, 86 / height))
        score_axes.set_xlim(loss_axes.get_xlim())
        _score_lines(score_axes, histories)
        _shape(score_axes, limits.score, f"validation {formats.metric_name(metric)}, %", last=True)
    return svg.to_svg(figure, ident, f"Learning curves of {formats.strategy_name(runs[0].strategy)}")


def rates(run: StrategyRun, ident: str) -> str | None:
    """The learning rate of each group over the steps of one run, on a logarithmic axis.

    A group that opens late starts late, with a dot. The key names the groups from the output (top) to the input.

    Returns:
        SVG, or None when no rate above zero was recorded.
    """
    names = ordered_groups(run)
    lines = [_rate_line(run.history, name) for name in names]
    peaks = [float(values.max()) for _, values in lines if values.size]
    if not peaks:
        return None
    figure = svg.new_figure(PANEL, HEIGHT)
    axes = figure.add_axes((54 / PANEL, 44 / HEIGHT, 1 - 190 / PANEL, 1 - 74 / HEIGHT))
    axes.set_yscale("log")
    axes.set_ylim(min(peaks) / 12, max(peaks) * 1.6)
    first = min(float(steps[0]) for steps, values in lines if values.size)
    last = max(point.step for point in run.history)
    axes.set_xlim(0, max(1, last) * 1.02)
    for place, (steps, values) in enumerate(lines):
        if values.size:
            axes.plot(steps, values, color=_depth_colour(place, len(names)), linewidth=1.8)
            if steps[0] > first + 0.02 * last:
                axes.plot(steps[:1], values[:1], "o", color=_depth_colour(place, len(names)), markersize=5)
    _rate_key(axes, names, [bool(values.size) for _, values in lines])
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value, ".0e")))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    axes.tick_params(which="minor", length=0)
    _frame(axes, "learning rate", last=True)
    return svg.to_svg(figure, ident, f"Learning rate of each group during {formats.strategy_name(run.strategy)}")


def rate_search(run: StrategyRun, ident: str) -> str | None:
    """The loss over the rates of a range test, on a logarithmic axis, with the chosen rate and where it diverged.

    The dashed line is the loss with nothing ramped. What comes after the divergence is cut off.

    Returns:
        SVG, or None when nothing was measured.
    """
    found = run.rate_search
    if found is None or len(found.rates) < 2 or not formats.finite(found.reference):
        return None
    rates, losses = np.array(found.rates), np.array(found.losses)  # both (steps,)
    figure = svg.new_figure(PANEL, HEIGHT - 80)
    height = HEIGHT - 80
    axes = figure.add_axes((54 / PANEL, 48 / height, 1 - 140 / PANEL, 1 - 78 / height))
    svg.bare(axes, bottom=True)
    axes.set_xscale("log")
    axes.set_xlim(min(rates[0], found.learning_rate) / 1.1, rates[-1] * 1.1)
    depth = max(found.reference - float(losses.min()), 0.05 * abs(found.reference), 0.01)
    until = losses if found.diverged is None else losses[rates <= found.diverged]
    low, high = found.reference - 1.25 * depth, max(found.reference + depth, float(np.max(until, initial=0.0)) * 1.03)
    axes.set_ylim(low, high)
    axes.axhline(found.reference, color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(rates, losses, color=svg.INK, linewidth=2)
    _mark_choice(axes, found.learning_rate)
    if found.diverged is not None:
        axes.axvline(found.diverged, color=svg.WARM, linewidth=1.5)
        text = f"diverges\n{_power(found.diverged)}"
        axes.text(1.03, 0.9, text, transform=axes.transAxes, color=svg.WARM, va="center", fontsize=12)
    place = min((found.reference - low) / (high - low), 0.7)
    axes.text(1.03, place, "not ramped", transform=axes.transAxes, color=svg.MUTED, va="center", fontsize=12)
    axes.set_title("loss, nats", loc="left", fontsize=12, color=svg.MUTED, pad=8)
    axes.set_xlabel("learning rate", color=svg.MUTED, fontsize=12)
    axes.grid(axis="y", color=svg.GRID, linewidth=1)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value, ".0e")))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    axes.tick_params(which="minor", length=0)
    return svg.to_svg(figure, ident, f"Loss over the learning rate before {formats.strategy_name(run.strategy)}")


def ordered_groups(run: StrategyRun) -> list[str]:
    """The names under which rates were recorded, from input to output where the group table tells the order."""
    recorded = list(dict.fromkeys(name for point in run.history for name in point.rates or {}))
    order: dict[str, int] = {}
    for place, row in enumerate(sorted(run.groups, key=_depth)):
        for name in (row.group, f"{row.tower}.{row.group}", f"{row.tower}/{row.group}"):
            order.setdefault(name, place)
    return sorted(recorded, key=lambda name: order.get(name, len(order)))


def _series(history: Sequence[Point], read: Callable[[Point], float | None]) -> Series:
    """Steps and values where there is a value; both (moments,)."""
    pairs = [(point.step, value) for point in history if formats.finite(value := read(point))]
    return np.array([step for step, _ in pairs], float), np.array([value for _, value in pairs], float)


def _score(point: Point) -> float | None:
    return point.validation_score


def _loss(point: Point) -> float | None:
    return point.loss


def _validation_loss(point: Point) -> float | None:
    return point.validation_loss


def _losses(axes: Axes, histories: Sequence[Sequence[Point]]) -> None:
    alpha = 1.0 if len(histories) == 1 else 0.6
    for history in histories:
        steps, values = _series(history, _loss)
        axes.plot(steps, values, color=svg.MUTED, linewidth=1.3, alpha=alpha)
        steps, values = _series(history, _validation_loss)
        axes.plot(steps, values, color=svg.WARM, linewidth=2, alpha=alpha, marker="o", markersize=3)
    last = max(point.step for history in histories for point in history)
    axes.set_xlim(0, max(1, last))


def _score_lines(axes: Axes, histories: Sequence[Sequence[Point]]) -> None:
    alpha = 1.0 if len(histories) == 1 else 0.6
    bests = []
    for history in histories:
        steps, values = _series(history, _score)
        if not values.size:
            continue
        axes.plot(steps, 100 * values, color=svg.ACCENT, linewidth=2, alpha=alpha)
        best = int(values.argmax())
        axes.plot(steps[best], 100 * values[best], "o", color=svg.ACCENT, markersize=6, clip_on=False)
        bests.append(100 * values[best])
    text = f"best {bests[0]:.1f}" if len(bests) == 1 else f"best {min(bests):.1f}\nto {max(bests):.1f}"
    axes.text(1.03, 0.5, text, transform=axes.transAxes, color=svg.ACCENT, va="center", fontsize=12)


def _end_labels(axes: Axes, history: Sequence[Point]) -> None:
    """Name the two losses at their right ends, far enough apart to be read."""
    low, high = axes.get_ylim()
    ends: list[tuple[float, str, str]] = []
    for read, name, colour in ((_loss, "training", svg.MUTED), (_validation_loss, "validation", svg.WARM)):
        values = _series(history, read)[1]
        if values.size:
            ends.append((float(np.clip((values[-3:].mean() - low) / (high - low), 0.05, 0.95)), name, colour))
    ends.sort()
    places = [end[0] for end in ends]
    if len(ends) == 2 and places[1] - places[0] < 0.11:
        middle = min(max(sum(places) / 2, 0.09), 0.9)
        places = [middle - 0.055, middle + 0.055]
    for y, (_, name, colour) in zip(places, ends, strict=True):
        axes.text(1.03, y, name, transform=axes.transAxes, color=colour, va="center", fontsize=12)


def _rate_line(history: Sequence[Point], name: str) -> Series:
    """Steps and rates of one group where its rate is above zero; both (moments,)."""
    steps, values = _series(history, lambda point: (point.rates or {}).get(name))
    return steps[values > 0], values[values > 0]


def _rate_key(axes: Axes, names: Sequence[str], learns: Sequence[bool]) -> None:
    """Every group in order beside the chart, the output on top, each with a stroke of its colour."""
    n = len(names)
    named = range(n) if n <= _KEYED_GROUPS else {round(i * (n - 1) / (_KEYED_GROUPS - 1)) for i in range(_KEYED_GROUPS)}
    step = min(0.065, 0.97 / max(1, n))
    for place, name in enumerate(names):
        y = 0.97 - step * (n - 1 - place)
        axes.plot([1.03, 1.085], [y, y], transform=axes.transAxes, color=_depth_colour(place, n), linewidth=3,
                  clip_on=False, alpha=1.0 if learns[place] else 0.25)  # fmt: skip
        if place in named:
            text = svg.clean(name, 15) + ("" if learns[place] else " (frozen)")
            axes.text(1.105, y, text, transform=axes.transAxes, color=svg.INK if learns[place] else svg.MUTED,
                      va="center_baseline", fontsize=11, parse_math=False)  # fmt: skip


def _mark_choice(axes: Axes, rate: float) -> None:
    """A vertical line at the chosen rate, named at its top, on the left where there is room: the curve is low there."""
    axes.axvline(rate, color=svg.ACCENT, linewidth=1.5)
    low, high = np.log(axes.get_xlim())
    left = (np.log(rate) - low) / (high - low) > 0.35
    axes.annotate(
        f"chosen {_power(rate)}",
        (rate, 0.92),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        color=svg.ACCENT,
        fontsize=12,
    )


def _power(value: float, spec: str = ".1e") -> str:
    """0.00017 → "1.7e-4"."""
    return f"{value:{spec}}".replace("e-0", "e-")


def _depth_colour(place: int, groups: int) -> str:
    return to_hex(DEPTH_COLOURS(place / max(1, groups - 1)))


def _depth(row: GroupRow) -> int:
    return row.depth


def _shape(axes: Axes, limits: tuple[float, float], title: str, *, last: bool) -> None:
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _frame(axes, title, last=last)


def _frame(axes: Axes, title: str, *, last: bool) -> None:
    """Quiet axes: a title at the left, horizontal lines, steps below the last of a stack."""
    svg.bare(axes, bottom=True)
    axes.set_title(title, loc="left", fontsize=12, color=svg.MUTED, pad=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", color=svg.GRID, linewidth=1)
    if last:
        axes.set_xlabel("optimizer step", color=svg.MUTED, fontsize=12)
    else:
        axes.tick_params(axis="x", labelbottom=False)
