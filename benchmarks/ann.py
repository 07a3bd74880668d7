"""Indexes at recall@100 ≥ .95: what warmstart's tuning picks, beside a flat scan and FAISS's own auto-tuned choice.

One million and ten million vectors of 64 dimensions (`ann_data`), and a hundred thousand for a quick look. Every
candidate is a cell, built and measured as `warmstart index tune` does it, on half of the queries; the choice is then
judged on the other half. FAISS's side is the index that its guidelines name for so many vectors, its effort found by
`ParameterSpace` on the same half, its single queries timed with no Python in between but its own. One thread for every
single query, and as many as there are for building.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import ann_data
import contract
import faiss
import numpy as np

from warmstart.core.clock import Clock
from warmstart.core.index import Candidate, Goal, IndexPlan
from warmstart.core.sizes import show_bytes
from warmstart.neighbours.building import ROWS
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.ids import IdTable
from warmstart.neighbours.measure import ExactAnswer, latency, recall_interval
from warmstart.neighbours.plans import cells as cells_for
from warmstart.neighbours.plans import whole
from warmstart.neighbours.tuning import cheapest, measure

SIZES = {"100k": 100_000, "1m": 1_000_000, "10m": 10_000_000}
GOALS = {"100k": Goal(0.95, 100, 1.0), "1m": Goal(0.95, 100, 1.0), "10m": Goal(0.95, 100, 3.0)}
PLANS = {
    "flat": IndexPlan("flat"),
    "sq8": IndexPlan("sq8"),
    "ivfsq8": IndexPlan("ivfsq8"),
    "ivfpq": IndexPlan("ivfpq"),
    "ivffp16": IndexPlan("ivffp16"),
    "ivf": IndexPlan("ivf"),
    "hnswsq8": IndexPlan("hnswsq8", m=16),
}
CELL_SECONDS = 540.0


def load(size: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors (mapped), the queries to tune by, and those to judge by."""
    queries = np.load(ann_data.cache() / "queries.npy")
    vectors = np.load(ann_data.cache() / f"vectors-{SIZES[size]}.npy", mmap_mode="r")
    return vectors, queries[0::2], queries[1::2]


