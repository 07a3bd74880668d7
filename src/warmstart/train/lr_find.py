"""A range test of the learning rate: a few short runs in which it rises step by step (Smith 2017, arXiv 1506.01186).

The runs are made on copies, with an optimizer, a data order and random draws of their own, so that a training knows
nothing of them, one that is under way included. What to make of their losses is `rate_choice.py`'s.
"""

from __future__ import annotations

import contextlib
import copy
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch import nn

from warmstart.backbones.groups import set_module_modes
from warmstart.core.records import RateSearch
from warmstart.train import recompute
from warmstart.train.job import Rows, TrainJob
from warmstart.train.rate_choice import Floats, choose_rate
from warmstart.train.rates import optimizer_groups
from warmstart.train.sampler import LengthSampler

RUNS, STEPS = 3, 40
SPAN = 100.0  # the rate rises from the starting rate divided by this to the starting rate times this
_MAX_GRAD_NORM = 1.0  # Trainer's
_RUNAWAY = 3.0  # times the highest undisturbed loss, and one nat: nothing is learned from going on
_ALONE_COST = 0.5  # of a training step: forward through everything, back through the head
_ORDER = 7  # sets the draws of the search apart from those of a training with the same seed


def find_rate(
    model: nn.Module,
    job: TrainJob,
    *,
    batch: int,
    seed: int,
    bf16: bool,
    device: torch.device,
    accumulation: int = 1,
    gradient_checkpointing: bool = False,
    seconds: float = float("inf"),
    runs: int = RUNS,
    steps: int = STEPS,
) -> RateSearch:
    """The peak `learning_rate` for a job, found in short runs that leave no trace.

    What is ramped is the plan's `learning_rate`: every rate that follows from it keeps its proportion (`layer_decay`).
    The head's rate is a setting of its own, which training will use whatever is found here, so it stays at that value
    in the test as well. The head then learns at every rate, also at those too low for anything else; each run is
    therefore made twice on the same batches with the same dropout, ramped and with only the head learning, and
    the difference is what the rate did. Groups that open late are open here from the start: it is with all of them
    open that a peak rate must hold.

    The model, its gradients and modes, the job, and the random states of Python, numpy and torch are as before when
    this returns or raises. Needs memory for one more copy of what learns. The same arguments give the same answer,
    unless time runs out.

    Args:
        model: where training starts; it is copied, never run.
        job: as for the training. Its `rates.learning_rate` is the start, the middle of the rates tried.
        batch: rows of one forward pass.
        seed: of orders and draws, which are not those of a training with this seed.
        bf16: autocast to bfloat16.
        device: where to run.
        accumulation: forward passes per step.
        gradient_checkpointing: as in training.
        seconds: what the search may take; a run that does not fit is left out, and the note says so.
        runs: short runs, each with another order.
        steps: rates tried in each.

    Raises:
        SettingError: when gradient checkpointing is asked for and the model cannot do it.
    """
    began = time.perf_counter()
    start = job.rates.learning_rate
    rates = start * np.geomspace(1 / SPAN, SPAN, steps)  # (steps,)
    bench = _Bench(job, batch, accumulation, bf16, device, gradient_checkpointing, began + seconds, 2 * runs * steps)
    if gradient_checkpointing:
        recompute.check_supported(model)
    done: list[tuple[list[float], list[float]]] = []
    with _random_states_kept(device), torch.enable_grad():
        for run in range(runs):
            each = (time.perf_counter() - began) / max(1, run)
            pair = None if run and time.perf_counter() + each > bench.deadline else bench.run(model, rates, seed, run)
            if pair is None:
                break
            done.append(pair)
    return _record(rates, done, job, runs, time.perf_counter() - began)


def search_seconds(seconds_per_row: float, rows_per_step: int) -> float:
    """About what a whole search takes.

    Args:
        seconds_per_row: of a training step.
        rows_per_step: of all its forward passes.
    """
    return RUNS * (STEPS + 1) * (1 + _ALONE_COST) * rows_per_step * seconds_per_row


def _record(
    rates: Floats, done: Sequence[tuple[list[float], list[float]]], job: TrainJob, wanted: int, seconds: float
) -> RateSearch:
    start = job.rates.learning_rate
    if not done:
        note = "The time left did not hold one run of the search; the starting rate is kept."
        return RateSearch((), (), float("nan"), start, None, 0, note, seconds)
    losses, alone = (np.array(side) for side in zip(*done, strict=True))  # both (runs, steps)
    choice = choose_rate(rates, losses, alone, start=start, guessing=_guessing(job))
    shown = int(np.isfinite(choice.curve).argmin()) if not np.isfinite(choice.curve).all() else len(rates)
    cut = "" if len(done) == wanted else f" Time was left for {len(done)} of {wanted} runs."
    return RateSearch(
        rates=tuple(rates[:shown].tolist()),
        losses=tuple(choice.curve[:shown].tolist()),
        reference=choice.reference,
        learning_rate=choice.learning_rate,
        diverged=choice.diverged,
        runs=len(done),
        note=choice.note + cut,
        seconds=seconds,
    )


def _guessing(job: TrainJob) -> float:
    """The loss of answering every row with the classes' frequencies, one row added to each, in nats."""
    labels = torch.from_numpy(job.train.labels.astype(np.int64))
    shares = torch.bincount(labels) + 1.0  # (classes,)
    logits = (shares / shares.sum()).log().expand(len(labels), -1)  # (rows, classes)
    return float(job.loss(logits, labels))


