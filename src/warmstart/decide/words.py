"""A choice in plain sentences with the numbers that led to it: its reasons, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from warmstart.core.decision import DomainEvidence, Evidence, LabelEvidence
from warmstart.core.record import Interval
from warmstart.core.sizes import show_bytes, show_parameters
from warmstart.decide.choice import NONE, Choice, Question, cheapest_first, choose, turns
from warmstart.decide.forecast import BACKWARD, HUGE, SCRATCH, StrategyCost
from warmstart.decide.memory import largest_that_fits, memory_of

_NOISY = 0.08  # share of contradicted labels from which it is worth a sentence
_FAR = 0.5  # of the way to the far point, from which inputs are called far
_MEBI = 2.0**20
_INPUTS = {"text": "texts", "pair": "pairs of texts", "image": "images"}


def reasons(question: Question, choice: Choice, fixed: Mapping[str, Any]) -> tuple[str, ...]:
    """Why: the comparison that decided, then what stands behind it, then what was ruled out and what was cut."""
    evidence = question.evidence
    found = [_main(question, choice), _huge(question, choice)]
    found += [_names(evidence), _floors(question), _pilots(question)]
    if evidence.labels is not None:
        found += [_noise(evidence.labels), _more_labels(evidence.labels)]
    if evidence.domain is not None:
        found.append(_domain(evidence.domain, _INPUTS[question.modality]))
    found += _ruled_out(question, choice)
    found.append(_time(question, choice, fixed))
    return tuple(line for line in found if line)


def _main(question: Question, choice: Choice) -> str:
    evidence, expected = question.evidence, choice.expected
    if choice.strategy == NONE:
        return _nothing_fits(question)
    own = expected[choice.strategy].score
    labels = f"{evidence.per_class_median:g} labels a class in {evidence.classes} classes"
    if evidence.labelled == 0:
        return "There are no labelled rows, so only zero-shot can work."
    if choice.strategy not in question.allowed:
        return f"No strategy fits the budget; {choice.strategy} is the cheapest that learns from labels."
    if choice.strategy == "zero_shot":
        measured = question.evidence.zero_shot
        if measured is None or math.isnan(measured.value):
            return (
                f"zero_shot is expected to reach {_score(own)}, by a guess: nothing was measured. "
                "Ask for --effort probe before you rely on it."
            )
        return _do_not_train(question, choice, measured)
    if choice.strategy != choice.best:
        best = expected[choice.best].score
        return (
            f"{choice.strategy} is expected to reach {_score(own)}, and {choice.best}, the highest, {_score(best)}: "
            f"with {labels} no more than {100 * question.tie:.2g} points apart, and a tie goes to the cheapest."
        )
    other = expected.get(choice.runner_up)
    if other is None:
        return f"{choice.strategy} is expected to reach {_score(own)} with {labels}; nothing else is allowed."
    gap = 100 * (expected[choice.strategy].share - other.share)
    return (
        f"{choice.strategy} is expected to reach {_score(own)}, {_points(gap)} above {choice.runner_up} "
        f"({_score(other.score)}), with {labels}."
    )


def _do_not_train(question: Question, choice: Choice, measured: Interval) -> str:
    best, reached = choice.expected[choice.best], _score(measured)
    if choice.best == "zero_shot":
        rival = choice.runner_up
        if not rival:
            return f"Do not train: zero-shot reaches {reached} without learning from any label, and nothing else fits."
        return (
            f"Do not train: zero-shot reaches {reached} without learning from any label, and {rival} is expected at "
            f"{_score(choice.expected[rival].score)} with {question.evidence.per_class_median:g} labels a class."
        )
    return (
        f"Do not train: zero-shot reaches {reached} without learning from any label, within the interval of the best "
        f"({choice.best}, {_score(best.score)}) and no more than {100 * question.tie:.2g} points below it."
    )


def _nothing_fits(question: Question) -> str:
    compute = question.evidence.compute
    limit = "" if compute is None or compute.device_bytes is None else f" into {show_bytes(compute.device_bytes)}"
    return f"None of the strategies fits{limit}: a model of {show_parameters(question.evidence.parameters)}."


def _huge(question: Question, choice: Choice) -> str:
    """The memory arithmetic of a model above a billion parameters."""
    evidence = question.evidence
    if evidence.parameters <= HUGE or evidence.compute is None:
        return ""
    lora, full = (memory_of(name, evidence.compute) for name in ("lora", "fine_tune"))
    stored = evidence.compute.stored_bytes
    narrow = f" (as stored, the weights are {show_bytes(stored)})" if stored < 4 * evidence.parameters else ""
    return (
        f"The model has {show_parameters(evidence.parameters)}, so LoRA stands for all that trains. "
        f"LoRA holds {lora.arithmetic()}{narrow}; training everything would hold {full.arithmetic()}."
    )


def _floors(question: Question) -> str:
    evidence = question.evidence
    probe, found = evidence.probe, []
    if math.isnan(probe.value):
        return ""
    for name, floor in (("TF-IDF", evidence.tfidf), ("kNN", evidence.knn)):
        if floor is not None and not math.isnan(floor.value) and floor.low > probe.high:
            found.append(f"{name} ({_score(floor)})")
    if probe.low <= evidence.majority:
        found.append(f"the majority guess ({_percent(evidence.majority)}, not cleared)")
    if not found:
        return ""
    return (
        f"The probe ({_score(probe)}) does not beat {' and '.join(found)}: the features do not fit these "
        f"{_INPUTS[question.modality]} as they are."
    )


def _names(evidence: Evidence) -> str:
    if not evidence.label_names:
        return ""
    return f"The probe starts from the label names (weight {evidence.label_names:g}, by cross-validation)."


def _pilots(question: Question) -> str:
    if not question.pilots:
        return ""
    told = []
    for name in dict.fromkeys(pilot.strategy for pilot in question.pilots):
        last = [pilot for pilot in question.pilots if pilot.strategy == name][-1]
        mine, probe = (_percent(right / last.judged) for right in (last.right, last.probe_right))
        told.append(
            f"{name}, after {last.epochs:.3g} epochs of {last.rows:,} rows, {mine} against the probe's {probe} "
            f"on {last.judged:,} others"
        )
    return f"Short trainings: {'; '.join(told)}."


def _noise(labels: LabelEvidence) -> str:
    if labels.noise is None or labels.noise.low < _NOISY:
        return ""
    return (
        f"Up to {100 * labels.noise.value:.0f} % of the labels may be wrong, or of classes that overlap: "
        "cross-validation contradicts that many with confidence. No strategy gets past its labels: look at some first."
    )


def _more_labels(labels: LabelEvidence) -> str:
    gain = labels.gain_probe
    if gain is None:
        return ""
    return (
        f"{labels.more_labels} more labels would add about {100 * gain.value:.1f} points "
        f"[{100 * gain.low:.1f}, {100 * gain.high:.1f}] to the probe."
    )


def _domain(domain: DomainEvidence, inputs: str) -> str:
    place = domain.position
    if math.isnan(place):
        return ""
    word = "far from" if place >= _FAR else "near"
    parts = ", ".join(f"{m.name} {m.position:.2f}" for m in domain.measures if math.isfinite(m.position))
    return (
        f"The {inputs} are {word} the reference ({domain.reference}): {place:.2f} of the way from its own rows (0) to "
        f"scrambled ones (1), the middle of {parts}."
    )


def _ruled_out(question: Question, choice: Choice) -> list[str]:
    """Every strategy that is ruled out for the machine's sake, by name; `scratch` for want of rows is no news."""
    found = []
    for cost in question.costs:
        forecast = cost.forecast
        if forecast.allowed or forecast.strategy == choice.strategy:
            continue
        if forecast.strategy == "scratch" and question.evidence.labelled < SCRATCH and not cost.short_of_time:
            continue
        found.append(f"{forecast.strategy} is ruled out: {forecast.reason}.")
    return found


