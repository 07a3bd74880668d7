"""Full rankings: the rank of the right item among all items not seen, and what the first ten are like.

Who scores is not known here: anything that gives every item a score for a history. Equal scores count against the right
item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from warmstart.core.errors import DataError
from warmstart.core.recommend import ActivityRow, RankingScores
from warmstart.core.statistics import bootstrap_interval, wilson_interval

Scorer = Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]
"""Users (batch,) and their histories → scores (batch, items); it may be changed in place."""

TOP = 10
_BLOCK = 1 << 23  # scores in memory at a time
_ACTIVITY = (5, 20, 100)  # lengths of histories at which users are divided
_POPULAR = 0.1  # share of the items that are called popular


@dataclass(frozen=True)
class Ranked:
    """What a ranking gave for each question.

    Attributes:
        ranks: (questions,), of the right item, 1 for the first.
        top: (questions, kept), the items that came first; −1 for none.
        scores: (questions, kept), theirs; minus infinity for none.
    """

    ranks: np.ndarray
    top: np.ndarray
    scores: np.ndarray


def rank(
    scorer: Scorer,
    users: np.ndarray,
    histories: Sequence[np.ndarray],
    targets: np.ndarray,
    items: int,
    among: np.ndarray | None = None,
    keep: int = TOP,
) -> Ranked:
    """Rank all items for each question, those of its history left out.

    Args:
        scorer: gives the scores.
        users: (questions,).
        histories: (questions,) arrays of items.
        targets: (questions,), the right items.
        items: number of items.
        among: the only items that take part, (items,); the right one must be one of them.
        keep: how many of the first items to keep.

    Raises:
        DataError: a right item is in its own history, or a score is not a number.
    """
    barred = np.zeros(items, dtype=bool)
    if among is not None:
        barred[:] = True
        barred[among] = False
    ranks, top = np.zeros(len(targets), dtype=np.int64), np.full((len(targets), keep), -1, dtype=np.int64)
    kept = np.full((len(targets), keep), -np.inf, dtype=np.float32)
    step = max(1, _BLOCK // items)
    for start in range(0, len(targets), step):
        some = slice(start, start + step)
        scores = np.array(scorer(users[some], histories[some]), dtype=np.float32)  # (some, items)
        if np.isnan(scores).any():
            raise DataError("the model gives scores that are no numbers", remedy="Use a lower --learning-rate.")
        scores[:, barred] = -np.inf
        for line, history in enumerate(histories[some]):
            if targets[start + line] in history:
                raise DataError("the item that is asked for is in the history: the future leaks into the past")
            scores[line, history] = -np.inf
        right = scores[np.arange(len(scores)), targets[some]]
        out_of = np.isneginf(scores)
        ranks[some] = ((scores >= right[:, None]) & ~out_of).sum(1)
        count = min(keep, items)
        first = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        found = np.take_along_axis(scores, first, axis=1)
        order = np.lexsort((first, -found), axis=1)
        first, found = np.take_along_axis(first, order, axis=1), np.take_along_axis(found, order, axis=1)
        top[some, :count] = np.where(np.isneginf(found), -1, first)
        kept[some, :count] = found
    return Ranked(ranks, top, kept)


def ndcg(ranks: np.ndarray, k: int = TOP) -> np.ndarray:
    """Of each question, 1 / log2(rank + 1) within the first k, else 0 (Järvelin and Kekäläinen 2002), (questions,)."""
    return np.where(ranks <= k, 1 / np.log2(ranks + 1.0), 0.0)


def ranking_scores(
    found: Ranked, histories: Sequence[np.ndarray], counts: np.ndarray, users: int, seed: int = 0
) -> RankingScores:
    """Everything that a ranking reached, with 95 % intervals over the questions.

    Args:
        found: the ranks.
        histories: of the questions.
        counts: (items,), how many users took each item in training.
        users: number of users in training.
        seed: of the resamples.
    """
    ranks, gains = found.ranks, ndcg(found.ranks)
    first = found.top[:, :TOP]
    shown = first[first >= 0]
    popular = np.zeros(len(counts), dtype=bool)
    popular[np.argsort(-counts, kind="stable")[: max(1, round(_POPULAR * len(counts)))]] = True
    share = np.maximum(counts, 1) / max(1, users)  # an item that nobody took counts as taken once
    return RankingScores(
        questions=len(ranks),
        hit_10=wilson_interval(int((ranks <= TOP).sum()), len(ranks)),
        hit_100=wilson_interval(int((ranks <= 100).sum()), len(ranks)),
        ndcg_10=bootstrap_interval(gains, seed),
        reciprocal_rank=bootstrap_interval(1 / ranks, seed),
        coverage_10=len(np.unique(shown)) / len(counts),
        novelty_10=float(-np.log2(share[shown]).mean()) if len(shown) else float("nan"),
        popular_10=float(popular[shown].mean()) if len(shown) else float("nan"),
        by_activity=_by_activity(ranks, gains, np.array([len(history) for history in histories])),
    )


def _by_activity(ranks: np.ndarray, gains: np.ndarray, lengths: np.ndarray) -> tuple[ActivityRow, ...]:
    rows = []
    edges = (0, *_ACTIVITY, np.inf)
    for low, high in pairwise(edges):
        here = (lengths > low) & (lengths <= high)
        name = f"{int(low) + 1} to {int(high)}" if np.isfinite(high) else f"{int(low) + 1} or more"
        if here.any():
            hits = float((ranks[here] <= TOP).mean())
            rows.append(ActivityRow(name, int(here.sum()), hits, float(gains[here].mean())))
    return tuple(rows)
