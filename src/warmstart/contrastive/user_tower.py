"""The user tower: a small causal transformer over the items of a history (SASRec, arXiv 1808.09781, with norms first).

The vector after each item is a query for the next one, so one pass over a history trains all of its positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from warmstart.contrastive.item_tower import Content, ContentTower


class Block(nn.Module):
    """Attention to what came before, then a feed-forward layer, each behind a norm and beside a residual.

    Args:
        dim: length of a vector.
        heads: of the attention.
        dropout: of attention weights and of what is added.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.p = heads, dropout
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.rise, self.fall = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, states: Tensor, barred: Tensor) -> Tensor:
        """States after the block, (batch, length, dim).

        Args:
            states: (batch, length, dim).
            barred: (length, length), true where a position must not look.
        """
        states = states + self._drop(self.out(self._attend(self.norm_attention(states), barred)))
        risen = nn.functional.gelu(self.rise(self.norm_forward(states)))
        return states + self._drop(self.fall(self._drop(risen)))

    def _attend(self, states: Tensor, barred: Tensor) -> Tensor:
        batch, length, dim = states.shape
        parts = self.qkv(states).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts  # (batch, heads, length, dim / heads)
        scores = query @ key.transpose(-1, -2) / (dim // self.heads) ** 0.5
        weights = self._drop(scores.masked_fill(barred, -torch.inf).softmax(-1))
        found: Tensor = (weights @ value).transpose(1, 2).reshape(batch, length, dim)
        return found

    def _drop(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(values, self.p, self.training)


class UserTower(nn.Module):
    """Histories → queries.

    Args:
        dim: length of a vector.
        layers: blocks.
        heads: of each.
        max_history: longest history that is read.
        dropout: of the input and inside of the blocks.
        shape: of what is known of users; None for nothing.
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        max_history: int,
        dropout: float,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.p = dropout
        self.places = nn.Embedding(max_history, dim)
        nn.init.normal_(self.places.weight, std=0.02)
        self.content = ContentTower(shape, dim) if shape is not None and any(shape) else None
        self.blocks = nn.ModuleList([Block(dim, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, items: Tensor, content: Content | None) -> Tensor:
        """The query after each item, (batch, length, dim).

        Padding stands at the end, where nothing before it can see it.

        Args:
            items: vectors of the items, oldest first, (batch, length, dim).
            content: what is known of the users of the batch; None for nothing.
        """
        length = items.shape[1]
        states = items + self.places.weight[:length]
        if self.content is not None and content is not None:
            states = states + self.content(content)[:, None]
        states = nn.functional.dropout(states, self.p, self.training)
        barred = torch.ones(length, length, dtype=torch.bool, device=items.device).triu(1)
        for block in self.blocks:
            states = block(states, barred)
        found: Tensor = self.norm(states)
        return found
