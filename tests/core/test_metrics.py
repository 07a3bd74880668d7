import time

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from warmstart.core import metrics
from warmstart.core.errors import DataError, SettingError
from warmstart.core.records import Scores


def sample(rows=400, classes=5, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)).astype(np.float32) * scale
    logits[np.arange(rows), labels] += 2.0
    return logits, labels


def test_softmax_and_log_loss_equal_sklearn():
    logits, labels = sample()
    p = metrics.softmax(logits)
    assert np.allclose(p.sum(axis=1), 1.0)
    assert np.allclose(p, np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True))
    assert np.isclose(metrics.log_loss(logits, labels), sk.log_loss(labels, p, labels=range(5)))
    assert np.allclose(np.exp(metrics.log_softmax(logits)), p)


def test_losses_survive_huge_logits():
    logits = np.array([[1e5, 0.0], [-1e5, 0.0], [0.0, -np.inf]], dtype=np.float32)
    assert metrics.log_loss(logits, np.array([0, 1, 0])) == 0.0
    assert metrics.log_loss(logits[:1], np.array([1])) == pytest.approx(1e5)
    assert np.isfinite(metrics.softmax(logits)).all()


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_counts_equal_sklearn(classes):
    logits, labels = sample(classes=classes, seed=classes)
    said = logits.argmax(axis=1)
    assert metrics.accuracy(said, labels) == sk.accuracy_score(labels, said)
    assert (metrics.confusion_matrix(said, labels, classes) == sk.confusion_matrix(labels, said)).all()
    assert metrics.macro_f1(said, labels, classes) == pytest.approx(sk.f1_score(labels, said, average="macro"))
    names = [f"class {i}" for i in range(classes)]
    rows = metrics.per_class(metrics.confusion_matrix(said, labels, classes), names)
    precision, recall, f1, support = sk.precision_recall_fscore_support(labels, said)
    assert [r.label for r in rows] == names
    assert np.allclose([r.precision for r in rows], precision)
    assert np.allclose([r.recall for r in rows], recall)
    assert np.allclose([r.f1 for r in rows], f1)
    assert [r.rows for r in rows] == support.tolist()


def test_absent_classes_are_left_out_of_macro_f1():
    labels, said = np.array([0, 0, 3, 3]), np.array([0, 3, 3, 3])
    assert metrics.macro_f1(said, labels, 6) == pytest.approx(sk.f1_score(labels, said, average="macro"))
    only_said = np.array([0, 5, 3, 3])  # class 5 is predicted but never true: it counts, with 0
    assert metrics.macro_f1(only_said, labels, 6) == pytest.approx((2 / 3 + 1.0 + 0.0) / 3)
    row = metrics.per_class(metrics.confusion_matrix(said, labels, 6), list("abcdef"))[1]
    assert (row.rows, row.precision, row.recall, row.f1) == (0, 0.0, 0.0, 0.0)


def slow_calibration_error(probabilities, labels, bins):
    total = 0.0
    for m in range(1, bins + 1):
        inside = [
            i for i, p in enumerate(probabilities) if (m - 1) / bins < p.max() <= m / bins or (m == 1 and p.max() == 0)
        ]
        if inside:
            hit = np.mean([probabilities[i].argmax() == labels[i] for i in inside])
            total += len(inside) / len(labels) * abs(hit - np.mean([probabilities[i].max() for i in inside]))
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_error_equals_the_loop(bins):
    logits, labels = sample()
    p = metrics.softmax(logits)
    got = metrics.expected_calibration_error(p, labels, bins)
    assert got == pytest.approx(slow_calibration_error(p, labels, bins))


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    assert metrics.expected_calibration_error(p, np.array([0, 1, 1, 1])) == pytest.approx((0.8 + 0.4) / 4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.05, 20.0), classes=st.integers(2, 8))
def test_temperature_minimises_the_loss(seed, scale, classes):
    logits, labels = sample(rows=60, classes=classes, seed=seed, scale=scale)
    found = metrics.fit_temperature(logits, labels)

    def doubted_loss(log_temperature: float) -> float:
        said = metrics.log_softmax(logits / np.exp(log_temperature))
        aim = (len(labels) * np.eye(classes)[labels] + 1 / classes) / (len(labels) + 1)
        return -float((aim * said).sum(axis=1).mean())

    best = minimize_scalar(
        doubted_loss,
        bounds=np.log(metrics.TEMPERATURES),
        method="bounded",
        options={"xatol": 1e-7},
    )
    assert metrics.TEMPERATURES[0] * 0.999 <= found <= metrics.TEMPERATURES[1] * 1.001
    assert doubted_loss(np.log(found)) <= best.fun + 1e-7


