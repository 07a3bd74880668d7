"""From the vectors of a batch of pairs to its loss: masks, directions, and the same again for shorter vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from warmstart.contrastive.info_nce import Contrast, Direction, info_nce

CHUNK = 512  # rows compared at a time: a batch of thousands then has no square matrices in memory


@dataclass(frozen=True)
class PairLoss:
    """How a batch of pairs becomes a loss.

    Args:
        direction: see `info_nce`.
        dimensions: lengths that vectors are cut to, besides their own, with a loss for each; the mean counts
            (Matryoshka, arXiv 2205.13147, eq. 1 with equal weights).
        chunk: rows that are compared at a time.
        gather: pool the rows of all processes.
    """

    direction: Direction = "symmetric"
    dimensions: tuple[int, ...] = ()
    chunk: int | None = CHUNK
    gather: bool = False

    def __call__(self, scale: Tensor, exclude: Tensor | None, vectors: tuple[Tensor, ...]) -> tuple[Tensor, Contrast]:
        """The loss, a scalar, and that of the whole vectors with what it says of itself.

        Args:
            scale: 1 / temperature.
            exclude: (queries, candidates), false negatives.
            vectors: queries, positives and columns of hard negatives, (rows, width) each; the candidates are all but
                the queries, for every query.
        """
        queries, candidates = vectors[0], torch.cat(vectors[1:])
        full = self._loss(queries, candidates, scale, exclude)
        losses = [full.loss]
        losses += [self._loss(queries[:, :d], candidates[:, :d], scale, exclude).loss for d in self.dimensions]
        return torch.stack(losses).mean(), full

    def _loss(self, queries: Tensor, candidates: Tensor, scale: Tensor, exclude: Tensor | None) -> Contrast:
        return info_nce(
            queries,
            candidates,
            scale=scale,
            direction=self.direction,
            exclude=exclude,
            chunk=self.chunk,
            gather=self.gather,
        )