def _time(question: Question, choice: Choice, fixed: Mapping[str, Any]) -> str:
    cost = next((cost for cost in question.costs if cost.forecast.strategy == choice.strategy), None)
    if cost is None or choice.strategy not in BACKWARD:
        return ""
    if "num_train_epochs" in fixed and fixed["num_train_epochs"] > cost.epochs:
        asked = fixed["num_train_epochs"]
        return f"{asked:.3g} epochs were asked for, and {cost.epochs:.3g} fit the budget: training may stop early."
    if cost.epochs < cost.epochs_wanted:
        return f"Cut to the budget: {cost.forecast.reason}."
    return f"Time: {cost.forecast.reason}."


def would_change(question: Question, choice: Choice) -> tuple[str, ...]:
    """What another number of labels, more time, more memory, or other features would change."""
    evidence = question.evidence
    found: list[str] = []
    if evidence.labelled == 0:
        found.append("With one or more labelled rows a class, a linear probe can be measured against zero-shot.")
    elif choice.strategy != NONE:
        found += _other_labels(question, choice)
    found += _more_machine(question, choice)
    if choice.strategy in BACKWARD and evidence.labelled < SCRATCH:
        found.append(f"Below {SCRATCH:,} labelled rows never from scratch.")
    found += _more_time(question, choice)
    if not found:
        found.append("Nothing that was looked at: fewer or more labels, time or memory would not change it.")
    return tuple(found)


