"""The range test leaves no trace, repeats itself, and finds where a real model breaks."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch import nn

from warmstart.core.errors import SettingError
from warmstart.core.records import RateSearch
from warmstart.train import lr_find
from warmstart.train.job import Rows, TrainJob
from warmstart.train.lora import choose_targets, inject
from warmstart.train.lr_find import find_rate, search_seconds
from warmstart.train.rates import RatePlan
from warmstart.train.trainer import WarmstartTrainer

_TASKS: dict[str, toy.Task] = {}


def task(name: str) -> toy.Task:
    if name not in _TASKS:
        _TASKS[name] = toy.task(name)
    return _TASKS[name]


def search(model: nn.Module, job: TrainJob, **changes: Any) -> RateSearch:
    values: dict[str, Any] = {"batch": 8, "seed": 5, "bf16": False, "device": toy.CPU, "runs": 2, "steps": 8}
    return find_rate(model, job, **{**values, **changes})


def everything(model: nn.Module, job: TrainJob) -> dict[str, Any]:
    """All that a search could disturb, copied."""
    return {
        "weights": toy.weights(model),
        "buffers": {name: buffer.clone() for name, buffer in model.named_buffers()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()},
        "learning": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "attributes": {name: set(module.__dict__) for name, module in model.named_modules()},
        "epoch": job.train.epoch,
        "job": dataclasses.replace(job),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def assert_unchanged(before: dict[str, Any], model: nn.Module, job: TrainJob) -> None:
    after = everything(model, job)
    toy.assert_same(before["weights"], after["weights"])
    toy.assert_same(before["buffers"], after["buffers"])
    for name, gradient in before["gradients"].items():
        found = after["gradients"][name]
        assert found is None if gradient is None else torch.equal(found, gradient)
    for part in ("learning", "modes", "attributes", "epoch", "job", "python"):
        assert before[part] == after[part]
    assert torch.equal(before["torch"], after["torch"])
    assert all(np.array_equal(one, two) for one, two in zip(before["numpy"], after["numpy"], strict=True))


def unusual(model: nn.Module) -> None:
    """Some gradients, some frozen parameters, some modules in the other mode."""
    parameters = list(model.parameters())
    for parameter in parameters[::3]:
        parameter.grad = torch.randn_like(parameter)
    for parameter in parameters[1::5]:
        parameter.requires_grad_(False)
    for module in list(model.modules())[::2]:
        module.training = not module.training


@pytest.mark.parametrize("name", ["bert", "efficientnet_lite", "convnext"])
@pytest.mark.parametrize("bf16", [False, True])
def test_everything_is_as_it_was(name: str, bf16: bool) -> None:
    model = task(name).classifier()
    rows = Rows(task(name).train, task(name).train_labels, augment=True, seed=4)
    rows.set_epoch(3)
    job = toy.job(task(name), model, train=rows)
    unusual(model)
    before = everything(model, job)
    found = search(model, job, bf16=bf16, accumulation=2)
    assert_unchanged(before, model, job)
    assert found.runs == 2
    assert found.learning_rate > 0


def test_everything_is_as_it_was_under_lora_and_nothing_frozen_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = inject(task("bert").classifier(), choose_targets(task("bert").classifier(), "query,value"), 4, 8, 0.1)
    job = toy.job(task("bert"), model, RatePlan(1e-3, 1.0, 5e-3))
    frozen = {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
    shared, original = [], lr_find.optimizer_groups

    def watch(clone: nn.Module, *others: Any) -> Any:
        shared.append({id(parameter) for parameter in clone.parameters()} & {id(p) for p in model.parameters()})
        return original(clone, *others)

    monkeypatch.setattr(lr_find, "optimizer_groups", watch)
    before = everything(model, job)
    search(model, job)
    assert_unchanged(before, model, job)
    assert frozen
    assert all(found == frozen for found in shared)


@pytest.mark.parametrize("after", [0, 5, 14])
def test_everything_is_as_it_was_when_a_run_raises(after: int) -> None:
    model = task("bert").classifier()
    job = toy.job(task("bert"), model)
    calls = 0

    def break_down(done: int, total: int, note: str) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt

    job.progress = break_down
    unusual(model)
    before = everything(model, job)
    with pytest.raises(KeyboardInterrupt):
        search(model, job)
    assert_unchanged(before, model, job)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_that_is_under_way_goes_on_as_if_nothing_had_been(
    tmp_path: Path, bf16: bool, checkpointing: bool
) -> None:
    """A search in the middle of a training: the trainer, its optimizer and its schedule end bit for bit the same."""
    found: list[RateSearch] = []

    def trained(folder: Path, *, searches: bool) -> tuple[WarmstartTrainer, dict[str, torch.Tensor]]:
        model = task("bert").classifier()
        job = toy.job(task("bert"), model)
        args = toy.arguments(folder, 48, bf16=bf16, gradient_checkpointing=checkpointing)
        trainer = WarmstartTrainer(model, args, job)

        def progress(step: int, total: int, note: str) -> None:
            if searches and step == 5 and "epoch" in note:
                values = dataclasses.replace(job, progress=None)
                found.append(search(model, values, bf16=bf16, gradient_checkpointing=checkpointing))

        job.progress = progress
        trainer.train()
        return trainer, toy.weights(model)

    (plain, expected), (disturbed, weights) = (
        trained(tmp_path / str(searches), searches=searches) for searches in (False, True)
    )
    assert len(found) == 1
    toy.assert_same(expected, weights)
    assert plain.lr_scheduler.state_dict() == disturbed.lr_scheduler.state_dict()
    one, two = (trainer.optimizer.state_dict()["state"] for trainer in (plain, disturbed))
    for place, state in one.items():
        toy.assert_same(state, two[place])
    losses = [[(p.step, p.loss, p.validation_loss, p.rates) for p in t.history()] for t in (plain, disturbed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["bert", "efficientnet_lite"])
def test_the_same_call_gives_the_same_answer(name: str) -> None:
    """fastai#2892: a second run gave another curve."""
    model = task(name).classifier()
    rows = Rows(task(name).train, task(name).train_labels, augment=True, seed=4)
    job = toy.job(task(name), model, train=rows)
    first = search(model, job)
    torch.manual_seed(99)
    again = search(model, job)
    assert dataclasses.replace(again, seconds=first.seconds) == first
    other = search(model, job, seed=6)
    assert other.losses != first.losses
    assert first.rates == pytest.approx(tuple(np.geomspace(1e-5, 1e-1, 8))[: len(first.rates)])


