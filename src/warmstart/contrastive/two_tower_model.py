"""Two towers and their temperature as one model: histories and items in, vectors in one space out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.backbones.groups import Group
from warmstart.contrastive.item_tower import Content, ItemTower
from warmstart.contrastive.temperature import Temperature
from warmstart.contrastive.user_tower import UserTower
from warmstart.core.record import Record

_HISTORIES = 256  # encoded at a time
_ITEMS = 8192


@dataclass(frozen=True)
class TwoTowerConfig(Record):
    """The shape of a `TwoTower`; with its weights it is all that loading needs."""

    items: int
    dim: int
    layers: int
    heads: int
    max_history: int
    dropout: float
    id_dropout: float
    temperature: float
    learn_temperature: bool
    item_shape: tuple[int, ...]  # `Content.shape`, or empty
    user_shape: tuple[int, ...]


class TwoTower(nn.Module):
    """The towers.

    Args:
        config: the shape.
        learnt: (items,), whether an item has a learnt vector.
        items: what is known of the items; None for nothing.
        users: what is known of the users; None for nothing.
    """

    def __init__(
        self, config: TwoTowerConfig, learnt: Tensor, items: Content | None = None, users: Content | None = None
    ) -> None:
        super().__init__()
        self.shape, self.item_content, self.user_content = config, items, users
        item_shape, user_shape = (_shape(shape) for shape in (config.item_shape, config.user_shape))
        self.items = ItemTower(config.items, config.dim, item_shape, config.id_dropout, learnt)
        self.users = UserTower(config.dim, config.layers, config.heads, config.max_history, config.dropout, user_shape)
        self.temperature = Temperature(config.temperature, learnable=config.learn_temperature)

    def item_vectors(self, ids: Tensor) -> Tensor:
        """Vectors of items by number, (ids, dim); not of unit length."""
        found: Tensor = self.items(ids, self.item_content)
        return found

    def queries(self, vectors: Tensor, histories: Tensor, users: Tensor | None) -> Tensor:
        """The query after each item of each history, (batch, length, dim).

        Args:
            vectors: of the items that histories point to, (vectors, dim).
            histories: (batch, length), places among the vectors; padding may point anywhere.
            users: (batch,), numbers; None where nothing is known of them, or they are new.
        """
        content = None if self.user_content is None or users is None else self.user_content.take(users)
        found: Tensor = self.users(nn.functional.normalize(vectors, dim=-1)[histories], content)
        return found

    @torch.no_grad()
    def catalogue(self) -> Tensor:
        """Vectors of all items as the loss compares them, of unit length, (items, dim)."""
        self.eval()
        starts = range(0, self.shape.items, _ITEMS)
        parts = [self.item_vectors(torch.arange(a, min(a + _ITEMS, self.shape.items))) for a in starts]
        return nn.functional.normalize(torch.cat(parts), dim=-1)

    @torch.no_grad()
    def encode(self, vectors: Tensor, histories: Sequence[np.ndarray], users: np.ndarray | None) -> Tensor:
        """Queries after whole histories, of unit length, (histories, dim).

        Args:
            vectors: of the items, (items, dim).
            histories: items of each, oldest first; the latest `max_history` are read.
            users: (histories,), numbers; None for new users.
        """
        self.eval()
        found = torch.zeros(len(histories), self.shape.dim)
        short = [history[-self.shape.max_history :] for history in histories]
        order = np.argsort([len(history) for history in short], kind="stable")
        for rows in _chunks(order):
            ids, lengths = padded([short[row] for row in rows])
            some = None if users is None else torch.from_numpy(users[rows])
            states = self.queries(vectors, ids, some)
            found[rows] = states[torch.arange(len(rows)), lengths - 1]
        return nn.functional.normalize(found, dim=-1)


def padded(histories: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Histories of different lengths as one array with zeros behind, (batch, longest), and their lengths, (batch,)."""
    lengths = torch.tensor([len(history) for history in histories])
    ids = torch.zeros(len(histories), int(lengths.max()), dtype=torch.long)
    for line, history in enumerate(histories):
        ids[line, : len(history)] = torch.from_numpy(np.asarray(history, dtype=np.int64))
    return ids, lengths


def tower_scores(
    model: TwoTower, users: np.ndarray | None, histories: Sequence[np.ndarray], vectors: Tensor
) -> np.ndarray:
    """Cosines of the histories' queries with all items, (histories, items)."""
    found = model.encode(vectors, histories, users) @ vectors.T
    return np.asarray(found.numpy())


def two_tower_groups(model: TwoTower) -> tuple[Group, ...]:
    """The parts of the model, each tower's from its input on, and a learnt temperature as the head."""
    parts = [("items", "ids", "items.ids"), ("items", "content", "items.content")]
    parts += [("users", "places", "users.places"), ("users", "content", "users.content")]
    parts += [("users", f"block.{number}", f"users.blocks.{number}") for number in range(model.shape.layers)]
    parts += [("users", "norm", "users.norm"), ("joint", "head", "temperature")]
    named = [name for name, _ in model.named_parameters()]
    found: list[Group] = []
    for tower, name, module in parts:
        own = tuple(one for one in named if one.startswith(f"{module}."))
        if own:
            found.append(Group(tower, name, sum(group.tower == tower for group in found), (module,), own))
    return tuple(found)


def _shape(values: tuple[int, ...]) -> tuple[int, int, int] | None:
    return (values[0], values[1], values[2]) if values else None


def _chunks(order: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(order), _HISTORIES):
        yield order[start : start + _HISTORIES]
