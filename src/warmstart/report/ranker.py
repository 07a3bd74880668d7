"""A run of `ranker` as one self-contained HTML page, from its record alone.

The charts are `contrast_plots`; looks are left to `ranker.html.j2` and `report.css`.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.recommend import ActivityRow, RankerRecord
from warmstart.report import contrast_plots
from warmstart.report.html import markup, page


@dataclass(frozen=True)
class ActivityPair:
    """Users with histories of like length, without and with the ranker."""

    before: ActivityRow
    after: ActivityRow


def render_ranker(record: RankerRecord) -> str:
    """The page that shows a run: verdict, before and after, examples, course, data, and how to repeat it.

    Returns:
        An HTML document without scripts or outside references; every text in it is escaped.
    """
    before, after = record.before.test.by_activity, record.after.test.by_activity
    return page(
        "ranker.html.j2",
        record=record,
        headline=headline(record),
        better=verdict(record),
        activity=[ActivityPair(*pair) for pair in zip(before, after, strict=True)],
        training=markup(contrast_plots.training(record.history, "training")),
        course=markup(contrast_plots.vectors(record.history, "course", "NDCG@10 of the questions kept for choosing")),
    )


def verdict(record: RankerRecord) -> str:
    """Say "good", "bad" or "mixed": whether the paired interval of NDCG@10 lies above, below, or across zero."""
    gain = record.gains["NDCG@10"]
    if gain.low > 0:
        return "good"
    return "bad" if gain.high < 0 else "mixed"


def headline(record: RankerRecord) -> str:
    """What came of it, in one line."""
    before, after = record.before.test.ndcg_10.value, record.after.test.ndcg_10.value
    if not record.helps:
        return f"The ranker does not help: NDCG@10 stays at {before:.4f}"
    change = f" ({100 * (after / before - 1):+.1f} %)".replace("-", "−") if before > 0 else ""
    words = {"good": "raises", "bad": "lowers", "mixed": "does not clearly change"}[verdict(record)]
    return f"The ranker {words} NDCG@10: {before:.4f} → {after:.4f}{change}"
