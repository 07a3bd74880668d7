import dataclasses
import time
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from warmstart.core import metrics
from warmstart.core.errors import DataError, SettingError
from warmstart.train import probe_solver
from warmstart.train.folds import assign_folds
from warmstart.train.probe_solver import GRID, prior_shift, solve_probe


def sample(rows=200, width=20, classes=3, seed=0, pull=0.7):
    """Classes as overlapping clouds; features of very different size, off centre."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centres = rng.normal(size=(classes, width)) * pull
    features = (centres[labels] + rng.normal(size=(rows, width))) * 10.0 ** rng.uniform(-2, 2, width) + 5.0
    return features.astype(np.float32), labels


def reference(features, labels, c, class_weight=None):
    """Scikit-learn's logits on the training rows, centred as only differences matter."""
    standard = StandardScaler().fit_transform(features.astype(float))
    model = LogisticRegression(C=c, tol=1e-10, max_iter=20_000, class_weight=class_weight).fit(standard, labels)
    logits = model.decision_function(standard)
    return logits - logits.mean(axis=1, keepdims=True)


def logits_of(solution, features):
    logits = features.astype(float) @ solution.weight.T.astype(float) + solution.bias
    return logits - logits.mean(axis=1, keepdims=True)


def fitted_logits_of(solution, features, labels, class_weights=1.0):
    """Of the fit itself: the temperature has divided all but the logarithms of the classes' shares."""
    prior = np.log(class_weights * np.bincount(labels))
    prior -= prior.mean()
    return (logits_of(solution, features) - prior) * solution.temperature + prior


@pytest.mark.parametrize(("rows", "width", "classes"), [(200, 20, 3), (40, 300, 4), (60, 60, 5)])
def test_solution_equals_sklearn(rows, width, classes):
    features, labels = sample(rows, width, classes)
    got = solve_probe(features, labels, classes, seed=0)
    assert got.weight.dtype == got.bias.dtype == got.cross_validated_logits.dtype == np.float32
    assert got.weight.shape == (classes, width)
    want = reference(features, labels, got.c)
    assert np.abs(fitted_logits_of(got, features, labels) - want).max() < 2e-3 * max(1.0, np.abs(want).max())


def test_class_weights_equal_sklearn():
    features, labels = sample(pull=0.3)
    keep = (labels > 0) | (np.arange(200) % 4 == 0)
    features, labels = features[keep], labels[keep]
    weights = np.array([3.0, 1.0, 0.5])
    got = solve_probe(features, labels, 3, class_weights=weights)
    want = reference(features, labels, got.c, dict(enumerate(weights)))
    assert np.abs(fitted_logits_of(got, features, labels, weights) - want).max() < 1e-3
    prior = np.log(weights * np.bincount(labels))
    left = metrics.fit_temperature(got.cross_validated_logits - prior, labels, weights[labels], prior)
    assert left == pytest.approx(1.0, abs=0.01)  # the answer is calibrated, by the weighted loss
    plain = solve_probe(features, labels, 3)
    said = [np.bincount(s.cross_validated_logits.argmax(axis=1), minlength=3)[0] for s in (got, plain)]
    assert said[0] > said[1]


def test_path_and_held_out_logits_equal_a_slow_cross_validation():
    features, labels = sample(90, 12, 3)
    got = solve_probe(features, labels, 3, seed=4)
    home = assign_folds(labels, 3, seed=4)
    for c, value in got.path:
        logits = np.zeros((90, 3))
        for fold in range(5):
            train, held = home != fold, home == fold
            scaler = StandardScaler().fit(features[train].astype(float))
            model = LogisticRegression(C=c, tol=1e-9, max_iter=20_000)
            model.fit(scaler.transform(features[train].astype(float)), labels[train])
            logits[held] = model.decision_function(scaler.transform(features[held].astype(float)))
        logits /= metrics.fit_temperature(logits, labels)
        assert value == pytest.approx(-metrics.log_loss(logits, labels), abs=2e-3)
        if c == got.c:
            assert np.abs(metrics.softmax(logits) - metrics.softmax(got.cross_validated_logits)).max() < 5e-3
    assert got.c == max(got.path, key=lambda step: step[1])[0]
    assert [c for c, _ in got.path] == sorted(c for c, _ in got.path)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_other_metrics_choose_by_themselves(metric):
    features, labels = sample(120, 15, 3, pull=0.5)
    got = solve_probe(features, labels, 3, metric=metric)
    assert len(got.path) >= len(GRID)
    best = max(score for _, score in got.path)
    assert dict(got.path)[got.c] == best
    assert metrics.selection_value(metric, got.cross_validated_logits, labels) == pytest.approx(best)