def test_only_what_follows_the_rate_is_ramped() -> None:
    """With nothing but a head, no rate makes a difference: the start is kept, and the curve is flat."""
    model = task("bert").classifier()
    job = toy.job(task("bert"), model)
    model.backbone.requires_grad_(False)
    found = search(model, job)
    assert found.losses == pytest.approx([found.reference] * 8)
    assert found.learning_rate == job.rates.learning_rate
    assert "No rate lowered" in found.note


def test_the_ramp_keeps_proportions_and_the_heads_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    model = task("bert").classifier()
    job = toy.job(task("bert"), model, RatePlan(1e-3, 0.5, 7e-3))
    seen: list[dict[str, float]] = []
    original = torch.optim.AdamW.step

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append({group["group"]: group["lr"] for group in self.param_groups})
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    search(model, job, runs=1, steps=5)
    alone, ramped = seen[:6], seen[6:]
    assert all(rates["head"] == 7e-3 for rates in seen)
    assert all(rate == 0 for rates in alone for name, rate in rates.items() if name != "head")
    assert len(ramped) >= 2
    for rates, peak in zip(ramped, np.geomspace(1e-5, 1e-1, 5), strict=False):
        assert [rates[f"layer.{depth}"] for depth in (2, 1, 0)] == pytest.approx([peak, peak / 2, peak / 4])


@pytest.mark.parametrize(("name", "start"), [("bert", 3e-3), ("efficientnet_lite", 1e-1)])
def test_a_toy_task_is_learned_below_where_it_breaks(name: str, start: float) -> None:
    model = task(name).classifier()
    job = toy.job(task(name), model, RatePlan(start, 1.0, 3e-3))
    found = search(model, job, runs=3, steps=40)
    assert found.rates == tuple(sorted(found.rates))
    assert len(found.losses) == len(found.rates)
    assert found.diverged is not None
    assert found.learning_rate <= found.diverged / 10 * (1 + 1e-12)
    assert found.learning_rate > found.rates[0]


def test_rates_that_break_at_once() -> None:
    model = task("bert").classifier()
    found = search(model, toy.job(task("bert"), model, RatePlan(1e6, 1.0, 5e-3)))
    assert found.diverged == pytest.approx(1e4)
    assert found.learning_rate == pytest.approx(1e3)
    assert len(found.rates) == len(found.losses)


def test_a_loss_that_is_not_a_number_from_the_start() -> None:
    model = task("bert").classifier()
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    found = search(model, toy.job(task("bert"), model))
    assert found.rates == found.losses == ()
    assert found.learning_rate < 1e-5
    assert RateSearch.from_json(found.to_json()).learning_rate == found.learning_rate


def test_fewer_rows_than_a_step() -> None:
    some = toy.task("efficientnet_lite", 5, 3)
    model = some.classifier()
    for batch, accumulation in ((8, 2), (2, 4), (4, 4)):
        assert search(model, toy.job(some, model), batch=batch, accumulation=accumulation).runs == 2


def test_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that shows one second more at each look."""
    model = task("bert").classifier()
    job = toy.job(task("bert"), model)
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr("warmstart.train.lr_find.time.perf_counter", look)
    whole = search(model, job)
    one = search(model, job, seconds=25.0)
    assert (whole.runs, one.runs) == (2, 1)
    assert "Time was left for 1 of 2 runs." in one.note
    assert one.seconds <= 25
    for seconds in (12.0, 0.0):
        none = search(model, job, seconds=seconds)
        assert (none.runs, none.rates, none.diverged) == (0, (), None)
        assert none.learning_rate == job.rates.learning_rate
        assert "did not hold one run" in none.note
        assert none.seconds <= seconds + 4  # four looks at the clock


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = task("bert").classifier()
    told: list[tuple[int, int]] = []
    job = toy.job(task("bert"), model, progress=lambda done, total, note: told.append((done, total)))
    search(model, job)
    assert told == sorted(told)
    assert {total for _, total in told} == {2 * 2 * 8}
    assert told[-1][0] <= 32


def test_gradient_checkpointing_gives_the_same_curve() -> None:
    model = task("bert").classifier()
    job = toy.job(task("bert"), model)
    plain, saving = search(model, job), search(model, job, gradient_checkpointing=True)
    assert saving.losses == pytest.approx(plain.losses, rel=1e-3)
    assert saving.learning_rate == pytest.approx(plain.learning_rate, rel=1e-3)


def test_gradient_checkpointing_is_refused_where_it_is_not_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lr_find.recompute, "_layers", lambda model: iter(()))
    model = task("bert").classifier()
    with pytest.raises(SettingError, match="--gradient-checkpointing"):
        search(model, toy.job(task("bert"), model), gradient_checkpointing=True)


def test_seconds_that_a_search_takes() -> None:
    assert search_seconds(0.01, 16) == pytest.approx(3 * 41 * 1.5 * 0.16)
