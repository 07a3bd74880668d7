"""The baselines beside two towers: tuned on the validation questions, then fitted to all that comes before the test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from warmstart.core.progress import reporter
from warmstart.core.recommend import RankedRow
from warmstart.data.histories import Asked
from warmstart.retrieve.baselines import EASE_ITEMS, Ease, ItemKNN, Popularity
from warmstart.retrieve.ranking import Ranked, Scorer, ndcg, rank, ranking_scores
from warmstart.verbs.two_tower_data import TwoTowerData

Made = Callable[[Sequence[np.ndarray]], Scorer]
_NEIGHBOURS = (20, 100, 500)
_PENALTIES = (50.0, 100.0, 200.0, 400.0, 800.0)


def floors(data: TwoTowerData) -> tuple[RankedRow, ...]:
    """Popularity, item-kNN and EASE on the same questions as the towers."""
    items = len(data.items.ids)
    arms: dict[str, list[tuple[dict[str, Any], Made]]] = {
        "popularity": [({}, lambda taken: Popularity(taken, items))],
        "item-kNN": [({"neighbours": k}, _knn(items, k)) for k in _NEIGHBOURS],
    }
    if items <= EASE_ITEMS:
        arms["EASE"] = [({"penalty": penalty}, _ease(items, penalty)) for penalty in _PENALTIES]
    else:
        reporter().warn(f"EASE is left out: it inverts an items × items matrix, and there are {items:,} items.")
    return tuple(_best(name, tried, data) for name, tried in arms.items())


def _best(name: str, tried: Sequence[tuple[dict[str, Any], Made]], data: TwoTowerData) -> RankedRow:
    items, split = len(data.items.ids), data.split
    scores = [ndcg(_ranked(made(split.train), split.validation, items).ranks).mean() for _, made in tried]
    settings, made = tried[int(np.argmax(scores))]
    found = _ranked(made(split.complete), split.test, items)
    counts = np.bincount(np.concatenate(split.train), minlength=items)
    users = sum(len(history) > 0 for history in split.train)
    return RankedRow(name, settings, ranking_scores(found, split.test.histories, counts, users))


def _ranked(scorer: Scorer, asked: Asked, items: int) -> Ranked:
    return rank(scorer, asked.users, asked.histories, asked.targets, items, asked.among)


def _knn(items: int, neighbours: int) -> Made:
    return lambda taken: ItemKNN(taken, items, neighbours)


def _ease(items: int, penalty: float) -> Made:
    return lambda taken: Ease(taken, items, penalty)
