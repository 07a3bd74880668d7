"""The charts: well-formed SVG with the marks that the records call for, the same on every run."""

from __future__ import annotations

import dataclasses
import math
import re
from xml.etree import ElementTree

from warmstart.core.records import GroupDrift, Interval, Point
from warmstart.report import plots, training_plots
from warmstart.report.confusion import confused_pairs, row_shares
from warmstart.report.summary import best_floor, by_accuracy, summary_rows

SVG = "{http://www.w3.org/2000/svg}"


def parsed(markup: str) -> ElementTree.Element:
    root = ElementTree.fromstring(markup)
    assert root.tag == f"{SVG}svg"
    return root


def texts(markup: str) -> list[str]:
    return ["".join(element.itertext()) for element in parsed(markup).iter(f"{SVG}text")]


def strokes(markup: str, colour: str) -> int:
    """Drawn lines of one colour that are data: unfilled and cut to the axes."""
    return sum(
        colour in path.get("style", "") and "fill: none" in path.get("style", "") and "clip-path" in path.attrib
        for path in parsed(markup).iter(f"{SVG}path")
    )


def comparison(record, narrow=False):
    rows = by_accuracy(summary_rows(record))
    floor = best_floor(rows)
    return plots.comparison(rows, floor.accuracy.value if floor else None, "c", narrow=narrow)


def run_of(record, strategy):
    return next(run for run in record.runs if run.strategy == strategy)


def test_comparison_has_a_dot_and_a_value_for_every_score(records):
    for narrow in (False, True):
        drawn = comparison(records["adapt"], narrow)
        shown = texts(drawn)
        for name in ("Fine-tuning", "LoRA", "TF-IDF + logistic regression", "87.2 [85.1, 89.2]"):
            assert name in shown
        assert "Training from scratch" not in shown  # it has no score
        assert strokes(drawn, "var(--accent") == 5  # one interval for each strategy
        assert strokes(drawn, "var(--muted") == 3 + 1  # floors, and the dashed line


def test_comparison_without_scores_is_no_chart(records):
    assert comparison(records["minimal"]) is None


def test_charts_are_deterministic_and_carry_no_date(records):
    first, second = comparison(records["compare"]), comparison(records["compare"])
    assert first == second
    assert not re.search(r"<metadata|dc:date|<style|<!DOCTYPE", first)
    assert "DejaVu" not in first


def test_identifiers_follow_the_prefix(records):
    drawn = comparison(records["adapt"])
    identifiers = re.findall(r' id="([^"]*)"', drawn)
    assert identifiers
    assert all(name.startswith("c-") for name in identifiers)


def test_drift_has_a_point_for_every_group_and_a_line_for_each_seed(records):
    runs = [run for run in records["compare"].runs if run.strategy == "fine_tune"]
    drawn = training_plots.drift(runs, "d")
    assert strokes(drawn, "var(--accent") == 3
    assert strokes(drawn, "var(--warm") == 3
    shown = texts(drawn)
    for name in ("embeddings", "layer.0", "layer.5", "likeness of activations, CKA"):
        assert name in shown
    assert "head" not in shown
    assert "text/layer.3" in texts(training_plots.drift([run_of(records["adapt"], "lora")], "d"))
    assert training_plots.drift([run_of(records["adapt"], "progressive")], "d") is None
    many = dataclasses.replace(
        runs[0].forgetting,
        groups=tuple(GroupDrift("", f"layer.{i}", i, 0.9, 0.0) for i in range(60)),
    )
    named = texts(training_plots.drift([dataclasses.replace(runs[0], forgetting=many)], "d"))
    assert 8 <= sum(text.startswith("layer.") for text in named) <= 14


def test_curves_have_two_losses_and_a_score_for_each_seed(records):
    runs = [run for run in records["compare"].runs if run.strategy == "fine_tune"]
    drawn = training_plots.curves(runs, "accuracy", training_plots.CurveLimits(runs), "k")
    assert strokes(drawn, "var(--muted") == 3
    assert strokes(drawn, "var(--warm") == 3
    assert strokes(drawn, "var(--accent") == 3
    assert {"training", "validation", "optimizer step", "validation accuracy, %"} <= set(texts(drawn))


def test_curves_need_something_measured(records):
    bare = dataclasses.replace(run_of(records["adapt"], "fine_tune"), history=(Point(0, 0.0, 0.0, loss=math.nan),))
    assert training_plots.curves([bare], "accuracy", training_plots.CurveLimits([bare]), "k") is None
    assert training_plots.rates(bare, "r") is None