@dataclass(frozen=True)
class _Bench:
    """What all short runs share."""

    job: TrainJob
    batch: int
    accumulation: int
    bf16: bool
    device: torch.device
    checkpointing: bool
    deadline: float  # by `time.perf_counter`
    steps_in_all: int

    def run(self, model: nn.Module, rates: Floats, seed: int, run: int) -> tuple[list[float], list[float]] | None:
        """Losses, (steps,), ramped and left alone, of the same batches; None when time ran out."""
        own = int(np.random.SeedSequence((seed, _ORDER, run)).generate_state(1)[0])
        batches = list(islice(self._batches(own), len(rates) + 1))
        told = 2 * run * len(rates)
        alone = self._walk(model, batches, np.zeros_like(rates), own, float("inf"), told)
        if alone is None:
            return None
        ramped = self._walk(model, batches, rates, own, _RUNAWAY * max(alone) + 1, told + len(rates))
        return None if ramped is None else (ramped, alone)

    def _batches(self, seed: int) -> Iterator[list[int]]:
        """Row numbers of one step after another, all steps of one size, epoch after epoch."""
        lengths = self.job.train.inputs.lengths
        rows = len(lengths)
        forward = min(self.batch, rows)
        size = forward * max(1, min(self.accumulation, rows // forward))
        sampler = LengthSampler(lengths, size, seed)
        waiting: list[int] = []
        for epoch in count():
            sampler.set_epoch(epoch)
            waiting.extend(sampler)
            while len(waiting) >= size:
                yield waiting[:size]
                del waiting[:size]

    def _walk(
        self, model: nn.Module, batches: Sequence[list[int]], rates: Floats, seed: int, ceiling: float, told: int
    ) -> list[float] | None:
        """The loss of a new batch after a step at each rate, (steps,): infinite from where it passes `ceiling`.

        With rates of zero, only what does not follow the plan's rate learns.
        """
        clone, ramped, optimizer = self._copy(model, learns=bool(rates.any()))
        rows = Rows(self.job.train.inputs, self.job.train.labels, self.job.train.augment, seed)
        losses: list[float] = []
        for step, chosen in enumerate(batches):
            if time.perf_counter() > self.deadline:
                return None
            rate = float(rates[min(step, len(rates) - 1)])
            for group, (fixed, slope) in zip(optimizer.param_groups, ramped, strict=True):
                group["lr"] = fixed + slope * rate
            rows.set_epoch(step)
            _seed(self.device, seed, step)
            losses.append(self._step(clone, optimizer, rows, chosen))
            if self.job.progress is not None:
                self.job.progress(min(told + step, self.steps_in_all), self.steps_in_all, "finding the learning rate")
            if not losses[-1] <= ceiling:
                losses[-1] = float("inf")
                break
        losses.extend([float("inf")] * (len(batches) - len(losses)))
        return losses[1:]  # the first batch was seen before any step

    def _copy(
        self, model: nn.Module, *, learns: bool
    ) -> tuple[nn.Module, list[tuple[float, float]], torch.optim.Optimizer]:
        """A copy in training mode; each optimizer group's rate as (fixed part, part per unit of the plan's rate)."""
        frozen = [p for p in model.parameters() if not p.requires_grad and p.device == self.device]
        clone = copy.deepcopy(model, {id(p): p for p in frozen})  # what is frozen is shared: nobody writes to it
        recompute.stop(clone)
        clone.to(self.device).train()
        at_zero, groups = (
            optimizer_groups(clone, self.job.groups, replace(self.job.rates, learning_rate=rate)) for rate in (0.0, 1.0)
        )
        ramped = [(zero["lr"], one["lr"] - zero["lr"]) for zero, one in zip(at_zero, groups, strict=True)]
        learning = {id(parameter) for group in groups for parameter in group["params"]}
        for parameter in clone.parameters():
            parameter.requires_grad_(id(parameter) in learning)
        set_module_modes(clone, self.job.groups, fixed_statistics=self.job.fixed_statistics)
        if not learns:  # only now: dropout must be the same in both runs of a pair
            for group, (_, slope) in zip(groups, ramped, strict=True):
                for parameter in group["params"]:
                    parameter.requires_grad_(slope == 0)
        if self.checkpointing:
            recompute.start(clone)
        return clone, ramped, torch.optim.AdamW(groups)

    def _step(self, clone: nn.Module, optimizer: torch.optim.Optimizer, rows: Rows, chosen: list[int]) -> float:
        """The loss of a batch, in nats, before the step that it leads to; no step is taken where it is not finite."""
        parts = [chosen[at : at + self.batch] for at in range(0, len(chosen), self.batch)]
        if self.checkpointing:
            recompute.reach_frozen(clone)
        total = 0.0
        for part in parts:
            values = {name: value.to(self.device) for name, value in rows.collate(part).items()}
            labels, _ = values.pop("labels"), values.pop("rows")
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                logits = clone(**values).logits
            loss: Any = self.job.loss(logits, labels) / len(parts)
            total += loss.item()
            if loss.requires_grad:
                loss.backward()
        if np.isfinite(total):
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], _MAX_GRAD_NORM)
            optimizer.step()
        optimizer.zero_grad()
        return total


def _seed(device: torch.device, *values: int) -> None:
    """Fix the draws of the next step: dropout, on the processor or the accelerator."""
    value = int(np.random.SeedSequence(values).generate_state(1)[0])
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(value)


@contextlib.contextmanager
def _random_states_kept(device: torch.device) -> Iterator[None]:
    """Put the random states of Python, numpy, torch and the device back at the end, also after an error."""
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
