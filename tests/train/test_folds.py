import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.core.errors import DataError, SettingError
from warmstart.train.folds import assign_folds


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=60), seed=st.integers(0, 99))
def test_every_row_is_held_out_once_except_single_ones(labels, seed):
    labels = np.array(labels)
    counts = np.bincount(labels, minlength=5)
    if counts.max() < 2:
        with pytest.raises(DataError, match="no class has two"):
            assign_folds(labels, 5, seed=seed)
        return
    home = assign_folds(labels, 5, seed=seed)
    assert ((home == -1) == (counts[labels] == 1)).all()
    folds = home.max() + 1
    assert 2 <= folds <= 5
    assert set(home[home >= 0]) == set(range(folds))
    for label in range(5):
        spread = np.bincount(home[(labels == label) & (home >= 0)], minlength=folds)
        assert spread.max() - spread.min() <= 1  # stratified
        if counts[label] > 1:
            assert (counts[label] - spread > 0).all()  # never absent from training
    assert (home == assign_folds(labels, 5, seed=seed)).all()


def test_seed_and_number_of_folds():
    labels = np.arange(60) % 3
    assert (assign_folds(labels, 3, seed=0) != assign_folds(labels, 3, seed=1)).any()
    assert assign_folds(labels, 3, seed=0, folds=3).max() == 2
    assert assign_folds(np.array([0, 0]), 2, seed=0).max() == 1


def test_a_rare_class_does_not_cost_the_others_their_folds():
    home = assign_folds(np.array([0] * 100 + [1] * 2), 2, seed=0)
    assert home.max() == 4
    assert len(set(home[-2:])) == 2


def test_groups_stay_together_and_classes_even():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 600)
    labels = (rng.random(600) < 0.2 + 0.3 * (groups % 2)).astype(int)
    home = assign_folds(labels, 2, seed=3, groups=np.array([f"g{g}" for g in groups]))
    for group in range(60):
        assert len(set(home[groups == group])) == 1
    assert set(home) == set(range(5))
    assert np.ptp([np.mean(labels[home == fold]) for fold in range(5)]) < 0.1
    assert np.ptp(np.bincount(home)) < 60


def test_few_groups():
    labels = np.arange(12) % 2
    home = assign_folds(labels, 2, seed=0, groups=np.arange(12) // 4)
    assert sorted(set(home)) == [0, 1, 2]
    with pytest.raises(DataError, match="share 1 group"):
        assign_folds(labels, 2, seed=0, groups=np.zeros(12))
    with pytest.raises(SettingError, match="11 groups for 12 labels"):
        assign_folds(labels, 2, seed=0, groups=np.zeros(11))
