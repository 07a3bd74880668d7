"""InfoNCE against loops written from the papers, gradients included, in float64; masks, bounds, degenerate input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from loops import LOOPS
from torch import Tensor

from warmstart.contrastive.info_nce import DIRECTIONS, info_nce
from warmstart.contrastive.masks import known_positives, same
from warmstart.contrastive.problem import Negatives, Problem, problem_logits
from warmstart.contrastive.temperature import Temperature
from warmstart.core.errors import ContrastError, SettingError

ROWS, WIDTH, EXTRA = 5, 4, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def mask(rows: int, columns: int, seed: int, share: float = 0.3) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < share


def several(rows: int, columns: int, seed: int) -> Tensor:
    """A mask in which every row has a positive, some of them more."""
    found = mask(rows, columns, seed)
    found[torch.arange(rows), torch.arange(rows) % columns] = True
    return found


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dot product": {"normalize": False},
    "excluded": {"exclude": mask(ROWS, ROWS, 1)},
    "log-Q": {"log_q": draw(ROWS, seed=2)},
    "both log-Q": {"log_q": draw(ROWS, seed=2), "query_log_q": draw(ROWS, seed=3)},
    "places": {"positives": torch.tensor([2, 0, 1, 4, 3])},
    "one candidate for two queries": {"positives": torch.tensor([2, 2, 1, 4, 2])},
    "several positives": {"positives": several(ROWS, ROWS, 4)},
    "several, excluded, log-Q": {
        "positives": several(ROWS, ROWS, 4),
        "exclude": mask(ROWS, ROWS, 5),
        "log_q": draw(ROWS, seed=6),
    },
    "shared negatives": {"negatives": [Negatives(draw(EXTRA, WIDTH, seed=7))]},
    "own negatives": {"negatives": [Negatives(draw(ROWS, EXTRA, WIDTH, seed=8))]},
    "both, excluded, log-Q": {
        "exclude": mask(ROWS, ROWS, 9),
        "log_q": draw(ROWS, seed=10),
        "negatives": [
            Negatives(draw(EXTRA, WIDTH, seed=11), mask(ROWS, EXTRA, 12), draw(EXTRA, seed=13)),
            Negatives(draw(ROWS, EXTRA, WIDTH, seed=14), mask(ROWS, EXTRA, 15), draw(ROWS, EXTRA, seed=16)),
        ],
    },
}


def fits(direction: str, options: dict[str, Any]) -> bool:
    if direction == "backward" and "negatives" in options:
        return False
    if direction in ("forward", "two_view") and "query_log_q" in options:
        return False
    return not (direction == "two_view" and "positives" in options and options["positives"].dim() == 1)


CASES = [(d, name) for d in DIRECTIONS for name, options in OPTIONS.items() if fits(d, options)]


def with_gradients(loss: Any, options: dict[str, Any], **more: Any) -> tuple[Tensor, list[Tensor]]:
    """The loss, and its gradients by queries, candidates, scale and every further negative."""
    queries, candidates = draw(ROWS, WIDTH).requires_grad_(), draw(ROWS, WIDTH, seed=99).requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    leaves = [queries, candidates, scale]
    options = dict(options)
    if "negatives" in options:
        extra = [n.vectors.clone().requires_grad_() for n in options["negatives"]]
        options["negatives"] = [
            Negatives(v, n.exclude, n.log_q) for v, n in zip(extra, options["negatives"], strict=True)
        ]
        leaves += extra
    value = loss(queries, candidates, scale=scale, **options, **more)
    value = value if isinstance(value, Tensor) else value.loss
    return value.detach(), list(torch.autograd.grad(value, leaves))


def assert_equal(first: tuple[Tensor, list[Tensor]], second: tuple[Tensor, list[Tensor]], atol: float = 1e-12) -> None:
    torch.testing.assert_close(first[0], second[0], atol=atol, rtol=0)
    for ours, theirs in zip(first[1], second[1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)
        assert float(ours.abs().sum()) > 0


@pytest.mark.parametrize(("direction", "name"), CASES)
@pytest.mark.parametrize("chunk", [None, 1, 2, 5, 64])
def test_loss_and_gradients_are_those_of_the_loop(direction: str, name: str, chunk: int | None) -> None:
    loop = with_gradients(LOOPS[direction], OPTIONS[name])
    ours = with_gradients(info_nce, OPTIONS[name], direction=direction, chunk=chunk)
    assert_equal(ours, loop)


@pytest.mark.parametrize("direction", ["forward", "symmetric"])
def test_candidates_beyond_the_queries_are_shared_negatives(direction: Any) -> None:
    queries, candidates, more = draw(4, 3), draw(4, 3, seed=1), draw(2, 3, seed=2)
    both = torch.cat([candidates, more])
    loop = LOOPS[direction](queries, both, torch.tensor(2.0, dtype=torch.float64))
    found = info_nce(queries, both, scale=2.0, direction=direction).loss
    apart = info_nce(queries, candidates, scale=2.0, direction=direction, negatives=[Negatives(more)]).loss
    torch.testing.assert_close(found, loop)
    torch.testing.assert_close(found, apart)


def test_half_precision_is_computed_in_float32_also_under_autocast() -> None:
    queries, candidates = draw(16, 8).bfloat16(), draw(16, 8, seed=1).bfloat16()
    exact = info_nce(queries.double(), candidates.double(), scale=50.0).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = info_nce(queries, candidates, scale=50.0).loss
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=0)


def test_masked_candidates_have_probability_exactly_zero() -> None:
    """keras-rs added 1e-40, which masks nothing: here the mask's effect is measured, not its constant."""
    queries, candidates = draw(6, 4), draw(6, 4, seed=1)
    exclude = mask(6, 6, 3)
    exclude.fill_diagonal_(False)
    assert exclude.any()
    candidates[2] = queries[0]  # the strongest logit of row 0, and excluded for it
    exclude[0, 2] = True
    extra = Negatives(draw(6, 2, 4, seed=2), torch.tensor([[True, False]] * 6))
    problem = Problem(queries, candidates, torch.arange(6), exclude, negatives=(extra,))
    logits, masked = problem_logits(problem, torch.tensor(100.0, dtype=torch.float64))
    probability = logits.softmax(1)
    assert (probability[:, :6][exclude] == 0).all()
    assert (probability[:, 6] == 0).all()
    assert torch.equal(masked, torch.cat([exclude, extra.exclude], 1))  # type: ignore[list-item]
    torch.testing.assert_close(probability.sum(1), torch.ones(6, dtype=torch.float64))


