"""Questions with what a retriever found for them, as batches of a ranker, and the ranking that a ranker makes of them.

What is asked at one moment may only use what came before it: `Moment` holds that, and refuses questions whose answers
it has already seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from warmstart.core.errors import DataError
from warmstart.data.histories import Asked
from warmstart.retrieve.evidence import Evidence, gather
from warmstart.retrieve.ranker import Lists, Ranker
from warmstart.retrieve.ranking import TOP, Ranked, Scorer, rank

_QUESTIONS = 256  # ranked at a time


@dataclass(frozen=True)
class Moment:
    """What is known when questions are asked.

    Attributes:
        histories: of every user, all that came before the questions, oldest first, (users,) arrays.
        items: number of items.
        evidence: counts of these histories.
    """

    histories: tuple[np.ndarray, ...]
    items: int
    evidence: Evidence = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", gather(self.histories, self.items))


@dataclass(frozen=True)
class Candidates:
    """Questions and the K best items that a retriever found for each.

    Attributes:
        histories: (questions,) arrays of items, oldest first.
        items: (questions, K), the retriever's best first; −1 where fewer are left.
        scores: (questions, K), the retriever's.
        ranks: (questions,), the right item's rank by the retriever among all items.
        places: (questions,), where the right item is among the K; −1 where the retriever missed it.
        evidence: counts of what came before the questions.
    """

    histories: tuple[np.ndarray, ...]
    items: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    places: np.ndarray
    evidence: Evidence

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: np.ndarray) -> Candidates:
        """Some of the questions."""
        return Candidates(
            tuple(self.histories[row] for row in rows.tolist()),
            self.items[rows],
            self.scores[rows],
            self.ranks[rows],
            self.places[rows],
            self.evidence,
        )

    def lists(self, rows: Sequence[int] | np.ndarray, longest: int) -> Lists:
        """Some of the questions as a batch, the latest `longest` items of each history."""
        chosen = np.asarray(rows)
        return make_lists(
            [self.histories[row] for row in chosen.tolist()],
            self.items[chosen],
            self.scores[chosen],
            self.evidence,
            longest,
        )


def find_candidates(scorer: Scorer, asked: Asked, moment: Moment, k: int) -> Candidates:
    """Ask the retriever for the K best of the whole catalogue, those of the history left out.

    Args:
        scorer: the retriever.
        asked: the questions.
        moment: what came before them.
        k: candidates of a question.

    Raises:
        DataError: an answer is in the asker's own history, or in what is said to come before; or a score is not a
            number.
    """
    for user, target in zip(asked.users.tolist(), asked.targets.tolist(), strict=True):
        if target in moment.histories[user]:
            raise DataError("what a ranker may know holds the item that is asked for: the future leaks into the past")
    found = rank(scorer, asked.users, asked.histories, asked.targets, moment.items, asked.among, min(k, moment.items))
    hits = found.top == asked.targets[:, None]
    places = np.where(hits.any(1), hits.argmax(1), -1)
    return Candidates(asked.histories, found.top, found.scores, found.ranks, places, moment.evidence)


def make_lists(
    histories: Sequence[np.ndarray], items: np.ndarray, scores: np.ndarray, evidence: Evidence, longest: int
) -> Lists:
    """A batch of a ranker.

    Args:
        histories: (batch,) arrays of items, oldest first; none is empty.
        items: candidates, (batch, K); −1 for none.
        scores: the retriever's, (batch, K).
        evidence: counts of what came before.
        longest: how many of the latest items are read.
    """
    short = [np.asarray(history[-longest:], dtype=np.int64) for history in histories]
    lengths = np.array([len(history) for history in short])
    read = np.arange(lengths.max()) < lengths[:, None]  # (batch, length)
    padded = np.zeros(read.shape, dtype=np.int64)
    padded[read] = np.concatenate(short)
    present = items >= 0
    candidates = np.where(present, items, 0)
    pairs = evidence.pairs(padded[:, None, :], candidates[:, :, None])  # (batch, K, length, 2)
    return Lists(
        history=torch.from_numpy(padded),
        read=torch.from_numpy(read),
        candidates=torch.from_numpy(candidates),
        present=torch.from_numpy(present),
        retrieved=torch.from_numpy(np.where(present, scores, 0.0).astype(np.float32)),
        taken=torch.from_numpy(evidence.counts[candidates].astype(np.float32)),
        pairs=torch.from_numpy(pairs),
    )


@torch.no_grad()
def ranker_scores(model: Ranker, candidates: Candidates) -> np.ndarray:
    """Scores of all candidates, (questions, K); minus infinity for none."""
    model.eval()
    found = np.full(candidates.items.shape, -np.inf, dtype=np.float32)
    order = np.argsort([len(history) for history in candidates.histories], kind="stable")
    for start in range(0, len(order), _QUESTIONS):
        rows = order[start : start + _QUESTIONS]
        found[rows] = model(candidates.lists(rows, model.shape.max_history)).numpy()
    return found


def rerank(scores: np.ndarray, candidates: Candidates) -> Ranked:
    """The ranking with the candidates in a new order, all other items behind them in the retriever's.

    Args:
        scores: of the candidates, (questions, K); equal ones count against the right item.
        candidates: the questions.
    """
    lines = np.arange(len(scores))
    right = scores[lines, candidates.places]  # of a missed one anything
    there = candidates.items >= 0
    ranks = np.where(candidates.places >= 0, ((scores >= right[:, None]) & there).sum(1), candidates.ranks)
    order = np.lexsort((candidates.items, -scores), axis=1)[:, :TOP]
    top = np.full((len(scores), TOP), -1, dtype=np.int64)
    kept = np.full((len(scores), TOP), -np.inf, dtype=np.float32)
    top[:, : order.shape[1]] = np.take_along_axis(candidates.items, order, axis=1)
    kept[:, : order.shape[1]] = np.take_along_axis(scores, order, axis=1)
    return Ranked(ranks, top, kept)
