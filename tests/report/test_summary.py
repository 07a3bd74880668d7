"""Summary rows, the interval over seeds, and the plain-text table."""

from __future__ import annotations

import dataclasses
import math
import statistics
import subprocess
import sys

import pytest
from scipy import stats

from warmstart.core.records import Interval, PairedDifference
from warmstart.report import formats
from warmstart.report.summary import best_floor, by_accuracy, combine_seeds, summary_rows, t_quantile, text_table
from warmstart.report.verdict import difference_rows, give_verdict


def test_one_row_for_every_floor_and_strategy(records):
    rows = summary_rows(records["adapt"])
    assert [row.name for row in rows] == [
        *(floor.name for floor in records["adapt"].floors),
        *(run.strategy for run in records["adapt"].runs),
    ]
    assert [row.name for row in rows if row.chosen] == ["fine_tune"]


def test_one_seed_keeps_its_own_numbers(records):
    run = records["adapt"].run_of("fine_tune")
    row = next(row for row in summary_rows(records["adapt"]) if row.chosen)
    assert row.accuracy == run.test.accuracy
    assert row.macro_f1 == run.test.macro_f1.value
    assert row.log_loss == run.test.log_loss.value
    assert (row.seconds, row.peak_memory_mb, row.trainable) == (run.seconds, run.peak_memory_mb, run.trainable)
    assert row.spread is None


def test_several_seeds_are_taken_together(records):
    runs = [run for run in records["compare"].runs if run.strategy == "fine_tune"]
    row = next(row for row in summary_rows(records["compare"]) if row.chosen)
    values = [run.test.accuracy.value for run in runs]
    assert row.seeds == 3
    assert row.accuracy.value == pytest.approx(statistics.fmean(values))
    assert row.spread == pytest.approx(statistics.stdev(values))
    assert row.seconds == pytest.approx(statistics.fmean(run.seconds for run in runs))
    assert row.seed_accuracies == tuple(values)


def test_skipped_seed_is_counted_and_does_not_spoil_the_mean(records):
    row = next(row for row in summary_rows(records["compare"]) if row.name == "scratch")
    assert (row.seeds, row.status) == (2, "done")
    assert "1 of 3 seeds skipped" in row.note
    assert row.seconds == 160.0


def test_interval_over_seeds_joins_both_sources_in_quadrature():
    seeds = [Interval(0.80, 0.78, 0.82), Interval(0.84, 0.82, 0.86), Interval(0.82, 0.79, 0.85)]
    found = combine_seeds(seeds)
    between = stats.t.ppf(0.975, 2) * statistics.stdev([0.80, 0.84, 0.82]) / math.sqrt(3)
    within = (0.02 + 0.02 + 0.03) / 3
    assert found.value == pytest.approx(0.82)
    assert found.high - found.value == pytest.approx(math.hypot(between, within), rel=1e-3)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_interval_over_seeds_stays_a_fraction_and_survives_missing_bounds():
    assert combine_seeds([Interval(0.9, 0.7, 1.0), Interval(0.99, 0.9, 1.0)]).high == 1.0
    gap = combine_seeds([Interval(0.9, math.nan, math.nan), Interval(0.8, 0.7, 0.9)])
    assert gap.value == pytest.approx(0.85)
    assert math.isnan(gap.low)
    assert math.isnan(gap.high)


@pytest.mark.parametrize("degrees", range(1, 31))
def test_t_table(degrees):
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=6e-4)


def test_order_and_best_floor(records):
    rows = summary_rows(records["adapt"])
    ordered = [row.accuracy.value for row in by_accuracy(rows) if row.accuracy]
    assert ordered == sorted(ordered, reverse=True)
    assert by_accuracy(rows)[-1].accuracy is None
    assert best_floor(rows).name == "TF-IDF + logistic regression"
    assert best_floor(summary_rows(records["minimal"])) is None


def test_text_table_is_aligned_and_complete(records):
    lines = text_table(records["adapt"]).splitlines()
    rows = summary_rows(records["adapt"])
    assert len(lines) == 1 + len(rows)
    for row in rows:
        assert sum(f"{'* ' if row.chosen else '  '}{row.name}" in line for line in lines) >= 1
    end = lines[0].index("test accuracy %") + len("test accuracy %")
    for line in lines[1:]:
        assert line[end - 1] in "]\u2013"
        assert line[end : end + 2] == "  "
    assert text_table(records["minimal"]).count("\n") == 1


def test_verdict_says_when_the_floor_wins(records):
    record = dataclasses.replace(records["adapt"], chosen="zero_shot", differences=())
    verdict = give_verdict(record, summary_rows(record))
    assert verdict.tone == "bad"
    assert verdict.headline.endswith("15.8 points below the best floor")
    assert "did not beat it" in " ".join(verdict.sentences)


def test_verdict_sees_no_gain_where_there_is_none(records):
    record = records["adapt"]
    floor = best_floor(summary_rows(record))
    run = record.run_of(record.chosen)
    level = dataclasses.replace(run, test=dataclasses.replace(run.test, accuracy=floor.accuracy))
    runs = tuple(level if run.strategy == record.chosen else run for run in record.runs)
    record = dataclasses.replace(record, runs=runs, differences=())
    verdict = give_verdict(record, summary_rows(record))
    assert verdict.headline.endswith("level with the best floor")
    assert "right as often, and no more" in " ".join(verdict.sentences)
    assert "gain" not in " ".join(verdict.sentences)


def test_verdict_is_cautious_when_intervals_overlap(records):
    record = dataclasses.replace(records["adapt"], chosen="linear_probe", differences=())
    verdict = give_verdict(record, summary_rows(record))
    assert verdict.tone == "mixed"
    assert "overlap" in " ".join(verdict.sentences)


def test_differences_are_read_in_both_directions(records):
    turned = PairedDifference("TF-IDF + logistic regression", "fine_tune", Interval(-0.093, -0.118, -0.068))
    record = dataclasses.replace(records["adapt"], differences=(turned,))
    assert "+6.8 to +11.8 points, excludes zero" in " ".join(give_verdict(record, summary_rows(record)).sentences)
    assert difference_rows(record)[0].meaning == "Yes: worse"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.percent(0.8617), "86.2 %"),
        (formats.percent(math.nan), "\u2013"),
        (formats.points(-0.0081), "\u22120.8"),
        (formats.points(0.0001), "0.0"),
        (formats.seconds(0.4218), "0.42 s"),
        (formats.seconds(214.2), "214 s"),
        (formats.seconds(740), "12 min 20 s"),
        (formats.seconds(3899.7), "1 h 05 min"),
        (formats.seconds(None), "\u2013"),
        (formats.megabytes(812.3), "812 MB"),
        (formats.megabytes(1240), "1.24 GB"),
        (formats.number(0.43182), "0.432"),
        (formats.number(0), "0"),
        (formats.number(99.97), "100"),
        (formats.short_count(22_713_216), "22.7 M"),
        (formats.short_count(2310), "2,310"),
        (formats.interval_percent(Interval(0.5, math.nan, 0.6)), "50.0"),
        (formats.setting({"a": True, "b": [1, 2.5]}), "a: yes, b: 1, 2.5"),
        (formats.moment("2025-11-04T14:22:10.123+01:00"), "2025-11-04 14:22 +01:00"),
        (formats.moment("yesterday"), "yesterday"),
    ],
)
def test_formats(shown, expected):
    assert shown == expected


def test_a_report_needs_no_torch():
    code = (
        "import sys; import warmstart.report.html, warmstart.report.card; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
