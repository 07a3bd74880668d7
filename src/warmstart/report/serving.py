"""A published bundle as one self-contained HTML page, from the records of the publishing and of the bundle's parts.

The chart is `index_plots`; looks are left to `serving.html.j2` and `report.css`.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.index import TuneRecord
from warmstart.core.recommend import RankerRecord, TwoTowerRecord
from warmstart.core.records import Interval
from warmstart.core.serving import ServingRecord
from warmstart.report import formats, index_plots
from warmstart.report.html import markup, page

_WIDTHS = ("wide", "narrow")
_NAMES = {
    "indexed": "in the index",
    "allowed": "allowed: not seen, and by the lists and conditions of a request",
    "retrieved": "retrieved by the index",
    "ranked": "ordered by the ranker",
    "shown": "shown",
}


@dataclass(frozen=True)
class Stage:
    """One step of the funnel, as text."""

    name: str
    items: str


@dataclass(frozen=True)
class Reached:
    """How often what a user took next was still there after a step, on the test questions of the parts' own runs."""

    name: str
    hit: Interval


def render_serving(
    record: ServingRecord, towers: TwoTowerRecord, tune: TuneRecord | None, ranker: RankerRecord | None
) -> str:
    """The page of a bundle: the funnel and what it takes, the index's frontier, examples, and what it is made of.

    Args:
        record: of the publishing.
        towers: of the towers.
        tune: of the index; None where it was built without measuring.
        ranker: of the ranker, if there is one.

    Returns:
        An HTML document without scripts or outside references; every text in it is escaped.
    """
    charts = {}
    if tune is not None:
        drawings = {name: index_plots.frontier(tune, f"frontier-{name}", narrow=name == "narrow") for name in _WIDTHS}
        charts = {name: markup(drawing) for name, drawing in drawings.items() if drawing is not None}
    return page(
        "serving.html.j2",
        record=record,
        headline=headline(record),
        stages=[Stage(_NAMES[name], _items(mean)) for name, mean in record.left.items()],
        reached=reached(towers, ranker),
        questions=towers.towers.test.questions if ranker is None else ranker.questions["test"],
        charts=charts,
        goal=None if tune is None else tune.goal,
    )


def headline(record: ServingRecord) -> str:
    """What serves, and how quickly, in one line."""
    whole = next((step for step in record.times if step.name == "whole answer"), None)
    took = "" if whole is None else f": half of the answers in {whole.p50_ms:.1f} ms, 99 % in {whole.p99_ms:.1f} ms"
    return f"{record.manifest.vectors:,} items{took}"


def reached(towers: TwoTowerRecord, ranker: RankerRecord | None) -> list[Reached]:
    """What the parts' own runs found, in the order of the steps."""
    if ranker is None:
        test = towers.towers.test
        return [Reached("among the first 100 of the towers", test.hit_100), Reached("among the first 10", test.hit_10)]
    count = formats.count(ranker.settings["candidates"])
    return [
        Reached(f"among the {count} that the towers put first", ranker.ceiling),
        Reached("among the first 10 of the towers", ranker.before.test.hit_10),
        Reached("among the first 10 of the ranker", ranker.after.test.hit_10),
    ]


def _items(mean: float) -> str:
    return f"{mean:,.0f}" if mean >= 100 or mean == int(mean) else f"{mean:,.1f}"
