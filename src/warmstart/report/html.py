"""A run as one self-contained HTML page.

Collects what the template shows: summary rows, the verdict, the charts. Nothing is fetched and nothing is scripted; the
page forbids both to itself. Looks are left to `report.html.j2` and `report.css`, drawing to `plots`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from warmstart.core.records import RunRecord, Scores, StrategyRun, TaskCard
from warmstart.report import confusion, forgetting, formats, plots, training_plots
from warmstart.report.evidence import evidence_lines
from warmstart.report.summary import SummaryRow, best_floor, by_accuracy, scored_run, summary_rows
from warmstart.report.verdict import difference_rows, give_verdict

_THUMBNAIL = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/=\s]+\Z")
_FILTERS = {
    "bare_percent": formats.bare_percent,
    "percent": formats.percent,
    "evidence": evidence_lines,
    "interval": formats.interval_percent,
    "span": formats.span,
    "points": formats.points,
    "number": formats.number,
    "count": formats.count,
    "short_count": formats.short_count,
    "seconds": formats.seconds,
    "megabytes": formats.megabytes,
    "strategy": formats.strategy_name,
    "metric": formats.metric_name,
    "moment": formats.moment,
    "setting": formats.setting,
    "known": formats.known,
    "finite": formats.finite,
}


@dataclass(frozen=True)
class Training:
    """How one strategy learned and what it forgot: its runs, and their charts."""

    strategy: str
    runs: tuple[StrategyRun, ...]
    curves: Markup | None
    rates: Markup | None
    searched: StrategyRun | None  # the first run whose learning rate was searched for
    search: Markup | None
    groups: StrategyRun | None
    drift: Markup | None
    kept: tuple[str, ...]  # what it kept of the original, in sentences
    moved: StrategyRun | None  # whose groups' drift is listed


@dataclass(frozen=True)
class Errors:
    """Where the chosen run goes wrong."""

    run: StrategyRun
    scores: Scores
    matrix: Markup | None
    pairs: tuple[confusion.ConfusedPair, ...]


def render_report(record: RunRecord) -> str:
    """The page that shows a run: verdict, comparison, plan, learning, errors, data, model, and how to repeat it.

    Args:
        record: from `adapt` or `compare`, or read back from `results.json`. Anything may be missing from it.

    Returns:
        An HTML document without scripts or outside references; every text in it is escaped.
    """
    rows = summary_rows(record)
    floor = best_floor(rows)
    ordered = by_accuracy(rows)
    edge = floor.accuracy.value if floor is not None and floor.accuracy is not None else None
    run = scored_run(record)
    return page(
        "report.html.j2",
        record=record,
        verdict=give_verdict(record, rows),
        rows=ordered,
        reached={
            row.name: row.accuracy.value for row in rows if row.kind == "strategy" and formats.known(row.accuracy)
        },
        seeds=max((row.seeds for row in rows), default=0),
        chart_wide=markup(plots.comparison(ordered, edge, "comparison-wide", narrow=False)),
        chart_narrow=markup(plots.comparison(ordered, edge, "comparison-narrow", narrow=True)),
        differences=difference_rows(record),
        training=_training(record, ordered),
        errors=_errors(run, record.task.labels),
        labelled_limit=confusion.LABELLED_LIMIT,
        splits=list(record.task.counts),
        sizes=[(f"Rows {formats.split_name(split)}", formats.count(rows)) for split, rows in record.task.sizes.items()],
        shares=_shares(record.task),
        seed_list=", ".join(str(seed) for seed in dict.fromkeys(run.seed for run in record.runs)),
    )


def page(template: str, **values: object) -> str:
    """A page from its template and what it shows, with the style that all pages share."""
    made = _environment()
    css = Markup(made.get_template("report.css").render())  # noqa: S704 - our own file
    return made.get_template(template).render(css=css, **values)


@functools.cache
def _environment() -> jinja2.Environment:
    """The templates, with the filters that give numbers their looks."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("warmstart.report", "."),
        autoescape=jinja2.select_autoescape(enabled_extensions=("j2",), default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS | {"picture": _safe_picture})
    return environment


def _training(record: RunRecord, rows: Sequence[SummaryRow]) -> list[Training]:
    """One entry for each strategy that recorded anything while it learned, in the order of the rows."""
    found = []
    limits = training_plots.CurveLimits(record.runs)
    for place, row in enumerate(row for row in rows if row.kind == "strategy"):
        runs = tuple(run for run in record.runs if run.strategy == row.name)
        drawn = next((run for run in runs if any(point.rates for point in run.history)), None)
        curves = training_plots.curves(runs, record.metric, limits, f"curves-{place}")
        rates = training_plots.rates(drawn, f"rates-{place}") if drawn is not None else None
        searched = next((run for run in runs if run.rate_search is not None), None)
        search = training_plots.rate_search(searched, f"search-{place}") if searched is not None else None
        groups = next((run for run in runs if run.groups), None)
        drift = training_plots.drift(runs, f"drift-{place}")
        kept = forgetting.sentences(runs)
        moved = next((run for run in runs if run.forgetting is not None and run.forgetting.groups), None)
        if curves or rates or searched or groups or kept:
            found.append(
                Training(
                    strategy=row.name,
                    runs=runs,
                    curves=markup(curves),
                    rates=markup(rates),
                    searched=searched,
                    search=markup(search),
                    groups=groups,
                    drift=markup(drift),
                    kept=kept,
                    moved=moved,
                )
            )
    return found


def _errors(run: StrategyRun | None, labels: Sequence[str]) -> Errors | None:
    if run is None or run.test is None:
        return None
    counts = run.test.confusion
    square = len(counts) > 0 and all(len(line) == len(counts) for line in counts) and len(counts) == len(labels)
    matrix = plots.confusion_matrix(counts, labels, "confusion") if square else None
    pairs = confusion.confused_pairs(counts, labels, limit=12) if square else []
    return Errors(run, run.test, markup(matrix), tuple(pairs))


def _shares(task: TaskCard) -> dict[str, float]:
    """Each label's share of all rows, over the splits together."""
    totals = {label: sum(counts.get(label, 0) for counts in task.counts.values()) for label in task.labels}
    rows = sum(totals.values())
    return {label: total / rows for label, total in totals.items()} if rows else {}


def _safe_picture(uri: str) -> str:
    """The data URI of a raster image, or nothing: a page must not be made to fetch or run anything."""
    return uri if _THUMBNAIL.match(uri) else ""


def markup(drawing: str | None) -> Markup | None:
    """Mark a picture of our own as ready for the page; the texts in it were escaped when it was drawn."""
    return Markup(drawing) if drawing is not None else None  # noqa: S704
