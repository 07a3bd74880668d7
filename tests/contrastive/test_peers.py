"""The peers' losses on the same tensors: sentence-transformers', plain and cached; CLIP's and NT-Xent by formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from warmstart.contrastive import grad_cache
from warmstart.contrastive.grad_cache import Side
from warmstart.contrastive.info_nce import info_nce

ROWS, WIDTH = 24, 16


class Tables(nn.Module):
    """What sentence-transformers' losses take for a model: row numbers → vectors, with dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(3 * ROWS, WIDTH)
        self.dense = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(dropout))

    def encode(self, rows: Tensor) -> Tensor:
        found: Tensor = self.dense(self.table(rows))
        return found

    def __getitem__(self, place: int) -> nn.Module:
        return self.dense  # the cached loss asks what kind of module comes first

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        return {"sentence_embedding": self.encode(features["input_ids"][:, 0])}


def columns(count: int) -> list[Tensor]:
    return [torch.arange(ROWS) + ROWS * place for place in range(count)]


def features(count: int) -> list[dict[str, Tensor]]:
    return [
        {"input_ids": column[:, None], "attention_mask": torch.ones(ROWS, 1, dtype=torch.long)}
        for column in columns(count)
    ]


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def ours(model: Tables, count: int, direction: Any = "forward", size: int = ROWS) -> tuple[Tensor, list[Tensor]]:
    """Pairs, or triplets whose hard negatives are candidates for every anchor; encoded in parts of some rows."""
    model.zero_grad()

    def loss(queries: Tensor, *candidates: Tensor) -> tuple[Tensor, None]:
        return info_nce(queries, torch.cat(candidates), scale=20.0, direction=direction).loss, None

    sides = [Side(model.encode, column.split(size)) for column in columns(count)]
    values: list[Tensor] = []

    def kept(*vectors: Tensor) -> tuple[Tensor, None]:
        value, _ = loss(*vectors)
        values.append(value.detach())
        return value, None

    grad_cache.backward(sides, kept)
    return values[0], gradients(model)


def assert_equal(first: tuple[Tensor, list[Tensor]], second: tuple[Tensor, list[Tensor]]) -> None:
    torch.testing.assert_close(first[0], second[0], atol=1e-5, rtol=0)
    assert len(first[1]) == len(second[1]) == 3
    for one, other in zip(first[1], second[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [2, 3])
def test_multiple_negatives_ranking_loss(count: int) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    model = Tables()
    theirs = losses.MultipleNegativesRankingLoss(model, scale=20.0)(features(count), torch.zeros(0))
    theirs.backward()
    assert_equal(ours(model, count), (theirs.detach(), gradients(model)))


def test_multiple_negatives_ranking_loss_both_ways() -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    model = Tables()
    peer = losses.MultipleNegativesRankingLoss(
        model, scale=20.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    theirs = peer(features(2), torch.zeros(0))
    theirs.backward()
    assert_equal(ours(model, 2, "symmetric"), (theirs.detach(), gradients(model)))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_cached_multiple_negatives_ranking_loss(count: int, dropout: float) -> None:
    """Parts of 7 rows out of 24; with dropout, from the same random state."""
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    model = Tables(dropout)
    torch.manual_seed(5)
    theirs = losses.CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=7)(
        features(count), torch.zeros(0)
    )
    theirs.backward()
    expected = (theirs.detach(), gradients(model))
    torch.manual_seed(5)
    assert_equal(ours(model, count, size=7), expected)


def test_clip_loss() -> None:
    """The pseudocode of CLIP, fig. 3, which open_clip's ClipLoss follows."""
    torch.manual_seed(1)
    image, text = (torch.randn(ROWS, WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.tensor(14.0, dtype=torch.float64, requires_grad=True)
    logits = scale * normalize(image, dim=-1) @ normalize(text, dim=-1).T
    labels = torch.arange(ROWS)
    theirs = (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
    found = info_nce(image, text, scale=scale, direction="symmetric").loss
    torch.testing.assert_close(found, theirs)
    pairs = zip(*(torch.autograd.grad(loss, [image, text, scale]) for loss in (found, theirs)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)


def test_nt_xent_in_its_usual_vectorised_form() -> None:
    """2N × 2N similarities, the diagonal taken out, the other view as the label."""
    torch.manual_seed(2)
    first, second = (torch.randn(ROWS, WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(2))
    views = normalize(torch.cat([first, second]), dim=-1)
    logits = (views @ views.T / 0.5).masked_fill(torch.eye(2 * ROWS, dtype=torch.bool), -torch.inf)
    theirs = cross_entropy(logits, (torch.arange(2 * ROWS) + ROWS) % (2 * ROWS))
    found = info_nce(first, second, scale=2.0, direction="two_view").loss
    torch.testing.assert_close(found, theirs)
    pairs = zip(*(torch.autograd.grad(loss, [first, second]) for loss in (found, theirs)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)
