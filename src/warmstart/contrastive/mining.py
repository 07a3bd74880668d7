"""Hard negatives: near a query and yet no answer to it, searched for with an index and filtered against false ones.

The names of the filters are those of sentence-transformers' `mine_hard_negatives`.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

import numpy as np

from warmstart.core.errors import SettingError
from warmstart.core.records import Record
from warmstart.neighbours.protocol import Index


@dataclass(frozen=True)
class MiningPlan(Record):
    """Which of the nearest candidates are taken for hard negatives.

    Args:
        num_negatives: of each query.
        range_min: how many of the nearest are passed over; they are the likeliest to be unlabelled answers.
        range_max: how far down the list is looked.
        max_score: highest score of a negative.
        min_score: lowest score of a negative.
        absolute_margin: a negative must score at least this much below the query's best positive.
        relative_margin: a negative may score at most (1 − this) of the query's best positive (NV-Retriever, arXiv
            2407.15831: positive-aware mining); below it by as much where the positive's score is negative.
        sampling_strategy: the "top" of what passes, or "random" ones of it.
    """

    num_negatives: int = 1
    range_min: int = 0
    range_max: int = 100
    max_score: float | None = None
    min_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    sampling_strategy: Literal["top", "random"] = "top"

    def check(self) -> None:
        """Whether the filters leave anything.

        Raises:
            SettingError: they cannot.
        """
        if self.num_negatives < 1:
            raise SettingError(f"--num-negatives is {self.num_negatives}; it must be at least 1.")
        if not 0 <= self.range_min < self.range_max:
            raise SettingError(
                f"--range-min is {self.range_min} and --range-max {self.range_max}; the first must be the lower one."
            )
        if self.num_negatives > self.range_max - self.range_min:
            raise SettingError(
                f"--num-negatives is {self.num_negatives}, and --range-min {self.range_min} to --range-max "
                f"{self.range_max} leave {self.range_max - self.range_min} candidates: raise --range-max."
            )


@dataclass(frozen=True)
class Mined:
    """Hard negatives of each query.

    Attributes:
        ids: (queries, num_negatives), candidates; where `found` is false, there was none and the id is −1.
        found: (queries, num_negatives).
        scores: (queries, num_negatives), not-a-number where there was none.
    """

    ids: np.ndarray
    found: np.ndarray
    scores: np.ndarray

    def complete(self) -> np.ndarray:
        """Places of the queries that have all their negatives, (complete,)."""
        return np.flatnonzero(self.found.all(axis=1))


def mine(
    index: Index,
    queries: np.ndarray,
    positive_scores: np.ndarray,
    known: Sequence[AbstractSet[int]],
    plan: MiningPlan,
    seed: int = 0,
) -> Mined:
    """Search hard negatives.

    Args:
        index: the candidates.
        queries: (queries, width).
        positive_scores: (queries,), the best score that a positive of the query has.
        known: the ids of all positives of each query (and of what has the same content); never taken.
        plan: the filters.
        seed: of the random choice.

    Raises:
        SettingError: the plan cannot be met, or lengths differ.
    """
    plan.check()
    if not len(queries) == len(positive_scores) == len(known):
        raise SettingError(f"{len(queries)} queries, {len(positive_scores)} scores, {len(known)} sets of positives.")
    most = max((len(ids) for ids in known), default=0)
    nearest = index.search(queries, plan.range_max + most)
    shape = (len(queries), plan.num_negatives)
    ids, scores = np.full(shape, -1, dtype=np.int64), np.full(shape, np.nan, dtype=np.float32)
    draw = np.random.default_rng(seed)
    for row, positives in enumerate(known):
        wrong = np.array([place for place, one in enumerate(nearest.ids[row].tolist()) if one not in positives])
        ranked = wrong[plan.range_min : plan.range_max].astype(np.int64)
        passing = ranked[_passes(nearest.scores[row, ranked], float(positive_scores[row]), plan)]
        if plan.sampling_strategy == "random" and len(passing) > plan.num_negatives:
            passing = np.sort(draw.choice(passing, plan.num_negatives, replace=False))
        taken = passing[: plan.num_negatives]
        ids[row, : len(taken)] = nearest.ids[row, taken]
        scores[row, : len(taken)] = nearest.scores[row, taken]
    return Mined(ids, ids >= 0, scores)


def _passes(scores: np.ndarray, positive: float, plan: MiningPlan) -> np.ndarray:
    """Which candidates the filters let through, (candidates,)."""
    passes = np.ones(len(scores), dtype=bool)
    if plan.max_score is not None:
        passes &= scores <= plan.max_score
    if plan.min_score is not None:
        passes &= scores >= plan.min_score
    if plan.absolute_margin is not None:
        passes &= scores <= positive - plan.absolute_margin
    if plan.relative_margin is not None:
        passes &= scores <= positive - plan.relative_margin * abs(positive)
    return passes
