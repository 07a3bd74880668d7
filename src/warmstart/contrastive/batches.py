"""Rows of pairs as batches: the same order whatever the number of processes, cut into parts of like length.

A batch is the pool of in-batch negatives, so it is drawn at random, never by length. Within it each side is sorted by
length and cut into parts that cost about the same, for `grad_cache.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from warmstart.backbones.text_inputs import Inputs
from warmstart.contrastive.gather import gather_rows
from warmstart.contrastive.masks import known_positives, same
from warmstart.core.errors import SettingError
from warmstart.train.job import Rows


class PairRows(Rows):
    """Pairs by row number, with what tells false negatives.

    Args:
        sides: encoded queries, their positives, and any columns of hard negatives; each of all rows.
        anchor_ids: (rows,), equal for queries of the same content.
        candidate_ids: (sides − 1, rows), equal for candidates of the same content.
        known: ids of all positives of an anchor, by its id; anchors with one positive need not be there.
        part_rows: rows of one forward pass, at the length of the batch's longest row; shorter ones go in larger parts.
        augment: whether images are augmented.
        seed: of the augmentation.
    """

    def __init__(
        self,
        sides: Sequence[Inputs],
        anchor_ids: np.ndarray,
        candidate_ids: np.ndarray,
        known: Mapping[int, np.ndarray] | None = None,
        part_rows: int = 32,
        *,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(sides[0], np.zeros(len(sides[0]), dtype=np.int64), augment, seed)
        self.sides, self.part_rows = tuple(sides), part_rows
        self.anchor_ids, self.candidate_ids = torch.from_numpy(anchor_ids), torch.from_numpy(candidate_ids)
        self.known = {} if known is None else {key: torch.from_numpy(ids) for key, ids in known.items()}

    def collate(self, rows: list[int]) -> dict[str, Any]:
        """For each side its parts and the place in the batch of each of their rows; and the ids of all."""
        chosen = torch.tensor(rows)
        return {
            "sides": [self._parts(inputs, np.asarray(rows)) for inputs in self.sides],
            "anchors": self.anchor_ids[chosen],  # (rows,)
            "candidates": self.candidate_ids[:, chosen],  # (sides − 1, rows)
        }

    def _parts(self, inputs: Inputs, rows: np.ndarray) -> dict[str, Any]:
        """Rows sorted by length in parts of about equal cost; the longest rows last.

        The engine goes through the graphs from the last part on, so that the largest come first and those that follow
        fit into the memory they leave.
        """
        lengths = inputs.lengths[rows]
        places = np.argsort(-lengths, kind="stable")
        budget = self.part_rows * int(lengths.max())
        cuts, start = [], 0
        while start < len(places):
            size = max(1, budget // int(lengths[places[start]]))
            cuts.append(places[start : start + size])
            start += size
        cuts.reverse()
        parts = []
        for cut in cuts:
            chosen = [int(row) for row in rows[cut]]
            draw = None
            if self.augment:
                draw = int(np.random.SeedSequence((self.seed, self.epoch, chosen[0])).generate_state(1)[0])
            parts.append(inputs.batch(chosen, draw))
        return {"parts": parts, "places": torch.from_numpy(np.concatenate(cuts))}

    def false_negatives(self, anchors: Tensor, candidates: Tensor, *, gather: bool) -> Tensor:
        """(queries, candidates of all processes), true where a candidate is a right answer to the query.

        It is one when it has the content of any known positive of the query, or of its row's own positive.

        Args:
            anchors: (rows,), ids of the queries.
            candidates: (sides − 1, rows), ids.
            gather: whether the candidates of all processes are pooled.
        """
        flat = candidates.reshape(-1)
        pool = gather_rows(flat) if gather else flat
        exclude = same(candidates[0], pool)
        return exclude | known_positives(anchors.tolist(), pool, self.known) if self.known else exclude


class PairBatches(Sampler[list[int]]):
    """Batches of one process: each epoch's rows in an order by (seed, epoch), cut into equal batches for all together.

    An epoch has `ceil(rows / batch)` batches whose sizes differ by one at most: there is no small last batch, whose
    loss would mean something else. Each process takes its share of every batch, so that all together see what one
    process with the whole batch sees.

    Args:
        rows: number of rows.
        batch: rows of a batch over all processes, at most.
        seed: of the order.
        rank: number of this process.
        world: number of processes.

    Raises:
        SettingError: there are not two rows for each process in a batch.
    """

    def __init__(self, rows: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.rows, self.seed, self.epoch, self.rank, self.world = rows, seed, 0, rank, world
        self.count = -(-rows // batch)
        if rows // self.count < 2 * world:
            raise SettingError(
                f"{rows} rows in batches of {batch} leave fewer than two in a batch for each of {world} "
                "processes: there is nothing to tell apart. Use more rows or a larger --per-device-train-batch-size."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.rows)
        for batch in np.array_split(order, self.count):
            yield [int(row) for row in np.array_split(batch, self.world)[self.rank]]


class PairLoader(DataLoader[int]):
    """A loader that hands the epoch on to its batches."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)
        rows: Any = self.dataset
        rows.set_epoch(epoch)
