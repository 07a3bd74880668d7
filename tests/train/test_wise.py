"""Weight interpolation: exact at both ends, a straight line between, and the choice under a bound."""

from __future__ import annotations

import pytest
import torch
import toy
from torch import nn

from warmstart.train.lora import choose_targets, inject, merge
from warmstart.train.wise import Line, interpolate


def move(model: nn.Module, seed: int = 1) -> None:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)


@pytest.mark.parametrize("name", ["bert", "albert", "efficientnet_lite"])
def test_zero_and_one_are_exactly_the_ends(name: str) -> None:
    model = toy.task(name, 4, 4).classifier()
    line = Line(model)
    start = toy.weights(model)
    move(model)
    end = toy.weights(model)
    line.end_here()
    line.go_to(0.0)
    toy.assert_same(start, toy.weights(model))
    line.go_to(1.0)
    toy.assert_same(end, toy.weights(model))
    line.go_to(0.25)
    for key, value in toy.weights(model).items():
        assert torch.allclose(value.float(), 0.75 * start[key].float() + 0.25 * end[key].float(), atol=1e-6), key


def test_under_lora_the_merged_weights_walk_the_line() -> None:
    model = toy.task("bert", 4, 4).classifier()
    torch.manual_seed(0)
    wrapped = inject(model, choose_targets(model, "all-linear"), 2, 4, 0.0)
    start = toy.weights(merge(wrapped))
    line = Line(wrapped)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
                assert "lora_" in name or "head" in name
    line.end_here()
    end = toy.weights(merge(wrapped))
    for alpha in (0.0, 0.4, 1.0):
        line.go_to(alpha)
        for key, value in toy.weights(merge(wrapped)).items():
            assert torch.allclose(value, (1 - alpha) * start[key] + alpha * end[key], atol=1e-5), (alpha, key)


def walked(scores: list[float], kept: list[float] | None, bound: float | None) -> tuple[list[float], float, nn.Linear]:
    """Interpolate along a line of one weight, from 0 to 1; which places were asked what they keep, and the choice."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    line = Line(model)
    with torch.no_grad():
        model.weight.fill_(1.0)
    line.end_here()
    alphas = [place / (len(scores) - 1) for place in range(len(scores))]
    asked: list[float] = []

    def at() -> int:
        return round(model.weight.item() * (len(scores) - 1))

    def keeps() -> float:
        asked.append(model.weight.item())
        return kept[at()] if kept is not None else 1.0

    found = interpolate(line, alphas, lambda: scores[at()], None if kept is None else keeps, bound)
    assert [point.validation for point in found] == scores
    chosen = [point for point in found if point.chosen]
    assert len(chosen) == 1
    assert model.weight.item() == pytest.approx(chosen[0].alpha)
    assert (chosen[0].kept is None) == (kept is None)
    return asked, chosen[0].alpha, model


@pytest.mark.parametrize(
    ("scores", "alpha"),
    [
        ([0.5, 0.6, 0.7, 0.8], 1.0),
        ([0.5, 0.8, 0.8, 0.8, 0.5], 0.5),
        ([0.7, 0.7, 0.7], 0.0),  # nothing gained: the original
        ([0.5, 0.9, 0.5, 0.7, 0.75, 0.7], 0.8),  # a lone peak is noise
    ],
)
def test_the_choice_without_a_bound(scores: list[float], alpha: float) -> None:
    assert walked(scores, None, None)[1] == pytest.approx(alpha)


@pytest.mark.parametrize(("bound", "alpha"), [(0.1, 2 / 3), (0.0, 0.0), (1.0, 1.0), (0.29, 2 / 3), (0.3, 1.0)])
def test_the_choice_under_a_bound(bound: float, alpha: float) -> None:
    asked, chosen, _ = walked([0.5, 0.6, 0.7, 0.8], [1.0, 0.95, 0.9, 0.7], bound)
    assert chosen == pytest.approx(alpha)
    assert len(asked) == len(set(asked))  # each is asked once at most


def test_nothing_beyond_what_forgets_too_much_is_asked() -> None:
    scores = [0.5, 0.5, 0.9, 0.8, 0.7, 0.7]  # 0.6 is best, then 0.8, 0.4, 1.0
    asked, chosen, _ = walked(scores, [1.0, 0.99, 0.6, 0.5, 0.4, 0.3], 0.05)
    assert chosen == pytest.approx(0.2)
    assert sorted(asked) == pytest.approx([0.2, 0.4, 0.6, 1.0])
