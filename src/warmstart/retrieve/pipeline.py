"""From a history to the items that are shown: encode, search with filters, rank, diversify.

Items and users are numbers here. Who encodes, who searches and who ranks is handed in; names are the business of
`item_names`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from warmstart.core.errors import DataError, ResultError
from warmstart.core.serving import Funnel
from warmstart.neighbours.ids import Filter
from warmstart.neighbours.protocol import Index
from warmstart.retrieve.diversity import mmr

Encoder = Callable[[Sequence[NDArray[np.int64]], NDArray[np.int64]], NDArray[np.float32]]
"""Histories and users (histories,), −1 for new ones → vectors of unit length, (histories, dim)."""


class Ranker(Protocol):
    """Orders what was retrieved anew."""

    def scores(
        self, history: Sequence[int], candidates: NDArray[np.int64], retrieved: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """How well each candidate follows a history.

        Args:
            history: items, oldest first.
            candidates: (candidates,), items.
            retrieved: (candidates,), their scores in the index.

        Returns:
            (candidates,), higher is better.
        """


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        history: items, oldest first, at least one.
        k: how many items.
        retrieve: how many candidates the index gives; never fewer than k.
        user: number of the user; −1 for someone new.
        block: items that must not come.
        allow: the only items that may; None for all.
        min_score: least score in the index; None for any.
        diversity: see `mmr`.
    """

    history: NDArray[np.int64]
    k: int
    retrieve: int
    user: int = -1
    block: NDArray[np.int64] | None = None
    allow: NDArray[np.int64] | None = None
    min_score: float | None = None
    diversity: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What is shown, (k,) each, and how many were left after each step.

    Attributes:
        items: the items, the best first.
        retrieved: their scores in the index.
        ranked: their scores by the ranker; None without one.
        penalties: their largest cosines with items before them; None where no diversity was asked for.
        funnel: counts.
    """

    items: NDArray[np.int64]
    retrieved: NDArray[np.float32]
    ranked: NDArray[np.float32] | None
    penalties: NDArray[np.float32] | None
    funnel: Funnel


@dataclass(frozen=True)
class _Candidates:
    """Items of the index with their scores, and how many were allowed."""

    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    allowed: int


@dataclass(frozen=True)
class Pipeline:
    """The steps.

    Attributes:
        encode: gives queries.
        index: of items by number.
        vectors: (items, dim), of unit length; what diversity compares.
        ranker: None to keep the order of the index.
    """

    encode: Encoder
    index: Index
    vectors: NDArray[np.float32]
    ranker: Ranker | None = None

    def run(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests; their histories are encoded together.

        Raises:
            DataError: a history is empty.
            ResultError: the ranker gives something else than a number for each candidate.
        """
        if any(len(request.history) == 0 for request in requests):
            raise DataError("the history is empty: there is nothing to recommend by")
        if not requests:
            return []
        users = np.array([request.user for request in requests], dtype=np.int64)
        queries = self.encode([request.history for request in requests], users)
        found = [self._search(request, queries[row : row + 1]) for row, request in enumerate(requests)]
        return [self._order(request, candidates) for request, candidates in zip(requests, found, strict=True)]

    def timed(self, request: Request) -> tuple[Answer, tuple[float, float, float]]:
        """Answer one request, and tell the seconds that the query tower, the index and the rest took.

        Raises:
            ResultError: the ranker gives something else than a number for each candidate.
        """
        start = time.perf_counter()
        query = self.encode([request.history], np.array([request.user]))
        encoded = time.perf_counter()
        found = self._search(request, query)
        searched = time.perf_counter()
        answer = self._order(request, found)
        return answer, (encoded - start, searched - encoded, time.perf_counter() - searched)

    def _search(self, request: Request, query: NDArray[np.float32]) -> _Candidates:
        allowed = self.index.prepare(Filter(request.allow, request.block))
        found = self.index.search(query, max(request.retrieve, request.k), allowed)
        items, retrieved = found.ids[0], found.scores[0]
        if request.min_score is not None:
            enough = retrieved >= request.min_score
            items, retrieved = items[enough], retrieved[enough]
        return _Candidates(items, retrieved, allowed.count)

    def _order(self, request: Request, found: _Candidates) -> Answer:
        items, retrieved = found.items, found.scores
        ranked = None if self.ranker is None else _ranked(self.ranker, request.history, items, retrieved)
        relevance = retrieved if ranked is None else ranked
        penalties = None
        if request.diversity > 0:
            order, penalties = mmr(relevance, self.vectors[items], request.k, request.diversity)
        else:
            order = np.argsort(-relevance, kind="stable")[: request.k]
        funnel = Funnel(len(self.index), found.allowed, len(items), 0 if ranked is None else len(items), len(order))
        return Answer(items[order], retrieved[order], None if ranked is None else ranked[order], penalties, funnel)


def _ranked(
    ranker: Ranker, history: NDArray[np.int64], items: NDArray[np.int64], retrieved: NDArray[np.float32]
) -> NDArray[np.float32]:
    if not len(items):
        return np.zeros(0, dtype=np.float32)
    scores = np.asarray(ranker.scores(history.tolist(), items, retrieved), dtype=np.float32)
    if scores.shape != items.shape or not np.isfinite(scores).all():
        raise ResultError(
            f"The ranker gave {scores.shape} scores to {len(items)} candidates, or some that are no numbers."
        )
    return scores
