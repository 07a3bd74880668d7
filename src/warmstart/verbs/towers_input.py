"""Towers as what an index is made of: their items by number, and what their users' histories ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from warmstart.core.errors import DataError, SettingError
from warmstart.core.index import VectorsCard
from warmstart.core.index_options import VectorOptions
from warmstart.verbs.index_input import Items, read_items
from warmstart.verbs.two_tower_folder import VECTORS, TwoTowers, load_two_tower, read_record


def read_source(options: VectorOptions) -> tuple[Items, TwoTowers | None]:
    """Items out of files of vectors, or of towers; and the towers.

    Raises:
        UserError: both or neither are named, or cannot be read.
    """
    if options.towers is None:
        if options.vectors is None:
            raise SettingError("Give either --vectors or --towers.")
        return read_items(options.vectors, options.ids), None
    if options.vectors is not None:
        raise SettingError("Give either --vectors or --towers, not both.")
    if options.ids is not None:
        raise SettingError("--ids goes with --vectors; items of --towers have numbers of their own.")
    towers, items = read_towers(options.towers)
    return items, towers


def read_towers(folder: str) -> tuple[TwoTowers, Items]:
    """Towers, and their items with their numbers as ids.

    Raises:
        ResultError: the folder is no result of contrast two-tower, or was altered.
    """
    towers = load_two_tower(folder)
    record = read_record(Path(folder).expanduser())
    vectors = towers.vectors.numpy()
    card = VectorsCard(folder, len(vectors), vectors.shape[1], True, record.files[VECTORS], record.identity())
    return towers, Items(np.arange(len(vectors)), vectors, card)


def asked(towers: TwoTowers, count: int, seed: int) -> np.ndarray:
    """Vectors of real users as serving asks for them, (queries, dim).

    These are users with their whole histories; where there are fewer than wanted, also with histories that break off at
    a moment drawn for each, as they once were.

    Args:
        towers: whose users ask.
        count: how many at most.
        seed: of the draws.

    Raises:
        DataError: there is no history.
    """
    users = np.array([user for user, history in enumerate(towers.histories) if len(history)], dtype=np.int64)
    if not len(users):
        raise DataError("no user of the towers has a history", remedy="Give --queries.")
    draw = np.random.default_rng(seed)
    chosen = draw.permutation(users)[:count]
    histories = [towers.histories[user] for user in chosen]
    longer = draw.permutation(users[[len(towers.histories[user]) > 1 for user in users]])[: count - len(chosen)]
    histories += [towers.histories[user][: draw.integers(1, len(towers.histories[user]))] for user in longer]
    return np.asarray(towers.model.encode(towers.vectors, histories, np.concatenate([chosen, longer])).numpy())
