"""Rankings and their metrics against slow loops, and the baselines against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from warmstart.core.errors import DataError, SettingError
from warmstart.retrieve.baselines import EASE_ITEMS, Ease, ItemKNN, Popularity
from warmstart.retrieve.ranking import ndcg, rank, ranking_scores

USERS, ITEMS = 40, 30


def toy(seed: int = 0) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
    """Scores with many ties, histories, targets."""
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 6, (USERS, ITEMS)).astype(np.float32)
    orders = [draw.permutation(ITEMS) for _ in range(USERS)]
    histories = [order[: int(draw.integers(1, 12))] for order in orders]
    return scores, histories, np.array([order[-1] for order in orders]), np.arange(USERS)


def slow_rank(scores: np.ndarray, history: np.ndarray, target: int, among: set[int]) -> tuple[int, list[int]]:
    left = [item for item in range(ITEMS) if item not in history and item in among]
    worse_or_equal = sum(1 for item in left if item != target and scores[item] >= scores[target])
    best = sorted(left, key=lambda item: (-scores[item], item))[:10]
    return 1 + worse_or_equal, best


@pytest.mark.parametrize("some", [False, True])
def test_ranks_and_first_tens_are_those_of_a_slow_loop(some: bool) -> None:
    scores, histories, targets, users = toy()
    among = np.union1d(targets, np.arange(0, ITEMS, 2)) if some else None
    found = rank(lambda u, h: scores[u], users, histories, targets, ITEMS, among)
    allowed = set(range(ITEMS)) if among is None else set(among.tolist())
    for user in range(USERS):
        expected, best = slow_rank(scores[user], histories[user], int(targets[user]), allowed)
        assert found.ranks[user] == expected
        shown = [int(item) for item in found.top[user] if item >= 0]
        # of equal scores any may stand at the edge of the ten; scores must agree
        assert [scores[user][item] for item in shown] == [scores[user][item] for item in best]
        assert not set(shown) & set(histories[user].tolist())


def test_metrics_are_those_of_a_slow_loop() -> None:
    scores, histories, targets, users = toy(1)
    found = rank(lambda u, h: scores[u], users, histories, targets, ITEMS)
    counts = np.bincount(np.concatenate(histories), minlength=ITEMS)
    made = ranking_scores(found, histories, counts, USERS)
    gains = [1 / math.log2(r + 1) if r <= 10 else 0.0 for r in found.ranks.tolist()]
    assert made.ndcg_10.value == pytest.approx(sum(gains) / USERS)
    assert made.hit_10.value == pytest.approx(sum(r <= 10 for r in found.ranks.tolist()) / USERS)
    assert made.reciprocal_rank.value == pytest.approx(sum(1 / r for r in found.ranks.tolist()) / USERS)
    shown = [int(item) for row in found.top for item in row if item >= 0]
    assert made.coverage_10 == pytest.approx(len(set(shown)) / ITEMS)
    novelty = [-math.log2(max(1, counts[item]) / USERS) for item in shown]
    assert made.novelty_10 == pytest.approx(sum(novelty) / len(novelty))
    popular = set(sorted(range(ITEMS), key=lambda item: -counts[item])[:3])
    assert made.popular_10 == pytest.approx(sum(item in popular for item in shown) / len(shown))
    assert sum(row.users for row in made.by_activity) == USERS
    assert ndcg(np.array([1, 3, 10, 11])).tolist() == pytest.approx([1, 0.5, 1 / math.log2(11), 0])


def test_a_target_in_its_history_is_a_leak() -> None:
    with pytest.raises(DataError, match="future"):
        rank(lambda u, h: np.zeros((1, 3)), np.array([0]), [np.array([1, 2])], np.array([2]), 3)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="no numbers"):
        rank(lambda u, h: np.full((1, 3), np.nan), np.array([0]), [np.array([1])], np.array([2]), 3)


def test_ease_solves_its_own_problem() -> None:
    """The weights minimise |X − XB|² + λ|B|² under a zero diagonal: for each column a ridge without the item itself."""
    _, histories, _, users = toy(2)
    taken = np.zeros((USERS, ITEMS))
    for user, history in enumerate(histories):
        taken[user, history] = 1
    found = Ease(histories, ITEMS, penalty=7.0).weights
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item]
        x = taken[:, others]
        weights = np.linalg.solve(x.T @ x + 7.0 * np.eye(ITEMS - 1), x.T @ taken[:, item])
        np.testing.assert_allclose(found[others, item], weights, atol=1e-5)
        assert found[item, item] == 0
    np.testing.assert_allclose(Ease(histories, ITEMS, 7.0)(users, histories), taken @ found, atol=1e-4)


def test_ease_refuses_what_it_cannot_invert() -> None:
    with pytest.raises(SettingError, match="too many"):
        Ease([np.array([0])], EASE_ITEMS + 1)


def test_item_knn_sums_shrunk_cosines_over_the_nearest() -> None:
    _, histories, _, users = toy(3)
    taken = np.zeros((USERS, ITEMS))
    for user, history in enumerate(histories):
        taken[user, history] = 1
    both, norms = taken.T @ taken, np.sqrt(taken.sum(0))
    cosines = both / (np.outer(norms, norms) + 10.0)
    np.fill_diagonal(cosines, 0)
    full = ItemKNN(histories, ITEMS, neighbours=ITEMS)(users, histories)
    np.testing.assert_allclose(full, taken @ cosines.T, atol=1e-5)
    few = ItemKNN(histories, ITEMS, neighbours=3)(users, histories)
    for item in range(ITEMS):
        edge = np.sort(cosines[item])[-3]
        kept = np.where(cosines[item] >= edge, cosines[item], 0)
        np.testing.assert_allclose(few[:, item], taken @ kept, atol=1e-5)


def test_popularity_counts_users() -> None:
    found = Popularity([np.array([0, 2]), np.array([2])], 4)(np.array([0, 1]), [np.array([0]), np.array([1])])
    assert found.tolist() == [[1, 0, 2, 0], [1, 0, 2, 0]]
