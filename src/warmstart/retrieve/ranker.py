"""A ranker: a transformer over a history and the candidates that a retriever found for it, one score per candidate.

The retriever compares a user and an item by one inner product; here every candidate looks at every item of the history
and at the other candidates. The score is the retriever's plus what the transformer adds, and an untrained ranker adds
nothing. Candidates have no places: in another order they get the same scores. Where candidates come from is
`candidates.py`'s, training `ranker_training.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from warmstart.core.record import Record
from warmstart.retrieve.evidence import PAIR_FEATURES

FEATURES = 16  # of a candidate: see `Ranker.raw_features`
_FADES = 0.7  # weight of an item of the history, for each item that came after it
_TINY = 1e-3  # added before a logarithm, and to a deviation before it divides


@dataclass(frozen=True)
class RankerConfig(Record):
    """The shape of a `Ranker`; with its weights it is all that loading needs."""

    items: int
    dim: int  # of the retriever's vectors
    width: int
    layers: int
    heads: int
    max_history: int
    dropout: float
    sharpness: float  # what the retriever's scores are multiplied by at the start: 1 / its temperature


@dataclass(frozen=True)
class Lists:
    """A batch of histories, each with its candidates.

    Attributes:
        history: (batch, length), items, oldest first; padding stands at the end.
        read: (batch, length), true where there is an item.
        candidates: (batch, candidates), items; padding may be anything.
        present: (batch, candidates), true where there is a candidate.
        retrieved: (batch, candidates), the retriever's scores.
        taken: (batch, candidates), how many users took each candidate.
        pairs: (batch, candidates, length, 2), what events say of an item of the history and a candidate.
    """

    history: Tensor
    read: Tensor
    candidates: Tensor
    present: Tensor
    retrieved: Tensor
    taken: Tensor
    pairs: Tensor


class Ranker(nn.Module):
    """Scores candidates.

    Args:
        config: the shape.
        vectors: of the items by the retriever, of unit length, (items, dim); they stay as they are.
    """

    vectors: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, config: RankerConfig, vectors: Tensor) -> None:
        super().__init__()
        self.shape = config
        self.register_buffer("vectors", vectors.float())
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        width = config.width
        self.item, self.candidate = nn.Linear(config.dim, width), nn.Linear(config.dim, width)
        self.recency = nn.Embedding(config.max_history, width)
        nn.init.normal_(self.recency.weight, std=0.02)
        self.features = nn.Sequential(nn.Linear(FEATURES, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList([Block(width, config.heads, config.dropout) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1, bias=False)
        self.direct = nn.Linear(FEATURES, 1, bias=False)
        for last in (self.head, self.direct):
            nn.init.zeros_(last.weight)
        self.log_sharpness = nn.Parameter(torch.tensor(float(config.sharpness)).log())
        self.p = config.dropout

    def forward(self, lists: Lists) -> Tensor:
        """Scores, (batch, candidates); minus infinity at padding."""
        features = (self.raw_features(lists) - self.centre) / self.spread  # (batch, candidates, FEATURES)
        age = (lists.read.sum(1, keepdim=True) - 1 - torch.arange(lists.read.shape[1])).clamp(min=0)
        history = self.item(self.vectors[lists.history]) + self.recency(age)
        candidates = self.candidate(self.vectors[lists.candidates]) + self.features(features)
        states = nn.functional.dropout(torch.cat([history, candidates], dim=1), self.p, self.training)
        barred, pairs = self._barred(lists), (lists.pairs + _TINY).log() - torch.tensor(_TINY).log()
        for block in self.blocks:
            states = block(states, barred, pairs)
        own = self.norm(states[:, lists.history.shape[1] :])
        added = (self.head(own) + self.direct(features)).squeeze(-1)
        scores: Tensor = self.log_sharpness.exp() * centred(lists.retrieved, lists.present) + added
        return scores.masked_fill(~lists.present, -torch.inf)

    def raw_features(self, lists: Lists) -> Tensor:
        """What is known of each candidate in its list before it is scaled, (batch, candidates, FEATURES)."""
        present, read = lists.present, lists.read[:, None]  # (batch, candidates), (batch, 1, length)
        centre = centred(lists.retrieved, present)
        deviation = ((centre**2).sum(1, keepdim=True) / present.sum(1, keepdim=True)).sqrt()
        best = lists.retrieved.masked_fill(~present, -torch.inf).amax(1, keepdim=True)
        age = lists.read.sum(1, keepdim=True) - 1 - torch.arange(lists.read.shape[1])
        near = self.vectors[lists.candidates] @ self.vectors[lists.history].transpose(1, 2)
        one = [
            centre / (deviation + _TINY),
            (lists.retrieved - best) * self.shape.sharpness,
            lists.taken.log1p(),
            lists.read.sum(1, keepdim=True).log().expand_as(centre),
        ]
        for values, log in ((lists.pairs[..., 0], True), (lists.pairs[..., 1], True), (near, False)):
            kept = values.masked_fill(~read, 0.0)  # (batch, candidates, length)
            latest = kept.masked_fill(age[:, None] != 0, 0.0).sum(-1)
            fading = (kept * _FADES ** age[:, None].clamp(min=0)).sum(-1)
            strongest = values.masked_fill(~read, -torch.inf).amax(-1)
            found = [kept.sum(-1), fading, latest, strongest]
            if not log:
                found[0] = found[0] / lists.read.sum(1, keepdim=True)
            one += [(value + _TINY).log() if log else value for value in found]
        return torch.stack(one, dim=-1)

    def scale_features(self, centre: Tensor, spread: Tensor) -> None:
        """Take the mean and the deviation of every feature, (FEATURES,), from training lists."""
        self.centre.copy_(centre)
        self.spread.copy_(torch.where(spread > _TINY, spread, torch.ones_like(spread)))

    def _barred(self, lists: Lists) -> Tensor:
        """Who must not look at whom, (batch, 1, tokens, tokens): the history sees itself, candidates see all."""
        length, count = lists.history.shape[1], lists.candidates.shape[1]
        there = torch.cat([lists.read, lists.present], dim=1)  # (batch, tokens)
        barred = ~there[:, None, None, :].expand(-1, 1, length + count, -1).clone()
        barred[:, :, :length, length:] = True
        return barred


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and beside a residual.

    Args:
        width: of a state.
        heads: of the attention.
        dropout: of attention weights and of what is added.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.p = heads, dropout
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rise, self.fall = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.pair = nn.Linear(PAIR_FEATURES, heads, bias=False)
        nn.init.zeros_(self.pair.weight)

    def forward(self, states: Tensor, barred: Tensor, pairs: Tensor) -> Tensor:
        """States after the block, (batch, tokens, width).

        Args:
            states: of the history, then of the candidates, (batch, tokens, width).
            barred: (batch, 1, tokens, tokens), true where a token must not look.
            pairs: (batch, candidates, length, 2), what draws a candidate's look to an item of the history.
        """
        attended = self.out(self._attend(self.norm_attention(states), barred, pairs))
        states = states + nn.functional.dropout(attended, self.p, self.training)
        risen = nn.functional.gelu(self.rise(self.norm_forward(states)))
        return states + nn.functional.dropout(self.fall(risen), self.p, self.training)

    def _attend(self, states: Tensor, barred: Tensor, pairs: Tensor) -> Tensor:
        batch, tokens, width = states.shape
        parts = self.qkv(states).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts  # (batch, heads, tokens, width / heads)
        logits = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5
        length = pairs.shape[2]
        drawn = self.pair(pairs).permute(0, 3, 1, 2)  # (batch, heads, candidates, length)
        drawn = nn.functional.pad(drawn, (0, tokens - length, length, 0))
        weights = (logits + drawn).masked_fill(barred, -torch.inf).softmax(-1)
        weights = nn.functional.dropout(weights, self.p, self.training)
        found: Tensor = (weights @ value).transpose(1, 2).reshape(batch, tokens, width)
        return found


def centred(retrieved: Tensor, present: Tensor) -> Tensor:
    """Scores less the mean of their list, (batch, candidates); zero at padding."""
    kept = retrieved.masked_fill(~present, 0.0)
    mean = kept.sum(1, keepdim=True) / present.sum(1, keepdim=True)
    return (kept - mean).masked_fill(~present, 0.0)
