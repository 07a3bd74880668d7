"""The rules, as a table: when each applies, what it prefers, why, and what would change it; and the Plan they give.

The first rule that applies decides. Quantities and thresholds come from `warmstart.decide.situation`, seconds from
`warmstart.decide.forecast`; learning rates and the like are left to whoever runs the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warmstart.core.errors import DataError
from warmstart.core.records import Evidence, Modality, Plan
from warmstart.decide.forecast import BACKWARD, StrategyCost
from warmstart.decide.situation import (
    CEILING,
    ENOUGH,
    FEW,
    HUGE,
    PLENTY,
    SCRATCH,
    Situation,
    above,
    situation,
)


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        name: of the rule, for tests and logs.
        applies: whether it decides.
        prefer: strategies in order; the first that is allowed is chosen, the next is the runner-up.
        because: the sentence that gives the reason with its numbers.
        unless: sentences that say what would change the choice.
    """

    name: str
    applies: Callable[[Situation], bool]
    prefer: tuple[str, ...]
    because: Callable[[Situation], str]
    unless: tuple[str, ...]


RULES: tuple[Rule, ...] = (
    Rule(
        "no_labels",
        lambda s: s.evidence.labelled == 0,
        ("zero_shot",),
        lambda s: "There are no labelled rows, so only zero-shot can work.",
        ("With one or more labelled rows a class, a linear probe can be measured against zero-shot.",),
    ),
    Rule(
        "zero_shot_beats_probe",
        lambda s: s.per_class < FEW and above(s.evidence.zero_shot, s.evidence.probe),
        ("zero_shot", "linear_probe"),
        lambda s: (
            f"Zero-shot reaches {s.evidence.zero_shot} without learning from any label, above the probe's "
            f"{s.evidence.probe} on {s.per_class:g} labels a class: do not train."
        ),
        (f"Above about {FEW} labels a class the probe may overtake zero-shot.",),
    ),
    Rule(
        "few_labels",
        lambda s: s.per_class < FEW,
        ("linear_probe", "progressive", "fine_tune"),
        lambda s: f"{s.per_class:g} labels a class are fewer than {FEW}: too few to move the backbone safely.",
        (f"Above about {ENOUGH} labels a class: fine_tune.",),
    ),
    Rule(
        "ceiling",
        lambda s: s.evidence.probe.value >= CEILING,
        ("linear_probe", "fine_tune", "lora"),
        lambda s: (
            f"The probe is at {s.evidence.probe}: {s.headroom:.3f} is left to win, and a tie goes to the cheapest."
        ),
        (f"A probe below {CEILING}, on rows as hard as yours will be, would make fine_tune worth its time.",),
    ),
    Rule(
        "no_time_to_train",
        lambda s: not s.trains,
        ("linear_probe", "zero_shot"),
        lambda s: "The budget does not hold one epoch of any strategy that trains the backbone.",
        ("A larger --time-budget, or none, would allow fine_tune.",),
    ),
    Rule(
        "huge_model",
        lambda s: s.evidence.parameters > HUGE,
        ("lora", "linear_probe"),
        lambda s: (
            f"The model has {s.evidence.parameters / 1e9:.1f} billion parameters: full fine-tuning in fp32 with AdamW "
            f"would hold {s.evidence.parameters * 16 / 1e9:.0f} GB of weights, gradients and moments."
        ),
        (f"Below {HUGE / 1e9:g} billion parameters: fine_tune.",),
    ),
    Rule(
        "features_do_not_fit_and_much_data",
        lambda s: bool(s.better_floors) and s.evidence.labelled >= SCRATCH,
        ("fine_tune", "scratch", "lora"),
        lambda s: (
            f"The probe ({s.evidence.probe}) does not beat {' and '.join(s.better_floors)}: the features do not fit "
            f"these {s.inputs}, and {s.evidence.labelled:,} rows can move them."
        ),
        ("A backbone trained closer to this domain, whose probe beats every floor.",),
    ),
    Rule(
        "features_do_not_fit",
        lambda s: bool(s.better_floors),
        ("fine_tune", "progressive", "lora"),
        lambda s: (
            f"The probe ({s.evidence.probe}) does not beat {' and '.join(s.better_floors)}: the features do not fit "
            f"these {s.inputs} as they are, so the backbone must move."
        ),
        (
            "A backbone trained closer to this domain, whose probe beats every floor.",
            f"Below {SCRATCH:,} labelled rows never from scratch.",
        ),
    ),
    Rule(
        "between",
        lambda s: s.per_class < ENOUGH,
        ("linear_probe", "progressive", "fine_tune"),
        lambda s: (
            f"{s.per_class:g} labels a class lie between {FEW} and {ENOUGH}, and the probe's {s.evidence.probe} clears "
            "every floor: fine-tuning on so few may lose what the pretrained features hold."
        ),
        (f"From about {ENOUGH} labels a class: fine_tune.", "A floor above the probe's interval: fine_tune."),
    ),
    Rule(
        "enough_labels",
        lambda s: s.per_class < PLENTY,
        ("fine_tune", "progressive", "lora"),
        lambda s: (
            f"{s.per_class:g} labels a class are enough to fine-tune from the probe's head with layer-wise decay, and "
            f"the probe ({s.evidence.probe}) leaves {s.headroom:.3f} to win."
        ),
        (f"Below about {ENOUGH} labels a class: linear_probe.", f"A probe at {CEILING} or above: linear_probe."),
    ),
    Rule(
        "plenty_of_labels",
        lambda s: True,
        ("fine_tune", "lora", "progressive"),
        lambda s: (
            f"{s.per_class:g} labels a class are plenty to fine-tune from the probe's head with layer-wise decay, and "
            f"the probe ({s.evidence.probe}) leaves {s.headroom:.3f} to win."
        ),
        (
            f"Below about {ENOUGH} labels a class: linear_probe.",
            f"A probe at {CEILING} or above: linear_probe.",
            f"Below {SCRATCH:,} labelled rows never from scratch.",
        ),
    ),
)


