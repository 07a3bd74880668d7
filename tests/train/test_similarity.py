"""The measures of likeness against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.train.similarity import linear_cka, neighbours_kept, relative_distance

DRAW = np.random.default_rng(0)


def rotation(width: int, seed: int = 1) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0]


def plain_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 3 of the paper as it stands."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def plain_kept(before: np.ndarray, after: np.ndarray, k: int) -> float:
    """Row by row, with loops."""

    def nearest(features: np.ndarray, row: int) -> set[int]:
        cosine = [
            -math.inf if other == row else a @ features[row] / np.linalg.norm(a) / np.linalg.norm(features[row])
            for other, a in enumerate(features)
        ]
        return set(sorted(range(len(features)), key=lambda other: -cosine[other])[:k])

    return float(np.mean([len(nearest(before, row) & nearest(after, row)) / k for row in range(len(before))]))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_cka_with_itself_is_exactly_one(rows: int, width: int, seed: int, scale: float) -> None:
    x = (np.random.default_rng(seed).standard_normal((rows, width)) * scale + 5).astype(np.float32)
    assert linear_cka(x, x) == 1.0


@pytest.mark.parametrize(("rows", "first", "second"), [(50, 8, 8), (50, 8, 20), (12, 40, 30)])
def test_cka_is_the_papers_and_ignores_rotation_and_scale(rows: int, first: int, second: int) -> None:
    x, y = DRAW.standard_normal((rows, first)) + 3, DRAW.standard_normal((rows, second))
    y[:, :4] += x[:, :4]
    expected = plain_cka(x, y)
    assert 0 < expected < 1
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-9)
    assert linear_cka(y, x) == pytest.approx(expected, rel=1e-9)
    assert linear_cka(-7 * x @ rotation(first) + 2, 0.01 * y) == pytest.approx(expected, rel=1e-9)
    assert linear_cka(x, x @ rotation(first)) == pytest.approx(1.0, abs=1e-12)


def test_cka_of_nothing_in_common_is_small_with_many_rows() -> None:
    assert linear_cka(DRAW.standard_normal((4000, 4)), DRAW.standard_normal((4000, 4))) < 0.01


def test_cka_without_variance_is_not_a_number() -> None:
    x = DRAW.standard_normal((20, 3))
    constant = np.full((20, 3), 0.1, dtype=np.float32)
    assert math.isnan(linear_cka(x, constant))
    assert math.isnan(linear_cka(constant, x))
    assert math.isnan(linear_cka(np.zeros((20, 2)), x))
    assert math.isnan(linear_cka(x[:1], x[:1]))
    assert linear_cka(x, constant + 1e-3 * x) == pytest.approx(1.0)


def test_neighbours_are_counted_as_with_loops() -> None:
    before = DRAW.standard_normal((40, 6))
    after = before + 0.4 * DRAW.standard_normal((40, 6))
    for k in (1, 3, 10):
        assert neighbours_kept(before, after, k) == pytest.approx(plain_kept(before, after, k))


def test_neighbours_of_the_same_features_all_stay() -> None:
    x = DRAW.standard_normal((60, 7)).astype(np.float32)
    assert neighbours_kept(x, x) == 1.0
    assert neighbours_kept(x, 3 * x @ rotation(7)) == 1.0
    assert neighbours_kept(x, np.concatenate([x, x], axis=1)) == 1.0
    assert neighbours_kept(np.zeros((60, 2)), np.zeros((60, 2))) == 1.0


def test_neighbours_of_unrelated_or_collapsed_features_stay_by_chance() -> None:
    x = DRAW.standard_normal((300, 8))
    assert neighbours_kept(x, x[DRAW.permutation(300)]) == pytest.approx(10 / 299, abs=0.012)
    assert neighbours_kept(x, np.ones((300, 8))) == pytest.approx(10 / 299, abs=0.012)


def test_too_few_rows_for_neighbours_is_not_a_number() -> None:
    x = DRAW.standard_normal((11, 4))
    assert math.isnan(neighbours_kept(x, x))
    assert math.isnan(neighbours_kept(x[:0], x[:0]))
    assert neighbours_kept(x, x, k=9) == 1.0


def test_other_numbers_of_rows_are_refused() -> None:
    x = DRAW.standard_normal((20, 4))
    with pytest.raises(ValueError, match="20 and of 19 rows"):
        neighbours_kept(x, x[1:])
    with pytest.raises(ValueError, match="20 and of 19 rows"):
        linear_cka(x, x[1:])


def test_relative_distance_is_of_all_tensors_together() -> None:
    before = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    after = [torch.tensor([3.0, 1.0]), torch.tensor([[2.0]])]
    assert relative_distance(before, after) == pytest.approx(math.sqrt(5) / 5)
    assert relative_distance(before, before) == 0.0
    assert relative_distance(before, [t.bfloat16() for t in before]) == 0.0
    assert math.isnan(relative_distance([torch.zeros(3)], [torch.ones(3)]))
    assert relative_distance([torch.zeros(3)], [torch.zeros(3)]) == 0.0
    with pytest.raises(ValueError, match="zip"):
        relative_distance(before, after[:1])
