"""Noise, curves and the worth of labels, on data whose answers are known."""

import math

import numpy as np
import pytest

from warmstart.core.decision import CurvePoint
from warmstart.core.errors import DataError
from warmstart.core.records import Interval
from warmstart.core.statistics import wilson_interval
from warmstart.decide.floors import accuracy_interval
from warmstart.decide.label_evidence import (
    balance,
    confident_disagreement,
    gain_of_more,
    label_evidence,
    learning_curve,
    slope_of,
)
from warmstart.decide.logit import from_logit, interval90, logit_of, to_logit
from warmstart.train.folds import assign_folds
from warmstart.train.probe_solver import fit_like, solve_probe


def blobs(rows=240, gap=2.5, classes=3, width=8, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return (gap * np.eye(width)[labels] + rng.normal(size=(rows, width))).astype(np.float32), labels


def slow_disagreement(p, labels):
    rows, classes = p.shape
    threshold = [np.mean([p[i, c] for i in range(rows) if labels[i] == c]) for c in range(classes)]
    suspicious = set()
    for i in range(rows):
        meant = max(range(classes), key=lambda c: p[i, c])
        if meant != labels[i] and p[i, meant] >= threshold[meant]:
            suspicious.add(i)
    return suspicious


def test_confident_disagreement_by_loops():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    p = rng.dirichlet(np.ones(3), size=60)
    found = confident_disagreement(p, labels)
    rows = slow_disagreement(p, labels)
    assert set(found.rows.tolist()) == rows
    assert found.rate == len(rows) / 60
    margins = [p[i].max() - p[i, labels[i]] for i in found.rows]
    assert margins == sorted(margins, reverse=True)
    with pytest.raises(DataError, match="do not fit"):
        confident_disagreement(p, labels[:9])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25])
def test_noise_that_was_put_in_is_found(share):
    features, labels = blobs(gap=6.0, rows=400)
    flipped = np.random.default_rng(1).permutation(400)[: int(share * 400)]
    noisy = labels.copy()
    noisy[flipped] = (noisy[flipped] + 1) % 3
    probe = solve_probe(features, noisy, 3)
    score = accuracy_interval(probe.cross_validated_logits.argmax(1), noisy)
    found = label_evidence(features, noisy, 3, probe, score, seed=0)
    assert found.noise is not None
    assert found.noise.value == pytest.approx(share, abs=0.05)  # a flip that halves a class's confidence is hard to see
    assert found.noise.low <= found.noise.value <= found.noise.high
    if share:
        assert set(found.suspicious) <= set(flipped.tolist())
        assert len(found.suspicious) == 20


def test_a_curve_point_is_that_of_a_slow_cross_validation():
    features, labels = blobs(rows=120, gap=1.5)
    probe = solve_probe(features, labels, 3)
    curve = learning_curve(features, labels, probe, seed=3)
    whole = next(point for point in curve if point.strategy == "linear_probe" and point.rows == 96)
    home = assign_folds(labels, 3, seed=3)
    hits = 0
    for fold in range(5):
        weight, bias = fit_like(probe, features[home != fold], labels[home != fold])
        hits += int(((features[home == fold] @ weight.T + bias).argmax(1) == labels[home == fold]).sum())
    assert whole.score == wilson_interval(hits, 120)
    assert [(p.strategy, p.rows) for p in curve] == [
        (name, rows) for name in ("linear_probe", "knn") for rows in (12, 24, 48, 96)
    ]


def test_curves_rise_and_tell_what_more_labels_buy():
    features, labels = blobs(rows=600, gap=1.6, width=40)
    probe = solve_probe(features, labels, 3)
    score = accuracy_interval(probe.cross_validated_logits.argmax(1), labels)
    found = label_evidence(features, labels, 3, probe, score, seed=0)
    curve = [point.score.value for point in found.curve if point.strategy == "linear_probe"]
    assert curve[-1] > curve[0] + 0.05
    assert found.gain_probe is not None
    more, truth = blobs(rows=3000, gap=1.6, width=40, seed=9)
    larger, own = blobs(rows=700, gap=1.6, width=40, seed=5)
    reached = []
    for rows in (600, 700):
        again = solve_probe(larger[:rows], own[:rows], 3)
        reached.append(float(((more @ again.weight.T + again.bias).argmax(1) == truth).mean()))
    assert found.gain_probe.low - 0.01 <= reached[1] - reached[0] <= found.gain_probe.high + 0.01
    assert found.gain_probe.low <= found.gain_probe.value <= found.gain_probe.high


def test_small_sets_have_short_curves_and_no_noise():
    features, labels = blobs(rows=12)
    probe = solve_probe(features, labels, 3)
    found = label_evidence(features, labels, 3, probe, wilson_interval(9, 12), seed=0)
    assert found.noise is None
    assert found.suspicious == ()
    assert {point.rows for point in found.curve} == {10}


def test_a_slope_is_found_again_and_never_falls():
    rows = (50, 100, 200, 400)
    steep = [
        CurvePoint("knn", n, wilson_interval(round(20000 * from_logit(0.3 * math.log2(n / 50))), 20000)) for n in rows
    ]
    found = slope_of(steep)
    assert found.value == pytest.approx(0.3, abs=0.02)
    assert found.over(100, 400) == (2 * found.value, 2 * found.deviation)
    falling = [CurvePoint("knn", n, wilson_interval(18000 - 10 * n, 20000)) for n in rows]
    assert slope_of(falling).value == 0.0
    alone = slope_of(steep[:1])
    assert (alone.value, alone.deviation) == pytest.approx((0.15, 0.15))
    gain = gain_of_more(Interval(0.5, 0.49, 0.51), 100, found, 100)
    assert gain.value == pytest.approx(from_logit(0.3) - 0.5, abs=0.01)


def test_balance():
    assert balance(np.array([5, 5, 5])) == pytest.approx(1.0)
    assert balance(np.array([10, 0])) == pytest.approx(0.0)
    assert balance(np.array([30, 10])) == pytest.approx(0.8112781)
    assert balance(np.array([0, 0])) == 1.0


def test_logits_go_both_ways():
    for share in (0.01, 0.5, 0.97):
        assert from_logit(to_logit(share)) == pytest.approx(share)
    assert from_logit(-1000.0) == 0.0
    mean, deviation = logit_of(wilson_interval(800, 1000))
    assert mean == pytest.approx(to_logit(0.8), abs=0.01)
    assert deviation == pytest.approx((1000 * 0.8 * 0.2) ** -0.5, rel=0.02)
    got = interval90(0.0, 1.0)
    assert (got.value, got.low + got.high) == pytest.approx((0.5, 1.0))
    assert math.isfinite(logit_of(wilson_interval(0, 5))[0])
