"""The steps of an answer against slow loops: filters never leak, the ranker never invents, diversity is MMR."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from warmstart.core.errors import DataError, ResultError
from warmstart.neighbours.exact import ExactIndex
from warmstart.retrieve.diversity import mmr
from warmstart.retrieve.pipeline import Pipeline, Request

ITEMS, DIM = 60, 8


def unit(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


VECTORS = unit(ITEMS, 0)


def encode(histories: Sequence[np.ndarray], users: np.ndarray) -> np.ndarray:
    """The mean of the history, moved a little by who it is."""
    found = np.stack([VECTORS[history].mean(axis=0) for history in histories])
    found += 0.01 * (1 + users[:, None])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def pipeline(ranker: object = None) -> Pipeline:
    index = ExactIndex(DIM)
    index.add(np.arange(ITEMS), VECTORS)
    return Pipeline(encode, index, VECTORS, ranker)  # type: ignore[arg-type]


class Backwards:
    """Turns the order round, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], list[int]]] = []

    def scores(self, history: Sequence[int], candidates: np.ndarray, retrieved: np.ndarray) -> np.ndarray:
        self.asked.append((list(history), candidates.tolist()))
        return -100 * retrieved


def request(draw: np.random.Generator, **changes: object) -> Request:
    history = draw.choice(ITEMS, int(draw.integers(1, 9)), replace=False)
    return Request(**{"history": history, "k": 5, "retrieve": 20, "block": history, **changes})  # type: ignore[arg-type]


def test_answers_are_those_of_a_slow_loop() -> None:
    draw = np.random.default_rng(1)
    wanted = [request(draw, user=user) for user in range(-1, 20)]
    wanted += [request(draw, allow=draw.choice(ITEMS, 15, replace=False)) for _ in range(20)]
    for one, answer in zip(wanted, pipeline().run(wanted), strict=True):
        query = encode([one.history], np.array([one.user]))[0]
        barred = set(one.block.tolist()) | (set(range(ITEMS)) - set(range(ITEMS) if one.allow is None else one.allow))
        scores = {item: float(VECTORS[item] @ query) for item in range(ITEMS) if item not in barred}
        best = sorted(scores, key=lambda item: -scores[item])[:5]
        assert answer.items.tolist() == best
        np.testing.assert_allclose(answer.retrieved, [scores[item] for item in best], atol=1e-6)
        assert (answer.funnel.indexed, answer.funnel.allowed) == (ITEMS, len(scores))
        assert answer.funnel.retrieved == min(20, len(scores))
        assert (answer.funnel.ranked, answer.funnel.shown) == (0, len(best))


def test_alone_and_together_are_the_same() -> None:
    draw = np.random.default_rng(2)
    wanted = [request(draw, user=user) for user in range(10)]
    together = pipeline().run(wanted)
    for one, answer in zip(wanted, together, strict=True):
        alone = pipeline().run([one])[0]
        assert alone.items.tolist() == answer.items.tolist()


def test_the_ranker_orders_what_was_retrieved_and_nothing_else() -> None:
    one, ranker = request(np.random.default_rng(3)), Backwards()
    plain = pipeline().run([Request(one.history, 20, 20, block=one.block)])[0]
    found = pipeline(ranker).run([one])[0]
    assert ranker.asked == [(one.history.tolist(), plain.items.tolist())]
    assert found.items.tolist() == plain.items.tolist()[::-1][:5]
    assert found.ranked is not None
    np.testing.assert_allclose(found.ranked, -100 * found.retrieved, rtol=1e-6)
    assert (found.funnel.retrieved, found.funnel.ranked, found.funnel.shown) == (20, 20, 5)


@pytest.mark.parametrize("given", [np.zeros(3), np.full(20, np.nan)])
def test_a_ranker_that_gives_something_else_is_refused(given: np.ndarray) -> None:
    class Wrong:
        def scores(self, history: Sequence[int], candidates: np.ndarray, retrieved: np.ndarray) -> np.ndarray:
            return given

    with pytest.raises(ResultError, match="ranker gave"):
        pipeline(Wrong()).run([request(np.random.default_rng(4))])


def test_a_least_score_and_filters_that_leave_nothing() -> None:
    one = request(np.random.default_rng(5), min_score=0.2, k=20)
    found = pipeline(Backwards()).run([one])[0]
    assert 0 < len(found.items) < 20
    assert found.retrieved.min() >= 0.2
    assert found.funnel.retrieved == found.funnel.ranked == len(found.items)
    for nothing in (np.zeros(0, dtype=np.int64), one.history):
        empty = pipeline(Backwards()).run([Request(one.history, 5, 20, block=one.history, allow=nothing)])[0]
        assert empty.items.tolist() == []
        assert empty.funnel.allowed == empty.funnel.shown == 0
    diverse = pipeline().run([Request(one.history, 5, 20, allow=np.zeros(0, dtype=np.int64), diversity=0.5)])[0]
    assert diverse.items.tolist() == []


def test_an_empty_history_is_refused_and_no_request_answered() -> None:
    with pytest.raises(DataError, match="empty"):
        pipeline().run([Request(np.zeros(0, dtype=np.int64), 5, 5)])
    assert pipeline().run([]) == []


def slow_mmr(relevance: np.ndarray, vectors: np.ndarray, k: int, diversity: float) -> list[int]:
    """Carbonell and Goldstein's definition, candidate by candidate."""
    low, high = relevance.min(), relevance.max()
    chosen: list[int] = []
    while len(chosen) < min(k, len(relevance)):
        best, value = -1, -np.inf
        for place in range(len(relevance)):
            if place in chosen:
                continue
            alike = max((float(vectors[place] @ vectors[other]) for other in chosen), default=0.0)
            scaled = (relevance[place] - low) / (high - low)
            marginal = (1 - diversity) * scaled - diversity * alike
            if marginal > value + 1e-7:
                best, value = place, marginal
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("diversity", [0.0, 0.2, 0.7, 1.0])
def test_diversity_is_that_of_the_definition(diversity: float) -> None:
    for seed in range(10):
        relevance = np.random.default_rng(seed).normal(size=25).astype(np.float32) * 50
        vectors = unit(25, 100 + seed)
        found, penalty = mmr(relevance, vectors, 8, diversity)
        assert found.tolist() == slow_mmr(relevance, vectors, 8, diversity)
        for place in range(1, 8):
            alike = max(float(vectors[found[place]] @ vectors[other]) for other in found[:place])
            assert penalty[place] == pytest.approx(alike, abs=1e-6)
        if diversity == 0.0:
            assert found.tolist() == np.argsort(-relevance, kind="stable")[:8].tolist()


def test_more_diversity_makes_answers_less_alike() -> None:
    draw = np.random.default_rng(6)
    asked = [request(draw) for _ in range(40)]

    def alike(diversity: float) -> float:
        wanted = [Request(one.history, 8, 40, block=one.block, diversity=diversity) for one in asked]
        found = [VECTORS[answer.items] for answer in pipeline().run(wanted)]
        return float(np.mean([(items @ items.T)[np.triu_indices(8, 1)].max() for items in found]))

    assert alike(0.0) > alike(0.5) > alike(1.0)
