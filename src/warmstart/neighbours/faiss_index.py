"""The index on FAISS: every kind that a plan can name, behind the protocol of `protocol`.

FAISS holds the vectors or their codes by place; which id is where is the `IdTable`'s business. What is deleted becomes
a tombstone that searches pass over, in every kind alike, since FAISS can take nothing out of a graph.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

from warmstart.core.errors import SettingError
from warmstart.core.index import Effort, IndexPlan
from warmstart.neighbours.exact import nearest_of
from warmstart.neighbours.ids import Allowed, Filter, IdTable
from warmstart.neighbours.plans import TRAIN_ROWS, factory, is_cells, is_graph, usual_effort
from warmstart.neighbours.protocol import Found, check_k, checked

_faiss: Any = faiss  # whose type stubs know less than it has
REBUILD_SHARE = 0.3  # of places deleted, from which on building anew pays
_SCAN_ROWS, _SCAN_SHARE = 4096, 0.02  # a filter that leaves no more than either is answered by a scan of what it leaves
_WIDENINGS = 3  # fourfold efforts for a query that found too little, before everything is scanned


class FaissIndex:
    """A FAISS index by inner product.

    An answer has k ids, or as many as there are; where a search finds fewer, it looks further, and at last everywhere.
    Scores of kinds with codes (sq8, fp16, …) are those of the decoded vectors.

    Args:
        width: length of a vector.
        plan: kind and numbers; default: exact.
        training: (rows, width), vectors that an index which must be trained is trained on.

    Raises:
        SettingError: there is no such index, or it must be trained and there is too little to train it on.
    """

    def __init__(self, width: int, plan: IndexPlan | None = None, training: np.ndarray | None = None) -> None:
        plan = IndexPlan("flat") if plan is None else plan
        inner = _faiss.index_factory(width, factory(plan, width), _faiss.METRIC_INNER_PRODUCT)
        if not inner.is_trained:
            _train(inner, plan, training, width)
        if plan.ef_construction:
            inner.hnsw.efConstruction = plan.ef_construction
        self._take(inner, plan, IdTable(), frozen=False)

    @classmethod
    def around(cls, inner: Any, plan: IndexPlan, table: IdTable, *, frozen: bool) -> FaissIndex:
        """The index around FAISS's own object, as it was saved; a frozen one takes no more vectors."""
        made = cls.__new__(cls)
        made._take(inner, plan, table, frozen=frozen)
        return made

    def _take(self, inner: Any, plan: IndexPlan, table: IdTable, *, frozen: bool) -> None:
        self.plan, self.effort = plan, usual_effort(plan)
        self._inner, self._table, self._frozen = inner, table, frozen
        self._lock = threading.Lock()

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self._inner.d)

    @property
    def inner(self) -> Any:
        """FAISS's own object; vectors are in it by place."""
        return self._inner

    @property
    def table(self) -> IdTable:
        """Which id is at which place."""
        return self._table

    @property
    def rebuild_due(self) -> bool:
        """Whether so much is deleted that building anew pays: tombstones take memory and time, and thin a graph out."""
        return self._table.deleted > REBUILD_SHARE * max(1, self._table.places)

    def __len__(self) -> int:
        return len(self._table)

    def ids(self) -> np.ndarray:
        """See `Index.ids`."""
        return self._table.alive_ids()

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `Index.add`."""
        vectors = checked(vectors, self.width)
        self._append(self._table.check_new(ids, len(vectors)), vectors)

    def delete(self, ids: np.ndarray) -> None:
        """See `Index.delete`."""
        self._table.delete(self._table.check_known(ids, len(ids)))

    def update(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `Index.update`."""
        vectors = checked(vectors, self.width)
        ids = self._table.check_known(ids, len(vectors))
        self._check_open()
        self._table.delete(ids)
        self._append(ids, vectors)

    def prepare(self, where: Filter) -> Allowed:
        """See `Index.prepare`."""
        return self._table.allowed(where)

    def search(self, queries: np.ndarray, k: int, where: Filter | Allowed | None = None) -> Found:
        """See `Index.search`. A single query is answered on one thread; of several, each is."""
        queries = checked(queries, self.width)
        check_k(k)
        allowed = self._table.allowed(where)
        k = min(k, allowed.count)
        if not len(queries) or not k:
            return Found(np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32))
        with _threads(len(queries)):
            scores, places = self._search(queries, k, allowed)
        return Found(self._table.all_ids()[places], scores)

    def memory_bytes(self) -> int:
        """Bytes of codes, links, cells and ids: what must be in memory for searches to be quick."""
        return _bytes_of(self._inner) + self._table.nbytes

    def _append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self._check_open()
        if len(vectors):
            self._inner.add(vectors)
            self._table.add(ids)

    def _check_open(self) -> None:
        if self._frozen:
            raise SettingError("The index was loaded memory-mapped and takes no vectors: load it into memory.")

    def _search(self, queries: np.ndarray, k: int, allowed: Allowed) -> tuple[np.ndarray, np.ndarray]:
        if allowed.only is not None and allowed.count <= max(_SCAN_ROWS, int(_SCAN_SHARE * self._table.places)):
            return self._scan(queries, k, allowed)
        selector = self._selector(allowed)
        effort = self._reaching(k, allowed.count / self._table.places)
        scores, places = self._inner.search(queries, k, params=self._parameters(effort, selector))
        for _ in range(0 if self._is_exhaustive(effort) else _WIDENINGS):
            short = np.flatnonzero(places[:, -1] < 0)
            if not len(short):
                break
            effort = self._wider(effort, 4.0)
            found = self._inner.search(queries[short], k, params=self._parameters(effort, selector))
            scores[short], places[short] = found
        short = np.flatnonzero(places[:, -1] < 0)
        if len(short):
            scores[short], places[short] = self._scan(queries[short], k, allowed)
        return scores, places

    def _scan(self, queries: np.ndarray, k: int, allowed: Allowed) -> tuple[np.ndarray, np.ndarray]:
        storage = self._storage()
        return nearest_of(queries, self._table.places_of(allowed), storage.reconstruct_batch, k)

    def _storage(self) -> Any:
        """What gives vectors back by place."""
        inner = self._inner
        if isinstance(inner, _faiss.IndexRefine):
            return _faiss.downcast_index(inner.refine_index)
        if isinstance(inner, _faiss.IndexHNSW):
            return _faiss.downcast_index(inner.storage)
        if isinstance(inner, _faiss.IndexIVF):
            with self._lock:
                if inner.direct_map.type == _faiss.DirectMap.NoMap:
                    inner.make_direct_map()
        return inner

    def _selector(self, allowed: Allowed) -> Any:
        """FAISS's form of a filter; None when everything is allowed."""
        if allowed.only is not None:
            return _faiss.IDSelectorBitmap(allowed.bits)
        alive = _faiss.IDSelectorBitmap(self._table.bits) if self._table.deleted else None
        if not len(allowed.without):
            return alive
        rest = _faiss.IDSelectorNot(_faiss.IDSelectorBatch(allowed.without))
        return rest if alive is None else _faiss.IDSelectorAnd(alive, rest)

    def _reaching(self, k: int, share: float) -> Effort:
        """The effort that finds as much under a filter that lets this share through, and is no less than k."""
        effort = self._wider(self.effort, 1.0 / share) if share < 1.0 else self.effort
        if is_graph(self.plan) and effort.ef_search < k:
            return Effort(ef_search=k)
        return effort

    def _wider(self, effort: Effort, factor: float) -> Effort:
        """More effort, up to the whole index."""
        probes = min(self.plan.nlist, int(np.ceil(effort.nprobe * factor)))
        return Effort(probes, min(self._table.places, int(np.ceil(effort.ef_search * factor))), effort.k_factor)

    def _is_exhaustive(self, effort: Effort) -> bool:
        return not is_graph(self.plan) and effort.nprobe >= self.plan.nlist

    def _parameters(self, effort: Effort, selector: Any) -> Any:
        if is_cells(self.plan):
            cells = _faiss.SearchParametersIVF(sel=selector, nprobe=effort.nprobe)
            if not isinstance(self._inner, _faiss.IndexRefine):
                return cells
            return _faiss.IndexRefineSearchParameters(k_factor=effort.k_factor, base_index_params=cells)
        if is_graph(self.plan):
            return _faiss.SearchParametersHNSW(sel=selector, efSearch=effort.ef_search)
        return _faiss.SearchParameters(sel=selector)


