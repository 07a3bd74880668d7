"""Seconds per training row."""

from __future__ import annotations

import pytest
import torch
import toy

from warmstart.train.calibrate import seconds_per_training_row


@pytest.mark.parametrize("name", ["bert", "efficientnet_lite"])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("rows", [3, 20])
def test_measures_without_leaving_a_trace(name: str, bf16: bool, rows: int) -> None:
    task = toy.task(name, rows, 3)
    model = task.classifier().eval()
    before, state = toy.weights(model), torch.get_rng_state()
    found = seconds_per_training_row(model, task.train, 8, bf16=bf16, device=toy.CPU, seed=1)
    assert 0 < found < 1
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
    found = seconds_per_training_row(task.classifier(), task.train, 8, bf16=False, device=toy.CPU, seed=1)
    assert found == pytest.approx(3.0)
