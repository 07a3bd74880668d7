"""What the command line prints of publishing, rolling back and recommending, on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from warmstart.cli.console import output

if TYPE_CHECKING:
    from warmstart.core.serving import Funnel, Recommendations
    from warmstart.verbs.index_publish import PublishResult
    from warmstart.verbs.index_rollback import RollbackResult
    from warmstart.verbs.index_versions import VersionList
    from warmstart.verbs.recommend import RecommendResult

_LAST = 5  # items of a history that are shown


def show_index_publish(result: PublishResult, verbose: bool) -> None:
    """What serves now, and what can be gone back to."""
    made = result.manifest
    ranker = "with a ranker" if made.ranker else "without a ranker"
    output.print(
        f"{made.vectors:,} of {made.items:,} items, {made.users:,} users, {ranker}; the index finds "
        f"{made.recall:.1%} of the {made.settings.retrieve:,} nearest"
    )
    output.print(f"Version {result.version} serves from {escape(result.serving)}{_back(result.before)}")
    output.print(f"Report: {escape(result.report)}")


def show_index_rollback(result: RollbackResult, verbose: bool) -> None:
    """What serves now."""
    output.print(
        f"Version {result.version} serves from {escape(result.serving)} in place of {result.was}{_back(result.before)}"
    )


def show_index_versions(result: VersionList, verbose: bool) -> None:
    """Every version."""
    table = Table(
        "", "version", "published", "items", "ranker", "recall of the index", "", title=escape(result.serving)
    )
    for row in result.versions:
        recall = "" if row.recall != row.recall else f"{row.recall:.3f}"
        mark = "→" if row.is_current else ""
        table.add_row(
            mark, row.version, row.created, f"{row.vectors:,}", "yes" if row.ranker else "no", recall, escape(row.note)
        )
    output.print(table)


def show_recommend(result: RecommendResult, verbose: bool) -> None:
    """The last items of the history, what is recommended, and what was left after each step."""
    if result.answer is None:
        output.print(f"{result.rows:,} recommendations to {result.users:,} users: {escape(result.output)}")
        return
    answer = result.answer
    _history(answer)
    with_ranker = any(item.ranker is not None for item in answer.items)
    diverse = any(item.penalty is not None for item in answer.items)
    table = Table("", "title", "id", "cosine")
    if with_ranker:
        table.add_column("ranker")
    if diverse:
        table.add_column("like one above")
    for item in answer.items:
        cells = [str(item.rank), escape(item.title), escape(item.item), f"{item.score:.3f}"]
        cells += [f"{item.ranker:.3f}"] if item.ranker is not None else []
        cells += [f"{item.penalty:.3f}"] if item.penalty is not None else []
        table.add_row(*cells)
    output.print(table)
    output.print(_funnel(answer.funnel))
    if not answer.items:
        output.print(_nothing(answer.funnel))
    if verbose:
        output.print(f"Answered by {escape(result.bundle)}")


def _history(answer: Recommendations) -> None:
    who = "Somebody new" if answer.user is None else f"User {answer.user}"
    last = answer.history[-_LAST:]
    more = f" of {len(answer.history):,}" if len(answer.history) > len(last) else ""
    output.print(f"{escape(who)}; last{more}, the latest at the end:")
    for title in last:
        output.print(f"  {escape(title)}")


def _nothing(funnel: Funnel) -> str:
    if funnel.allowed == 0:
        return (
            "Nothing is allowed: no item meets the conditions, or only such as were taken already "
            "(--include-seen recommends them again)."
        )
    return "Nothing comes near enough: lower --min-score, or raise --retrieve."


def _funnel(funnel: Funnel) -> str:
    steps = [f"{funnel.indexed:,} items", f"{funnel.allowed:,} allowed", f"{funnel.retrieved:,} retrieved"]
    steps += [f"{funnel.ranked:,} ranked"] if funnel.ranked else []
    return " → ".join([*steps, f"{funnel.shown:,} shown"])


def _back(before: tuple[str, ...]) -> str:
    return f"; before it: {', '.join(before)}" if before else ""