def ours(size: str, kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """One candidate, measured; recall of its chosen effort on the other half of the queries."""
    vectors, tune, judge = load(size)
    ids = np.arange(len(vectors))
    plan = whole(PLANS[kind], len(vectors))
    answer = ExactAnswer(tune, ids, vectors, GOALS[size].at)
    found = measure(plan, ids, vectors, answer, GOALS[size], Clock(CELL_SECONDS))
    values: dict[str, Any] = {"size": size, "candidate": found.candidate.to_dict()}
    if found.index is not None and found.candidate.chosen is not None:
        judged = ExactAnswer(judge, ids, vectors, GOALS[size].at).recall(found.index)
        values["judged_recall"] = recall_interval(judged, 0).to_dict()
    return values


def theirs(size: str, args: argparse.Namespace) -> dict[str, Any]:
    """FAISS's guideline for so many vectors, its effort explored by its own `ParameterSpace`."""
    vectors, tune, judge = load(size)
    goal, rows = GOALS[size], len(vectors)
    nlist = cells_for(rows)
    description = f"IVF{nlist}_HNSW32,Flat" if rows >= 1_000_000 else f"IVF{nlist},Flat"
    start = time.perf_counter()
    index = faiss.index_factory(ann_data.WIDTH, description, faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).choice(rows, min(rows, 64 * nlist), replace=False)
    index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
    for first in range(0, rows, ROWS):
        index.add(np.ascontiguousarray(vectors[first : first + ROWS]))
    seconds = time.perf_counter() - start
    wrapped = FaissIndex.around(index, IndexPlan("ivf", nlist=nlist), _ids(rows), frozen=True)
    point = explore(index, tune, vectors, goal)
    answer = ExactAnswer(judge, np.arange(rows), vectors, goal.at)
    p50, p99, timed = latency(_Raw(index, wrapped.effort), tune, goal.at)  # type: ignore[arg-type]
    judged = answer.recall(_Raw(index, wrapped.effort))  # type: ignore[arg-type]
    return {
        "size": size,
        "index": description,
        "parameters": point,
        "p50_ms": p50,
        "p99_ms": p99,
        "timed": timed,
        "judged_recall": recall_interval(judged, 0).to_dict(),
        "memory_bytes": wrapped.memory_bytes() - 8 * rows,  # its ids are places
        "build_seconds": seconds,
    }


def explore(index: Any, queries: np.ndarray, vectors: np.ndarray, goal: Goal) -> str:
    """Let FAISS find its operating points; the quickest that reaches the recall is set, and named."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(np.ascontiguousarray(vectors))
    truth = flat.search(queries, goal.at)[1]
    del flat
    criterion = faiss.IntersectionCriterion(len(queries), goal.at)
    criterion.set_groundtruth(None, truth)
    space = faiss.ParameterSpace()
    space.verbose = 0
    space.initialize(index)
    explored = space.explore(index, queries, criterion)  # must outlive its points
    points = [explored.optimal_pts.at(place) for place in range(explored.optimal_pts.size())]
    every = [(float(point.t), float(point.perf), str(point.key)) for point in points]
    reached = [point for point in every if point[1] >= goal.recall] or [max(every, key=lambda point: point[1])]
    key = min(reached)[2]
    space.set_index_parameters(index, key)
    return key


def _ids(rows: int) -> IdTable:
    table = IdTable()
    table.add(np.arange(rows))
    return table


class _Raw:
    """FAISS's own search, for the same clock."""

    def __init__(self, index: Any, effort: Any) -> None:
        self.index, self.effort = index, effort

    def search(self, queries: np.ndarray, k: int) -> Any:
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        scores, ids = self.index.search(queries, k)
        faiss.omp_set_num_threads(threads)
        return argparse.Namespace(ids=ids, scores=scores)


def report(found: dict[str, dict[str, Any]]) -> str:
    head = ["vectors", "index", "effort", "recall@100, judged", "p50 ms", "p99 ms", "memory", "build s", "vectors/s"]
    rows = []
    for size, count in SIZES.items():
        measured = {name: values for name, values in found.items() if values.get("size") == size}
        mine = {name: Candidate.from_dict(v["candidate"]) for name, v in measured.items() if "candidate" in v}
        best = cheapest(list(mine.values()))
        for place, (name, one) in enumerate(mine.items()):
            shown = one.chosen or (one.points[-1] if one.points else None)
            if shown is None:
                rows.append([size, f"{one.plan.name}: {one.note}", *["–"] * 7])
                continue
            judged = measured[name].get("judged_recall", {}).get("value", shown.recall.value)
            label = f"**{one.plan.name}** (chosen)" if place == best else one.plan.name
            label += "" if one.chosen else " (misses the goal)"
            figures = [shown.effort.name, judged, shown.p50_ms, shown.p99_ms, one.memory_bytes, one.build_seconds]
            rows.append([size, label, *_texts(figures, count)])
        for values in measured.values():
            if "index" in values:
                figures = [values["parameters"], values["judged_recall"]["value"]]
                figures += [values[key] for key in ("p50_ms", "p99_ms", "memory_bytes", "build_seconds")]
                rows.append([size, f"FAISS: {values['index']}", *_texts(figures, count)])
    return contract.table(head, rows)


def _texts(figures: list[Any], count: int) -> list[str]:
    effort, recall, p50, p99, memory, seconds = figures
    return [
        effort,
        f"{recall:.4f}",
        f"{p50:.3f}",
        f"{p99:.3f}",
        show_bytes(memory),
        f"{seconds:.0f}",
        f"{count / seconds:,.0f}",
    ]


def resample(size: str, args: argparse.Namespace) -> dict[str, Any]:
    return ann_data.resample(SIZES[size])


def all_cells() -> dict[str, contract.Cell]:
    """For each size its vectors, every candidate, and FAISS's own."""
    found: dict[str, contract.Cell] = {}
    for size in SIZES:
        found[f"{size}-vectors"] = functools.partial(resample, size)
        found |= {f"{size}-{kind}": functools.partial(ours, size, kind) for kind in PLANS}
        found[f"{size}-faiss"] = functools.partial(theirs, size)
    return found


if __name__ == "__main__":
    contract.run("ann", all_cells(), report, __doc__)