def test_temperature_recovers_the_scale_and_keeps_its_bounds():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20_000, 4)) * 2
    labels = (metrics.softmax(logits).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert metrics.fit_temperature(logits * 3, labels) == pytest.approx(3.0, rel=0.05)
    assert metrics.fit_temperature(np.eye(3), np.arange(3)) == pytest.approx(1 / np.log(10))  # 10/12 instead of 1
    assert metrics.fit_temperature(np.eye(3), (np.arange(3) + 1) % 3) == pytest.approx(20.0, rel=1e-3)
    barred = np.where(np.eye(3) > 0, 1.0, [-np.inf, 0.0, 0.0])
    assert metrics.TEMPERATURES[0] < metrics.fit_temperature(barred, np.arange(3)) < 1  # -inf is no doubt
    assert metrics.fit_temperature(np.eye(3)[:1], np.array([1])) == 1.0
    assert metrics.fit_temperature(np.full((4, 2), np.nan), np.array([0, 1, 0, 1])) == 1.0
    twice = np.concatenate([logits[:50], logits[:10]]), np.concatenate([labels[:50], labels[:10]])
    weights = np.where(np.arange(50) < 10, 2.0, 1.0)
    weighted = metrics.fit_temperature(logits[:50], labels[:50], weights)
    assert weighted == pytest.approx(metrics.fit_temperature(*twice), rel=0.01)  # its doubt is 1/51, not 1/61
    assert abs(weighted - metrics.fit_temperature(logits[:50], labels[:50])) > 0.01 * weighted
    assert metrics.fit_temperature(np.zeros((4, 2)), np.array([0, 1, 0, 1])) > 0


def test_score_holds_what_the_single_functions_say():
    logits, labels = sample(rows=300)
    names = list("abcde")
    got = metrics.score(logits, labels, names, temperature=2.0)
    said = logits.argmax(axis=1)
    assert got.rows == 300
    assert got.accuracy.value == metrics.accuracy(said, labels)
    assert got.macro_f1.value == pytest.approx(metrics.macro_f1(said, labels, 5))
    assert got.log_loss.value == pytest.approx(metrics.log_loss(logits / 2.0, labels))
    raw = metrics.expected_calibration_error(metrics.softmax(logits), labels)
    assert got.calibration_error_raw == pytest.approx(raw)
    assert got.calibration_error < raw
    assert got.confusion == tuple(map(tuple, sk.confusion_matrix(labels, said).tolist()))
    assert Scores.from_json(got.to_json()) == got
    assert metrics.score(logits, labels, names, temperature=2.0) == got
    assert metrics.score(logits, labels, names, temperature=2.0, seed=1) != got


def test_score_intervals_equal_a_loop_over_resampled_rows():
    logits, labels = sample(rows=150, classes=4)
    got = metrics.score(logits, labels, list("abcd"), temperature=1.0, resamples=4000)
    rng = np.random.default_rng(1)
    said, losses, draws = logits.argmax(axis=1), metrics.row_losses(logits, labels), []
    for _ in range(2000):
        rows = rng.integers(0, 150, 150)
        f1 = metrics.macro_f1(said[rows], labels[rows], 4)
        draws.append((metrics.accuracy(said[rows], labels[rows]), f1, losses[rows].mean()))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    for i, interval in enumerate((got.accuracy, got.macro_f1, got.log_loss)):
        assert interval.low < interval.value < interval.high
        assert interval.low == pytest.approx(low[i], abs=0.02)
        assert interval.high == pytest.approx(high[i], abs=0.02)


def test_score_edge_cases():
    one = metrics.score(np.array([[1.0, 0.0]]), np.array([0]), ["a", "b"], temperature=1.0)
    assert (one.accuracy.value, one.accuracy.high) == (1.0, 1.0)
    assert one.accuracy.low == pytest.approx(1 / (1 + 1.96**2), rel=1e-3)  # one right row says little
    broken = metrics.score(np.full((3, 2), np.nan), np.array([0, 1, 0]), ["a", "b"], temperature=1.0)
    assert np.isnan(broken.log_loss.value)
    assert '"log_loss": {\n  "value": null' in broken.to_json()
    with pytest.raises(DataError, match="no rows to score"):
        metrics.score(np.zeros((0, 2)), np.zeros(0, dtype=int), ["a", "b"], temperature=1.0)


@pytest.mark.parametrize(("rows", "classes"), [(10_000, 6), (10_000, 150)])
def test_score_is_quick(rows, classes):
    logits, labels = sample(rows, classes)
    start = time.process_time()
    metrics.score(logits, labels, [str(i) for i in range(classes)], temperature=1.0)
    assert time.process_time() - start < 4.0  # 0.1 and 0.6 s on an idle core; the bound only catches a wrong order


def test_selection_value_is_higher_when_better():
    logits, labels = sample()
    for metric in ("accuracy", "macro_f1", "log_loss"):
        better = metrics.selection_value(metric, logits + 3 * np.eye(5)[labels], labels)
        assert better > metrics.selection_value(metric, logits, labels)
        assert metrics.selection_value(metric, np.where(logits > 4, np.nan, logits), labels) == -np.inf
    assert metrics.selection_value("log_loss", logits, labels) == -metrics.log_loss(logits, labels)
    with pytest.raises(SettingError, match="'f2'"):
        metrics.selection_value("f2", logits, labels)
    with pytest.raises(DataError):
        metrics.selection_value("accuracy", logits[:0], labels[:0])
