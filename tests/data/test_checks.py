"""Each check alone, and the verdict over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from warmstart.core.errors import DataError
from warmstart.data import checks
from warmstart.data.cells import Where
from warmstart.data.screening import settle


def where(count, file="a.csv", column="label"):
    return Where(file, column, np.arange(2, count + 2))


def only(problems):
    assert len(problems) == 1
    return problems[0]


def test_missing_labels_list_twenty_rows():
    problem = only(checks.missing_labels([None] * 30 + ["a"], where(31)))
    assert problem.finding.rows == tuple(range(2, 22))
    assert problem.finding.count == len(problem.offenders) == 30
    assert problem.droppable
    assert not checks.missing_labels(["a"], where(1))


def test_empty_texts_see_through_spaces():
    assert only(checks.empty_texts(["x", " \t\n", "", "\u00a0"], where(4))).offenders.tolist() == [1, 2, 3]


def test_broken_images_name_files():
    problem = only(checks.broken_images(["", "damaged", "it has no pixels"], ["a.png", ""], where(3)))
    assert problem.finding.message == "the image cannot be used (a.png: damaged; it has no pixels)"
    assert problem.finding.rows == (3, 4)


def test_tiny_and_unknown_classes():
    assert only(checks.tiny_classes(["a", "a", "b"], where(3))).offenders.tolist() == [2]
    problem = only(checks.unknown_labels(["a", "c"], ["a", "b"], where(2)))
    assert "'c'" in problem.finding.message
    assert problem.offenders.tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "stops"),
    [
        ([str(i) for i in range(21)] * 1, True),
        ([str(i) for i in range(20)], False),
        ([str(i) for i in range(30)] * 2, False),
        ([str(i) for i in range(30)] + ["0"] * 29, True),
    ],
)
def test_id_labels(labels, stops):
    assert bool(checks.id_labels(labels, where(len(labels)))) is stops


@pytest.mark.parametrize(
    ("labels", "stops"),
    [
        ([str(i / 7) for i in range(100)], True),
        (["0.5", "1", "1.5"] * 10, False),
        ([str(i) for i in range(100)], False),
        (["0.1", "0.2", "0.3", "0.4"], True),
        ([f"v{i / 7}" for i in range(100)], False),
    ],
)
def test_regression_targets(labels, stops):
    problems = checks.regression_target(labels, where(len(labels)))
    assert bool(problems) is stops
    assert not any(problem.droppable for problem in problems)


def test_one_class():
    assert only(checks.one_class(["a", "a"], where(2))).finding.severity == "stop"
    assert "no usable row" in only(checks.one_class([], where(0))).finding.message
    assert not checks.one_class(["a", "b"], where(2))


def test_leaks_say_both_rows():
    learned, judged = np.asarray([0, 1, 2, 1]), np.asarray([5, 1])
    exact = only(checks.leaks(learned, judged, where(4), where(2, "b.csv"), exact=True))
    assert exact.offenders.tolist() == [1, 3]
    assert "row 3 is row 3 there" in exact.finding.message
    near = only(checks.leaks(learned, judged, where(4), where(2, "b.csv"), exact=False))
    assert (near.finding.severity, near.droppable) == ("warn", False)


def test_warnings():
    repeated = only(checks.repeated_inputs(np.asarray([0, 1, 0, 2, 1]), where(5)))
    assert (repeated.finding.count, repeated.finding.severity) == (4, "warn")
    assert "2 sets" in repeated.finding.message
    torn = only(checks.conflicting_labels(np.asarray([0, 0, 1, 1]), ["a", "b", "a", "a"], where(4)))
    assert torn.offenders.tolist() == [0, 1]
    twins = only(checks.case_twins(["Tops", "tops", "x"], where(3)))
    assert "'Tops', 'tops'" in twins.finding.message
    skew = only(checks.imbalance(["a"] * 40 + ["b"] * 2, where(42)))
    assert "--class-weights balanced" in skew.finding.remedy
    assert not checks.imbalance(["a"] * 39 + ["b"] * 2, where(41))
    assert "'b'" in only(checks.untested_classes(["a", "b"], ["a"], where(1))).finding.message
    assert only(checks.straddling_inputs(np.asarray([0, 0, 1]), np.asarray([0, 1, 2]), where(3))).finding.count == 2


def test_one_error_for_everything():
    problems = checks.missing_labels([None] * 7 + ["a"], where(8)) + checks.empty_texts(
        ["", "x"], where(2, column="text")
    )
    with pytest.raises(DataError) as caught:
        settle(problems, 8, drop_invalid=False)
    assert str(caught.value) == (
        "a.csv, column 'label', rows 2, 3, 4, 5, 6, … (7 in all): the label is missing; "
        "a.csv, column 'text', row 2: the text is empty. --drop-invalid leaves those 8 rows out and lists them."
    )
    assert (caught.value.file, caught.value.row, caught.value.column) == ("a.csv", 2, "label")
    findings = settle(problems, 8, drop_invalid=True)
    assert [finding.dropped for finding in findings] == [True, True]


def test_what_cannot_be_dropped_still_stops():
    problems = checks.one_class(["a"], where(1)) + checks.missing_labels([None], where(1))
    with pytest.raises(DataError, match=r"every row has the label 'a'\. A classifier needs"):
        settle(problems, 1, drop_invalid=True)
