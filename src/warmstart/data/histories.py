"""Three ways to ask what comes next: each user's last item, what follows a moment, and items never learned from.

Whatever the way, training and histories hold nothing that comes after what is asked for.

| split | learned from | history of a question | asked for |
|---|---|---|---|
| last | each user's events but the last two | all before it | the last (validation: the one before it) |
| temporal | events before a moment | all before the window | the first event in the window |
| cold_items | events with other items, before the asked one | the same | an item that training never saw |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from warmstart.core.errors import DataError
from warmstart.data.interactions import Interactions

_LEAST = 2  # questions without which nothing can be chosen or judged by


@dataclass(frozen=True)
class Asked:
    """Questions: after this history, what does this user take next?

    Attributes:
        users: (questions,), numbers.
        histories: items of each, oldest first, (questions,) arrays; never empty.
        targets: (questions,), items; none of them is in its own history.
        among: the items that may be recommended, (items,); None: all.
    """

    users: np.ndarray
    histories: tuple[np.ndarray, ...]
    targets: np.ndarray
    among: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class HistorySplit:
    """What is learned from, chosen by and judged by.

    Attributes:
        train: of every user, the items that training may see, oldest first, (users,) arrays, some of them empty.
        validation: what checkpoints and settings are chosen by.
        test: what is judged by.
        complete: of every user, all items before the test question's, for a model that is fitted once more.
        cold: items that training never saw on purpose, (items,).
        left_out: users about whom nothing is asked in the test.
    """

    train: tuple[np.ndarray, ...]
    validation: Asked
    test: Asked
    complete: tuple[np.ndarray, ...]
    cold: np.ndarray
    left_out: int


def split_histories(events: Interactions, kind: str, test_size: float, seed: int) -> HistorySplit:
    """Split events.

    Args:
        events: all of them.
        kind: "last", "temporal" or "cold_items".
        test_size: share of the events (temporal) or of the items (cold_items) that is judged by.
        seed: of the choice of cold items.

    Raises:
        DataError: too few users or events are left for a question.
    """
    bounds = events.bounds()
    rows = [slice(int(a), int(b)) for a, b in pairwise(bounds)]
    found = _SPLITS[kind](events, rows, test_size, seed)
    if min(len(found.validation), len(found.test)) < _LEAST or sum(len(one) > 1 for one in found.train) < _LEAST:
        raise DataError(
            f"the split leaves {len(found.validation)} users to choose by and {len(found.test)} to judge by",
            remedy="Use more events, or another --split or --test-size; users need at least three events.",
            file=events.source,
        )
    return found


def _last(events: Interactions, rows: Sequence[slice], test_size: float, seed: int) -> HistorySplit:
    return split_last([events.item[row] for row in rows])


def split_last(items: Sequence[np.ndarray]) -> HistorySplit:
    """The split `last` of what each user took, oldest first, (users,) arrays; nothing is checked."""
    asked = [user for user, one in enumerate(items) if len(one) >= 3]
    enough = set(asked)
    return HistorySplit(
        train=tuple(one[:-2] if user in enough else one for user, one in enumerate(items)),
        validation=_asked([(user, items[user][:-2], int(items[user][-2])) for user in asked]),
        test=_asked([(user, items[user][:-1], int(items[user][-1])) for user in asked]),
        complete=tuple(one[:-1] if user in enough else one for user, one in enumerate(items)),
        cold=np.zeros(0, dtype=np.int64),
        left_out=len(items) - len(asked),
    )


def _temporal(events: Interactions, rows: Sequence[slice], test_size: float, seed: int) -> HistorySplit:
    cuts = np.quantile(events.time, [max(0.0, 1 - 2 * test_size), 1 - test_size], method="higher")
    train: list[np.ndarray] = []
    complete: list[np.ndarray] = []
    questions: tuple[list[tuple[int, np.ndarray, int]], ...] = ([], [])
    for user, row in enumerate(rows):
        items, time = events.item[row], events.time[row]
        first, second = (int(np.searchsorted(time, cut, side="left")) for cut in cuts)
        train.append(items[:first])
        complete.append(items[:second])
        for found, start, end in zip(questions, (first, second), (second, len(items)), strict=True):
            if 0 < start < end:
                found.append((user, items[:start], int(items[start])))
    return HistorySplit(
        tuple(train),
        _asked(questions[0]),
        _asked(questions[1]),
        tuple(complete),
        np.zeros(0, dtype=np.int64),
        len(rows) - len(questions[1]),
    )


def _cold_items(events: Interactions, rows: Sequence[slice], test_size: float, seed: int) -> HistorySplit:
    count = max(1, round(test_size * len(events.items)))
    cold = np.sort(np.random.default_rng([seed, 11]).permutation(len(events.items))[:count])
    is_cold = np.zeros(len(events.items), dtype=bool)
    is_cold[cold] = True
    train: list[np.ndarray] = []
    questions: tuple[list[tuple[int, np.ndarray, int]], ...] = ([], [])
    for user, row in enumerate(rows):
        items = events.item[row]
        places = np.flatnonzero(is_cold[items])
        end = int(places[-1]) if len(places) else len(items)
        warm = items[:end][~is_cold[items[:end]]]
        if len(places) and len(warm):
            questions[1].append((user, warm, int(items[end])))
        if len(warm) >= 3:
            questions[0].append((user, warm[:-1], int(warm[-1])))
            warm = warm[:-1]
        train.append(warm)
    return HistorySplit(
        tuple(train), _asked(questions[0]), _asked(questions[1]), tuple(train), cold, len(rows) - len(questions[1])
    )


_SPLITS = {"last": _last, "temporal": _temporal, "cold_items": _cold_items}


def _asked(questions: Sequence[tuple[int, np.ndarray, int]]) -> Asked:
    return Asked(
        np.array([user for user, _, _ in questions], dtype=np.int64),
        tuple(history for _, history, _ in questions),
        np.array([target for _, _, target in questions], dtype=np.int64),
    )
