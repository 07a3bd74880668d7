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
from warmstart.decide.forecast import BACKWARD, STARTS_FROM_PROBE, StrategyCost, beside_steps
from warmstart.decide.halving import RUNGS, rungs_of, successive_halving
from warmstart.decide.label_evidence import in_turn
from warmstart.strategies.protocol import Context
from warmstart.strategies.table import STRATEGY, settings_for
from warmstart.train.folds import assign_folds
from warmstart.train.probe_solver import fit_like
from warmstart.verbs.planning import Measured
from warmstart.verbs.scoring import logits_of
from warmstart.verbs.situation import Situation

_ARRANGEMENTS = ((3, 2), (2, 1), (1, 1))  # contenders and rungs: the first whose pilots fit
_JUDGED, _JUDGING = 1000, 0.25  # rows that are judged, at most, and share of a pilot's seconds for it
_INNER = 0.1  # share of a pilot's rows that its checkpoint is chosen by
_LEAST_ROWS, _LEAST_A_CLASS = 24, 2  # that a pilot learns from, below which it says nothing
_ENOUGH_A_CLASS = 16  # that it learns from, down to which it has all epochs on fewer rows
_PASSES = (1.0, 0.5, 0.25)  # of the epochs wanted, tried in this order until enough rows fit
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
    rungs = rungs_of(len(names), rungs)
    if not names or (len(names) == 1 and choose(question).strategy == names[0] and not _rivals(question, names[0])):
        return ()
    reporter().say(f"Short trainings of {', '.join(names)}, in {seconds:.0f} s at most …")
    with tempfile.TemporaryDirectory() as folder:
        bench = _PilotBench(situation, measured, question, options, Path(folder), {} if rates is None else rates, rungs)

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
    """Seconds of a pilot with all epochs on a quarter of the rows that a fold leaves, or on enough of them."""
    evidence = measured.evidence
    epochs = max(
        (c.epochs_wanted for c in question.costs if c.forecast.allowed and c.forecast.strategy in BACKWARD), default=1.0
    )
    left = (1 - 1 / RUNGS) * evidence.labelled
    rows = max(left / 4, min(left, _ENOUGH_A_CLASS * evidence.classes))
    epoch = rows * evidence.seconds_train + _beside_steps("fine_tune", measured)
    judged = min(_JUDGED, evidence.labelled - rows)
    return _STARTING + measured.probe_seconds + epochs * epoch + judged * evidence.seconds_forward


def _beside_steps(strategy: str, measured: Measured) -> float:
    compute = measured.evidence.compute
    return 0.0 if compute is None else beside_steps(strategy, compute)


def _rivals(question: Question, name: str) -> bool:
    """Whether a strategy that does not train might still be as good as the only contender."""
    found = choose(question).expected
    frozen = [found[other].mean for other in question.allowed if other not in BACKWARD]
    return any(mean > found[name].mean - 2.0 * found[name].apart for mean in frozen)


def length_that_fits(
    seconds: float, rows: int, epochs: float, per_row: float, enough: int, least: int, per_epoch: float = 0.0
) -> Length | None:
    """As many rows as fit for all, half or a quarter of the epochs: the first that leaves enough; None for too few.

    Args:
        seconds: for the steps.
        rows: that there are.
        epochs: that an unhurried training takes.
        per_row: seconds of a row's step.
        enough: rows down to which fewer of them are better than fewer epochs.
        least: rows below which nothing can be learned.
        per_epoch: seconds that an epoch takes beside its steps.
    """
    found = Length(0, 0.0)
    for share in _PASSES:
        passes = max(1.0, share * epochs)
        found = Length(max(0, min(rows, int((seconds / passes - per_epoch) / per_row))), passes)
        if found.rows >= min(enough, rows):
            break
    return found if found.rows >= min(least, rows) else None


@dataclass(frozen=True)
class _Draw:
    """Of the labelled rows those that a pilot learns from and those that judge it, and its epochs."""

    train: np.ndarray
    held: np.ndarray
    epochs: float