def test_grid_extends_beyond_an_edge(monkeypatch):
    features, labels = sample(pull=0.5)
    assert GRID[0] < solve_probe(features, labels, 3).c < GRID[-1]
    low = GRID[:3]
    monkeypatch.setattr(probe_solver, "GRID", low)
    assert solve_probe(features, labels, 3).path[-1][0] > low[-1] * 1.01
    monkeypatch.undo()
    rng = np.random.default_rng(3)
    noise = solve_probe(rng.normal(size=(60, 400)).astype(np.float32), np.arange(60) % 2, 2)
    assert noise.path[0][0] < GRID[0] * 0.99
    assert len(noise.path) < len(GRID) + 2 + probe_solver.EXTENSION  # it stopped once it only got worse


def test_same_call_same_answer():
    features, labels = sample()
    one, two = (solve_probe(features, labels, 3, seed=1) for _ in range(2))
    for spec in dataclasses.fields(one):
        assert np.array_equal(getattr(one, spec.name), getattr(two, spec.name))
    other = solve_probe(features, labels, 3, seed=2)
    assert not np.array_equal(one.cross_validated_logits, other.cross_validated_logits)


def test_constant_and_repeated_features_do_no_harm():
    features, labels = sample()
    plain = solve_probe(features, labels, 3)
    constants = np.tile(np.float32([[0.0, 7.3, -1e6]]), (200, 1))
    got = solve_probe(np.hstack([features, constants]), labels, 3)
    assert (got.weight[:, -3:] == 0).all()
    assert np.allclose(got.weight[:, :-3], plain.weight, atol=1e-4 * np.abs(plain.weight).max())
    twice = solve_probe(np.hstack([features, features]), labels, 3)
    assert np.isfinite(twice.weight).all()
    nothing = solve_probe(np.ones((20, 4), dtype=np.float32), np.array([0] * 15 + [1] * 5), 2)
    assert (nothing.weight == 0).all()
    assert metrics.softmax(nothing.bias)[0] == pytest.approx(15 / 20, abs=1e-2)  # the shares, as they are


def test_a_feature_that_varies_only_by_rounding_gets_no_weight():
    # MiniLM has such features; their unbounded weights made every gradient into the trunk infinite
    features, labels = sample()
    rounding = (np.random.default_rng(0).normal(size=(200, 2)) * [1e-33, 1e-8]).astype(np.float32)
    got = solve_probe(np.hstack([features, rounding]), labels, 3)
    plain = solve_probe(features, labels, 3)
    assert (got.weight[:, -2:] == 0).all()
    assert np.allclose(got.weight[:, :-2], plain.weight, atol=1e-4 * np.abs(plain.weight).max())


