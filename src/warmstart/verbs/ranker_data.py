"""What a ranker learns from: the towers' candidates for what users took second last, and for what they took last.

How a ranker is trained on them is left to `ranker_training`, what is told of it to `ranker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from warmstart.contrastive.two_tower_model import tower_scores
from warmstart.data.histories import Asked, HistorySplit
from warmstart.retrieve.candidates import Candidates, Moment, find_candidates
from warmstart.verbs.two_tower_folder import TwoTowers


@dataclass(frozen=True)
class RankerData:
    """What a ranker learns from, is chosen by and is judged by: the towers' candidates for three sets of questions."""

    learn: Candidates
    choose: Candidates
    test: Candidates
    asked: Asked  # the test questions


def kept_questions(size: float, questions: int) -> int:
    """How many questions are kept for choosing: a count, or a fraction below 1."""
    return round(size * questions) if size < 1 else int(size)


def ranker_data(
    towers: TwoTowers, split: HistorySplit, k: int, size: float, seed: int, progress: Any = None
) -> RankerData:
    """The towers' candidates, each set of questions with what came before it and nothing else.

    Args:
        towers: the retriever.
        split: of their histories.
        k: candidates of a question.
        size: of the second last events, those kept for choosing: a count, or a fraction below 1.
        seed: of that choice.
        progress: told after each of the two sets.
    """
    items = len(towers.items)

    def scorer(users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        return tower_scores(towers.model, users, histories, towers.vectors)

    found = []
    for asked, before in ((split.validation, split.train), (split.test, split.complete)):
        found.append(find_candidates(scorer, asked, Moment(tuple(before), items), k))
        if progress is not None:
            progress(len(found), 2, "")
    order = np.random.default_rng([seed, 17]).permutation(len(found[0]))
    kept = kept_questions(size, len(order))
    return RankerData(found[0].take(np.sort(order[kept:])), found[0].take(np.sort(order[:kept])), found[1], split.test)
