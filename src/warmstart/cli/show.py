"""What the command line prints of each verb's answer, on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from warmstart.cli.console import output
from warmstart.cli.show_index import show_index_add as show_index_add
from warmstart.cli.show_index import show_index_build as show_index_build
from warmstart.cli.show_index import show_index_delete as show_index_delete
from warmstart.cli.show_index import show_index_encode as show_index_encode
from warmstart.cli.show_index import show_index_search as show_index_search
from warmstart.cli.show_index import show_index_tune as show_index_tune
from warmstart.cli.show_ranker import show_ranker as show_ranker
from warmstart.cli.show_serving import show_index_publish as show_index_publish
from warmstart.cli.show_serving import show_index_rollback as show_index_rollback
from warmstart.cli.show_serving import show_index_versions as show_index_versions
from warmstart.cli.show_serving import show_recommend as show_recommend
from warmstart.core.sizes import show_bytes
from warmstart.report import formats
from warmstart.report.contrast import at_five, knn_line, score_rows
from warmstart.report.evidence import evidence_lines
from warmstart.report.forgetting import kept_sentence
from warmstart.report.summary import SummaryRow, by_accuracy, summary_rows
from warmstart.report.two_tower import ranked_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warmstart.core.decision import Plan, RankedModel
    from warmstart.core.ledger import Scorecard
    from warmstart.core.records import GroupRow, RunRecord
    from warmstart.verbs.adapt import AdaptResult
    from warmstart.verbs.compare import CompareResult
    from warmstart.verbs.contrast import ContrastResult
    from warmstart.verbs.contrast_two_tower import TwoTowerResult
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
    shown = (1, 5, 10) if at_five(record) else (1, 10)
    table = Table("", *(f"recall@{k} %" for k in shown), "mean reciprocal rank", title=title)
    for row in score_rows(record):
        found = row.scores
        recalls = [formats.interval_percent(getattr(found, f"recall_at_{k}")) for k in shown]
        table.add_row(row.name, *(escape(text) for text in recalls), f"{found.reciprocal_rank.value:.3f}")
    output.print(table)
    if knn_line(record):
        output.print(escape(knn_line(record)))
    if verbose and record.groups:
        output.print(_groups(record.groups, "parameter → group → rate"))
    for alarm in record.alarms:
        output.print(f"[yellow]• At step {alarm.step} {escape(alarm.message)}. {escape(alarm.advice)}[/yellow]")
    for line in record.advice:
        output.print(f"• {escape(line)}")
    output.print(f"Result: {escape(result.output_dir)}")
    output.print(f"Report: {escape(result.report)}")


show_contrast_clip = show_contrast_simclr = show_contrast_sentences


def show_contrast_two_tower(result: TwoTowerResult, verbose: bool) -> None:
    """The towers beside the baselines, alarms, advice, and where the report is."""
    record = result.record
    title = f"{record.towers.test.questions:,} test questions among {record.data.items:,} items"
    table = Table("", "HR@10 %", "HR@100 %", "NDCG@10", "coverage %", title=title)
    for row in ranked_rows(record):
        found = row.test
        hits = [escape(formats.interval_percent(one)) for one in (found.hit_10, found.hit_100)]
        table.add_row(row.name, *hits, f"{found.ndcg_10.value:.4f}", formats.bare_percent(found.coverage_10))
    output.print(table)
    if record.cold is not None:
        output.print(
            f"Among the {record.data.cold:,} cold items alone: HR@10 {formats.percent(record.cold.hit_10.value)}"
        )
    for alarm in record.alarms:
        output.print(f"[yellow]At step {alarm.step} {escape(alarm.message)}. {escape(alarm.advice)}[/yellow]")
    if verbose:
        output.print(_groups(record.groups, "Parameter → group → rate"))
    for line in record.advice:
        output.print(f"• {escape(line)}")
    output.print(f"Result: {escape(result.output_dir)}")
    output.print(f"Report: {escape(result.report)}")


def show_advise(plan: Plan, verbose: bool) -> None:
    """The ranking, the plan: strategy, reasons, what would change it; and what each strategy would give and cost."""
    if plan.ranking:
        output.print(_ranking(plan.ranking))
        output.print(f"Model: {escape(plan.model)}")
    _reasons(plan)
    for line in plan.would_change:
        output.print(f"  What would change it: {escape(line)}")
    table = Table(title=f"Forecast (effort {plan.evidence.effort})", title_justify="left")
    for name in ("strategy", "accuracy % [90 %]", "seconds", "peak memory", ""):
        table.add_column(name, no_wrap=bool(name))
    for forecast in plan.forecasts:
        mark = "→ " if forecast.strategy == plan.strategy else "  "
        ruled = forecast.reason if forecast.allowed else f"ruled out: {forecast.reason}"
        table.add_row(
            mark + formats.strategy_name(forecast.strategy),
            escape(formats.interval_percent(forecast.score)),
            formats.seconds(forecast.seconds),
            _memory(forecast.peak_memory_mb),
            escape(ruled),
        )
    output.print(table)
    if verbose:
        for name, value in evidence_lines(plan.evidence):
            output.print(f"  {escape(name)}: {escape(value)}")


def show_scorecard(card: Scorecard, verbose: bool) -> None:
    """Forecasts against outcomes, one line a strategy."""
    title = f"{card.entries} forecasts of {card.runs} runs"
    table = Table(title=title, title_justify="left")
    for name in ("", "forecasts", "bias", "error", "in 90 %", "seconds, ×", "within 25 %", "memory, ×"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in card.rows:
        table.add_row(
            formats.strategy_name(row.strategy),
            str(row.runs),
            formats.points(row.bias),
            formats.bare_percent(row.error),
            formats.percent(row.covered),
            formats.number(row.seconds_ratio),
            formats.percent(row.seconds_within),
            formats.number(row.memory_ratio),
        )
    if card.rows:
        output.print(table)
        output.print(
            "Bias and error are points of accuracy, outcome minus forecast; × is actual over forecast, median."
        )
    if card.comparisons:
        regret = formats.points(card.regret)
        output.print(f"Regret of the plan over {card.comparisons} comparisons: {regret} points on average.")
    for note in card.notes:
        output.print(escape(note))
    if verbose or not card.rows:
        output.print(f"Ledger: {escape(card.ledger)}")


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


def _ranking(ranking: Sequence[RankedModel]) -> Table:
    table = Table(title="Models, best first", title_justify="left")
    for name in ("model", "parameters", "strategy", "accuracy % [90 %]", "seconds", "peak memory", "scores"):
        table.add_column(name, no_wrap=name not in ("model", "scores"))
    for row in ranking:
        scores = ", ".join(f"{name} {value:.3g}" for name, value in row.transferability.items())
        table.add_row(
            escape(row.model),
            formats.short_count(row.parameters),
            formats.strategy_name(row.strategy),
            escape(formats.interval_percent(row.score)),
            formats.seconds(row.seconds),
            _memory(row.peak_memory_mb),
            escape(scores if scores else row.note),
        )
    return table


def _memory(mebibytes: float) -> str:
    return show_bytes(mebibytes * 2.0**20) if formats.finite(mebibytes) else formats.MISSING


def _reasons(plan: Plan) -> None:
    second = f" (runner-up: {formats.strategy_name(plan.runner_up)})" if plan.runner_up else ""
    output.print(f"Plan: {formats.strategy_name(plan.strategy)}{second}")
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
