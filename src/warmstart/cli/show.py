"""What the command line prints of each verb's answer, on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from warmstart.cli.console import output
from warmstart.report import formats
from warmstart.report.contrast import score_rows
from warmstart.report.forgetting import kept_sentence
from warmstart.report.summary import SummaryRow, by_accuracy, summary_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warmstart.core.records import GroupRow, Plan, RunRecord
    from warmstart.verbs.adapt import AdaptResult
    from warmstart.verbs.compare import CompareResult
    from warmstart.verbs.contrast import ContrastResult
    from warmstart.verbs.groups import GroupTable
    from warmstart.verbs.predict import PredictSummary
    from warmstart.verbs.push import PushSummary
    from warmstart.verbs.sample import SampleSummary


def show_adapt(result: AdaptResult, verbose: bool) -> None:
    """The table of everything tried, the choice, and where the report is."""
    record = result.record
    if record.plan is not None:
        _reasons(record.plan)
    output.print(_comparison(record, several=False))
    _kept(record)
    if verbose:
        for run in record.runs:
            if run.groups:
                output.print(_groups(run.groups, f"{formats.strategy_name(run.strategy)}: parameter → group → rate"))
    for line in record.advice:
        output.print(f"• {escape(line)}")
    output.print(f"Result: {escape(result.output_dir)}")
    output.print(f"Report: {escape(result.report)}")


def show_compare(result: CompareResult, verbose: bool) -> None:
    """The table over seeds, paired differences, and where the report is."""
    output.print(_comparison(result.record, several=True))
    for pair in result.record.differences:
        low, high = pair.difference.low, pair.difference.high
        verdict = "differs" if low > 0 or high < 0 else "no clear difference"
        output.print(
            f"{formats.strategy_name(pair.strategy)} − {formats.strategy_name(pair.baseline)}: "
            f"{formats.points(pair.difference.value)} points "
            f"\\[{formats.points(low)}, {formats.points(high)}], {verdict}"
        )
    _kept(result.record)
    if verbose:
        for run in result.record.runs:
            if run.groups and run.seed == result.record.runs[0].seed:
                output.print(_groups(run.groups, f"{formats.strategy_name(run.strategy)}: parameter → group → rate"))
    for line in result.record.advice:
        output.print(f"• {escape(line)}")
    output.print(f"Report: {escape(result.report)}")


def show_contrast_sentences(result: ContrastResult, verbose: bool) -> None:
    """Recalls before and after, alarms, advice, and where the report is."""
    record = result.record
    title = f"{record.after.queries:,} test queries among {record.after.candidates:,} candidates"
    table = Table("", "recall@1 %", "recall@10 %", "mean reciprocal rank", title=title)
    for row in score_rows(record):
        found = row.scores
        recalls = [formats.interval_percent(found.recall_at_1), formats.interval_percent(found.recall_at_10)]
        table.add_row(row.name, *(escape(text) for text in recalls), f"{found.reciprocal_rank.value:.3f}")
    output.print(table)
    if verbose and record.groups:
        output.print(_groups(record.groups, "parameter → group → rate"))
    for alarm in record.alarms:
        output.print(f"[yellow]• At step {alarm.step} {escape(alarm.message)}. {escape(alarm.advice)}[/yellow]")
    for line in record.advice:
        output.print(f"• {escape(line)}")
    output.print(f"Result: {escape(result.output_dir)}")
    output.print(f"Report: {escape(result.report)}")


def show_advise(plan: Plan, verbose: bool) -> None:
    """The plan: strategy, reasons, what would change it, and what each strategy would cost."""
    _reasons(plan)
    for line in plan.would_change:
        output.print(f"  What would change it: {escape(line)}")
    table = Table("strategy", "seconds", "", title="Forecast")
    for forecast in plan.forecasts:
        mark = "→ " if forecast.strategy == plan.strategy else ""
        ruled = forecast.reason if forecast.allowed else f"ruled out: {forecast.reason}"
        table.add_row(mark + formats.strategy_name(forecast.strategy), formats.seconds(forecast.seconds), escape(ruled))
    output.print(table)
    if verbose:
        evidence = plan.evidence
        for name, value in evidence.to_dict().items():
            shown = formats.interval_percent(getattr(evidence, name)) if isinstance(value, dict) else value
            output.print(f"  {name}: {shown}")


def show_predict(result: PredictSummary, verbose: bool) -> None:
    """How many rows got which label, and where they are."""
    for label, count in sorted(result.counts.items(), key=lambda item: -item[1]):
        if count or verbose:
            output.print(f"{count:>8,}  {escape(label)}")
    output.print(f"{result.rows:,} rows, mean probability {formats.percent(result.mean_probability)}")
    output.print(f"Predictions: {escape(result.output)}")


def show_push(result: PushSummary, verbose: bool) -> None:
    """What went to the Hub, and what stayed."""
    output.print(f"Uploaded {len(result.files)} files to {result.repo_id}; kept here: {', '.join(result.kept_here)}")
    if verbose:
        output.print("\n".join(result.files))


def show_groups(result: GroupTable, verbose: bool) -> None:
    """The ordered groups with their sizes and rates."""
    card = result.backbone
    output.print(
        f"{escape(card.name)}: {card.architecture}, {card.parameters:,} parameters, from {escape(card.source)}"
    )
    output.print(_groups(result.rows, ""))
    if verbose:
        for row in result.rows:
            for name in row.names:
                output.print(f"{row.group}  {escape(name)}")
    output.print(f"{len(result.rows)} groups, {sum(row.parameters for row in result.rows):,} parameters in all")


def show_sample(result: SampleSummary, verbose: bool) -> None:
    """What was written."""
    output.print(f"{result.rows:,} rows: {escape(result.output)}")
    if verbose:
        output.print(", ".join(result.columns))


def _kept(record: RunRecord) -> None:
    """One line for each strategy whose forgetting was measured."""
    for name in dict.fromkeys(run.strategy for run in record.runs):
        line = kept_sentence([run for run in record.runs if run.strategy == name])
        if line:
            output.print(escape(line))


def _reasons(plan: Plan) -> None:
    output.print(f"Plan: {formats.strategy_name(plan.strategy)} (runner-up: {formats.strategy_name(plan.runner_up)})")
    for line in plan.reasons:
        output.print(f"  {escape(line)}")


def _comparison(record: RunRecord, *, several: bool) -> Table:
    title = f"Test scores on {record.task.sizes.get('test', 0):,} rows, 95 % intervals"
    table = Table(title=title, title_justify="left")
    for name in ("", "accuracy %", "macro-F1 %", "log-loss", "seconds", "peak memory", "learns"):
        table.add_column(name, justify="left" if name in ("", "accuracy %") else "right", no_wrap=True)
    if several:
        table.add_column("seeds", justify="right")
    table.add_column("note")
    for row in by_accuracy(summary_rows(record)):
        cells = _cells(row) + ((str(row.seeds) if row.seeds else formats.MISSING,) if several else ())
        table.add_row(*cells, escape(row.note), style="bold" if row.chosen else "")
    return table


def _cells(row: SummaryRow) -> tuple[str, ...]:
    name = formats.strategy_name(row.name) if row.kind == "strategy" else f"floor: {row.name}"
    return (
        escape(("→ " if row.chosen else "  ") + name),
        escape(formats.interval_percent(row.accuracy)),
        formats.bare_percent(row.macro_f1),
        formats.number(row.log_loss),
        formats.number(row.seconds),
        formats.megabytes(row.peak_memory_mb),
        formats.short_count(row.trainable),
    )


def _groups(rows: Sequence[GroupRow], title: str) -> Table:
    towers = any(row.tower for row in rows)
    table = Table(title=title, title_justify="left")
    for name in (*(("tower",) if towers else ()), "depth", "group", "parameters", "learn", "rate", "opens at"):
        table.add_column(name, justify="left" if name in ("tower", "group") else "right", no_wrap=True)
    for row in rows:
        cells = (
            str(row.depth),
            escape(row.group),
            f"{row.parameters:,}",
            f"{row.trainable:,}",
            f"{row.learning_rate:.2e}",
            formats.percent(row.opens_at) if row.opens_at < 1 else "never",
        )
        table.add_row(*((row.tower,) if towers else ()), *cells)
    return table
