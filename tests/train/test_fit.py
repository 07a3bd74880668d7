"""Resumption after a kill, and training over two processes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import interrupted
import numpy as np
import pytest
import torch
import toy
from torch import nn

from warmstart.core.clock import Clock
from warmstart.core.records import Point
from warmstart.train.checkpoints import last_complete
from warmstart.train.fit import Trained, fit
from warmstart.train.job import Rows
from warmstart.train.lora import choose_targets, inject
from warmstart.train.rates import RatePlan
from warmstart.train.trainer import WarmstartTrainer
from warmstart.train.unfreezing import Unfreezing


class Killed(BaseException):
    """Stands for a kill in the middle of a step, in this process."""


def timeless(history: tuple[Point, ...]) -> list[Point]:
    """A history without its seconds."""
    return [dataclasses.replace(point, seconds=0.0) for point in history]


def run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_killed_process_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """kill -9 while the third checkpoint is being written, inside a stage of a progressive training."""
    killed = run_process(str(Path(interrupted.__file__)), "kill", str(tmp_path / "killed"))
    assert killed.returncode == -9, killed.stderr[-2000:]
    names = {path.name for path in (tmp_path / "killed").glob("checkpoint-*")}
    assert {"checkpoint-8", "checkpoint-12"} <= names
    found = last_complete(tmp_path / "killed")
    assert found is not None
    assert found.path.name == "checkpoint-8"
    assert not (tmp_path / "killed" / "checkpoint-12" / "complete.json").exists()
    torch.manual_seed(12345)
    np.random.seed(7)
    resumed, after = interrupted.train(tmp_path / "killed")
    whole, undisturbed = interrupted.train(tmp_path / "whole")
    toy.assert_same(toy.weights(whole), toy.weights(resumed))
    assert timeless(after.history) == timeless(undisturbed.history)
    assert [point.step for point in after.history if point.loss is not None] == list(range(1, 21))
    assert (after.steps, after.best_score) == (undisturbed.steps, undisturbed.best_score)


# ---- the same in this process, for every kind of training

Make = Callable[[toy.Task], nn.Module]


def plain(task: toy.Task) -> nn.Module:
    return task.classifier()


def with_lora(task: toy.Task) -> nn.Module:
    model = task.classifier()
    torch.manual_seed(0)
    return inject(model, choose_targets(model, "all-linear"), 2, 4, 0.2)


@dataclasses.dataclass
class Case:
    backbone: str = "bert"
    rows: int = 28
    make: Make = plain
    opens: tuple[float, ...] = ()
    plateau: bool = False
    cache_bytes: int = 0
    l2_sp: float = 0.0
    ema_decay: float = 0.0
    augment: bool = False
    epochs: float = 4
    batch: int = 8
    accumulation: int = 1
    bf16: bool = False
    evaluations: int | None = None
    logging: int = 1
    at: int = 11  # forward passes, counted from 0

    def train(self, task: toy.Task, folder: Path, patience: int | None = None) -> tuple[nn.Module, Trained]:
        model = self.make(task)
        unfreezing = Unfreezing("plateau") if self.plateau else toy.given(model, self.opens)
        job = toy.job(
            task,
            model,
            RatePlan(2e-3, 0.8, 5e-3, unfreezing=unfreezing, l2_sp=self.l2_sp),
            train=Rows(task.train, task.train_labels, self.augment, 3),
            cache_bytes=self.cache_bytes,
            ema_decay=self.ema_decay,
        )
        args = toy.arguments(
            folder,
            self.rows,
            epochs=self.epochs,
            batch=self.batch,
            accumulation=self.accumulation,
            bf16=self.bf16,
            metric_evaluations=self.evaluations,
        )
        args.logging_steps = self.logging
        return model, fit(model, args, job, patience)


CASES = {
    "inside an epoch": Case(evaluations=5, logging=3),
    "at the end of an epoch": Case(),
    "accumulation": Case(batch=4, accumulation=2, evaluations=5, at=19),
    "inside a stage": Case(opens=(0.6, 0.45, 0.3, 0.15, 0.0), evaluations=7),
    "inside a stage, with the frozen trunk kept": Case(opens=(0.8, 0.8, 0.8, 0.6, 0.0), cache_bytes=2**24, epochs=6),
    "just after the frozen trunk has moved": Case(
        opens=(0.8, 0.8, 0.8, 0.3, 0.0), cache_bytes=2**24, epochs=6, evaluations=4, at=10
    ),
    "groups opened by plateaus": Case(plateau=True, epochs=6, at=17),
    "drawn back and averaged": Case(l2_sp=1.0, ema_decay=0.9, evaluations=5),
    "average of lora": Case(make=with_lora, ema_decay=0.9, evaluations=5),
    "lora": Case(make=with_lora, evaluations=5),
    "bf16": Case(bf16=True, evaluations=5),
    "augmented images with batch norm": Case("efficientnet_lite", rows=17, augment=True, evaluations=3, at=10),
}


@pytest.mark.parametrize("name", CASES)
def test_interrupted_training_resumes_to_the_same_weights(name: str, tmp_path: Path, monkeypatch) -> None:
    case = CASES[name]
    task = toy.task(case.backbone, case.rows, 6)
    whole, undisturbed = case.train(task, tmp_path / "whole")
    calls = 0
    original = WarmstartTrainer.compute_loss

    def die(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == case.at + 1:
            raise Killed
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(WarmstartTrainer, "compute_loss", die)
        with pytest.raises(Killed):
            case.train(task, tmp_path / "cut")
    found = last_complete(tmp_path / "cut")
    assert found is not None
    assert not found.finished
    torch.manual_seed(4321)
    resumed, after = case.train(task, tmp_path / "cut")
    toy.assert_same(toy.weights(whole), toy.weights(resumed))
    assert timeless(after.history) == timeless(undisturbed.history)
    assert after.best_score == undisturbed.best_score


@pytest.mark.parametrize("epochs", [3, 2.5])
def test_a_training_that_had_ended_is_not_gone_on_with(tmp_path: Path, monkeypatch, epochs: float) -> None:
    """Killed after its last checkpoint, before anything was made of it."""
    case = Case(epochs=epochs)
    task = toy.task("bert", case.rows, 6)
    whole, before = case.train(task, tmp_path)
    monkeypatch.setattr(WarmstartTrainer, "train", None)
    again, after = case.train(task, tmp_path)
    toy.assert_same(toy.weights(whole), toy.weights(again))
    assert after == before


def test_lora_that_had_ended(tmp_path: Path) -> None:
    case = Case(make=with_lora)
    task = toy.task("bert", case.rows, 6)
    whole, before = case.train(task, tmp_path)
    again, after = case.train(task, tmp_path)
    toy.assert_same(toy.weights(whole), toy.weights(again))
    assert after == before


def test_patience_counts_on_after_a_kill(tmp_path: Path, monkeypatch) -> None:
    case = Case(epochs=10)
    task = toy.task("bert", case.rows, 6)
    by_step = {4: 0.5, 8: 0.4, 12: 0.3, 16: 0.2, 20: 0.1}
    steps: list[int] = []
    original = WarmstartTrainer.evaluate

    def scored(self, *args, **kwargs):
        steps.append(self.state.global_step)
        if len(steps) == 3 and self.state.global_step == 12:
            raise Killed
        monkeypatch.setattr("warmstart.train.trainer.selection_value", lambda *_: by_step[self.state.global_step])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(WarmstartTrainer, "evaluate", scored)
    with pytest.raises(Killed):
        case.train(task, tmp_path, patience=3)
    _, found = case.train(task, tmp_path, patience=3)
    assert steps == [4, 8, 12, 12, 16]
    assert (found.steps, found.best_score) == (16, 0.5)


def test_budget_spent_when_resumed_gives_the_best_checkpoint(tmp_path: Path, monkeypatch) -> None:
    case = Case(epochs=4, evaluations=4)
    task = toy.task("bert", case.rows, 6)
    best: dict[str, torch.Tensor] = {}
    original = WarmstartTrainer.evaluate

    def scored(self, *args, **kwargs):
        if self.state.global_step == 12:
            raise Killed
        value = 0.9 if self.state.global_step == 4 else 0.1
        if value == 0.9:
            best.update(toy.weights(self.model))
        monkeypatch.setattr("warmstart.train.trainer.selection_value", lambda *_: value)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(WarmstartTrainer, "evaluate", scored)
        with pytest.raises(Killed):
            case.train(task, tmp_path)
    model = task.classifier()
    job = toy.job(task, model, clock=Clock(5.0, spent=60.0))
    found = fit(model, toy.arguments(tmp_path, case.rows, epochs=4), job)
    assert found.note == "the time budget was spent before training went on"
    assert (found.steps, found.best_score) == (8, 0.9)
    assert [point.step for point in found.history if point.validation_score is not None] == [4, 8]
    toy.assert_same(best, toy.weights(model))


# ---- two processes


def test_two_processes(tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = run_process(*command, str(Path(interrupted.__file__)), "distributed", str(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    reports = [json.loads((tmp_path / f"report-{rank}.json").read_text()) for rank in range(2)]
    first, second = (torch.load(tmp_path / f"weights-{rank}.pt", weights_only=True) for rank in range(2))
    assert [report["world"] for report in reports] == [2, 2]
    assert [report["steps"] for report in reports] == [10, 10]  # five epochs of 32 rows, 16 a step
    assert reports[0]["score"] == reports[1]["score"]
    toy.assert_same(first, second)
    for epoch in range(5):
        own = [{row for drawn, *rows in report["seen"] if drawn == epoch for row in rows} for report in reports]
        assert not own[0] & own[1]
        assert own[0] | own[1] == set(range(32))
    assert reports[0]["writers"] == [f"checkpoint-{step}" for step in (2, 4, 6, 8, 10)]
    assert reports[1]["writers"] == []
    assert last_complete(tmp_path / "run") is not None