def test_two_rows_a_class():
    features, labels = sample(12, 200, 6, pull=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = solve_probe(features, labels, 6)
    assert (logits_of(got, features).argmax(axis=1) == labels).all()
    assert np.isfinite(got.cross_validated_logits).all()
    assert (got.cross_validated_logits.argmax(axis=1) == labels).mean() > 0.5


def test_a_class_of_one_row_is_judged_by_the_others():
    features, labels = sample(61, 10, 3, pull=1.5)
    labels = np.where(np.arange(61) == 60, 3, labels)
    features[60] -= 3 * features.std(axis=0)  # a place of its own
    got = solve_probe(features, labels, 4)
    counts = np.bincount(labels[:60], minlength=4) + 0.5
    assert np.allclose(metrics.softmax(got.cross_validated_logits[60]), counts / counts.sum(), atol=1e-6)
    chances = metrics.softmax(logits_of(got, features))[:, 3]
    assert chances.argmax() == 60  # in training it is learned


def test_a_class_without_rows_has_a_column_that_says_next_to_never():
    features, labels = sample(80, 6, 3)
    got = solve_probe(features, labels, 5)
    p = metrics.softmax(logits_of(got, features))
    assert got.weight.shape == (5, 6)
    assert (got.weight[3:] == 0).all()
    assert p[:, 3:].mean() < 0.05
    assert p[:, 3:].min() > 0
    without = solve_probe(features, labels, 3)
    assert np.allclose(got.weight[:3], without.weight)
    assert got.cross_validated_logits.shape == (80, 5)


def test_groups_are_held_out_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    labels = rng.integers(0, 2, 30)[groups]
    features = (rng.normal(size=(30, 40))[groups] + 0.01 * rng.normal(size=(120, 40))).astype(np.float32)
    leaky = solve_probe(features, labels, 2)
    honest = solve_probe(features, labels, 2, groups=groups)
    reached = [(s.cross_validated_logits.argmax(axis=1) == labels).mean() for s in (leaky, honest)]
    assert reached[0] > 0.95
    assert reached[1] < 0.75


def test_a_class_inside_one_group_still_has_held_out_logits():
    features, labels = sample(90, 8, 3, pull=1.5)
    groups = np.where(labels == 2, 0, 1 + np.arange(90) % 7)
    got = solve_probe(features, labels, 3, groups=groups)
    assert np.isfinite(got.cross_validated_logits).all()
    assert (got.cross_validated_logits.argmax(axis=1)[labels == 2] != 2).mean() > 0.9


def test_many_classes():
    features, labels = sample(450, 40, 150, pull=2.0)
    got = solve_probe(features, labels, 150)
    assert got.weight.shape == (150, 40)
    assert (got.cross_validated_logits.argmax(axis=1) == labels).mean() > 0.7


def test_large_problems_take_three_folds(monkeypatch):
    features, labels = sample(60, 5, 3)
    seen = []
    real = probe_solver.assign_folds
    monkeypatch.setattr(probe_solver, "assign_folds", lambda *a, **k: seen.append(k["folds"]) or real(*a, **k))
    solve_probe(features, labels, 3)
    monkeypatch.setattr(probe_solver, "_LARGE", 10)
    solve_probe(features, labels, 3)
    assert seen == [5, 3]


def test_usual_sizes_are_quick():
    features, labels = sample(1200, 384, 6, pull=0.15)
    start = time.process_time()
    solve_probe(features, labels, 6)
    assert time.process_time() - start < 6.0  # 0.6 s on an idle core; the bound only catches a wrong order


def test_wrong_input_is_named():
    features, labels = sample(30, 4, 3)
    broken = features.copy()
    broken[7, 2] = np.nan
    with pytest.raises(DataError, match="row 7"):
        solve_probe(broken, labels, 3)
    with pytest.raises(SettingError, match="'auc'"):
        solve_probe(features, labels, 3, metric="auc")
    with pytest.raises(SettingError, match="two classes"):
        solve_probe(features, labels * 0, 1)
    with pytest.raises(DataError, match="one class"):
        solve_probe(features, labels * 0, 3)
    with pytest.raises(DataError, match="from 0 to 1"):
        solve_probe(features, labels, 2)
    with pytest.raises(DataError, match="do not fit 29 labels"):
        solve_probe(features, labels[:29], 3)
    for weights in (np.ones(2), np.array([1.0, 0.0, 1.0])):
        with pytest.raises(SettingError, match="class weights"):
            solve_probe(features, labels, 3, class_weights=weights)
    with pytest.raises(DataError, match="two labelled rows"):
        solve_probe(features[:3], labels[:3], 3)
    with pytest.raises(SettingError, match="groups"):
        solve_probe(features, labels, 3, groups=np.zeros(3))


def test_few_rows_a_class_are_judged_without_a_pull_away_from_the_held_out_class():
    """Features that say nothing: with three rows a class the answer would be any class but the right one."""
    rng = np.random.default_rng(0)
    hits = []
    for seed in range(40):
        features, labels = rng.normal(size=(12, 6)), np.repeat(np.arange(4), 3)
        got = solve_probe(features, labels, 4, seed=seed)
        hits.append((got.cross_validated_logits.argmax(axis=1) == labels).mean())
    assert 0.18 < np.mean(hits) < 0.32  # chance is 0.25; without the correction 0.13


def test_prior_shift_by_hand():
    every, learned = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 1, 1])
    shift = prior_shift(every, learned, 4, np.array([2.0, 1.0, 1.0, 1.0]))
    assert shift[0] - shift[1] == pytest.approx(np.log(8 / 4) - np.log(6 / 4))
    assert shift[2] == shift[3] == 0.0  # not learned
    assert prior_shift(learned, learned, 4) == pytest.approx(np.zeros(4))


def test_a_row_more_of_one_class_does_not_drown_what_the_features_say():
    """Strong penalties are the better ones here, and make weights small: the intercepts must not grow with them."""
    right = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        centres, labels = rng.normal(size=(3, 200)), np.repeat(np.arange(3), (7, 4, 4))
        more = rng.integers(0, 3, 600)
        learned, asked = (centres[side] + 3.0 * rng.normal(size=(len(side), 200)) for side in (labels, more))
        got = solve_probe(learned.astype(np.float32), labels, 3, seed=seed)
        right.append(((asked @ got.weight.T + got.bias).argmax(axis=1) == more).mean())
    assert np.mean(right) > 0.7


def test_the_temperature_leaves_a_prior_alone():
    rng = np.random.default_rng(0)
    prior = np.log([0.7, 0.2, 0.1])
    evidence = rng.normal(size=(4000, 3)) * 2.0
    labels = np.array([rng.choice(3, p=row) for row in metrics.softmax(evidence / 2.5 + prior)])
    assert metrics.fit_temperature(evidence, labels, prior=prior) == pytest.approx(2.5, rel=0.1)
    assert metrics.fit_temperature(evidence + 2.5 * prior, labels) == pytest.approx(2.5, rel=0.1)