class _PilotBench:
    """Trains one pilot after another; rung n is judged on fold n, and on what it does not learn from.

    Of several rungs each has folds of its own to judge by, so that no row counts twice for a strategy.
    """

    def __init__(
        self,
        situation: Situation,
        measured: Measured,
        question: Question,
        options: AdviseOptions,
        folder: Path,
        rates: Mapping[str, float],
        rungs: int = 1,
    ) -> None:
        self.situation, self.measured, self.options, self.folder = situation, measured, options, folder
        self.rates, self.rungs = rates, rungs
        self.epochs = {cost.forecast.strategy: cost.epochs_wanted for cost in question.costs}
        labelled = situation.labelled
        self.home = assign_folds(
            labelled.labels, len(situation.labels), seed=options.seed, groups=labelled.groups, folds=RUNGS
        )

    def run(self, name: str, rung: int, seconds: float) -> PilotRun | None:
        """One pilot, or None when its seconds do not hold one."""
        start = time.perf_counter()
        draw = self._draw(name, rung, seconds)
        found = None if draw is None else self._train(name, rung, draw, seconds)
        if draw is None or found is None:
            return None
        held = draw.held
        logits, epochs = found
        truth = self.situation.labelled.labels[held]
        right = logits.argmax(1) == truth
        probe = self._probe(draw.train, held) == truth
        return PilotRun(
            strategy=name,
            rung=rung,
            rows=len(draw.train),
            epochs=epochs,
            judged=len(held),
            right=int(right.sum()),
            probe_right=int(probe.sum()),
            only_right=int((right & ~probe).sum()),
            only_probe=int((probe & ~right).sum()),
            seconds=time.perf_counter() - start,
        )

    def _draw(self, name: str, rung: int, seconds: float) -> _Draw | None:
        """What a pilot learns from and is judged by; None when its seconds hold too little of either."""
        labels, home = self.situation.labelled.labels, self.home
        fold = rung % (int(home.max()) + 1)
        rng = np.random.default_rng((self.options.seed, rung))
        own = rng.permutation(np.flatnonzero(home == fold))
        order = np.flatnonzero(home != fold)
        order = order[in_turn(labels[order], rng)]
        forward = max(1e-9, self.measured.evidence.seconds_forward)
        judged = max(1, min(_JUDGED, len(labels), int(_JUDGING * seconds / forward)))
        found = None
        for _ in range(2):  # the second time knowing how many rows there are to judge
            length = self._length(name, seconds - judged * forward, len(order))
            if length is None:
                return None
            train, rest = order[: length.rows], order[length.rows :]
            rest = rest[(home[rest] >= 0) & (home[rest] % self.rungs == rung % self.rungs)]
            found = _Draw(train, np.concatenate([own, self._apart(rest, train)])[:judged], length.epochs)
            judged = len(found.held)
        return found

    def _length(self, name: str, seconds: float, rows: int) -> Length | None:
        """How much of a training fits when nothing but itself is to be paid for."""
        evidence, classes = self.measured.evidence, len(self.situation.labels)
        backward = BACKWARD[name] * max(0.0, evidence.seconds_train - evidence.seconds_forward)
        per_row = backward + (1 + _INNER) * evidence.seconds_forward
        spare = seconds - _STARTING - (self.measured.probe_seconds if name in STARTS_FROM_PROBE else 0.0)
        enough, least = _ENOUGH_A_CLASS * classes, max(_LEAST_ROWS, _LEAST_A_CLASS * classes)
        beside = _beside_steps(name, self.measured)
        found = length_that_fits(spare, rows, self.epochs[name], per_row, enough, least, beside)
        return None if rows < least else found

    def _apart(self, rows: np.ndarray, train: np.ndarray) -> np.ndarray:
        """Of some rows those whose group has none that is learned from."""
        groups = self.situation.labelled.groups
        return rows if groups is None else rows[~np.isin(groups[rows], groups[train])]

    def _train(self, name: str, rung: int, draw: _Draw, seconds: float) -> tuple[np.ndarray, float] | None:
        """Logits of the held-out rows, (held, labels), and the epochs trained; None where it is not possible."""
        situation, modality = self.situation, self.situation.task.card.modality
        inner = max(1, round(_INNER * len(draw.train)))  # the last of an order in which every class comes first
        fit, validation, epochs = draw.train[:-inner], draw.train[-inner:], draw.epochs
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
                reserve=len(draw.held) * self.measured.evidence.seconds_forward,
                progress=bar,
            )
            try:
                outcome = STRATEGY[name](context)
            except (StrategyNotPossibleError, DataError):  # so few rows, classes or groups that it cannot be trained
                return None
        if outcome.stopped:  # by the clock
            epochs = max((point.epoch for point in outcome.history), default=0.0)
        if epochs <= 0:
            return None
        return logits_of(outcome.model, situation.labelled.take(draw.held), frozen=False), epochs

    def _probe(self, train: np.ndarray, held: np.ndarray) -> np.ndarray:
        """What the probe on the same rows answers to the held-out ones, (held,)."""
        labelled = self.situation.labelled
        labels = labelled.labels[train]
        if len(np.unique(labels)) < 2:
            return np.full(len(held), labels[0])
        weight, bias = fit_like(self.measured.probe, labelled.features[train], labels)
        answers: np.ndarray = (labelled.features[held] @ weight.T + bias).argmax(1)
        return answers
