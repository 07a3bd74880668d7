"""Gradient caching: the gradients of the whole batch, with dropout and under autocast, and no more memory than said."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from warmstart.contrastive import grad_cache
from warmstart.contrastive.grad_cache import RandomState, Side
from warmstart.contrastive.info_nce import Contrast, info_nce
from warmstart.contrastive.temperature import Temperature


class Encoder(nn.Module):
    """Two layers with dropout between; counts how often it is called, and what graphs it has alive."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 5))
        self.temperature = Temperature(0.2, learnable=True)
        self.calls: list[tuple[int, bool]] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.calls.append((len(rows), torch.is_grad_enabled()))
        found: Tensor = self.layers(rows)
        return found


def rows(count: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)).to(dtype)


def loss_of(model: Encoder, direction: Any) -> Any:
    def loss(queries: Tensor, candidates: Tensor) -> tuple[Tensor, Contrast]:
        found = info_nce(queries, candidates, scale=model.temperature(), direction=direction)
        return found.loss, found

    return loss


def gradients(model: Encoder) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def whole(model: Encoder, sides: list[list[Tensor]], direction: Any) -> tuple[Tensor, list[Tensor]]:
    """Every part encoded once, with its graph."""
    model.zero_grad()
    vectors = [torch.cat([model(part) for part in side]) for side in sides]
    value, _ = loss_of(model, direction)(*vectors)
    value.backward()
    return value.detach(), gradients(model)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("direction", ["forward", "backward", "symmetric", "two_view"])
@pytest.mark.parametrize(("size", "keep"), [(13, 1), (13, 2), (4, 1), (4, 0), (4, 3), (1, 1)])
def test_gradients_are_those_of_the_whole_batch(dropout: float, direction: str, size: int, keep: int) -> None:
    """Thirteen rows: the last part is shorter. With dropout, in the same random state; and that is where it ends."""
    model = Encoder(dropout).double()
    sides = [list(rows(13, seed, torch.float64).split(size)) for seed in (1, 2)]
    torch.manual_seed(7)
    expected, expected_gradients = whole(model, sides, direction)
    after = torch.rand(1)
    model.zero_grad()
    torch.manual_seed(7)
    found = grad_cache.backward([Side(model, side) for side in sides], loss_of(model, direction), keep=keep)
    assert torch.equal(torch.rand(1), after)
    torch.testing.assert_close(found.loss.detach(), expected, atol=1e-12, rtol=0)
    for ours, theirs in zip(gradients(model), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
        assert float(ours.abs().sum()) > 0


def test_single_precision_without_dropout_is_the_undivided_batch() -> None:
    model = Encoder(0.0)
    expected, expected_gradients = whole(model, [[rows(50, 1)], [rows(50, 2)]], "symmetric")
    model.zero_grad()
    sides = [Side(model, rows(50, seed).split(7)) for seed in (1, 2)]
    found = grad_cache.backward(sides, loss_of(model, "symmetric"))
    torch.testing.assert_close(found.loss.detach(), expected, atol=1e-5, rtol=0)
    for ours, theirs in zip(gradients(model), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_parts_in_another_order_are_put_back() -> None:
    model = Encoder(0.0).double()
    batch = [rows(9, seed, torch.float64) for seed in (1, 2)]
    expected, expected_gradients = whole(model, [[side] for side in batch], "forward")
    model.zero_grad()
    order = torch.tensor([4, 0, 8, 2, 1, 7, 3, 6, 5])
    sides = [Side(model, batch[0][order].split(4), order), Side(model, batch[1].split(5))]
    found = grad_cache.backward(sides, loss_of(model, "forward"))
    torch.testing.assert_close(found.loss.detach(), expected)
    for ours, theirs in zip(gradients(model), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_gradients_add_up() -> None:
    model = Encoder(0.0)
    sides = [Side(model, rows(6, seed).split(2)) for seed in (1, 2)]
    grad_cache.backward(sides, loss_of(model, "forward"))
    once = gradients(model)
    grad_cache.backward(sides, loss_of(model, "forward"))
    for twice, single in zip(gradients(model), once, strict=True):
        torch.testing.assert_close(twice, 2 * single)


def test_autocast_around_it_loses_no_gradient() -> None:
    """Autocast keeps weights that were cast without a graph; used again, they would silently get no gradient."""
    model = Encoder(0.0)
    sides = [Side(model, rows(8, seed).split(4)) for seed in (1, 2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, expected_gradients = whole(model, [list(side.parts) for side in sides], "symmetric")
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = grad_cache.backward(sides, loss_of(model, "symmetric"))
    torch.testing.assert_close(found.loss.detach(), expected)
    assert len(gradients(model)) == len(list(model.parameters()))
    for ours, theirs in zip(gradients(model), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)
        assert float(ours.abs().sum()) > 0


def test_each_part_is_encoded_twice_but_for_those_that_are_kept() -> None:
    model = Encoder(0.0)
    sides = [Side(model, rows(8, seed).split(2)) for seed in (1, 2)]
    grad_cache.backward(sides, loss_of(model, "forward"), keep=1)
    assert [with_graph for _, with_graph in model.calls] == [False] * 7 + [True] + [True] * 7
    model.calls.clear()
    grad_cache.backward(sides, loss_of(model, "forward"), keep=8)
    assert [with_graph for _, with_graph in model.calls] == [True] * 8


def test_graphs_are_alive_one_part_at_a_time() -> None:
    """What is saved for the gradient at once, in numbers: that of a few rows, however many the batch has."""
    model = Encoder(0.1)
    alive = {"now": 0, "most": 0}

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            alive["now"] += tensor.numel()
            alive["most"] = max(alive["most"], alive["now"])

        def __del__(self) -> None:
            alive["now"] -= self.tensor.numel()

    def most(count: int, keep: int) -> int:
        alive["most"] = alive["now"] = 0
        sides = [Side(model, rows(count, seed).split(8)) for seed in (1, 2)]
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            grad_cache.backward(sides, lambda a, b: ((a * b).sum(), None), keep=keep)
        return alive["most"] - 2 * 5 * count  # the loss keeps the vectors themselves

    assert most(64, 1) == most(16, 1)
    assert most(64, 16) > 4 * most(64, 1)


def test_a_side_that_the_loss_does_not_use_gets_nothing() -> None:
    model, other = Encoder(0.0), Encoder(0.0)
    grad_cache.backward(
        [Side(model, rows(4, 1).split(2)), Side(other, rows(4, 2).split(2))],
        lambda queries, _: (queries.sum(), None),
    )
    assert gradients(model)
    assert not gradients(other)


def test_the_random_state_comes_back_after_an_error() -> None:
    state = RandomState()
    torch.rand(3)
    expected = torch.get_rng_state()
    with contextlib.suppress(ValueError), state.restored():
        torch.rand(1)
        raise ValueError("within")
    assert torch.equal(torch.get_rng_state(), expected)
