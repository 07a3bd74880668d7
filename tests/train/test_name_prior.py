"""The product of a probe and the label names."""

import numpy as np
import pytest

from warmstart.core.errors import DataError
from warmstart.core.metrics import fit_temperature, softmax
from warmstart.train.name_prior import WEIGHTS, with_names
from warmstart.train.probe_solver import fit_like, log_shares, solve_probe

CLASSES, WIDTH = 4, 30


def drawn(rows, seed, noise=1.0):
    """Rows around four directions, and those directions: names that tell the truth."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(np.random.default_rng(99).normal(size=(WIDTH, CLASSES)))[0].T
    labels = np.arange(rows) % CLASSES
    features = centres[labels] + noise / np.sqrt(WIDTH) * rng.normal(size=(rows, WIDTH))
    return features, labels, centres


def accuracy(probe, features, labels):
    return float(((features @ probe.weight.T + probe.bias).argmax(1) == labels).mean())


@pytest.mark.parametrize("seed", range(3))
def test_few_rows_gain_from_names_that_tell_the_truth(seed):
    features, labels, names = drawn(16, seed, noise=2.0)
    test, truth, _ = drawn(4000, 100 + seed, noise=2.0)
    plain = solve_probe(features, labels, CLASSES)
    found = with_names(plain, features, labels, names)
    assert found.names_weight > 0
    assert accuracy(found, test, truth) > accuracy(plain, test, truth) + 0.03


def test_names_that_mislead_are_left_out():
    features, labels, names = drawn(200, 0)
    plain = solve_probe(features, labels, CLASSES)
    assert with_names(plain, features, labels, names[[1, 2, 3, 0]]) is plain


def test_the_head_is_the_product_and_so_are_its_held_out_answers():
    features, labels, names = drawn(17, 1, noise=2.0)
    plain = solve_probe(features, labels, CLASSES)
    found = with_names(plain, features, labels, 20 * names)
    said = 20 * features @ names.T
    said /= fit_temperature(said, labels, prior=log_shares(labels, CLASSES, np.ones(CLASSES)))
    a = found.names_weight
    product = softmax(features @ plain.weight.T + plain.bias) * softmax(said) ** a
    product /= product.sum(1, keepdims=True)
    np.testing.assert_allclose(softmax(features @ found.weight.T + found.bias), product, atol=1e-5)
    held = softmax(plain.cross_validated_logits) * softmax(said) ** a
    np.testing.assert_allclose(softmax(found.cross_validated_logits), held / held.sum(1, keepdims=True), atol=1e-5)


def test_the_weight_is_the_best_by_a_slow_search():
    features, labels, names = drawn(24, 2, noise=2.5)
    plain = solve_probe(features, labels, CLASSES)
    said = features @ names.T
    said /= fit_temperature(said, labels, prior=log_shares(labels, CLASSES, np.ones(CLASSES)))
    losses = []
    for a in WEIGHTS:
        answer = softmax(plain.cross_validated_logits + a * said)
        losses.append(-np.mean([np.log(answer[row, label]) for row, label in enumerate(labels)]))
    assert with_names(plain, features, labels, names).names_weight == WEIGHTS[int(np.argmin(losses))]


def test_a_class_without_rows_can_still_be_named():
    features, labels, names = drawn(16, 3)
    some = labels != 3
    found = with_names(solve_probe(features[some], labels[some], CLASSES), features[some], labels[some], names)
    test, truth, _ = drawn(400, 4, noise=0.3)
    of_absent = (test @ found.weight.T + found.bias)[truth == 3]
    plain = solve_probe(features[some], labels[some], CLASSES)
    assert found.names_weight > 0
    assert softmax(of_absent)[:, 3].mean() > softmax((test @ plain.weight.T + plain.bias)[truth == 3])[:, 3].mean()


def test_a_probe_of_fewer_rows_keeps_the_names():
    features, labels, names = drawn(16, 5, noise=2.0)
    found = with_names(solve_probe(features, labels, CLASSES), features, labels, names)
    assert found.names is not None
    weight, bias = fit_like(found, features, labels)
    np.testing.assert_allclose(weight, found.weight, atol=2e-3)
    np.testing.assert_allclose(bias, found.bias, atol=2e-3)


def test_names_of_another_width_are_refused():
    features, labels, names = drawn(16, 6)
    with pytest.raises(DataError, match="label names of shape"):
        with_names(solve_probe(features, labels, CLASSES), features, labels, names[:, :5])
