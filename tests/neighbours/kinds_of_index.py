"""Every index that the suites run against, made for given vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from warmstart.core.index import Effort, IndexPlan
from warmstart.neighbours.exact import ExactIndex
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.protocol import Index

Make = Callable[[np.ndarray], Index]
PLANS = {
    "flat": IndexPlan("flat"),
    "fp16": IndexPlan("fp16"),
    "sq8": IndexPlan("sq8"),
    "ivf": IndexPlan("ivf", nlist=8),
    "ivffp16": IndexPlan("ivffp16", nlist=8),
    "ivfsq8": IndexPlan("ivfsq8", nlist=8),
    "ivfpq": IndexPlan("ivfpq", nlist=8),
    "hnsw": IndexPlan("hnsw", m=16, ef_construction=40),
    "hnswsq8": IndexPlan("hnswsq8", m=16, ef_construction=40),
}
EVERY = ("exact", *PLANS)
EXACT = ("exact", "flat")
FAR = Effort(nprobe=8, ef_search=400, k_factor=16)  # everything in the small indexes of the tests


def empty(name: str, training: np.ndarray, effort: Effort | None = None) -> Index:
    if name == "exact":
        return ExactIndex(training.shape[1])
    index = FaissIndex(training.shape[1], PLANS[name], training)
    if effort is not None:
        index.effort = effort
    return index


def filled(name: str, vectors: np.ndarray, ids: np.ndarray | None = None, effort: Effort | None = None) -> Index:
    index = empty(name, vectors, effort)
    index.add(np.arange(len(vectors)) if ids is None else ids, vectors)
    return index


def unit(rows: int, width: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
