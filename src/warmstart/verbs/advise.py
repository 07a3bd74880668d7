"""`advise`: measure the situation and say which strategy fits, at what cost, and why. No result is written."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np

from warmstart.backbones.outline import Outline, is_outline, read_outline
from warmstart.core.decision import Evidence, Plan
from warmstart.core.errors import ModelError, SettingError
from warmstart.core.option import verb
from warmstart.core.options import AdviseOptions
from warmstart.core.progress import reporter
from warmstart.data.reference import ReferenceRows
from warmstart.data.task import Task
from warmstart.decide.choice import Question
from warmstart.decide.experience import learned_response
from warmstart.decide.ranking import rank_models
from warmstart.decide.transferability import h_score, leep, log_me
from warmstart.verbs.domain import domain_evidence
from warmstart.verbs.pilots import exhaustive_seconds, run_pilots
from warmstart.verbs.planning import Measured, expected_mixing, make, measure, strategy_costs
from warmstart.verbs.reference import expected_seconds
from warmstart.verbs.rules import plan_by_rules, plan_of_outline
from warmstart.verbs.situation import (
    Situation,
    check_kind,
    encode_task,
    load_for,
    read_reference_rows,
    read_task,
)


@verb(AdviseOptions)
def advise(options: AdviseOptions) -> Plan:
    """A plan with its reasons, from labels, domain and compute; of several models, the best one's, with the ranking.

    Raises:
        UserError: something in the call, the data or the machine must change.
    """
    if options.scorecard:
        raise SettingError("scorecard is for the command line; in Python call warmstart.scorecard().")
    if not options.data:
        raise SettingError("--data is missing: name the rows to give advice on, or ask for --scorecard.")
    outlined = [name for name in options.models if is_outline(name)]
    if outlined and options.effort in ("probe", "pilot"):
        raise ModelError(
            f"There are no weights in {outlined[0]}: --effort {options.effort} needs them, rules does not."
        )
    task = read_task(options)
    reference = read_reference_rows(options, options.reference_data, task)
    plans = {name: _plan(task, name, options, reference, outlined=name in outlined) for name in options.models}
    if len(plans) == 1:
        return next(iter(plans.values()))
    ranking = rank_models([dataclasses.replace(plan, model=name) for name, plan in plans.items()])
    return dataclasses.replace(plans[ranking[0].model], model=ranking[0].model, ranking=ranking)


def _plan(task: Task, name: str, options: AdviseOptions, reference: ReferenceRows | None, *, outlined: bool) -> Plan:
    if outlined:
        return _from_outline(task, read_outline(
            name, max_length=options.max_length, trust_remote_code=options.trust_remote_code
        ), options)  # fmt: skip
    begun = time.perf_counter()
    effort = "probe" if options.effort is None else options.effort
    embedded = effort != "rules" and len(task.labelled) > 0
    backbone = load_for(task, name, options, options.seed if embedded else None)
    situation = encode_task(task, backbone, options, "labelled" if embedded else "none", reference)
    if not embedded:
        return plan_by_rules(situation, options)
    measured = measured_for_advice(situation, options, effort)
    left, aside = math.inf, 0.0
    if options.time_budget is not None:  # what `adapt` will have spent by then, and what it keeps aside
        spent = time.perf_counter() - begun + situation.seconds_forward * len(task.test)
        left = max(0.0, options.time_budget - spent)
        aside = expected_seconds(situation, options.reference_data, options.time_budget)
        aside += expected_mixing(situation, options, len(measured.validation), aside)
    if effort != "pilot":
        return make(situation, measured, options, left, None, aside)
    costs = strategy_costs(situation, measured, options, left, aside)
    budget = exhaustive_seconds(costs) if options.time_budget is None else options.time_budget
    question = Question(measured.evidence, costs, task.card.modality, learned_response())
    pilots = run_pilots(situation, measured, question, options, options.pilot_share * budget)
    spent, share = sum(pilot.seconds for pilot in pilots), options.pilot_share * budget
    reporter().say(
        f"Pilots took {spent:.0f} s of {share:.0f} s."
        if pilots
        else f"No pilot ran: none that could change the choice, and has rows enough, fits into {share:.0f} s."
    )
    return make(situation, measured, options, left, None, aside, pilots)


def _from_outline(task: Task, outline: Outline, options: AdviseOptions) -> Plan:
    check_kind(task, outline.name, outline.kind)
    reporter().say(
        f"Model: {outline.name}, {outline.parameters:,} parameters by its configuration; there are no weights"
    )
    return plan_of_outline(task, outline, options)


def measured_for_advice(situation: Situation, options: AdviseOptions, effort: str) -> Measured:
    """Everything that `adapt` measures, and the distance from the reference and the transferability scores."""
    measured = measure(situation, options, options.validation_size, options.seed, options.device_bytes())
    evidence: Evidence = dataclasses.replace(
        measured.evidence,
        effort=effort,
        domain=domain_evidence(situation, options.reference_data, options.seed),
        transferability=_transferability(situation),
    )
    return dataclasses.replace(measured, evidence=evidence)


def _transferability(situation: Situation) -> dict[str, float]:
    """LogME and H-score; LEEP where the model has a head of its own for other classes."""
    labelled, classes = situation.labelled, len(situation.labels)
    found = {
        "LogME": log_me(labelled.features, labelled.labels, classes),
        "H-score": h_score(labelled.features, labelled.labels, classes),
    }
    head = situation.backbone.source_head
    if head is not None:
        logits = labelled.features @ head.weight.T + head.bias  # (rows, source classes)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        found["LEEP"] = leep(shares / shares.sum(axis=1, keepdims=True), labelled.labels, classes)
    return found
