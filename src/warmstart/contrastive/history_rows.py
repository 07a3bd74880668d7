"""Histories to train on: windows of what users took, the pool that each next item is told from, and its log-Q.

Every position of a window is a question, its next item the answer. The pool of a step holds each candidate once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmstart.contrastive.frequency import FrequencyEstimator, presence_log_q
from warmstart.contrastive.negatives import NegativeSampler
from warmstart.contrastive.two_tower_model import padded
from warmstart.core.errors import SettingError
from warmstart.train.job import Lengths, Rows

CATALOGUE = 4096  # items up to which each next item is told from all of them
KINDS = ("catalogue", "in_batch", "uniform", "popular", "mixed")
_PARTS = 4  # of like length, that the histories of a step are encoded in


@dataclass(frozen=True)
class Window:
    """Part of what a user took: `length` questions from `start` on."""

    user: int
    start: int
    length: int


class HistoryRows(Rows):
    """Windows of histories by row number.

    Args:
        histories: of every user, the items to learn from, oldest first.
        max_history: questions of a window, at most; a longer history is cut into several, the latest one full.
    """

    def __init__(self, histories: Sequence[np.ndarray], max_history: int) -> None:
        self.histories = tuple(histories)
        self.windows = [
            window for user, items in enumerate(histories) for window in _windows(user, len(items), max_history)
        ]
        if not self.windows:
            raise SettingError("No user has two events to learn from.")
        lengths = np.array([window.length for window in self.windows])
        super().__init__(Lengths(lengths), np.zeros(len(self.windows), dtype=np.int64))

    def collate(self, rows: list[int]) -> dict[str, Any]:
        """Parts of like length: items read, their users, and the items that come next where there are any, else −1."""
        chosen = sorted((self.windows[row] for row in rows), key=lambda window: -window.length)
        parts = [part for part in np.array_split(np.arange(len(chosen)), min(_PARTS, len(chosen))) if len(part)]
        return {"parts": [self._part([chosen[place] for place in part]) for part in parts]}

    def _part(self, windows: Sequence[Window]) -> dict[str, Tensor]:
        taken = [self.histories[w.user][w.start : w.start + w.length + 1] for w in windows]
        read, lengths = padded([items[:-1] for items in taken])
        following, _ = padded([items[1:] for items in taken])
        following[torch.arange(following.shape[1]) >= lengths[:, None]] = -1
        return {"read": read, "next": following, "users": torch.tensor([window.user for window in windows])}

    def counts(self, items: int) -> Tensor:
        """How often each item is an answer, (items,)."""
        found = torch.zeros(items, dtype=torch.long)
        for window in self.windows:
            answers = self.histories[window.user][window.start + 1 : window.start + window.length + 1]
            found.index_add_(0, torch.from_numpy(answers), torch.ones(len(answers), dtype=torch.long))
        return found


def _windows(user: int, count: int, longest: int) -> list[Window]:
    """From the end, so that the latest questions see a full history."""
    found, end = [], count - 1  # questions are 0 to count − 2
    while end > 0:
        start = max(0, end - longest)
        found.append(Window(user, start, end - start))
        end = start
    return found


@dataclass(frozen=True)
class Pool:
    """Candidates of a step, each once.

    Attributes:
        ids: (candidates,), items.
        log_q: (candidates,), log of the probability of being in the pool; None where nothing is to be corrected.
    """

    ids: Tensor
    log_q: Tensor | None

    def places(self, ids: Tensor) -> Tensor:
        """Where items stand in the pool, (ids,); they are in it."""
        return torch.searchsorted(self.ids, ids)

    def taken(self, histories: Sequence[np.ndarray]) -> Tensor:
        """(histories, candidates), true where a candidate is in the history: no wrong answer to it."""
        found = torch.zeros(len(histories), len(self.ids), dtype=torch.bool)
        for line, items in enumerate(histories):
            found[line] = torch.isin(self.ids, torch.from_numpy(items))
        return found


class PoolMaker:
    """Makes the pool of every step, of items that training meets.

    One that it never meets is no wrong answer: nobody could take it, and as a negative in every step a new item, known
    by its content, would be pushed away from everybody.

    Args:
        kind: "catalogue", "in_batch", "uniform", "popular" or "mixed" (half of the draws each way).
        candidates: (items,), true where an item may be in a pool; every answer is.
        draws: of one step, besides the answers of the batch.
        counts: (items,), how often each item is an answer.
        correct: whether to correct for how often each candidate is in a pool.
        seed: of the draws.
    """

    def __init__(self, kind: str, candidates: Tensor, draws: int, counts: Tensor, *, correct: bool, seed: int) -> None:
        if kind not in KINDS:
            raise SettingError(f"--negatives is {kind!r}; it must be one of: {', '.join(KINDS)}.")
        self.kind, self.correct, self.seed = kind, correct, seed
        self.ids = candidates.nonzero().flatten()
        uniform = {"uniform": draws, "mixed": draws - draws // 2}.get(kind, 0)
        popular = {"popular": draws, "mixed": draws // 2}.get(kind, 0)
        self.sampler = NegativeSampler(len(self.ids), uniform=uniform, popular=popular, counts=counts[candidates])
        self.frequency = FrequencyEstimator(len(candidates))

    def make(self, answers: Tensor, step: int) -> Pool:
        """The pool of one step.

        Args:
            answers: (answers,), the items of the batch that come next.
            step: optimizer steps already done; with the seed it fixes the draws.
        """
        if self.kind == "catalogue":
            return Pool(self.ids, None)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        ids = torch.unique(torch.cat([answers, self.ids[self.sampler.draw(generator)]]))
        if not self.correct:
            return Pool(ids, None)
        self.frequency.update(answers)
        log_p = self.frequency.log_probability(ids)
        return Pool(
            ids, presence_log_q(self.sampler.log_q(torch.searchsorted(self.ids, ids), max(1, len(answers) - 1), log_p))
        )


def chosen_kind(kind: str, items: int) -> str:
    """The kind of negatives that "auto" means for a number of items."""
    if kind != "auto":
        return kind
    return "catalogue" if items <= CATALOGUE else "mixed"