def test_a_masked_candidate_gets_no_gradient_and_changes_nothing() -> None:
    exclude = torch.zeros(4, 4, dtype=torch.bool)
    exclude[:3, 3] = True
    queries, candidates = draw(4, 3), draw(4, 3, seed=1).requires_grad_()
    rows = info_nce(queries, candidates, scale=9.0, exclude=exclude).row_losses
    with torch.no_grad():
        candidates[3] = candidates[3] * -5 + 1
    again = info_nce(queries, candidates, scale=9.0, exclude=exclude)
    assert torch.equal(rows[:3], again.row_losses[:3])
    (gradient,) = torch.autograd.grad(
        info_nce(queries[:3], candidates, scale=9.0, exclude=exclude[:3]).loss, candidates
    )
    assert (gradient[3] == 0).all()
    assert (gradient[:3] != 0).any()


def test_a_positive_is_never_excluded() -> None:
    everything = torch.ones(3, 3, dtype=torch.bool)
    found = info_nce(draw(3, 4), draw(3, 4, seed=1), scale=2.0, exclude=everything)
    assert float(found.loss) == 0
    assert float(found.ceiling) == 0
    assert float(found.masked) == pytest.approx(2 / 3)


def test_what_it_says_of_itself() -> None:
    queries = torch.eye(4, dtype=torch.float64)
    found = info_nce(queries, queries, scale=1000.0)
    assert float(found.accuracy) == 1
    assert float(found.ceiling) == pytest.approx(math.log(4))
    assert float(found.bound) == pytest.approx(math.log(4))
    alike = info_nce(queries[:1].repeat(8, 1), queries[:1].repeat(8, 1), scale=7.0)
    assert float(alike.loss) == pytest.approx(math.log(8))  # collapse: the loss stands at log N
    assert float(alike.bound) == pytest.approx(0)
    two = info_nce(queries, queries, scale=1.0, direction="two_view")
    assert float(two.ceiling) == pytest.approx(math.log(7))


