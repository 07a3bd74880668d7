"""Seconds and activations per training row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy

from warmstart.train.calibrate import _Saved, cost_of_a_row


@pytest.mark.parametrize("name", ["bert", "efficientnet_lite"])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("rows", [3, 20])
def test_measures_without_leaving_a_trace(name: str, bf16: bool, rows: int) -> None:
    task = toy.task(name, rows, 3)
    model = task.classifier().eval()
    before, state = toy.weights(model), torch.get_rng_state()
    found = cost_of_a_row(model, task.train, 8, bf16=bf16, device=toy.CPU, seed=1)
    assert 0 < found.seconds < 1
    assert found.activation_bytes > 0
    toy.assert_same(before, toy.weights(model))
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_time_is_per_row(monkeypatch) -> None:
    """A clock that counts rows: three seconds for each."""
    task = toy.task("bert", 20, 3)
    now = 0.0
    original = type(task.train).batch

    def batch(self, rows, augment_seed=None):
        nonlocal now
        now += 3.0 * len(rows)
        return original(self, rows, augment_seed)

    monkeypatch.setattr(type(task.train), "batch", batch)
    monkeypatch.setattr("warmstart.train.calibrate.time.perf_counter", lambda: now)
    found = cost_of_a_row(task.classifier(), task.train, 8, bf16=False, device=toy.CPU, seed=1)
    assert found.seconds == pytest.approx(3.0)


def test_activations_are_counted_by_hand() -> None:
    """x → w₁ → tanh → w₂: autograd keeps x and tanh's output (once, though both tanh and w₂ need it), and no weight."""
    first, second = (torch.nn.Linear(width, 5, bias=False) for width in (3, 5))
    saved = _Saved([*first.parameters(), *second.parameters()])
    x = torch.randn(4, 3)
    with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor):
        second(first(x).tanh())
    assert saved.total == 4 * (4 * 3 + 4 * 5)


def test_twice_the_tokens_keep_at_least_twice_the_activations() -> None:
    task = toy.task("bert", 16, 3)
    model = task.classifier()
    found = cost_of_a_row(model, task.train, 8, bf16=False, device=toy.CPU, seed=1)
    longest = int(task.train.lengths.max())
    hidden, layers = model.config.backbone["hidden_size"], model.config.backbone["num_hidden_layers"]
    assert found.activation_bytes > 4 * 10 * longest * hidden * layers  # ten numbers a token, unit and layer at least


@pytest.mark.parametrize(("rows", "lengths"), [(20, 1), (511, 1), (512, 2), (900, 3), (1500, 3)])
def test_few_rows_are_timed_on_few_lengths(rows: int, lengths: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy.task("bert", rows, 3)
    seen: list[tuple[int, ...]] = []
    original = type(task.train).batch

    def batch(self, rows, augment_seed=None):
        seen.append(tuple(rows))
        return original(self, rows, augment_seed)

    monkeypatch.setattr(type(task.train), "batch", batch)
    cost_of_a_row(task.classifier(), task.train, 8, bf16=False, device=toy.CPU, seed=1)
    sizes = task.train.lengths
    assert len(seen) == 1 + {1: 3, 2: 4, 3: 6}[lengths]
    assert len(set(seen[1:])) == lengths
    assert sizes[list(seen[0])].mean() >= max(sizes[list(rows)].mean() for rows in seen[1:])  # first the longest
    timed = np.mean([sizes[list(rows)].mean() for rows in seen[1:]])
    assert timed == pytest.approx(sizes.mean(), rel=0.15)  # not the median


def test_inputs_of_one_length_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy.task("efficientnet_lite", 800, 3)
    seen: list[tuple[int, ...]] = []
    original = type(task.train).batch

    def batch(self, rows, augment_seed=None):
        seen.append(tuple(rows))
        return original(self, rows, augment_seed)

    monkeypatch.setattr(type(task.train), "batch", batch)
    cost_of_a_row(task.classifier(), task.train, 8, bf16=False, device=toy.CPU, seed=1)
    assert len(seen) == 1 + 3