def _other_labels(question: Question, choice: Choice) -> list[str]:
    below, above = turns(question, choice.strategy)
    found = []
    if above is not None:
        found.append(f"Above about {_round(above.labels_a_class)} labels a class: {above.strategy}.")
    if below is not None:
        found.append(f"Below about {_round(below.labels_a_class)} labels a class: {below.strategy}.")
    return found


def _more_machine(question: Question, choice: Choice) -> list[str]:
    """What would be chosen with all the time or memory there is, and how much it needs."""
    found = []
    for kind in ("time", "memory"):
        freed = [cost for cost in question.costs if cost.forecast.allowed or short_of(cost, question, kind)]
        other = choose(question, cheapest_first(freed))
        if other.strategy in (choice.strategy, NONE):
            continue
        forecast = next(cost for cost in freed if cost.forecast.strategy == other.strategy).forecast
        score = _score(other.expected[other.strategy].score)
        if kind == "time":
            found.append(f"A larger --time-budget, or none: {other.strategy}, expected at {score}.")
        else:
            needed = show_bytes(forecast.peak_memory_mb * _MEBI)
            found.append(f"A device of {needed}: {other.strategy}, expected at {score}.")
    compute = question.evidence.compute
    if choice.strategy == NONE and compute is not None and compute.device_bytes is not None:
        largest = largest_that_fits("lora", compute, compute.device_bytes)
        if largest >= 1.0:
            found.append(f"A model of at most about {show_parameters(largest)} of the same kind: lora would fit.")
    return found


def short_of(cost: StrategyCost, question: Question, what: str) -> bool:
    """Whether a strategy is ruled out by time alone, or by memory alone."""
    compute = question.evidence.compute
    device = None if compute is None else compute.device_bytes
    too_large = device is not None and cost.forecast.peak_memory_mb * _MEBI > device
    if cost.never:
        return False
    return (cost.short_of_time and not too_large) if what == "time" else (too_large and not cost.short_of_time)


def _more_time(question: Question, choice: Choice) -> list[str]:
    cost = next((cost for cost in question.costs if cost.forecast.strategy == choice.strategy), None)
    if cost is None or choice.strategy not in BACKWARD or cost.epochs >= cost.epochs_wanted:
        return []
    return [f"More time: {cost.epochs_wanted:.3g} epochs are what {choice.strategy} would take unhurried."]


def _score(score: Interval) -> str:
    return f"{_percent(score.value)} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(gap: float) -> str:
    return "1 point" if f"{gap:.1f}" == "1.0" else f"{gap:.1f} points"


def _round(labels: float) -> str:
    """Two digits: 37.4 → "37", 1234 → "1,200"."""
    if labels < 10:
        return f"{labels:.0f}"
    power = 10 ** (math.floor(math.log10(labels)) - 1)
    return f"{round(labels / power) * power:,}"