def test_the_bound_stays_below_the_information_that_is_there() -> None:
    """Correlated Gaussians, whose mutual information is known; the critic is the best one, log p(y|x)/p(y)."""
    rho, width, rows = 0.8, 3, 2000
    information = -width / 2 * math.log(1 - rho**2)
    x = draw(rows, width)
    y = rho * x + math.sqrt(1 - rho**2) * draw(rows, width, seed=5)
    # log p(y|x) up to what depends on x alone, as a dot product: r x·y/(1 − r²) − r² y²/(2(1 − r²))
    queries = torch.cat([rho * x / (1 - rho**2), torch.ones(rows, 1)], 1)
    critic = torch.cat([y, -(rho**2) * (y * y).sum(1, keepdim=True) / (2 * (1 - rho**2))], 1)
    bounds = [float(info_nce(queries[:n], critic[:n], scale=1.0, normalize=False).bound) for n in (4, 32, rows)]
    assert bounds[0] < bounds[1] < bounds[2] < information + 0.1
    assert bounds[2] > 0.9 * information
    assert bounds[0] <= math.log(4)


def test_masks() -> None:
    anchors, positives = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 3])
    assert same(positives, positives).tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert not same(anchors, positives).any()
    candidates = torch.tensor([5, 6, 7])
    found = known_positives([1, 2, 1], candidates, {1: torch.tensor([5, 7])})
    assert found.tolist() == [[True, False, True], [False, False, False], [True, False, True]]


def test_any_known_positive_of_the_query_is_kept_out() -> None:
    """Not only the item that this row is about: everything that the user is known to like."""
    users, items = [0, 0, 1], torch.tensor([3, 4, 5])
    exclude = known_positives(users, items, {0: torch.tensor([3, 4]), 1: torch.tensor([5])})
    problem = Problem(draw(3, 2), draw(3, 2, seed=1), torch.arange(3), exclude)
    probability = problem_logits(problem, torch.tensor(1.0, dtype=torch.float64))[0].softmax(1)
    assert probability[0, 1] == 0
    assert probability[1, 0] == 0
    assert (probability.diagonal() > 0).all()
    assert (probability[2, :2] > 0).all()


def test_temperature_is_learnt_between_its_bounds() -> None:
    found = Temperature(0.05, learnable=True, max_scale=30.0)
    with torch.no_grad():
        found.log_scale += 5
    assert float(found().detach()) == pytest.approx(30.0)
    found.project()
    assert float(found.log_scale.exp().detach()) == pytest.approx(30.0)
    (gradient,) = torch.autograd.grad(found(), found.log_scale)
    assert float(gradient) == pytest.approx(30.0)  # it can come back from the bound
    fixed = Temperature(0.05)
    assert not list(fixed.parameters())
    assert float(fixed()) == pytest.approx(20.0)
    for bad in ({"temperature": 0.0}, {"temperature": math.nan}, {"temperature": 0.001, "learnable": True}):
        with pytest.raises(SettingError, match="--temperature"):
            Temperature(**bad)  # type: ignore[arg-type]


