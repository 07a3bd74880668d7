"""What the command line prints of the answers of the index verbs, on standard output."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from warmstart.cli.console import output
from warmstart.core.recommend import TowersUpdate
from warmstart.core.sizes import show_bytes
from warmstart.report.index import candidate_rows

if TYPE_CHECKING:
    from warmstart.verbs.index_add import AddSummary
    from warmstart.verbs.index_build import IndexBuildResult
    from warmstart.verbs.index_delete import DeleteSummary
    from warmstart.verbs.index_encode import EncodeResult
    from warmstart.verbs.index_search import SearchSummary
    from warmstart.verbs.index_tune import IndexTuneResult


def show_index_encode(result: EncodeResult, verbose: bool) -> None:
    """What changed, how quickly, and where it is."""
    record = result.record
    if isinstance(record, TowersUpdate):
        output.print(
            f"{record.new:,} new items, {record.changed:,} changed, {record.kept:,} kept; "
            f"{record.new_users:,} new users, {record.new_events:,} new events: "
            f"{record.items:,} items, {record.users:,} users"
        )
        output.print(f"Towers: {escape(result.output_dir)}")
        return
    output.print(
        f"{record.new:,} new, {record.changed:,} changed, {record.removed:,} removed, {record.kept:,} kept: "
        f"{record.items:,} vectors of width {record.width} by {escape(record.encoder.model)}"
    )
    if record.encoded:
        output.print(
            f"{record.encoded:,} encoded at {record.items_per_second:,.0f} items/s; "
            f"memory at most {record.peak_memory_mb:,.0f} MB"
        )
    output.print(f"Vectors: {escape(result.output_dir)}")


def show_index_build(result: IndexBuildResult, verbose: bool) -> None:
    """What was built, and where it is."""
    record = result.record
    output.print(
        f"{record.plan.name}: {record.data.vectors:,} vectors of width {record.data.width} in "
        f"{show_bytes(record.memory_bytes)}, built in {record.build_seconds:.1f} s, effort {record.effort.name}"
    )
    output.print(f"Index: {escape(result.output_dir)}")


def show_index_tune(result: IndexTuneResult, verbose: bool) -> None:
    """Every candidate at the effort that was chosen for it; with `verbose`, at every effort."""
    goal = result.record.goal
    title = f"Goal: recall@{goal.at} ≥ {goal.recall:g} within {goal.p99_ms:g} ms (p99, one thread)"
    table = Table("", "index", "effort", f"recall@{goal.at}", "p50 ms", "p99 ms", "memory", "build s", title=title)
    for row in candidate_rows(result.record, every_effort=verbose):
        mark = "→" if row.chosen else "✓" if row.meets else ""
        table.add_row(mark, row.name, row.effort, escape(row.recall), row.p50, row.p99, row.memory, row.seconds)
    output.print(table)
    for line in result.record.advice:
        output.print(f"• {escape(line)}")
    output.print(f"Index: {escape(result.output_dir)}")
    output.print(f"Report: {escape(result.report)}")


def show_index_search(result: SearchSummary, verbose: bool) -> None:
    """The answers, or how many are where."""
    if result.output:
        output.print(f"{result.answers:,} answers to each of {result.queries:,} queries: {escape(result.output)}")
        return
    titled = any(answer.title for answer in result.shown)
    for query, answers in itertools.groupby(result.shown, key=lambda answer: answer.query):
        table = Table("", *(["title"] if titled else []), "id", "score", title=escape(query))
        for answer in answers:
            named = [escape(answer.title)] if titled else []
            table.add_row(str(answer.rank), *named, escape(answer.id), f"{answer.score:.3f}")
        output.print(table)


def show_index_add(result: AddSummary, verbose: bool) -> None:
    """What the index holds now."""
    deleted = f", {result.deleted:,} deleted" if result.deleted else ""
    output.print(
        f"{result.added:,} added, {result.updated:,} replaced{deleted}: {result.vectors:,} vectors in "
        f"{escape(result.index)}"
    )


def show_index_delete(result: DeleteSummary, verbose: bool) -> None:
    """What the index holds now."""
    output.print(f"{result.deleted:,} deleted: {result.vectors:,} vectors in {escape(result.index)}")
