import numpy as np
import pytest

from warmstart.core.errors import DataError, SettingError
from warmstart.train import knn
from warmstart.train.knn import SHARPNESS, SMOOTHING, knn_leave_one_out, knn_predict


def sample(rows=120, width=8, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    return (rng.normal(size=(classes, width))[labels] + rng.normal(size=(rows, width))).astype(np.float32), labels


def slow(train, labels, query, classes, k):
    cosine = [float(row @ query / np.linalg.norm(row) / np.linalg.norm(query)) for row in train.astype(float)]
    near = sorted(range(len(train)), key=lambda i: -cosine[i])[:k]
    votes = np.full(classes, SMOOTHING / classes)
    for i in near:
        votes[labels[i]] += np.exp((cosine[i] - cosine[near[0]]) / SHARPNESS)
    return np.log(votes / votes.sum())


@pytest.mark.parametrize("k", [1, 10, 500])
def test_votes_equal_the_loop(k):
    train, labels = sample()
    queries, _ = sample(25, seed=1)
    got = knn_predict(train, labels, queries * 3, 4, k)
    assert got.dtype == np.float32
    want = np.array([slow(train, labels, q.astype(float), 4, k) for q in queries])
    assert np.allclose(got, want, atol=1e-4)
    assert np.allclose(np.exp(got).sum(axis=1), 1.0, atol=1e-5)


def test_leave_one_out_equals_the_loop():
    features, labels = sample(60)
    got = knn_leave_one_out(features, labels, 4, 5)
    for i in range(60):
        rest = np.arange(60) != i
        assert np.allclose(got[i], slow(features[rest], labels[rest], features[i].astype(float), 4, 5), atol=1e-4)


def test_leave_one_out_takes_the_whole_group_away():
    features, labels = sample(40)
    features, labels, groups = np.repeat(features, 3, axis=0), np.repeat(labels, 3), np.repeat(np.arange(40), 3)
    assert (knn_leave_one_out(features, labels, 4, 2).argmax(axis=1) == labels).all()  # copies vote
    got = knn_leave_one_out(features, labels, 4, 10, np.array([f"c{g}" for g in groups]))
    for i in (0, 50, 119):
        rest = groups != groups[i]
        assert np.allclose(got[i], slow(features[rest], labels[rest], features[i].astype(float), 4, 10), atol=1e-4)


def test_a_row_without_enough_voters_hears_those_there_are():
    features, labels = sample(6)
    got = knn_leave_one_out(features, labels, 4, 10, np.array([0, 0, 0, 0, 0, 1]))
    assert np.isfinite(got).all()
    assert got[0].argmax() == labels[5]


def test_chunks_do_not_show(monkeypatch):
    features, labels = sample()
    whole = knn_leave_one_out(features, labels, 4), knn_predict(features, labels, features, 4)
    monkeypatch.setattr(knn, "_CHUNK", 7 * len(features))
    parts = knn_leave_one_out(features, labels, 4), knn_predict(features, labels, features, 4)
    for one, two in zip(whole, parts, strict=True):
        assert np.allclose(one, two, atol=1e-5)


def test_no_class_has_probability_zero_and_zero_rows_are_no_error():
    features, labels = sample()
    got = knn_predict(features, labels, np.zeros((2, 8), dtype=np.float32), 7, 3)
    assert np.isfinite(got).all()
    assert np.exp(got[:, 6]) == pytest.approx(SMOOTHING / 7 / (3 + SMOOTHING), rel=1e-3)


def test_wrong_input_is_named():
    features, labels = sample(10)
    with pytest.raises(SettingError, match="k is 0"):
        knn_predict(features, labels, features, 4, 0)
    with pytest.raises(DataError, match="queries"):
        knn_predict(features, labels, features[:, :3], 4)
    with pytest.raises(DataError, match="do not fit"):
        knn_predict(features[:0], labels[:0], features, 4)
    with pytest.raises(SettingError, match="9 groups"):
        knn_leave_one_out(features, labels, 4, groups=np.zeros(9))
    with pytest.raises(DataError, match="no other row"):
        knn_leave_one_out(features, labels, 4, groups=np.zeros(10))
