"""Which indexes make sense for how many vectors, in FAISS's words, and which efforts to try of each.

What they reach is measured by `tuning`; nothing here looks at a vector.
"""

from __future__ import annotations

import math

from warmstart.core.errors import SettingError
from warmstart.core.index import KINDS, Effort, IndexPlan

SMALL = 20_000  # below, a scan of all vectors takes a fraction of a millisecond, and nothing else is tried
TRAIN_ROWS = 64  # vectors per cell that k-means learns from
_FEWEST_ROWS = 39  # vectors per cell below which FAISS calls k-means unreliable
_GRAPH_CELLS = 4096  # from so many cells on, the nearest cells are found by a graph over their centres
_LINKS, _CONSTRUCTION = 32, 40  # FAISS's own defaults of HNSW
_DEFAULT_EF = 64


def is_cells(plan: IndexPlan) -> bool:
    """Whether vectors are sorted into cells, some of which are looked into."""
    return plan.kind.startswith("ivf")


def is_graph(plan: IndexPlan) -> bool:
    """Whether vectors are linked, and the links are followed."""
    return plan.kind.startswith("hnsw")


def factory(plan: IndexPlan, width: int) -> str:
    """FAISS's description of the index.

    Raises:
        SettingError: there is no such kind, or its numbers are missing.
    """
    if plan.kind not in KINDS:
        raise SettingError(f"There is no index of kind {plan.kind!r}; there are {', '.join(KINDS)}.")
    if is_cells(plan) and plan.nlist < 1:
        raise SettingError(f"An index of kind {plan.kind} needs --nlist of at least 1.")
    if is_graph(plan) and plan.m < 2:
        raise SettingError(f"An index of kind {plan.kind} needs --m of at least 2.")
    coarse = f"IVF{plan.nlist}" + ("_HNSW32" if plan.nlist >= _GRAPH_CELLS else "")
    return {
        "flat": "Flat",
        "fp16": "SQfp16",
        "sq8": "SQ8",
        "ivf": f"{coarse},Flat",
        "ivffp16": f"{coarse},SQfp16",
        "ivfsq8": f"{coarse},SQ8",
        "ivfpq": f"{coarse},PQ{_sub_vectors(width)}x4fs,Refine(SQ8)",
        "hnsw": f"HNSW{plan.m},Flat",
        "hnswsq8": f"HNSW{plan.m},SQ8",
    }[plan.kind]


def whole(plan: IndexPlan, vectors: int) -> IndexPlan:
    """The plan with every number that was left at 0 and that its kind needs."""
    nlist = (plan.nlist or cells(vectors)) if is_cells(plan) else 0
    m = (plan.m or _LINKS) if is_graph(plan) else 0
    construction = (plan.ef_construction or _CONSTRUCTION) if is_graph(plan) else 0
    return IndexPlan(plan.kind, nlist, m, construction)


def usual_kind(vectors: int) -> str:
    """What is built where nothing is measured: all of them scanned while that is quick, else cells of SQ8 codes."""
    return "flat" if vectors <= SMALL else "ivfsq8"


def usual_effort(plan: IndexPlan) -> Effort:
    """A middling effort, for an index that was not tuned."""
    if is_cells(plan):
        return Effort(nprobe=max(1, plan.nlist // 32), k_factor=4.0 if plan.kind == "ivfpq" else 0.0)
    return Effort(ef_search=_DEFAULT_EF) if is_graph(plan) else Effort()


def cells(vectors: int) -> int:
    """About 3√n cells, a power of two, with vectors enough in each for k-means."""
    wanted = round(math.log2(3 * math.sqrt(max(1, vectors))))
    most = int(math.log2(max(1, vectors // _FEWEST_ROWS)))
    return 1 << min(wanted, most)


def candidates(vectors: int, kinds: tuple[str, ...] = KINDS) -> list[IndexPlan]:
    """The plans worth measuring for so many vectors; for few, no cells and links, unless kinds are asked for."""
    few = vectors <= SMALL and kinds == KINDS
    shapes = {
        "sq8": [IndexPlan("sq8")],
        "ivfsq8": [IndexPlan("ivfsq8")],
        "ivfpq": [IndexPlan("ivfpq")],
        "ivffp16": [IndexPlan("ivffp16")],
        "fp16": [IndexPlan("fp16")],
        "hnswsq8": [IndexPlan("hnswsq8", m=16), IndexPlan("hnswsq8", m=32)],
        "flat": [IndexPlan("flat")],
        "ivf": [IndexPlan("ivf")],
        "hnsw": [IndexPlan("hnsw", m=32)],
    }
    found = [whole(plan, vectors) for kind, plans in shapes.items() if kind in kinds for plan in plans]
    return [plan for plan in found if not (few and (is_cells(plan) or is_graph(plan)))]


def efforts(plan: IndexPlan, at: int) -> list[list[Effort]]:
    """What to try of a plan: ladders, each from the quickest search to the most thorough one."""
    if is_cells(plan):
        probes = sorted({min(plan.nlist, round(2 ** (step / 2))) for step in range(19)})  # 1 … 512
        factors = (2.0, 4.0, 8.0) if plan.kind == "ivfpq" else (0.0,)
        return [[Effort(nprobe=probe, k_factor=factor) for probe in probes] for factor in factors]
    if is_graph(plan):
        widths = sorted({max(at, 16, round(at * 2 ** (step / 2))) for step in range(9)})  # at … 16 at
        return [[Effort(ef_search=width) for width in widths]]
    return [[Effort()]]


def training_rows(plan: IndexPlan, vectors: int) -> int:
    """How many vectors the index is trained on."""
    return min(vectors, max(100_000, TRAIN_ROWS * plan.nlist))


def _sub_vectors(width: int) -> int:
    """Parts of a vector that are coded apart: pairs of dimensions, or the most parts that come out even."""
    return next(parts for parts in range(max(1, width // 2), 0, -1) if width % parts == 0)
