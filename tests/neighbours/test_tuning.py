"""Recall against a slow reference, which candidate is chosen, and what is said when none will do."""

from __future__ import annotations

import numpy as np
import pytest
from kinds_of_index import PLANS, filled, unit

from warmstart.core.clock import Clock
from warmstart.core.index import KINDS, Candidate, Effort, EffortPoint, Goal, IndexPlan
from warmstart.core.record import Interval
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.measure import ExactAnswer, latency, recall_interval
from warmstart.neighbours.plans import candidates, cells, efforts, factory, usual_kind, whole
from warmstart.neighbours.tuning import cheapest, measure, meets, refuse

GOAL = Goal(recall=0.9, at=10, p99_ms=1.0)


def index_of(name: str, vectors: np.ndarray, effort: Effort) -> FaissIndex:
    index = filled(name, vectors, np.arange(len(vectors)) * 2, effort)
    assert isinstance(index, FaissIndex)
    return index


def point(recall: float, p99: float, effort: Effort | None = None) -> EffortPoint:
    found = Interval(recall, recall - 0.01, recall + 0.01)
    return EffortPoint(effort or Effort(), found, p99 / 2, p99, 100)


def candidate(memory: int, seconds: float, *points: EffortPoint) -> Candidate:
    chosen = min((p for p in points if meets(p, GOAL)), key=lambda p: p.p99_ms, default=None)
    return Candidate(IndexPlan("ivf", nlist=4), memory, seconds, points, chosen)


@pytest.mark.parametrize("name", ["flat", "ivf", "hnsw", "ivfpq"])
def test_recall_is_the_share_of_the_exact_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmstart.neighbours.measure._ROWS", 300)
    vectors, queries = unit(1000, 12), unit(150, 12, seed=1)
    ids = np.arange(1000) * 2
    index = index_of(name, vectors, Effort(nprobe=2, ef_search=10, k_factor=2))
    right = np.argsort(-(queries @ vectors.T), axis=1)[:, :10] * 2
    found = index.search(queries, 10).ids
    slow = [len({*a} & {*b}) / 10 for a, b in zip(right.tolist(), found.tolist(), strict=True)]
    recalls = ExactAnswer(queries, ids, vectors, 10).recall(index)
    np.testing.assert_allclose(recalls, slow)
    assert (np.mean(recalls) == 1.0) == (name == "flat")


def test_either_of_two_vectors_that_are_alike_is_right() -> None:
    vectors = np.repeat(unit(50, 6), 4, axis=0)
    index = index_of("flat", vectors, Effort())
    assert ExactAnswer(unit(20, 6, seed=1), np.arange(200) * 2, vectors, 6).recall(index).tolist() == [1.0] * 20


def test_latency_counts_single_queries() -> None:
    asked: list[int] = []

    class Spy(FaissIndex):
        def search(self, queries, k, where=None):  # type: ignore[no-untyped-def]
            asked.append(len(queries))
            return super().search(queries, k, where)

    index = Spy(4)
    index.add(np.arange(30), unit(30, 4))
    p50, p99, timed = latency(index, unit(7, 4), 3, seconds=0.0)
    assert 0 < p50 <= p99
    assert timed == 100
    assert set(asked) == {1}
    assert len(asked) == 7 + 3 * 100


def test_the_cheapest_takes_least_memory_then_least_time() -> None:
    meeting = point(0.95, 0.5)
    assert cheapest([candidate(9, 1, meeting), candidate(5, 9, meeting), candidate(5, 2, meeting)]) == 2
    assert cheapest([candidate(1, 1, point(0.95, 2.0)), candidate(9, 9, meeting)]) == 1
    assert cheapest([candidate(900_000, 1, point(0.95, 0.4)), candidate(9, 1, meeting)]) == 0  # both are small
    assert cheapest([candidate(3_000_000, 1, point(0.95, 0.4)), candidate(2_000_000, 1, meeting)]) == 1
    assert cheapest([candidate(1, 1, point(0.905, 0.5))]) is None  # its interval reaches below the goal
    assert cheapest([]) is None


def test_a_refusal_says_how_near_the_best_came() -> None:
    error = refuse([candidate(1, 1, point(0.85, 0.5, Effort(nprobe=2)), point(0.97, 3.0, Effort(nprobe=4)))], GOAL)
    assert error.exit_code == 2
    for words in (
        "recall@10 ≥ 0.9 within 1 ms",
        "best recall is 0.850",
        "nprobe 2",
        "quickest takes 3.00 ms",
        "nprobe 4",
    ):
        assert words in str(error)
    assert "time-budget" in str(refuse([Candidate(IndexPlan("flat"), 0, 0.0)], GOAL))
    assert "none reaches either" in str(refuse([candidate(1, 1, point(0.5, 9.0))], GOAL))


