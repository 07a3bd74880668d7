"""Advice at effort `rules`: label counts, words and a few timed steps; no pass over the data. Also without weights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from warmstart.backbones.embed import best_device
from warmstart.backbones.label_names import have_names
from warmstart.backbones.outline import Outline
from warmstart.core.decision import ComputeEvidence, Evidence, Plan
from warmstart.core.options import AdviseOptions
from warmstart.core.record import Interval
from warmstart.data.task import Task
from warmstart.decide.evidence import measure_floors
from warmstart.decide.forecast import Rows as RowCounts
from warmstart.decide.forecast import forecast_costs
from warmstart.decide.plan import make_plan
from warmstart.strategies.table import TRAINED, settings_for
from warmstart.train.calibrate import StepCost
from warmstart.verbs import facts
from warmstart.verbs.compute import compute_evidence, outlined_compute
from warmstart.verbs.planning import AFTERWARDS, epochs_wanted, overrides_of, texts_of
from warmstart.verbs.situation import Situation

_UNKNOWN = Interval(math.nan, 0.0, 1.0)


def plan_by_rules(situation: Situation, options: AdviseOptions) -> Plan:
    """A plan for a model that was loaded and timed, from counts and words.

    Args:
        situation: the task and the model; no row needs to be embedded.
        options: what the user fixed.
    """
    task, backbone = situation.task, situation.backbone
    settings = settings_for("fine_tune", task.card.modality, options, fast_bf16=situation.fast_bf16)
    step = situation.step_cost(settings, options.seed) if len(task.labelled) else StepCost(math.nan, 0.0)
    evidence = _evidence(
        task,
        options,
        zero_shot=backbone.embed_labels is not None and have_names(task.card.labels),
        seconds=(situation.seconds_forward, step.seconds),
        compute=compute_evidence(situation, settings, step, options.device_bytes()),
        device=facts.machine(situation.device),
    )
    return dataclasses.replace(_plan(task, evidence, options), model=backbone.card.name)


def plan_of_outline(task: Task, outline: Outline, options: AdviseOptions) -> Plan:
    """A plan for a model of which there is only a configuration: nothing is timed.

    Args:
        task: the rows.
        outline: the model's shape.
        options: what the user fixed.
    """
    device = best_device()
    settings = settings_for("fine_tune", task.card.modality, options, fast_bf16=False)
    evidence = _evidence(
        task,
        options,
        zero_shot=outline.kind == "text" and have_names(task.card.labels),
        seconds=(math.nan, math.nan),
        compute=outlined_compute(outline, settings, device, options.device_bytes()),
        device=facts.machine(device),
    )
    return dataclasses.replace(_plan(task, evidence, options), model=outline.name)


def _evidence(
    task: Task,
    options: AdviseOptions,
    *,
    zero_shot: bool,
    seconds: tuple[float, float],
    compute: ComputeEvidence,
    device: str,
) -> Evidence:
    """What counts and words say; scores of features are not known, and zero-shot is at best known to be possible."""
    labels, classes = np.asarray(task.labelled["label"], dtype=np.int64), len(task.card.labels)
    floors = measure_floors(
        labels,
        classes,
        features=None,
        texts=texts_of(task, "labelled") if len(labels) else None,
        seed=options.seed,
        groups=task.together,
    )
    known = {floor.name: floor.cross_validated for floor in floors}
    counts = np.bincount(labels, minlength=classes)
    return Evidence(
        labelled=len(labels),
        classes=classes,
        per_class_min=int(counts.min()),
        per_class_median=float(np.median(counts)),
        majority=known["majority"].value if "majority" in known else math.nan,
        zero_shot=_UNKNOWN if zero_shot else None,
        tfidf=known.get("tfidf"),
        knn=_UNKNOWN,
        probe=_UNKNOWN,
        seconds_forward=seconds[0],
        seconds_train=seconds[1],
        parameters=compute.parameters,
        budget_seconds=options.time_budget,
        device=device,
        effort="rules",
        compute=compute,
    )


def _plan(task: Task, evidence: Evidence, options: AdviseOptions) -> Plan:
    modality = task.card.modality
    fit, validation = (len(side) for side in task.split(options.validation_size, options.seed))
    epochs = {name: epochs_wanted(name, modality, options, fit) for name in TRAINED}
    costs = forecast_costs(
        evidence, RowCounts(fit, validation, len(task.test)), epochs, spent_seconds=AFTERWARDS
    )  # none of a budget is gone: `adapt` will spend it from the start
    return make_plan(evidence, costs, modality, overrides_of(options))
