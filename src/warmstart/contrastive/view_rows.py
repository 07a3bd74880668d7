"""Images as rows that give two views of themselves: new ones to learn from, always the same two to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.image_inputs import ImagePreprocessor
from warmstart.contrastive.batches import PairRows
from warmstart.contrastive.ranking import score_ranks
from warmstart.contrastive.views import ViewPlan, draw_views, make_views
from warmstart.core.contrast import RankScores
from warmstart.data.decoded import DecodedImages
from warmstart.train.job import Rows

_SHUFFLE = 1 << 32  # beside the seeds of rows, which are below


@dataclass(frozen=True)
class ViewSource:
    """Images, and how views of them are made.

    Attributes:
        images: decoded.
        ids: (images,), equal for those that look the same.
        preprocessor: the model's; its size is that of the views.
        plan: how much views differ.
        seed: of the views.
    """

    images: DecodedImages
    ids: NDArray[np.int64]
    preprocessor: ImagePreprocessor
    plan: ViewPlan
    seed: int

    def __len__(self) -> int:
        return len(self.images)

    def views(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """One view of each image as the model reads it, from bytes and draws of `draw_views`."""
        return self.preprocessor.normalise(make_views(pixels, draws, self.plan, self.preprocessor.size) * 255)


class FixedViews:
    """One of two views of every image, the same whenever it is asked for; an `Inputs`.

    Args:
        source: the images.
        number: 0 or 1.
    """

    def __init__(self, source: ViewSource, number: int) -> None:
        self._source, self._number = source, number

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Ones: every image costs the same."""
        return np.ones(len(self._source), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, rows: Sequence[int], augment_seed: int | None = None) -> dict[str, Tensor]:
        """pixel_values, (rows, channels, height, width)."""
        draws = draw_views(rows, self._source.seed, 0)[self._number]
        return {"pixel_values": self._source.views(torch.from_numpy(self._source.images.rows(rows)), draws)}


class ViewJudge:
    """Whether the first view of every image finds the second among those of all images.

    Args:
        source: the images.
    """

    def __init__(self, source: ViewSource) -> None:
        self._first, self._second = FixedViews(source, 0), FixedViews(source, 1)
        self._answers = [frozenset(np.flatnonzero(source.ids == one).tolist()) for one in source.ids.tolist()]

    def rows(self) -> Rows:
        """The images as rows, for what estimates how long judging takes."""
        return Rows(self._first, np.zeros(len(self._first), dtype=np.int64))

    def __call__(self, encoder: Classifier) -> RankScores:
        """Recalls and geometry; images that look the same answer for each other."""
        first, second = (forward(encoder, views).features for views in (self._first, self._second))
        return score_ranks(first, second, self._answers)


class ViewRows(PairRows):
    """Images to learn from.

    Args:
        source: the images.
        part_rows: images of one forward pass.
    """

    def __init__(self, source: ViewSource, part_rows: int) -> None:
        super().__init__((FixedViews(source, 0),), source.ids, source.ids[None], part_rows=part_rows)
        self.source = source

    def collate(self, rows: list[int]) -> dict[str, Any]:
        """Bytes, what the views are made from, and in which order the second views are cut into parts.

        The order is another one than that of the first views: batch norms that take the statistics of a part must not
        tell which images were encoded together (arXiv 1911.05722, sec. 3.3).
        """
        seed, epoch = self.source.seed, self.epoch
        order = np.random.default_rng((seed, epoch, _SHUFFLE + rows[0])).permutation(len(rows))
        chosen = torch.tensor(rows)
        return {
            "pixels": torch.from_numpy(self.source.images.rows(rows)),  # (rows, 3, side, side)
            "draws": draw_views(rows, seed, epoch + 1),  # (2, rows, draws); epoch 0 is what is judged by
            "places": torch.from_numpy(order),
            "anchors": self.anchor_ids[chosen],
            "candidates": self.candidate_ids[:, chosen],
        }

    def sides_of(self, pixels: Tensor, draws: Tensor, places: Tensor) -> list[dict[str, Any]]:
        """First and second views in parts, where the pixels are."""
        in_order = torch.arange(len(pixels), device=pixels.device)
        return [
            self._side(pixels[order], draw[order], order) for order, draw in zip((in_order, places), draws, strict=True)
        ]

    def _side(self, pixels: Tensor, draws: Tensor, places: Tensor) -> dict[str, Any]:
        views = self.source.views(pixels, draws)
        return {"parts": [{"pixel_values": part} for part in torch.split(views, self.part_rows)], "places": places}