DEGENERATE: dict[str, tuple[dict[str, Any], str]] = {
    "not a number": ({"queries": torch.full((3, 2), math.nan)}, "queries hold values that are not finite"),
    "infinite candidate": ({"candidates": torch.tensor([[1.0, math.inf]] * 3)}, "candidates hold"),
    "zero vector": ({"candidates": torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])}, "Row 1 of the candidates"),
    "batch of one": ({"queries": torch.ones(1, 2), "candidates": torch.ones(1, 2)}, "one candidate only"),
    "two views of one": (
        {"queries": torch.ones(1, 2), "candidates": torch.ones(1, 2), "direction": "two_view"},
        "one candidate only",
    ),
    "no rows": ({"queries": torch.ones(0, 2)}, "no queries"),
    "no positive": ({"positives": torch.tensor([[True, False, False]] * 2 + [[False] * 3])}, "Row 2 has no positive"),
    "place outside": ({"positives": torch.tensor([0, 1, 3])}, "outside of the 3 candidates"),
    "zero negatives": ({"negatives": [Negatives(torch.zeros(2, 2))]}, "Row 0 of the negatives"),
    "scale": ({"scale": 0.0}, "scale"),
    "log-Q of what cannot be drawn": ({"log_q": torch.tensor([0.0, -math.inf, 0.0])}, "log_q"),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_input_is_an_error(name: str) -> None:
    changes, words = DEGENERATE[name]
    values = {"queries": torch.eye(3)[:, :2] + 1, "candidates": torch.eye(3)[:, :2] + 2, "scale": 1.0, **changes}
    with pytest.raises(ContrastError, match=words):
        info_nce(values.pop("queries"), values.pop("candidates"), **values)


MISUSE: dict[str, dict[str, Any]] = {
    "direction": {"direction": "sideways"},
    "widths": {"candidates": torch.ones(3, 5)},
    "too few candidates": {"candidates": torch.ones(2, 2)},
    "views of unequal number": {"candidates": torch.ones(4, 2), "direction": "two_view"},
    "negatives in backward": {"negatives": [Negatives(torch.ones(2, 2))], "direction": "backward"},
    "query log-Q in forward": {"query_log_q": torch.zeros(3)},
    "mask of another shape": {"exclude": torch.zeros(3, 4, dtype=torch.bool)},
    "mask of numbers": {"exclude": torch.zeros(3, 3)},
    "log-Q of another length": {"log_q": torch.zeros(4)},
    "own negatives of others": {"negatives": [Negatives(torch.ones(4, 2, 2))]},
    "mask of negatives": {"negatives": [Negatives(torch.ones(2, 2), torch.zeros(2, 3, dtype=torch.bool))]},
    "places with gather": {"positives": torch.tensor([0, 1, 2]), "gather": True},
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_an_error(name: str) -> None:
    values = {"queries": torch.ones(3, 2), "candidates": torch.ones(3, 2), "scale": 1.0, **MISUSE[name]}
    with pytest.raises(SettingError):
        info_nce(values.pop("queries"), values.pop("candidates"), **values)


def test_memory_of_chunks_grows_with_the_rows_only() -> None:
    """What is kept for the gradient: all logits at once, or none."""
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    def largest(chunk: int | None) -> int:
        kept.clear()
        queries, candidates = draw(256, 8).requires_grad_(), draw(256, 8, seed=1).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            info_nce(queries, candidates, scale=2.0, chunk=chunk)
        return max(kept)

    assert largest(None) >= 256 * 256
    assert largest(16) <= 256 * 8


def test_agrees_with_numpy_on_a_known_case() -> None:
    """Two rows, by hand: −log( e^{s·cos} / Σ e^{s·cos} )."""
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    candidates = torch.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    cosines = np.array([[np.sqrt(0.5), 0.0], [np.sqrt(0.5), 1.0]])
    powers = np.exp(4 * cosines)
    expected = -np.log(powers.diagonal() / powers.sum(1)).mean()
    assert float(info_nce(queries, candidates, scale=4.0).loss) == pytest.approx(expected)