def make_plan(
    evidence: Evidence,
    costs: Sequence[StrategyCost],
    modality: Modality,
    overrides: Mapping[str, Any] | None = None,
) -> Plan:
    """Decide.

    Args:
        evidence: from `warmstart.decide.evidence.gather`.
        costs: from `warmstart.decide.forecast.forecast_costs`; a strategy that is not there is not considered.
        modality: text, pair or image.
        overrides: settings that the user fixed; they win over the plan's. None values are ignored.

    Returns:
        The plan. Its settings hold `num_train_epochs` when the strategy trains, and the overrides.

    Raises:
        DataError: when there are no labels and zero-shot is impossible.
    """
    seen = situation(evidence, costs, modality)
    if evidence.labelled == 0 and "zero_shot" not in seen.allowed:
        raise DataError(
            "there are no labelled rows, and zero_shot is ruled out",
            remedy="Label some rows, or choose a sentence encoder or CLIP-like model and enough time.",
        )
    rule = next(rule for rule in RULES if rule.applies(seen))
    strategy, runner_up = _pick(rule, seen)
    fixed = {name: value for name, value in ({} if overrides is None else overrides).items() if value is not None}
    return Plan(
        strategy=strategy,
        runner_up=runner_up,
        settings={**_settings(strategy, seen), **fixed},
        reasons=(rule.because(seen), *_notes(rule, strategy, seen, fixed)),
        would_change=(*rule.unless, *_more_time(strategy, seen)),
        forecasts=tuple(cost.forecast for cost in costs),
        evidence=evidence,
    )


def _pick(rule: Rule, seen: Situation) -> tuple[str, str]:
    """The rule's first two allowed strategies, then the cheapest allowed; the runner-up is empty if there is none."""
    order = [name for name in (*rule.prefer, *seen.allowed) if name in seen.allowed]
    order = list(dict.fromkeys(order))
    if not order:  # not even the features fit into the budget
        order = ["linear_probe"]
    return order[0], order[1] if len(order) > 1 else ""


def _settings(strategy: str, seen: Situation) -> dict[str, Any]:
    return {"num_train_epochs": seen.costs[strategy].epochs} if strategy in BACKWARD else {}


def _notes(rule: Rule, strategy: str, seen: Situation, fixed: Mapping[str, Any]) -> list[str]:
    """What else the reader should know: what was ruled out, and what was cut."""
    before = rule.prefer[: rule.prefer.index(strategy)] if strategy in rule.prefer else rule.prefer
    barred = dict.fromkeys(before if seen.trains else (*before, *BACKWARD))
    notes = [
        f"{name} is ruled out: {seen.costs[name].forecast.reason}."
        for name in barred
        if name in seen.costs and not seen.costs[name].forecast.allowed
    ]
    if seen.better_floors and not rule.name.startswith("features_do_not_fit"):
        notes.append(f"Beware: the probe ({seen.evidence.probe}) does not beat {' and '.join(seen.better_floors)}.")
    if strategy not in seen.allowed:
        notes.append("No strategy fits the budget; the linear probe is the cheapest that learns from labels.")
    if strategy not in BACKWARD:
        return notes
    cost = seen.costs[strategy]
    if "num_train_epochs" in fixed and fixed["num_train_epochs"] > cost.epochs:
        notes.append(
            f"{fixed['num_train_epochs']:g} epochs were asked for, and {cost.epochs:g} fit the budget: "
            "training may stop early."
        )
    elif cost.epochs < cost.epochs_wanted:
        notes.append(f"Cut to the budget: {cost.forecast.reason}.")
    else:
        notes.append(f"Time: {cost.forecast.reason}.")
    return notes


def _more_time(strategy: str, seen: Situation) -> list[str]:
    if strategy not in BACKWARD or seen.costs[strategy].epochs >= seen.costs[strategy].epochs_wanted:
        return []
    return [f"More time: {seen.costs[strategy].epochs_wanted:g} epochs are what {strategy} would take unhurried."]
