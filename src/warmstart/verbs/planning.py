"""From a situation to a plan: measure floors, labels, probe, times and memory, forecast, decide."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.core.clock import Clock
from warmstart.core.decision import Evidence, PilotRun, Plan
from warmstart.core.errors import StrategyNotPossibleError
from warmstart.core.options import AUTO, TrainOptions
from warmstart.core.progress import reporter
from warmstart.core.records import Floor
from warmstart.data.task import Task
from warmstart.decide.evidence import gather, measure_floors
from warmstart.decide.forecast import Rows as RowCounts
from warmstart.decide.forecast import StrategyCost, forecast_costs
from warmstart.decide.label_evidence import label_evidence
from warmstart.decide.plan import make_plan
from warmstart.strategies.linear_probe import solve
from warmstart.strategies.protocol import Context
from warmstart.strategies.rate_search import SHARE
from warmstart.strategies.remedies import interpolation_seconds
from warmstart.strategies.table import TRAINED, settings_for, start_of
from warmstart.strategies.zero_shot import zero_shot
from warmstart.train.lr_find import search_seconds
from warmstart.train.probe_solver import ProbeSolution
from warmstart.verbs import facts
from warmstart.verbs.compute import compute_evidence
from warmstart.verbs.scoring import frozen_logits
from warmstart.verbs.situation import Situation

AFTERWARDS = 12.0  # seconds to save, to load again in a new process, and to write the report
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


def measure(
    situation: Situation, options: TrainOptions, validation_size: float, seed: int, device_bytes: int | None = None
) -> Measured:
    """Floors, the probe, what the labels say, zero-shot, times and memory.

    Args:
        situation: the task and the model, its labelled rows embedded; test rows are judged where they are, too.
        options: what the user fixed.
        validation_size: share of the labelled rows, or a count.
        seed: of splits and folds.
        device_bytes: memory to train in, if the user says; else the device's own.
    """
    fit, validation = situation.split_places(validation_size, seed)
    labelled, test, classes = situation.labelled, situation.test, len(situation.labels)
    groups = situation.task.together
    reporter().say("Measuring the floors, the probe and the time of a training step …")
    judged = len(test.features) == len(test.labels)
    floors = measure_floors(
        labelled.labels,
        classes,
        features=labelled.features,
        texts=texts_of(situation.task, "labelled"),
        seed=seed,
        groups=groups,
        test_labels=test.labels if judged else None,
        test_features=test.features if judged else None,
        test_texts=texts_of(situation.task, "test") if judged else None,
    )
    start = time.perf_counter()
    probe = solve(_frozen(situation, "linear_probe", options, seed))
    probe_seconds = time.perf_counter() - start
    settings = settings_for("fine_tune", situation.task.card.modality, options, fast_bf16=situation.fast_bf16)
    step = situation.step_cost(settings, seed)
    evidence = gather(
        labels=labelled.labels,
        classes=classes,
        features=labelled.features,
        texts=None,
        probe=probe,
        zero_shot_logits=_zero_shot_logits(situation, options, seed),
        seconds_forward=situation.seconds_forward,
        seconds_train=step.seconds,
        parameters=situation.backbone.card.parameters,
        budget_seconds=options.time_budget,
        device=facts.machine(situation.device),
        seed=seed,
        groups=groups,
        floors=floors,
    )
    evidence = dataclasses.replace(
        evidence,
        labels=label_evidence(
            labelled.features, labelled.labels, classes, probe, evidence.probe, seed=seed, groups=groups
        ),
        compute=compute_evidence(situation, settings, step, device_bytes),
    )
    return Measured(fit, validation, probe, probe_seconds, floors, evidence)


def make(
    situation: Situation,
    measured: Measured,
    options: TrainOptions,
    seconds_left: float,
    strategy: str | None,
    aside: float = 0.0,
    pilots: Sequence[PilotRun] = (),
) -> Plan:
    """Decide, or lay out what the user decided.

    Args:
        situation: the task and the model.
        measured: what was measured.
        options: what the user fixed.
        seconds_left: of the time budget; infinite without one.
        strategy: the user's choice; None to decide.
        aside: seconds for what else must fit when something is trained.
        pilots: short trainings, if there were any.
    """
    costs = strategy_costs(situation, measured, options, seconds_left, aside)
    plan = make_plan(measured.evidence, costs, situation.task.card.modality, overrides_of(options), pilots=pilots)
    plan = dataclasses.replace(plan, model=situation.backbone.card.name)
    return plan if strategy is None else _asked_for(plan, strategy, costs)


def strategy_costs(
    situation: Situation, measured: Measured, options: TrainOptions, seconds_left: float, aside: float = 0.0
) -> tuple[StrategyCost, ...]:
    """What every strategy will cost; the arguments are those of `make`."""
    modality = situation.task.card.modality
    epochs = {name: epochs_wanted(name, modality, options, len(measured.fit)) for name in TRAINED}
    budget = options.time_budget
    spent = 0.0 if budget is None else budget - seconds_left + AFTERWARDS + aside
    spent += seconds_to_search(options, measured.evidence, seconds_left)
    counts = RowCounts(len(measured.fit), len(measured.validation), len(situation.test.labels))
    return forecast_costs(measured.evidence, counts, epochs, spent_seconds=spent, features_ready=True)


def overrides_of(options: TrainOptions) -> dict[str, Any]:
    """Settings that the user fixed, by name; None for those that the plan may choose."""
    return {
        "learning_rate": None if options.learning_rate == AUTO else options.learning_rate,
        "layer_decay": options.layer_decay,
        "head_learning_rate": options.head_learning_rate,
        "num_train_epochs": options.num_train_epochs,
    }


def seconds_to_search(options: TrainOptions, evidence: Evidence, seconds_left: float) -> float:
    """What finding a learning rate takes of the seconds left for one training; 0 where none is looked for."""
    if options.learning_rate != AUTO:
        return 0.0
    rows = options.per_device_train_batch_size * options.gradient_accumulation_steps
    return min(SHARE * seconds_left, search_seconds(evidence.seconds_train, rows))


def epochs_wanted(name: str, modality: str, options: TrainOptions, rows: int) -> float:
    """Passes over the rows that a strategy takes unhurried."""
    if options.max_steps is not None:
        return options.max_steps * options.per_device_train_batch_size * options.gradient_accumulation_steps / rows
    wanted = options.num_train_epochs
    return start_of(name, modality).num_train_epochs if wanted is None else wanted


def _asked_for(plan: Plan, strategy: str, costs: tuple[StrategyCost, ...]) -> Plan:
    settings = {name: value for name, value in plan.settings.items() if name != "num_train_epochs"}
    cost = next(cost for cost in costs if cost.forecast.strategy == strategy)
    if strategy in TRAINED:
        settings["num_train_epochs"] = cost.epochs if cost.epochs > 0 else min(1.0, cost.epochs_wanted)
    own = "which is also the advice" if plan.strategy == strategy else f"the advice is {plan.strategy}"
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
    return AFTERWARDS + _MARGIN * (scoring + forgetting_seconds(situation))


def forgetting_seconds(situation: Situation) -> float:
    """Seconds that measuring what one model forgot takes: about as long as the original took."""
    return 0.0 if situation.reference is None else situation.reference.seconds


def texts_of(task: Task, side: str) -> list[str] | list[tuple[str, str]] | None:
    """The texts, or pairs of texts, of a side of the task; None for images."""
    rows = task.labelled if side == "labelled" else task.test
    if "text" not in rows.column_names:
        return None
    if "text_pair" in rows.column_names:
        return list(zip(rows["text"], rows["text_pair"], strict=True))
    return list(rows["text"])


def _frozen(situation: Situation, name: str, options: TrainOptions, seed: int) -> Context:
    """What a strategy that trains nothing is told, all labelled rows to learn from."""
    modality = situation.task.card.modality
    return Context(
        backbone=situation.backbone,
        modality=modality,
        labels=situation.labels,
        fit=situation.labelled,
        validation=situation.labelled,
        settings=settings_for(name, modality, options, fast_bf16=situation.fast_bf16),
        seed=seed,
        work=Path(),
        clock=Clock(),
        reserve=0.0,
    )


def _zero_shot_logits(situation: Situation, options: TrainOptions, seed: int) -> np.ndarray | None:
    try:
        found = zero_shot(_frozen(situation, "zero_shot", options, seed))
        return frozen_logits(found.model, situation.labelled.features)
    except StrategyNotPossibleError:
        return None
