"""A second training, as far as the time budget allows: on all labelled rows, its weights averaged with the first's.

The uniform soup of Wortsman et al. 2022 (arXiv 2203.05482, algorithm 1 without its choice) of two trainings that start
from the same weights. The second one learns from the validation rows as well, so nothing may be chosen by it: choice,
temperature and validation score stay the first one's.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import nn

from warmstart.core.metrics import score
from warmstart.core.progress import reporter
from warmstart.strategies.protocol import Outcome, Settings
from warmstart.strategies.table import STRATEGY
from warmstart.verbs.scoring import logits_of
from warmstart.verbs.strategies import Bench, Finished, forgetting_of

STRATEGIES = ("fine_tune", "progressive")
"""Those with a start in common and one set of weights as their result; the soup of two random starts is nonsense, and
an adapter's weights do not average to the average of its products."""

STAGE = "soup"
_LEAST = 0.5  # share of the first training's epochs below which a second one is not begun
_MARGIN = 0.1  # of the time left is not planned for: a training that is cut short ends at too high a rate


class Memory(Protocol):
    """Keeps values over an interruption; `Workspace` is one."""

    def remember(self, name: str, value: float, spent: float) -> None:
        """Keep a value, with the seconds spent so far."""

    def recall(self, name: str) -> float | None:
        """What was kept, or None."""


def second_epochs(bench: Bench, first: Finished, settings: Settings) -> float:
    """How many passes over all labelled rows a second training would make; 0 for none.

    Args:
        bench: of the first training.
        first: the first training.
        settings: what it was told.
    """
    if first.run.strategy not in STRATEGIES or first.run.status != "done":
        return 0.0
    wanted = _epochs(settings, len(bench.fit.labels))
    if bench.clock.budget is None:
        return wanted
    per_epoch = first.run.seconds / max(wanted, 1e-9) * len(bench.situation.labelled.labels) / len(bench.fit.labels)
    left = (1 - _MARGIN) * (bench.clock.left() - bench.context(first.run.strategy, settings, None).reserve)
    fitting = min(wanted, left // per_epoch)
    return fitting if fitting >= max(1.0, _LEAST * wanted) else 0.0


def _epochs(settings: Settings, rows: int) -> float:
    if settings.max_steps is None:
        return settings.num_train_epochs
    return settings.max_steps * settings.per_device_train_batch_size * settings.gradient_accumulation_steps / rows


def with_second(bench: Bench, first: Finished, settings: Settings, memory: Memory) -> Finished:
    """The first training averaged with a second one, if there is time for one; else as it was.

    Args:
        bench: of the first training.
        first: the first training.
        settings: what it was told.
        memory: keeps how long the second training is to be, so that a resumed run does the same.
    """
    epochs = memory.recall("soup_epochs")
    if epochs is None:
        epochs = second_epochs(bench, first, settings)
        memory.remember("soup_epochs", epochs, bench.clock.spent())
    if not epochs or first.outcome is None:
        reporter().warn(
            "No second training is averaged in: no time is left, or the result is not of a kind that can be."
        )
        return first
    rows = bench.situation.labelled
    name = first.run.strategy
    told = _told(first, settings, epochs)
    begun = bench.clock.spent()
    again = dataclasses.replace(bench, fit=rows, seed=bench.seed + 1)
    with reporter().bar(f"{name} once more, all {len(rows.labels):,} labelled rows") as bar:
        context = dataclasses.replace(again.context(name, told, bar), work=bench.stage(STAGE))
        second = STRATEGY[name](context)
    if second.stopped:  # half a training pulls the average down
        reporter().warn("The second training was cut short and is left out.")
        return first
    average(first.outcome.model, second.model)
    return _judged(bench, first, first.outcome, epochs, bench.clock.spent() - begun)


def _told(first: Finished, settings: Settings, epochs: float) -> Settings:
    """The second training's settings: with what the first one looked for and found."""
    told = dataclasses.replace(settings, num_train_epochs=epochs, max_steps=None, find_rate=False)
    if first.run.rate_search is not None:
        told = dataclasses.replace(told, learning_rate=first.run.rate_search.learning_rate)
    for remedy in first.run.remedies:
        if remedy.name == "weight interpolation":
            told = dataclasses.replace(told, wise_alpha=remedy.setting, find_alpha=False)
    return told


def average(model: nn.Module, other: nn.Module) -> None:
    """Give a model the mean of its own weights and another's; buffers stay its own."""
    theirs = dict(other.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.lerp_(theirs[name].to(parameter.device), 0.5)


def _judged(bench: Bench, first: Finished, outcome: Outcome, epochs: float, seconds: float) -> Finished:
    """The run as the averaged weights answer the test rows."""
    test, rows = bench.situation.test, len(bench.situation.labelled.labels)
    logits = logits_of(outcome.model, test, frozen=False)
    alone = "" if first.run.test is None else f"; the first alone: accuracy {100 * first.run.test.accuracy.value:.1f} %"
    note = f"weights averaged with those of a second training, {epochs:g} epochs on all {rows:,} labelled rows"
    run = dataclasses.replace(
        first.run,
        note=note + alone,
        test=score(logits, test.labels, bench.situation.labels, first.temperature),
        seconds=first.run.seconds + seconds,
        settings={**first.run.settings, "soup_epochs": epochs, "soup_rows": rows},
        forgetting=forgetting_of(bench.situation, outcome),
    )
    return dataclasses.replace(first, run=run, test_logits=logits)
