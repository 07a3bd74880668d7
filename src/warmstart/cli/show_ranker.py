"""What the command line prints of the answer of `ranker`, on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from warmstart.cli.console import output
from warmstart.report import formats
from warmstart.report.ranker import headline

if TYPE_CHECKING:
    from warmstart.core.records import Interval
    from warmstart.verbs.ranker import RankerResult


def show_ranker(result: RankerResult, verbose: bool) -> None:
    """The towers without and with the ranker, advice, and where the report is; with `verbose`, by activity."""
    record = result.record
    title = (
        f"{record.questions['test']:,} test questions; the next item is among the "
        f"{record.settings['candidates']:,} candidates of {formats.interval_percent(record.ceiling)} % of them"
    )
    table = Table("", "HR@10 %", "NDCG@10", "MRR", "coverage %", title=escape(title))
    for row in (record.before, record.after):
        found = row.test
        cells = [formats.interval_percent(found.hit_10), _four(found.ndcg_10), _four(found.reciprocal_rank)]
        table.add_row(row.name, *map(escape, cells), formats.bare_percent(found.coverage_10))
    gains = record.gains
    cells = [formats.interval_percent(gains["HR@10"]), _four(gains["NDCG@10"]), _four(gains["MRR"])]
    table.add_row("difference", *map(escape, cells), "")
    output.print(table)
    if verbose:
        pairs = zip(record.before.test.by_activity, record.after.test.by_activity, strict=True)
        for before, after in pairs:
            output.print(
                f"  {before.users:,} users with {before.name} items: NDCG@10 {before.ndcg_10:.4f} → {after.ndcg_10:.4f}"
            )
    output.print(escape(headline(record)))
    output.print(f"Scoring the candidates of one user took {record.milliseconds:.1f} ms.")
    for line in record.advice:
        output.print(f"• {escape(line)}")
    output.print(f"Result: {escape(result.output_dir)}")
    output.print(f"Report: {escape(result.report)}")


def _four(interval: Interval) -> str:
    return f"{interval:.4f}"
