"""The item tower: a learnt vector for each id, and a projection of what is known of the item.

An item without a learnt vector (a new one) is its content alone. How texts and pictures became vectors is left to the
caller: the backbones that read them are frozen, and their features are computed once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.data.features import Features


@dataclass(frozen=True)
class Content:
    """What is known of items or users, row for row.

    Attributes:
        inputs: (rows, width), vectors of texts and of pictures beside each other, zeros for what a row lacks; width 0
            without both.
        values: (all values,), places of categories, row after row.
        starts: (rows + 1,), where each row's values start.
        numbers: (rows, numbers).
        vocabulary: number of categories.
    """

    inputs: Tensor
    values: Tensor
    starts: Tensor
    numbers: Tensor
    vocabulary: int

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Width of the inputs, number of categories, number of numbers."""
        return self.inputs.shape[1], self.vocabulary, self.numbers.shape[1]

    def digest(self) -> str:
        """What tells it from other contents."""
        own = hashlib.sha256(str(self.shape).encode())
        for values in (self.inputs, self.values, self.starts, self.numbers):
            own.update(values.numpy().tobytes())
        return own.hexdigest()

    def take(self, rows: Tensor) -> Content:
        """Some rows."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        within = torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(lengths)
        values = self.values[self.starts[rows].repeat_interleave(lengths) + within]
        return Content(self.inputs[rows], values, starts, self.numbers[rows], self.vocabulary)


def content_of(features: Features, inputs: np.ndarray, vocabulary: int) -> Content:
    """Features and the vectors of their texts and pictures, (rows, width), as tensors."""
    lengths = [len(bag) for bag in features.bags]
    values = np.concatenate([*features.bags, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    return Content(
        torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)),
        torch.from_numpy(values),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        torch.from_numpy(features.numbers),
        vocabulary,
    )


class ContentTower(nn.Module):
    """Content → vectors: the sum of what texts, pictures, categories and numbers say.

    Args:
        shape: see `Content.shape`.
        dim: length of a vector.
    """

    def __init__(self, shape: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        width, vocabulary, numbers = shape
        self.text = nn.Linear(width, dim, bias=False) if width else None
        self.category = nn.EmbeddingBag(vocabulary, dim, mode="sum") if vocabulary else None
        self.number = nn.Linear(numbers, dim, bias=False) if numbers else None
        if self.category is not None:
            nn.init.normal_(self.category.weight, std=dim**-0.5 / 4)

    def forward(self, content: Content) -> Tensor:
        """Vectors, (rows, dim)."""
        parts = []
        if self.text is not None:
            parts.append(self.text(content.inputs))
        if self.category is not None:
            parts.append(self.category(content.values, content.starts[:-1]))
        if self.number is not None:
            parts.append(self.number(content.numbers))
        return torch.stack(parts).sum(0)


class ItemTower(nn.Module):
    """Items → vectors.

    Args:
        items: number of ids.
        dim: length of a vector.
        shape: of the content; None where nothing is known.
        id_dropout: how often an item is shown without its learnt vector in training; one without content never is.
        learnt: (items,), whether an item has a learnt vector: one that training never meets has none. Without content
            every item has one: it has nothing else.
    """

    learnt: Tensor

    def __init__(
        self, items: int, dim: int, shape: tuple[int, int, int] | None, id_dropout: float, learnt: Tensor
    ) -> None:
        super().__init__()
        self.ids = nn.Embedding(items, dim)
        nn.init.normal_(self.ids.weight, std=dim**-0.5)
        self.content = ContentTower(shape, dim) if shape is not None and any(shape) else None
        self.id_dropout = id_dropout if self.content is not None else 0.0
        self.register_buffer("learnt", learnt if self.content is not None else torch.ones_like(learnt))

    def forward(self, ids: Tensor, content: Content | None) -> Tensor:
        """Vectors of items by number, (ids, dim).

        Args:
            ids: (ids,).
            content: of all items; None where nothing is known.
        """
        kept = self.learnt[ids].float()
        known = None if self.content is None or content is None else self.content(content.take(ids))
        if self.training and self.id_dropout > 0:
            shown = torch.rand(len(ids), device=ids.device) >= self.id_dropout
            if known is not None:
                shown |= (known == 0).all(dim=-1)  # without content there is nothing but the learnt vector
            kept = kept * shown
        vectors: Tensor = self.ids(ids) * kept[:, None]
        return vectors if known is None else vectors + known
