"""Pilots: short trainings of the contenders on part of the labelled rows, judged on another part beside the probe."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from warmstart.core.clock import Clock
from warmstart.core.decision import PilotRun
from warmstart.core.errors import DataError, StrategyNotPossibleError
from warmstart.core.options import AdviseOptions
from warmstart.core.progress import reporter
from warmstart.decide.choice import Question, choose, contenders
from warmstart.decide.forecast import BACKWARD, STARTS_FROM_PROBE, StrategyCost
from warmstart.decide.halving import RUNGS, successive_halving
from warmstart.decide.label_evidence import in_turn
from warmstart.strategies.protocol import Context
from warmstart.strategies.table import STRATEGY, settings_for
from warmstart.train.folds import assign_folds
from warmstart.train.probe_solver import fit_probe
from warmstart.verbs.planning import Measured
from warmstart.verbs.scoring import logits_of
from warmstart.verbs.situation import Situation

_ARRANGEMENTS = ((3, 2), (2, 1), (1, 1))  # contenders and rungs: the first whose pilots fit
_JUDGED = 1000  # rows of a fold that are judged, at most
_INNER = 0.1  # share of a pilot's rows that its checkpoint is chosen by
_LEAST_ROWS, _LEAST_A_CLASS = 24, 2  # that a pilot learns from, below which it says nothing
_PASSES = (1.0, 0.5, 0.25)  # of the epochs wanted, tried in this order while all rows fit
_STARTING = 1.0  # seconds that a training takes beside its steps


@dataclass(frozen=True)
class Length:
    """How much of a training fits into some seconds."""

    rows: int
    epochs: float


def exhaustive_seconds(costs: tuple[StrategyCost, ...]) -> float:
    """Seconds of training every strategy that is allowed, in full."""
    return sum(
        cost.forecast.learning_seconds for cost in costs if cost.forecast.allowed and cost.forecast.strategy in BACKWARD
    )


def run_pilots(
    situation: Situation,
    measured: Measured,
    question: Question,
    options: AdviseOptions,
    seconds: float,
    rates: Mapping[str, float] | None = None,
) -> tuple[PilotRun, ...]:
    """Successive halving over the contenders; nothing when none of them could change the choice.

    Args:
        situation: the task and the model, its labelled rows embedded.
        measured: what was measured.
        question: what the choice depends on, without pilots.
        options: what the user fixed.
        seconds: for all pilots together.
        rates: peak rates by strategy, where they were tuned before; otherwise those that training starts from.
    """
    many, rungs = arrangement(seconds, _short_pilot(measured, question))
    names = contenders(question, many)
    if not names or (len(names) == 1 and choose(question).strategy == names[0] and not _rivals(question, names[0])):
        return ()
    reporter().say(f"Short trainings of {', '.join(names)}, in {seconds:.0f} s at most …")
    with tempfile.TemporaryDirectory() as folder:
        bench = _PilotBench(situation, measured, question, options, Path(folder), {} if rates is None else rates)

        def rank(pilots: Sequence[PilotRun]) -> dict[str, float]:
            return {name: entry.mean for name, entry in choose(replace(question, pilots=pilots)).expected.items()}

        return successive_halving(names, seconds, bench.run, rank, rungs=rungs)


def arrangement(seconds: float, each: float) -> tuple[int, int]:
    """How many contenders and rungs some seconds hold, when a pilot that is worth something takes so many."""
    for many, rungs in _ARRANGEMENTS:
        if seconds >= many * rungs * each:
            return many, rungs
    return _ARRANGEMENTS[-1]


def _short_pilot(measured: Measured, question: Question) -> float:
    """Seconds of a pilot with a quarter of the epochs on all the rows that a fold leaves."""
    evidence = measured.evidence
    epochs = max(
        (c.epochs_wanted for c in question.costs if c.forecast.allowed and c.forecast.strategy in BACKWARD), default=1.0
    )
    learned = (1 - 1 / RUNGS) * evidence.labelled * max(1.0, _PASSES[-1] * epochs)
    judged = min(_JUDGED, evidence.labelled / RUNGS)
    return _STARTING + measured.probe_seconds + learned * evidence.seconds_train + judged * evidence.seconds_forward


def _rivals(question: Question, name: str) -> bool:
    """Whether a strategy that does not train might still be as good as the only contender."""
    found = choose(question).expected
    frozen = [found[other].mean for other in question.allowed if other not in BACKWARD]
    return any(mean > found[name].mean - 2.0 * found[name].apart for mean in frozen)


def length_that_fits(seconds: float, rows: int, epochs: float, per_row: float, least: int) -> Length | None:
    """All rows for all, half or a quarter of the epochs; else fewer rows for a quarter; None when too few fit.

    Args:
        seconds: for the steps.
        rows: that there are.
        epochs: that an unhurried training takes.
        per_row: seconds of a row's step.
        least: rows below which nothing can be learned.
    """
    for share in _PASSES:
        passes = max(1.0, share * epochs)
        if seconds >= passes * rows * per_row:
            return Length(rows, passes)
    passes = max(1.0, _PASSES[-1] * epochs)
    fitting = int(seconds / (passes * per_row))
    return Length(fitting, passes) if fitting >= min(least, rows) else None


class _PilotBench:
    """Trains one pilot after another; rung n is judged on fold n."""

    def __init__(
        self,
        situation: Situation,
        measured: Measured,
        question: Question,
        options: AdviseOptions,
        folder: Path,
        rates: Mapping[str, float],
    ) -> None:
        self.situation, self.measured, self.options, self.folder = situation, measured, options, folder
        self.rates = rates
        self.epochs = {cost.forecast.strategy: cost.epochs_wanted for cost in question.costs}
        labelled = situation.labelled
        self.home = assign_folds(
            labelled.labels, len(situation.labels), seed=options.seed, groups=labelled.groups, folds=RUNGS
        )

    def run(self, name: str, rung: int, seconds: float) -> PilotRun | None:
        """One pilot, or None when its seconds do not hold one."""
        start = time.perf_counter()
        labelled, classes = self.situation.labelled, len(self.situation.labels)
        fold = rung % (int(self.home.max()) + 1)
        draw = np.random.default_rng((self.options.seed, rung))
        held = draw.permutation(np.flatnonzero(self.home == fold))[:_JUDGED]
        train = np.flatnonzero(self.home != fold)
        train = train[in_turn(labelled.labels[train], draw)]
        evidence = self.measured.evidence
        per_row = evidence.seconds_forward
        per_row += BACKWARD[name] * max(0.0, evidence.seconds_train - evidence.seconds_forward)
        spare = seconds - _STARTING - len(held) * evidence.seconds_forward
        spare -= self.measured.probe_seconds if name in STARTS_FROM_PROBE else 0.0
        least = max(_LEAST_ROWS, _LEAST_A_CLASS * classes)
        length = length_that_fits(spare, len(train), self.epochs[name], per_row, least)
        if length is None or len(train) < least:
            return None
        logits = self._train(name, rung, train[: length.rows], held, length.epochs, seconds)
        if logits is None:
            return None
        truth = labelled.labels[held]
        right = logits.argmax(1) == truth
        probe = self._probe(train[: length.rows], held) == truth
        return PilotRun(
            strategy=name,
            rung=rung,
            rows=length.rows,
            epochs=length.epochs,
            judged=len(held),
            right=int(right.sum()),
            probe_right=int(probe.sum()),
            only_right=int((right & ~probe).sum()),
            only_probe=int((probe & ~right).sum()),
            seconds=time.perf_counter() - start,
        )

    def _train(
        self, name: str, rung: int, train: np.ndarray, held: np.ndarray, epochs: float, seconds: float
    ) -> np.ndarray | None:
        """Logits of the held-out rows, (held, labels); None when the strategy is not possible here."""
        situation, modality = self.situation, self.situation.task.card.modality
        inner = max(1, round(_INNER * len(train)))  # the last of an order in which every class comes first
        fit, validation = train[:-inner], train[-inner:]
        settings = settings_for(name, modality, self.options, fast_bf16=situation.fast_bf16, epochs=epochs)
        rate = self.rates.get(name, settings.learning_rate)
        settings = replace(settings, learning_rate=rate, num_train_epochs=epochs, max_steps=None, find_rate=False)
        title = f"Pilot of {name}: {len(fit):,} rows, {epochs:g} epochs"
        with reporter().bar(title) as bar:
            context = Context(
                backbone=situation.backbone,
                modality=modality,
                labels=situation.labels,
                fit=situation.labelled.take(fit),
                validation=situation.labelled.take(validation),
                settings=settings,
                seed=self.options.seed + rung,
                work=self.folder / f"{name}-{rung}",
                clock=Clock(seconds),
                reserve=len(held) * self.measured.evidence.seconds_forward,
                progress=bar,
            )
            try:
                outcome = STRATEGY[name](context)
            except (StrategyNotPossibleError, DataError):  # so few rows, classes or groups that it cannot be trained
                return None
        return logits_of(outcome.model, situation.labelled.take(held), frozen=False)

    def _probe(self, train: np.ndarray, held: np.ndarray) -> np.ndarray:
        """What the probe on the same rows answers to the held-out ones, (held,)."""
        labelled = self.situation.labelled
        labels = labelled.labels[train]
        if len(np.unique(labels)) < 2:
            return np.full(len(held), labels[0])
        weight, bias = fit_probe(labelled.features[train], labels, len(self.situation.labels), self.measured.probe.c)
        answers: np.ndarray = (labelled.features[held] @ weight.T + bias).argmax(1)
        return answers
