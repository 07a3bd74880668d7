"""A run of `contrast two-tower` as one self-contained HTML page, from its record alone.

The charts are `contrast_plots`; looks are left to `two_tower.html.j2` and `report.css`.
"""

from __future__ import annotations

from warmstart.core.recommend import RankedRow, TwoTowerRecord
from warmstart.report import contrast_plots
from warmstart.report.html import markup, page


def render_two_tower(record: TwoTowerRecord) -> str:
    """The page that shows a run: verdict, baselines, examples, course, data, and how to repeat it.

    Returns:
        An HTML document without scripts or outside references; every text in it is escaped.
    """
    return page(
        "two_tower.html.j2",
        record=record,
        headline=headline(record),
        better=verdict(record),
        rows=ranked_rows(record),
        training=markup(contrast_plots.training(record.history, "training")),
        vectors=markup(contrast_plots.vectors(record.history, "vectors", "validation NDCG@10")),
    )


def ranked_rows(record: TwoTowerRecord) -> list[RankedRow]:
    """The towers, then the baselines, the best first."""
    return [record.towers, *sorted(record.floors, key=lambda row: -row.test.ndcg_10.value)]


def verdict(record: TwoTowerRecord) -> str:
    """Say "good", "bad" or "mixed": whether the towers' interval lies above, below, or across the best baseline."""
    if not record.floors:
        return "mixed"
    best = max(row.test.ndcg_10.value for row in record.floors)
    if record.towers.test.ndcg_10.low > best:
        return "good"
    return "bad" if record.towers.test.ndcg_10.high < best else "mixed"


def headline(record: TwoTowerRecord) -> str:
    """What came of it, in one line."""
    own = 100 * record.towers.test.hit_10.value
    if not record.floors:
        return f"The next item is among the first ten for {own:.1f} % of the users"
    best = max(record.floors, key=lambda row: row.test.ndcg_10.value)
    return f"HR@10 is {own:.1f} %; {best.name}, the best baseline, has {100 * best.test.hit_10.value:.1f} %"
