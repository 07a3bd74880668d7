"""Drawn negatives and their expected counts; mined ones and their filters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from warmstart.contrastive.mining import MiningPlan, mine
from warmstart.contrastive.negatives import NegativeSampler
from warmstart.core.errors import SettingError
from warmstart.neighbours.exact import ExactIndex
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.protocol import Index

COUNTS = torch.tensor([100, 50, 10, 0, 5])


@pytest.mark.parametrize(("uniform", "popular"), [(6, 0), (0, 6), (4, 8)])
def test_draws_are_as_often_as_log_q_says(uniform: int, popular: int) -> None:
    sampler = NegativeSampler(5, uniform=uniform, popular=popular, counts=COUNTS, power=0.5)
    generator = torch.Generator().manual_seed(0)
    batch = np.random.default_rng(1)
    truth = (COUNTS.double() / COUNTS.sum()).clamp(min=1e-12)
    seen = np.zeros(5)
    for _ in range(4000):
        seen += np.bincount(sampler.draw(generator).numpy(), minlength=5)
        seen += np.bincount(batch.choice(5, 3, p=(COUNTS / COUNTS.sum()).numpy()), minlength=5)
    expected = sampler.log_q(torch.arange(5), 3, truth.log()).exp().numpy()
    np.testing.assert_allclose(seen / 4000, expected, rtol=0.06, atol=0.01)


def test_draws_repeat_with_their_seed_and_items_without_rows_are_never_popular() -> None:
    sampler = NegativeSampler(5, popular=2000, counts=COUNTS, power=0.0)
    first = sampler.draw(torch.Generator().manual_seed(3))
    assert torch.equal(first, sampler.draw(torch.Generator().manual_seed(3)))
    assert set(first.tolist()) == {0, 1, 2, 4}


def test_without_draws_the_pool_is_the_batch() -> None:
    sampler = NegativeSampler(5)
    assert len(sampler.draw(torch.Generator())) == 0
    found = sampler.log_q(torch.tensor([0, 1]), 7, torch.tensor([0.5, 0.25]).log())
    torch.testing.assert_close(found.exp(), torch.tensor([3.5, 1.75]))


@pytest.mark.parametrize(
    "bad",
    [
        {"items": 0},
        {"items": 3, "uniform": -1},
        {"items": 3, "popular": 2},
        {"items": 3, "popular": 1, "counts": torch.zeros(3)},
    ],
)
def test_bad_samplers(bad: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        NegativeSampler(**bad)


def circle(count: int) -> np.ndarray:
    """Unit vectors at equal angles from 0 to 90 degrees: the score falls with the difference of the places."""
    angles = np.linspace(0, math.pi / 2, count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.fixture(params=["exact", "faiss"])
def index(request: pytest.FixtureRequest) -> Index:
    made: Index = ExactIndex(2) if request.param == "exact" else FaissIndex(2)
    made.add(np.arange(10), circle(10))
    return made


def mined(index: Index, queries: list[int], positives: list[set[int]], **plan: Any) -> list[list[int]]:
    vectors = circle(10)
    scores = np.array(
        [max(float(vectors[q] @ vectors[p]) for p in own) for q, own in zip(queries, positives, strict=True)]
    )
    found = mine(index, vectors[queries], scores, positives, MiningPlan(**plan), seed=1)
    assert (found.found == (found.ids >= 0)).all()
    assert np.isnan(found.scores[~found.found]).all()
    return [[one for one in row if one >= 0] for row in found.ids.tolist()]


def test_the_nearest_that_are_no_positives(index: Index) -> None:
    """Each query has negatives of its own; all its positives are left out, not only one of them."""
    assert mined(index, [0, 9], [{0, 1}, {9, 7}], num_negatives=2) == [[2, 3], [8, 6]]


def test_the_range_counts_wrong_answers(index: Index) -> None:
    assert mined(index, [0], [{0, 2}], num_negatives=2, range_min=1, range_max=4) == [[3, 4]]
    assert mined(index, [0], [{0, 2}], num_negatives=3, range_min=6, range_max=100) == [[8, 9]]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"max_score": 0.9}, [3, 4]),  # cos 30° = .87
        ({"min_score": 0.97}, [1]),
        ({"absolute_margin": 0.1}, [3, 4]),
        ({"relative_margin": 0.1}, [3, 4]),
        ({"absolute_margin": 2.0}, []),
    ],
)
def test_filters(index: Index, filters: dict[str, float], expected: list[int]) -> None:
    assert mined(index, [0], [{0}], num_negatives=2, **filters) == [expected]


def test_a_negative_never_beats_a_positive_whose_score_is_below_zero() -> None:
    made = ExactIndex(1)
    made.add(np.arange(3), np.array([[-0.5], [-0.52], [-0.9]]))
    plan = MiningPlan(num_negatives=1, relative_margin=0.1)
    found = mine(made, np.ones((1, 1)), np.array([-0.5]), [frozenset({0})], plan)
    assert found.ids.tolist() == [[2]]  # −0.52 is within a tenth of −0.5


def test_random_ones_come_from_what_passes_only(index: Index) -> None:
    found = mined(
        index, [0] * 200, [{0}] * 200, num_negatives=2, max_score=0.9, range_max=7, sampling_strategy="random"
    )
    assert {one for row in found for one in row} == {3, 4, 5, 6, 7}
    assert all(row[0] < row[1] for row in found)


def test_complete_rows() -> None:
    made = ExactIndex(2)
    made.add(np.arange(3), circle(3))
    found = mine(made, circle(3), np.ones(3), [{0}, {0, 1}, {2}], MiningPlan(num_negatives=2))
    assert found.complete().tolist() == [0, 2]


@pytest.mark.parametrize(
    "bad", [{"num_negatives": 0}, {"range_min": 5, "range_max": 5}, {"num_negatives": 4, "range_max": 3}]
)
def test_bad_plans(index: Index, bad: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        mined(index, [0], [{0}], **bad)
    with pytest.raises(SettingError):
        mine(index, circle(2), np.ones(1), [set()], MiningPlan())
