import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from warmstart.core.errors import DataError
from warmstart.core.statistics import wilson_interval
from warmstart.decide import floors
from warmstart.decide.floors import accuracy_interval, knn_floor, majority_floor, tfidf_floor
from warmstart.train.folds import assign_folds
from warmstart.train.knn import knn_leave_one_out

TOPICS = ["goal match team score", "bank money market shares", "film actor scene music"]


def corpus(rows=150, seed=0):
    """Two words of the text's own topic, one of any, and five that say nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    noise = ["the", "a", "of", "and", "to", "in", "on", "with", "for", "was"]
    every = " ".join(TOPICS).split()
    texts = []
    for label in labels:
        words = [*rng.choice(noise, 5), *rng.choice(TOPICS[label].split(), 2), *rng.choice(every, 1)]
        texts.append(" ".join(rng.permutation(words)))
    return texts, labels


def test_majority_by_hand():
    got = majority_floor(np.array([0, 0, 1, 2]), 3, test_labels=np.array([0, 1]))
    assert (got.name, got.cross_validated, got.test) == ("majority", wilson_interval(2, 4), wilson_interval(1, 2))
    assert majority_floor(np.array([2]), 3).test is None
    with pytest.raises(DataError, match="no labelled rows"):
        majority_floor(np.array([], dtype=int), 3)


def test_tfidf_equals_a_slow_cross_validation():
    texts, labels = corpus()
    got = tfidf_floor(texts, labels, 3, seed=1)
    home = assign_folds(labels, 3, seed=1)
    right = []
    for c in floors.TFIDF_GRID:
        hits = 0
        for fold in range(5):
            train, held = np.flatnonzero(home != fold), np.flatnonzero(home == fold)
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
            model = LogisticRegression(C=c, max_iter=2000).fit(
                words.fit_transform([texts[i] for i in train]), labels[train]
            )
            hits += (model.predict(words.transform([texts[i] for i in held])) == labels[held]).sum()
        right.append(int(hits))
    assert got.cross_validated.value == pytest.approx(max(right) / 150, abs=0.03)  # single letters are words here
    assert got.cross_validated.value > 0.6
    assert tfidf_floor(texts, labels, 3, seed=1) == got


def test_tfidf_on_test_rows_and_on_pairs():
    texts, labels = corpus(300)
    more, truth = corpus(200, seed=5)
    got = tfidf_floor(texts, labels, 3, seed=0, test_texts=more, test_labels=truth)
    assert got.test is not None
    assert got.test.value == pytest.approx(got.cross_validated.value, abs=0.12)
    pairs = [("same words", text) for text in texts]
    assert tfidf_floor(pairs, labels, 3, seed=0).cross_validated.value > 0.6
    assert tfidf_floor([(b, a) for a, b in pairs], labels, 3, seed=0).cross_validated.value > 0.6


def test_tfidf_without_words_or_with_one_row_classes():
    labels = np.array([0] * 9 + [1] * 3)
    assert tfidf_floor([""] * 12, labels, 2, seed=0).cross_validated.value == 0.75
    emoji = ["😀" if y else "😡" for y in labels]
    assert tfidf_floor(emoji, labels, 2, seed=0).cross_validated.value == 1.0
    got = tfidf_floor([*emoji, "alone"], np.append(labels, 2), 3, seed=0)
    assert got.cross_validated.value == pytest.approx(12 / 13)  # a class of one row cannot be found again
    with pytest.raises(DataError, match="11 texts for 12 labels"):
        tfidf_floor(emoji[:11], labels, 2, seed=0)


def test_tfidf_where_no_word_stands_in_two_rows():
    """Sequences, or a language that is written without spaces: from 200 rows on, rare words are pruned."""
    labels = np.arange(300) % 3
    found = tfidf_floor([f"seq{i:04d}" for i in range(300)], labels, 3, seed=0)
    assert found.cross_validated.value <= 0.4  # nothing can be learned


def test_tfidf_groups_and_large_sets(monkeypatch):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 4)
    labels = rng.integers(0, 2, 40)[groups]
    texts = [f"customer{g} wrote" for g in groups]
    assert tfidf_floor(texts, labels, 2, seed=0).cross_validated.value > 0.95
    assert tfidf_floor(texts, labels, 2, seed=0, groups=groups).cross_validated.value < 0.75
    monkeypatch.setattr(floors, "CROSS_VALIDATION_ROWS", 60)
    small = tfidf_floor(texts, labels, 2, seed=0, groups=groups)
    sixty = accuracy_interval(np.zeros(60), np.zeros(60))
    assert small.cross_validated.high - small.cross_validated.low > sixty.high - sixty.low


def test_knn_floor():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = (np.eye(3)[labels] + 0.4 * rng.normal(size=(90, 3))).astype(np.float32)
    got = knn_floor(features, labels, 3, test_features=features[:30], test_labels=labels[:30])
    hits = int((knn_leave_one_out(features, labels, 3).argmax(axis=1) == labels).sum())
    assert got.cross_validated == wilson_interval(hits, 90)
    assert got.test is not None
    assert got.test.value > got.cross_validated.value - 0.1
    assert knn_floor(features, labels, 3).test is None
    alone = knn_floor(features, labels, 3, groups=labels)  # every row of the class is taken away
    assert alone.cross_validated.value == 0.0
