"""Alignment, uniformity and effective rank against their definitions; ranks; alarms that ring when they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from warmstart.contrastive.diagnostics import alignment, effective_rank, find_alarms, uniformity
from warmstart.contrastive.ranking import ranks, score_ranks
from warmstart.core.contrast import ContrastPoint
from warmstart.core.errors import ContrastError


def unit(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    found = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return found / found.norm(dim=1, keepdim=True)


def test_alignment_is_the_mean_squared_distance() -> None:
    first, second = unit(7, 5), unit(7, 5, 1)
    expected = sum(float(((a - b) ** 2).sum()) for a, b in zip(first, second, strict=True)) / 7
    assert alignment(3 * first, second) == pytest.approx(expected, rel=1e-5)
    assert alignment(first, first) == pytest.approx(0, abs=1e-6)


def test_uniformity_is_the_log_of_the_mean_potential() -> None:
    vectors = unit(9, 4)
    potentials = [
        math.exp(-2 * float(((vectors[i] - vectors[j]) ** 2).sum())) for i in range(9) for j in range(9) if i < j
    ]
    assert uniformity(vectors) == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-5)
    assert uniformity(vectors[:1].repeat(5, 1)) == pytest.approx(0, abs=1e-5)
    assert uniformity(unit(2000, 64)) < -3.5


def test_effective_rank() -> None:
    assert effective_rank(torch.eye(6)) == pytest.approx(6, rel=1e-5)
    assert effective_rank(torch.ones(6, 4)) == pytest.approx(1, rel=1e-4)
    values = torch.tensor([3.0, 1.0])
    share = values.sqrt() / values.sqrt().sum()  # three rows one way, one the other: singular values √3 and 1
    expected = math.exp(-float((share * share.log()).sum()))
    assert effective_rank(torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])) == pytest.approx(expected, rel=1e-5)


def test_ranks_count_what_stands_before_the_best_positive() -> None:
    candidates = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], dtype=np.float32)
    queries = np.array([[1, 0], [1, 0], [1, 0]], dtype=np.float32)
    answers = [frozenset({1}), frozenset({3, 2}), frozenset({0, 1})]
    assert ranks(queries, candidates, answers).tolist() == [2, 3, 1]
    assert ranks(queries, candidates, answers, np.array([0, -1, 3])).tolist() == [1, 3, 1]


def test_equal_scores_count_against_the_positive() -> None:
    """A collapsed model gives every candidate the same score: it must not look perfect."""
    same = np.ones((50, 3), dtype=np.float32)
    found = score_ranks(same, same, [frozenset({i}) for i in range(50)])
    assert found.recall_at_1.value == 0
    assert found.recall_at_10.value == 0
    assert found.reciprocal_rank.value == pytest.approx(1 / 50)


def test_scores_agree_with_counting() -> None:
    queries, candidates = unit(60, 8).numpy(), unit(60, 8, 1).numpy()
    found = score_ranks(queries * 5, candidates, [frozenset({i}) for i in range(60)])
    scores = queries @ candidates.T
    expected = np.array([1 + sum(scores[i, j] > scores[i, i] for j in range(60) if j != i) for i in range(60)])
    assert found.recall_at_1.value == pytest.approx((expected <= 1).mean())
    assert found.recall_at_10.value == pytest.approx((expected <= 10).mean())
    assert found.reciprocal_rank.value == pytest.approx((1 / expected).mean())
    assert found.recall_at_10.low < found.recall_at_10.value < found.recall_at_10.high
    with pytest.raises(ContrastError, match="not finite"):
        score_ranks(queries * np.nan, candidates, [frozenset({i}) for i in range(60)])


def points(losses: list[float], **more: float) -> list[ContrastPoint]:
    return [
        ContrastPoint(step=10 * (i + 1), epoch=0, seconds=0, loss=loss, ceiling=4.0, **more)
        for i, loss in enumerate(losses)
    ]


def test_a_loss_that_stays_at_log_n_rings() -> None:
    found = find_alarms(points([4.0] * 10), 100, None, None)
    assert [(alarm.kind, alarm.step) for alarm in found] == [("stuck", 50)]
    assert "log N" in found[0].message
    assert not find_alarms(points([4.0, 4.0, 3.8, 3.0, 2.0, 1.5, 1.0]), 70, None, None)
    assert not find_alarms(points([4.0] * 5), 1000, None, None)  # it has hardly begun


def test_a_scale_at_its_bounds_rings() -> None:
    falling = [3.0 - 0.2 * i for i in range(10)]
    assert [a.kind for a in find_alarms(points(falling, scale=100.0), 100, 100.0, None)] == ["scale"]
    assert [a.kind for a in find_alarms(points(falling, scale=1.0), 100, 100.0, None)] == ["scale"]
    assert not find_alarms(points(falling, scale=100.0), 100, None, None)  # fixed there by choice
    assert not find_alarms(points(falling, scale=40.0), 100, 100.0, None)


def test_lost_dimensions_ring() -> None:
    falling = [3.0 - 0.2 * i for i in range(6)]
    assert [a.kind for a in find_alarms(points(falling, effective_rank=9.0), 60, None, 100.0)] == ["rank"]
    assert not find_alarms(points(falling, effective_rank=60.0), 60, None, 100.0)
    assert not find_alarms(points(falling, effective_rank=9.0), 60, None, None)
