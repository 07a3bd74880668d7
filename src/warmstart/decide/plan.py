"""From a question to a Plan: the choice, the settings that follow from it, and everything there is to say about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from warmstart.core.decision import Evidence, PilotRun, Plan
from warmstart.core.errors import DataError
from warmstart.core.records import Modality
from warmstart.decide.choice import NONE, Choice, Question, choose
from warmstart.decide.experience import learned_response
from warmstart.decide.forecast import BACKWARD, StrategyCost
from warmstart.decide.response import Response
from warmstart.decide.words import reasons, short_of, would_change


def make_plan(
    evidence: Evidence,
    costs: Sequence[StrategyCost],
    modality: Modality,
    overrides: Mapping[str, Any] | None = None,
    *,
    pilots: Sequence[PilotRun] = (),
    response: Response | None = None,
) -> Plan:
    """Decide.

    Args:
        evidence: what was measured.
        costs: from `warmstart.decide.forecast.forecast_costs`; a strategy that is not there is not considered.
        modality: text, pair or image.
        overrides: settings that the user fixed; they win over the plan's. None values are ignored.
        pilots: short trainings, if there were any.
        response: what strategies add to the probe; what was learned when this version was made, by default.

    Returns:
        The plan. Its settings hold `num_train_epochs` and the overrides when the strategy trains. Its strategy is
        "none" when the machine allows none.

    Raises:
        DataError: when there are no labels and zero-shot is impossible.
    """
    question = Question(evidence, costs, modality, learned_response() if response is None else response, pilots)
    if evidence.labelled == 0 and "zero_shot" not in question.allowed:
        raise DataError(
            "there are no labelled rows, and zero_shot is ruled out",
            remedy="Label some rows, or choose a sentence encoder or CLIP-like model and enough time.",
        )
    choice = choose(question)
    if choice.strategy == NONE and _time_alone(question):  # not even the features fit into the budget
        choice = dataclasses.replace(choice, strategy="linear_probe", best="linear_probe")
    fixed = {name: value for name, value in ({} if overrides is None else overrides).items() if value is not None}
    return Plan(
        strategy=choice.strategy,
        runner_up=choice.runner_up,
        settings={**_settings(choice, costs), **fixed} if choice.strategy in BACKWARD else {},
        reasons=reasons(question, choice, fixed),
        would_change=would_change(question, choice),
        forecasts=tuple(
            dataclasses.replace(cost.forecast, score=choice.expected[cost.forecast.strategy].score) for cost in costs
        ),
        evidence=evidence,
        pilots=tuple(pilots),
    )


def _time_alone(question: Question) -> bool:
    """Whether the probe is ruled out by time and by nothing else."""
    return any(cost.forecast.strategy == "linear_probe" and short_of(cost, question, "time") for cost in question.costs)


def _settings(choice: Choice, costs: Sequence[StrategyCost]) -> dict[str, Any]:
    if choice.strategy not in BACKWARD:
        return {}
    return {"num_train_epochs": next(cost.epochs for cost in costs if cost.forecast.strategy == choice.strategy)}
