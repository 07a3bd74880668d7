"""The same index on FAISS: exact in its flat form, approximate in the others that its factory makes."""

from __future__ import annotations

import faiss
import numpy as np

from warmstart.core.errors import SettingError
from warmstart.neighbours.exact import ExactIndex
from warmstart.neighbours.protocol import Found, checked, checked_ids


class FaissIndex:
    """A FAISS index by inner product.

    An approximate index may find fewer than k vectors for a query; it then says −1. Such a row is answered exactly, so
    that no made-up id leaves this class.

    Args:
        width: length of a vector.
        factory: FAISS's own description: "Flat", "SQ8", "HNSW32", "IVF64,Flat", …
        training: vectors that an index which must be trained is trained on, (rows, width).

    Raises:
        SettingError: FAISS knows no such index, or it must be trained and there is nothing to train it on.
    """

    def __init__(self, width: int, factory: str = "Flat", training: np.ndarray | None = None) -> None:
        self._width = width
        try:
            self._inner = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise SettingError(f"FAISS makes no index of {factory!r} for vectors of width {width}.") from error
        if not self._inner.is_trained:
            if training is None or not len(training):
                raise SettingError(f"The index {factory} must be trained: give it vectors to train on.")
            self._inner.train(checked(training, width))
        self._ids: list[int] = []
        self._known: set[int] = set()
        self._vectors: list[np.ndarray] = []

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._width

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See `Index.add`."""
        vectors = checked(vectors, self._width)
        ids = checked_ids(ids, vectors, self._known)
        self._inner.add(vectors)
        self._ids.extend(ids.tolist())
        self._known.update(ids.tolist())
        self._vectors.append(vectors)

    def search(self, queries: np.ndarray, k: int) -> Found:
        """See `Index.search`."""
        queries = checked(queries, self._width)
        if k < 1:
            raise SettingError(f"k is {k}; it must be at least 1.")
        k = min(k, len(self))
        if k == 0 or not len(queries):
            return Found(np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32))
        scores, places = self._inner.search(queries, k)
        ids = np.asarray(self._ids, dtype=np.int64)[places]
        short = np.flatnonzero((places < 0).any(axis=1))
        if len(short):
            exact = ExactIndex(self._width)
            exact.add(np.asarray(self._ids), np.concatenate(self._vectors))
            found = exact.search(queries[short], k)
            ids[short], scores[short] = found.ids, found.scores
        return Found(ids, scores)