def test_measuring_a_candidate() -> None:
    vectors, queries, ids = unit(3000, 8), unit(100, 8, seed=1), np.arange(3000)
    answer = ExactAnswer(queries, ids, vectors, 10)
    goal = Goal(recall=0.9, at=10, p99_ms=1e6)
    told: list[int] = []
    found = measure(
        PLANS["ivf"], ids, vectors, answer, goal, Clock(), progress=lambda done, total, note: told.append(done)
    )
    probes = [p.effort.nprobe for p in found.candidate.points]
    recalls = [p.recall.value for p in found.candidate.points]
    assert probes == sorted(probes)
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1.0
    assert told == [3000]
    assert found.index is not None
    assert found.candidate.chosen is not None
    assert found.index.effort == found.candidate.chosen.effort
    assert found.candidate.chosen.recall.low >= 0.9
    assert found.candidate.memory_bytes == found.index.memory_bytes()
    late = measure(PLANS["ivf"], ids, vectors, answer, goal, Clock(budget=1e-9))
    assert late.index is None
    assert "time budget" in late.candidate.note


def test_the_intervals_of_many_efforts_hold_together() -> None:
    """Of twenty efforts that all miss a goal by nothing, hardly ever one may seem to reach it."""
    draw = np.random.default_rng(0)

    def lucky(looks: int) -> int:
        return sum(
            any(recall_interval(draw.normal(0.9, 0.1, 200), 0, looks).low >= 0.9 for _ in range(20)) for _ in range(40)
        )

    assert lucky(1) >= 8  # each has 2.5 %, twenty together some 40 %
    assert lucky(20) <= 4
    narrow, wide = (recall_interval(draw.normal(0.9, 0.1, 200), 0, looks) for looks in (1, 20))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_a_candidate_is_judged_by_the_intervals_of_all_its_efforts(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries, ids = unit(500, 8), unit(50, 8, seed=1), np.arange(500)
    answer = ExactAnswer(queries, ids, vectors, 10)
    seen: list[int] = []

    def spy(recalls: np.ndarray, seed: int, looks: int) -> Interval:
        seen.append(looks)
        return recall_interval(recalls, seed, looks)

    monkeypatch.setattr("warmstart.neighbours.tuning.recall_interval", spy)
    for kind in ("flat", "ivf"):
        seen.clear()
        measure(PLANS[kind], ids, vectors, answer, Goal(0.9, 10, 1e6), Clock())
        assert set(seen) == {sum(map(len, efforts(PLANS[kind], 10)))}


def test_more_effort_is_tried_until_it_is_too_slow_or_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries, ids = unit(3000, 8), unit(100, 8, seed=1), np.arange(3000)
    answer, goal = ExactAnswer(queries, ids, vectors, 10), Goal(recall=0.9, at=10, p99_ms=2.0)

    def tried(p50: float, p99: float) -> int:
        monkeypatch.setattr("warmstart.neighbours.tuning.latency", lambda index, queries, k: (p50, p99, 100))
        return len(measure(PLANS["ivf"], ids, vectors, answer, goal, Clock()).candidate.points)

    assert tried(2.1, 9.0) == 1
    assert tried(1.9, 9.0) > 3  # a spike does not end it
    monkeypatch.setattr(ExactAnswer, "recall", lambda self, index: np.full(100, 0.8))
    assert tried(0.1, 0.2) == 4


def test_candidates_fit_the_number_of_vectors() -> None:
    assert {plan.kind for plan in candidates(500)} == {"flat", "fp16", "sq8"}
    assert {plan.kind for plan in candidates(1_000_000)} == set(KINDS)
    assert candidates(500, ("ivf",)) == [IndexPlan("ivf", nlist=cells(500))]  # asked for, so tried
    assert [cells(n) for n in (1, 100, 100_000, 1_000_000, 10_000_000)] == [1, 2, 1024, 4096, 8192]
    assert usual_kind(1000) == "flat"
    assert usual_kind(10**6) == "ivfsq8"
    assert whole(IndexPlan("hnsw"), 10).m == 32
    assert whole(IndexPlan("flat", nlist=3), 10) == IndexPlan("flat")
    assert factory(IndexPlan("ivfpq", nlist=4096), 64) == "IVF4096_HNSW32,PQ32x4fs,Refine(SQ8)"
    assert factory(IndexPlan("ivfpq", nlist=8), 7) == "IVF8,PQ1x4fs,Refine(SQ8)"


def test_efforts_rise_and_reach_k() -> None:
    for plan in candidates(1_000_000):
        for ladder in efforts(plan, 100):
            keys = [(e.nprobe, e.ef_search) for e in ladder]
            assert keys == sorted(set(keys))
    assert efforts(IndexPlan("hnsw", m=16), 100)[0][0].ef_search == 100
    assert len(efforts(IndexPlan("ivfpq", nlist=64), 10)) == 3
