"""From a situation to a plan: measure floors, probe and times, forecast, decide."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.core.clock import Clock
from warmstart.core.errors import StrategyNotPossibleError
from warmstart.core.options import AUTO, AdviseOptions, TrainOptions
from warmstart.core.progress import reporter
from warmstart.core.records import Evidence, Floor, Plan
from warmstart.decide.evidence import gather, measure_floors
from warmstart.decide.forecast import Rows as RowCounts
from warmstart.decide.forecast import StrategyCost, forecast_costs
from warmstart.decide.rules import make_plan
from warmstart.strategies.protocol import Context
from warmstart.strategies.rate_search import SHARE
from warmstart.strategies.remedies import interpolation_seconds
from warmstart.strategies.table import TRAINED, settings_for, start_of
from warmstart.strategies.zero_shot import zero_shot
from warmstart.train.class_weights import balanced_class_weights
from warmstart.train.lr_find import search_seconds
from warmstart.train.probe_solver import ProbeSolution, solve_probe
from warmstart.verbs import facts
from warmstart.verbs.scoring import frozen_logits
from warmstart.verbs.situation import Situation

_AFTERWARDS = 12.0  # seconds to save, to load again in a new process, and to write the report
_MARGIN = 1.15  # on the time of the last evaluations


@dataclass(frozen=True)
class Measured:
    """What was measured before deciding."""

    fit: np.ndarray  # places among the labelled rows
    validation: np.ndarray
    probe: ProbeSolution  # on all labelled rows
    probe_seconds: float
    floors: tuple[Floor, ...]
    evidence: Evidence


def measure(situation: Situation, options: TrainOptions, validation_size: float, seed: int) -> Measured:
    """Floors, the probe, zero-shot and times."""
    fit, validation = situation.split_places(validation_size, seed)
    labelled, test, classes = situation.labelled, situation.test, len(situation.labels)
    groups = situation.task.groups
    reporter().say("Measuring the floors, the probe and the time of a training step …")
    floors = measure_floors(
        labelled.labels,
        classes,
        features=labelled.features,
        texts=_texts(situation, "labelled"),
        seed=seed,
        groups=groups,
        test_labels=test.labels,
        test_features=test.features,
        test_texts=_texts(situation, "test"),
    )
    start = time.perf_counter()
    probe = solve_probe(
        labelled.features,
        labelled.labels,
        classes,
        class_weights=balanced_class_weights(labelled.labels, classes) if options.class_weights == "balanced" else None,
        metric="log_loss",
        seed=seed,
        groups=groups,
    )
    probe_seconds = time.perf_counter() - start
    settings = settings_for("fine_tune", situation.task.card.modality, options, fast_bf16=situation.fast_bf16)
    evidence = gather(
        labels=labelled.labels,
        classes=classes,
        features=labelled.features,
        texts=None,
        probe=probe,
        zero_shot_logits=_zero_shot_logits(situation, options),
        seconds_forward=situation.seconds_forward,
        seconds_train=situation.seconds_train(settings.per_device_train_batch_size, bf16=settings.bf16, seed=seed),
        parameters=situation.backbone.card.parameters,
        budget_seconds=options.time_budget,
        device=facts.machine(situation.device),
        seed=seed,
        groups=groups,
        floors=floors,
    )
    return Measured(fit, validation, probe, probe_seconds, floors, evidence)


def make(
    situation: Situation,
    measured: Measured,
    options: TrainOptions,
    seconds_left: float,
    strategy: str | None,
    aside: float = 0.0,
) -> Plan:
    """Decide, or lay out what the user decided.

    Args:
        situation: the task and the model.
        measured: what was measured.
        options: what the user fixed.
        seconds_left: of the time budget; infinite without one.
        strategy: the user's choice; None to decide.
        aside: seconds for what else must fit when something is trained.
    """
    modality = situation.task.card.modality
    epochs = {name: _epochs(name, modality, options, len(measured.fit)) for name in TRAINED}
    budget = options.time_budget
    spent = 0.0 if budget is None else budget - seconds_left + _AFTERWARDS + aside
    spent += seconds_to_search(options, measured.evidence, seconds_left)
    counts = RowCounts(len(measured.fit), len(measured.validation), len(situation.test.labels))
    costs = forecast_costs(measured.evidence, counts, epochs, spent_seconds=spent, features_ready=True)
    overrides = {
        "learning_rate": None if options.learning_rate == AUTO else options.learning_rate,
        "layer_decay": options.layer_decay,
        "head_learning_rate": options.head_learning_rate,
    }
    plan = make_plan(measured.evidence, costs, modality, overrides)
    return plan if strategy is None else _asked_for(plan, strategy, costs)


def seconds_to_search(options: TrainOptions, evidence: Evidence, seconds_left: float) -> float:
    """What finding a learning rate takes of the seconds left for one training; 0 where none is looked for."""
    if options.learning_rate != AUTO:
        return 0.0
    rows = options.per_device_train_batch_size * options.gradient_accumulation_steps
    return min(SHARE * seconds_left, search_seconds(evidence.seconds_train, rows))


def _epochs(name: str, modality: str, options: TrainOptions, rows: int) -> float:
    if options.max_steps is not None:
        return options.max_steps * options.per_device_train_batch_size * options.gradient_accumulation_steps / rows
    wanted = options.num_train_epochs
    return start_of(name, modality).num_train_epochs if wanted is None else wanted


def _asked_for(plan: Plan, strategy: str, costs: tuple[StrategyCost, ...]) -> Plan:
    settings = {name: value for name, value in plan.settings.items() if name != "num_train_epochs"}
    cost = next(cost for cost in costs if cost.forecast.strategy == strategy)
    if strategy in TRAINED:
        settings["num_train_epochs"] = cost.epochs if cost.epochs > 0 else min(1.0, cost.epochs_wanted)
    own = "which is also what the rules say" if plan.strategy == strategy else f"the rules say {plan.strategy}"
    return dataclasses.replace(
        plan,
        strategy=strategy,
        runner_up=plan.strategy if plan.strategy != strategy else plan.runner_up,
        settings=settings,
        reasons=(f"You asked for {strategy}; {own}.", *plan.reasons),
    )


def expected_mixing(situation: Situation, options: TrainOptions, validation_rows: int, reference: float) -> float:
    """Seconds that interpolating weights after training will take.

    Args:
        situation: the task and the model.
        options: what the user fixed.
        validation_rows: rows that mixtures are scored on.
        reference: seconds for measuring the reference rows twice.
    """
    settings = settings_for("fine_tune", situation.task.card.modality, options, fast_bf16=situation.fast_bf16)
    return interpolation_seconds(settings, situation.seconds_forward * validation_rows, reference / 2)


def reserve_seconds(situation: Situation) -> float:
    """Seconds to keep after training: scoring the test rows, measuring what was forgotten, saving, loading again."""
    scoring = situation.seconds_forward * len(situation.test.labels)
    return _AFTERWARDS + _MARGIN * (scoring + forgetting_seconds(situation))


def forgetting_seconds(situation: Situation) -> float:
    """Seconds that measuring what one model forgot takes: about as long as the original took."""
    return 0.0 if situation.reference is None else situation.reference.seconds


def _texts(situation: Situation, side: str) -> list[str] | list[tuple[str, str]] | None:
    rows = situation.task.labelled if side == "labelled" else situation.task.test
    if "text" not in rows.column_names:
        return None
    if "text_pair" in rows.column_names:
        return list(zip(rows["text"], rows["text_pair"], strict=True))
    return list(rows["text"])


def _zero_shot_logits(situation: Situation, options: TrainOptions) -> np.ndarray | None:
    modality = situation.task.card.modality
    context = Context(
        backbone=situation.backbone,
        modality=modality,
        labels=situation.labels,
        fit=situation.labelled,
        validation=situation.labelled,
        settings=settings_for("zero_shot", modality, options, fast_bf16=situation.fast_bf16),
        seed=0,
        work=Path(),
        clock=Clock(),
        reserve=0.0,
    )
    try:
        return frozen_logits(zero_shot(context).model, situation.labelled.features)
    except StrategyNotPossibleError:
        return None


def plan_only(situation: Situation, options: AdviseOptions) -> Plan:
    """Measure and decide, without a clock running."""
    left = float("inf") if options.time_budget is None else options.time_budget
    measured = measure(situation, options, options.validation_size, options.seed)
    return make(situation, measured, options, left, None)