@contextlib.contextmanager
def _threads(queries: int) -> Iterator[None]:
    """One thread for a single query: FAISS would share its cells out, and wait for the slowest thread."""
    before = _faiss.omp_get_max_threads()
    if queries > 1 or before == 1:
        yield
        return
    _faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        _faiss.omp_set_num_threads(before)


def _train(inner: Any, plan: IndexPlan, training: np.ndarray | None, width: int) -> None:
    if training is None or not len(training):
        raise SettingError(f"An index of kind {plan.kind} must be trained: give it vectors to train on.")
    needed = max(plan.nlist, 16 if plan.kind == "ivfpq" else 1)  # 16: codes of four bits
    if len(training) < needed:
        raise SettingError(f"{plan.name} needs at least {needed} vectors to train on, and there are {len(training)}.")
    if is_cells(plan):
        cells = _faiss.downcast_index(_faiss.extract_index_ivf(inner))
        for clustering in [cells.cp, *([cells.pq.cp] if plan.kind == "ivfpq" else [])]:
            clustering.min_points_per_centroid = 1  # the caller's choice; FAISS would write a warning
        cells.cp.max_points_per_centroid = TRAIN_ROWS
    inner.train(checked(training, width))


def _bytes_of(inner: Any) -> int:
    inner = _faiss.downcast_index(inner)
    if isinstance(inner, _faiss.IndexRefine):
        return sum(_bytes_of(part) for part in (inner.base_index, inner.refine_index))
    if isinstance(inner, _faiss.IndexHNSW):
        graph = inner.hnsw
        links = 4 * int(graph.neighbors.size()) + 8 * int(graph.offsets.size()) + 4 * int(graph.levels.size())
        return links + _bytes_of(inner.storage)
    if isinstance(inner, _faiss.IndexIVF):
        coded = int(inner.ntotal) * (int(inner.code_size) + 8)
        return coded + _bytes_of(inner.quantizer)
    return int(inner.ntotal) * int(inner.code_size)
