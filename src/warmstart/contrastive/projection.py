"""The projection head of SimCLR: vectors are compared behind it, and it is dropped at the end (arXiv 2002.05709, 4.2).

It sits in the loss, not in the encoder: its batch norm sees the vectors of the whole batch, both views, however many
passes the encoder took.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from warmstart.contrastive.info_nce import Contrast
from warmstart.contrastive.pair_loss import PairLoss


class Projector(nn.Module):
    """Linear, batch norm, ReLU, linear.

    Args:
        features: width of what comes in, and of the hidden layer.
        dimensions: width of what comes out.
        norm: whether there is a batch norm.
    """

    def __init__(self, features: int, dimensions: int, *, norm: bool = True) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, features, bias=not norm)
        self.norm = nn.BatchNorm1d(features) if norm else nn.Identity()
        self.output = nn.Linear(
            features, dimensions
        )  # its bias keeps a row that ReLU leaves nothing of from being zero

    def forward(self, features: Tensor) -> Tensor:
        """(batch, features) to (batch, dimensions)."""
        projected: Tensor = self.output(torch.relu(self.norm(self.hidden(features))))
        return projected


@dataclass(frozen=True)
class ProjectedLoss(PairLoss):
    """A loss of what a projection head makes of the vectors.

    Args:
        projector: the head; it is trained.
    """

    projector: nn.Module = field(kw_only=True)

    def __call__(self, scale: Tensor, exclude: Tensor | None, vectors: tuple[Tensor, ...]) -> tuple[Tensor, Contrast]:
        """See `PairLoss`."""
        projected = self.projector(torch.cat(vectors))
        return super().__call__(scale, exclude, tuple(projected.split([len(side) for side in vectors])))