def test_rates_have_one_line_a_group_in_order_of_depth(records):
    run = run_of(records["adapt"], "progressive")
    assert training_plots.ordered_groups(run) == [group.group for group in run.groups]
    backwards = dataclasses.replace(run, groups=tuple(reversed(run.groups)))
    assert training_plots.ordered_groups(backwards) == [group.group for group in run.groups]
    drawn = training_plots.rates(run, "r")
    colours = re.findall(r"fill: none; stroke: (#[0-9a-f]{6})", drawn)
    assert len(set(colours)) == len(run.groups)
    assert strokes(drawn, "stroke: #") == len(run.groups)
    names = [group.group for group in run.groups]
    assert [text for text in texts(drawn) if text in names] == names


def test_late_groups_start_at_a_dot_and_frozen_ones_are_named(records):
    early = training_plots.rates(run_of(records["adapt"], "fine_tune"), "r")
    late = training_plots.rates(run_of(records["adapt"], "progressive"), "r")
    assert early.count("<use ") + 7 == late.count("<use ")
    run = run_of(records["adapt"], "fine_tune")
    points = tuple(dataclasses.replace(p, rates={**p.rates, "embeddings": 0.0}) for p in run.history)
    frozen = training_plots.rates(dataclasses.replace(run, history=points), "r")
    assert "embeddings (frozen)" in texts(frozen)
    assert strokes(frozen, "stroke: #") == len(run.groups) - 1


def test_rate_search_marks_the_choice_and_the_divergence(records):
    run = run_of(records["adapt"], "fine_tune")
    drawn = training_plots.rate_search(run, "s")
    shown = texts(drawn)
    assert {"chosen 2.0e-4", "diverges", "4.0e-3", "not ramped", "loss, nats", "learning rate"} <= set(shown)
    assert strokes(drawn, "var(--ink") == 1
    assert strokes(drawn, "var(--accent") == 1
    assert strokes(drawn, "var(--warm") == 1
    assert drawn == training_plots.rate_search(run, "s")


def test_rate_search_without_divergence_or_without_runs(records):
    run = run_of(records["adapt"], "fine_tune")
    calm = dataclasses.replace(run, rate_search=dataclasses.replace(run.rate_search, diverged=None))
    assert strokes(training_plots.rate_search(calm, "s"), "var(--warm") == 0
    empty = dataclasses.replace(run.rate_search, rates=(), losses=(), reference=math.nan, runs=0)
    assert training_plots.rate_search(dataclasses.replace(run, rate_search=empty), "s") is None
    assert training_plots.rate_search(dataclasses.replace(run, rate_search=None), "s") is None


def test_confusion_matrix_shows_every_count(records):
    scores = run_of(records["adapt"], "fine_tune").test
    labels = records["adapt"].task.labels
    shown = texts(plots.confusion_matrix(scores.confusion, labels, "m"))
    assert set(labels) <= set(shown)
    assert sorted(t for t in shown if t.isdigit()) == sorted(str(v) for line in scores.confusion for v in line)


def test_confusion_matrix_of_many_classes_is_bare_and_small(records):
    for name in ("intents77", "intents"):
        record = records[name]
        drawn = plots.confusion_matrix(record.runs[0].test.confusion, record.task.labels, "m")
        assert len(texts(drawn)) == 2
        assert len(drawn) < 60_000
        assert "data:image/png;base64," in drawn


def test_labels_may_hold_anything():
    labels = ("$\\frac{1}$", "<script>\x00\x07 & \ud800", "\u4f60\u597d \U0001f600", "")
    drawn = plots.confusion_matrix(tuple((1, 0, 0, 2) for _ in labels), labels, "m")
    shown = texts(drawn)
    assert "$\\frac{1}$" in shown
    assert "<script> &" in shown
    assert "\u4f60\u597d \U0001f600" in shown
    assert "(empty)" in shown


def test_shares_of_an_empty_class_are_zero():
    shares = row_shares(((3, 1), (0, 0)))
    assert shares.tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_confused_pairs_come_by_rows_then_by_share():
    pairs = confused_pairs(((90, 5, 5), (0, 8, 2), (5, 0, 5)), ("a", "b", "c"), limit=3)
    assert [(p.label, p.prediction, p.rows) for p in pairs] == [("c", "a", 5), ("a", "b", 5), ("a", "c", 5)]
    assert pairs[0].share == 0.5


def test_score_without_bounds_is_a_dot_without_a_bar(records):
    rows = [dataclasses.replace(row, accuracy=Interval(0.5, math.nan, math.nan)) for row in
            summary_rows(records["adapt"])[:1]]  # fmt: skip
    drawn = plots.comparison(rows, None, "c", narrow=False)
    assert strokes(drawn, "var(--muted") == 0
    assert "50.0" in texts(drawn)
