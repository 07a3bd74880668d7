"""Which index meets a goal of recall and latency on these vectors and this machine, at the least cost.

Each candidate is built once and searched with rising effort. It meets the goal at an effort where the lower end of the
95 % interval of its recall reaches the goal's recall and its 99th percentile of latency stays within the goal's. That
interval is for all of its efforts together: the first of many that seems to reach a goal may do so by luck. The
cheapest of those that meet it takes the least memory; of those that take next to none, the quickest is taken.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from warmstart.core.clock import Clock
from warmstart.core.errors import GoalNotMetError
from warmstart.core.index import Candidate, Effort, EffortPoint, Goal, IndexPlan
from warmstart.core.vector_rows import VectorRows
from warmstart.neighbours.building import Progress, build
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.measure import ExactAnswer, latency, recall_interval
from warmstart.neighbours.plans import efforts

_PLENTY = 0.9995  # recall from which on more effort shows nothing
_GAIN, _STEPS = 0.0005, 3  # a recall that rose by less in so many steps has reached what the codes allow
_SMALL = 1 << 20  # bytes of memory that nobody counts


@dataclass(frozen=True)
class Tuned:
    """A candidate's measurements, and the index itself."""

    candidate: Candidate
    index: FaissIndex | None


def measure(
    plan: IndexPlan,
    ids: np.ndarray,
    vectors: VectorRows,
    answer: ExactAnswer,
    goal: Goal,
    clock: Clock,
    seed: int = 0,
    progress: Progress = lambda done, total, note: None,
) -> Tuned:
    """Build one candidate and search it with rising effort.

    Args:
        plan: the candidate.
        ids: (rows,).
        vectors: (rows, width).
        answer: the exact answer to held-out queries.
        goal: what to reach.
        clock: building and searching stop when nothing is left.
        seed: of the sample that is trained on, and of the intervals.
        progress: told how many vectors are in.
    """
    start = time.perf_counter()
    index = build(plan, ids, vectors, seed, progress, enough=lambda: clock.left() <= 0.0)
    seconds = time.perf_counter() - start
    if index is None:
        return Tuned(Candidate(plan, 0, seconds, note="not built: the time budget ran out"), None)
    points: list[EffortPoint] = []
    note = ""
    ladders = efforts(plan, goal.at)
    looks = sum(map(len, ladders))
    for ladder in ladders:
        for effort in ladder:
            if clock.left() <= 0.0:
                note = "not tried to the end: the time budget ran out"
                break
            points.append(_point(index, effort, answer, seed, looks))
            if _is_enough(points, goal):
                break
    chosen = min((p for p in points if meets(p, goal)), key=lambda p: (p.p99_ms, p.p50_ms), default=None)
    if chosen is not None:
        index.effort = chosen.effort
    return Tuned(Candidate(plan, index.memory_bytes(), seconds, tuple(points), chosen, note), index)


def meets(point: EffortPoint, goal: Goal) -> bool:
    """Whether an effort reaches the recall, with its interval, within the latency."""
    return point.recall.low >= goal.recall and point.p99_ms <= goal.p99_ms


def cheapest(candidates: Sequence[Candidate]) -> int | None:
    """Place of the one that meets the goal with the least memory; None: none does.

    All that take less than `_SMALL` count as equal: a few kilobytes are not worth a slower search. Of equal ones the
    quickest is taken, then the least, then the one that is built soonest.
    """
    costs = {
        place: (max(one.memory_bytes, _SMALL), one.chosen.p99_ms, one.memory_bytes, one.build_seconds)
        for place, one in enumerate(candidates)
        if one.chosen is not None
    }
    return min(costs, key=lambda place: costs[place], default=None)


def refuse(candidates: Sequence[Candidate], goal: Goal) -> GoalNotMetError:
    """The error that says how near the best came."""
    points = [(candidate, point) for candidate in candidates for point in candidate.points]
    wanted = f"recall@{goal.at} ≥ {goal.recall:g} within {goal.p99_ms:g} ms (p99)"
    if not points:
        return GoalNotMetError(f"No index was measured for {wanted}: give more --time-budget.")
    told = []
    fast = [pair for pair in points if pair[1].p99_ms <= goal.p99_ms]
    if fast:
        best = max(fast, key=lambda pair: pair[1].recall.low)
        told.append(f"within {goal.p99_ms:g} ms the best recall is {best[1].recall} ({_words(best)})")
    good = [pair for pair in points if pair[1].recall.low >= goal.recall]
    if good:
        best = min(good, key=lambda pair: pair[1].p99_ms)
        told.append(f"at that recall the quickest takes {best[1].p99_ms:.2f} ms ({_words(best)})")
    return GoalNotMetError(
        f"No index meets {wanted}: {'; '.join(told) or 'none reaches either'}. Lower --recall or raise --p99-ms."
    )


def _is_enough(points: Sequence[EffortPoint], goal: Goal) -> bool:
    last = points[-1]
    before = points[-1 - _STEPS] if len(points) > _STEPS else None
    alike = before is not None and before.effort.k_factor == last.effort.k_factor
    stuck = alike and before is not None and last.recall.value - before.recall.value < _GAIN
    slow = last.p50_ms > goal.p99_ms  # the median: a 99th percentile may be a disturbance that the next one lacks
    return stuck or slow or last.recall.value >= _PLENTY


def _words(pair: tuple[Candidate, EffortPoint]) -> str:
    candidate, point = pair
    return candidate.plan.name if point.effort == Effort() else f"{candidate.plan.name}, {point.effort.name}"


def _point(index: FaissIndex, effort: Effort, answer: ExactAnswer, seed: int, looks: int) -> EffortPoint:
    index.effort = effort
    recall = recall_interval(answer.recall(index), seed, looks)
    p50, p99, timed = latency(index, answer.queries, answer.k)
    return EffortPoint(effort, recall, p50, p99, timed)
