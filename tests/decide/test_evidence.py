import math

import numpy as np
import pytest

from warmstart.core.errors import DataError
from warmstart.core.records import Evidence, Floor, Interval
from warmstart.core.statistics import wilson_interval
from warmstart.decide.evidence import gather, measure_floors
from warmstart.train.probe_solver import solve_probe


def measured(rows=60, texts=True, zero_shot=True, **changes):
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % 3
    features = (2 * np.eye(3)[labels] + rng.normal(size=(rows, 3))).astype(np.float32)
    given = {
        "labels": labels,
        "classes": 3,
        "features": features,
        "texts": [f"word{y} and more" for y in labels] if texts else None,
        "probe": solve_probe(features, labels, 3) if rows else None,
        "zero_shot_logits": np.eye(3)[np.where(np.arange(rows) % 2, labels, 0)] if zero_shot else None,
        "seconds_forward": 0.01,
        "seconds_train": 0.04,
        "parameters": 22_000_000,
        "budget_seconds": 300,
        "device": "cpu",
    }
    return {**given, **changes}


def test_everything_is_measured():
    given = measured()
    got = gather(**given)
    hits = int((given["probe"].cross_validated_logits.argmax(axis=1) == given["labels"]).sum())
    assert got.probe == wilson_interval(hits, 60)
    assert (got.labelled, got.classes, got.per_class_min, got.per_class_median) == (60, 3, 20, 20.0)
    assert got.majority == pytest.approx(1 / 3)
    assert got.tfidf is not None
    assert got.tfidf.value == 1.0
    assert got.knn.value > 0.6
    assert got.zero_shot is not None
    assert got.zero_shot.value == pytest.approx(2 / 3)
    assert got.budget_seconds == 300.0
    assert Evidence.from_json(got.to_json()) == got


def test_images_have_no_tfidf_and_some_models_no_zero_shot():
    got = gather(**measured(texts=False, zero_shot=False, budget_seconds=None))
    assert got.tfidf is None
    assert got.zero_shot is None
    assert got.budget_seconds is None


def test_a_class_without_rows_counts_as_zero():
    got = gather(**measured(classes=3, texts=False, zero_shot=False) | {"classes": 4})
    assert got.per_class_min == 0


def test_no_labels():
    none = np.zeros(0, dtype=int)
    got = gather(**measured(rows=0, texts=False, features=None, labels=none, zero_shot_logits=np.zeros((0, 3))))
    assert got.labelled == 0
    assert math.isnan(got.probe.value)
    assert got.zero_shot is not None
    assert math.isnan(got.zero_shot.value)
    assert math.isnan(Evidence.from_json(got.to_json()).majority)
    assert measure_floors(none, 3, features=None, texts=None, seed=0) == ()


def test_floors_that_are_handed_in_are_not_measured_again():
    here = Interval(0.4, 0.3, 0.5)
    floors = [Floor("majority", here, None), Floor("knn", here, here)]
    got = gather(**measured(floors=floors, features=None))
    assert got.knn == here
    assert got.majority == 0.4
    assert got.tfidf is None


def test_measure_floors_in_order_with_test_rows():
    given = measured()
    kept = {name: given[name] for name in ("features", "texts")}
    tests = {f"test_{name}": value for name, value in (kept | {"labels": given["labels"]}).items()}
    got = measure_floors(given["labels"], 3, seed=0, **kept, **tests)
    assert [floor.name for floor in got] == ["majority", "tfidf", "knn"]
    assert all(floor.test is not None for floor in got)


def test_rows_must_fit():
    with pytest.raises(DataError, match="need a solved probe"):
        gather(**measured(probe=None))
    with pytest.raises(DataError, match="zero-shot predictions for 60"):
        gather(**measured(zero_shot_logits=np.zeros((5, 3))))
    other = measured(rows=30)["probe"]
    with pytest.raises(DataError, match="solved on 30 rows"):
        gather(**measured(probe=other))
