"""The choice: of the strategies that the machine allows, the cheapest that is expected to lose next to nothing.

Numbers in, a strategy out; the same function is asked again with other labels, time or memory to find what would change
the answer. The sentences of a plan are `words`, the plan itself is `plan`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from warmstart.core.decision import Evidence, PilotRun
from warmstart.core.record import Interval
from warmstart.core.records import Modality
from warmstart.decide.expected import Epochs, Expected, expected_scores
from warmstart.decide.forecast import BACKWARD, SCRATCH, StrategyCost
from warmstart.decide.label_evidence import slope_of
from warmstart.decide.logit import counts_of, from_logit, interval90, to_logit, with_counts
from warmstart.decide.response import Response

TIE = 0.0025  # accuracy: whoever is expected to lose no more than this to the best is as good
NONE = "none"  # the strategy of a plan when nothing fits
_FROZEN = ("zero_shot", "linear_probe")  # cheapest first; what trains comes after, by its seconds
_FEWEST_LABELS, _MOST_LABELS = 2.0, 4096.0  # labels a class between which a change of mind is looked for
_STEP = 2.0**0.25


@dataclass(frozen=True)
class Choice:
    """What was chosen, and the forecasts that it was chosen by.

    Attributes:
        strategy: chosen; `NONE` when nothing is allowed.
        runner_up: the best of the others; empty when there is none.
        best: the strategy with the highest expected score, which may be dearer than the chosen one.
        expected: forecasts by strategy, also of those that are not allowed.
    """

    strategy: str
    runner_up: str
    best: str
    expected: Mapping[str, Expected]


@dataclass(frozen=True)
class Question:
    """All that a choice depends on.

    Attributes:
        evidence: as measured.
        costs: of every strategy that is considered.
        modality: text, pair or image.
        response: what strategies add to the probe.
        pilots: short trainings.
        tie: what may be lost for a cheaper strategy.
    """

    evidence: Evidence
    costs: Sequence[StrategyCost]
    modality: Modality
    response: Response
    pilots: Sequence[PilotRun] = ()
    tie: float = TIE

    @property
    def allowed(self) -> tuple[str, ...]:
        """Strategies that are not ruled out, cheapest first."""
        return cheapest_first([cost for cost in self.costs if cost.forecast.allowed])

    @property
    def lengths(self) -> dict[str, Epochs]:
        """Epochs of every strategy that trains."""
        return {cost.forecast.strategy: Epochs(cost.epochs, cost.epochs_wanted) for cost in self.costs}


def cheapest_first(costs: Iterable[StrategyCost]) -> tuple[str, ...]:
    """Names by cost: without training first, then by seconds; without known seconds in the order given."""

    def rank(cost: StrategyCost) -> tuple[int, float]:
        name, seconds = cost.forecast.strategy, cost.forecast.seconds
        place = _FROZEN.index(name) if name in _FROZEN else len(_FROZEN)
        return place, 0.0 if math.isnan(seconds) else seconds

    return tuple(cost.forecast.strategy for cost in sorted(costs, key=rank))


def choose(question: Question, allowed: Sequence[str] | None = None) -> Choice:
    """The cheapest strategy within a tie of the best.

    Args:
        question: all that it depends on.
        allowed: strategies that may be chosen, cheapest first; those that are not ruled out by default.
    """
    names = question.allowed if allowed is None else tuple(allowed)
    every = [cost.forecast.strategy for cost in question.costs]
    expected = expected_scores(
        question.evidence, question.modality, every, question.response, question.pilots, question.lengths
    )
    if question.evidence.labelled == 0:
        names = tuple(name for name in names if name == "zero_shot")
    if not names:
        return Choice(NONE, "", "", expected)
    best = max(names, key=lambda name: expected[name].share)  # the first, so the cheapest, of equals
    near = [name for name in names if expected[best].share - expected[name].share <= question.tie]
    if len(near) > 1 and near[0] == "zero_shot" and not _measured(question.evidence.zero_shot):
        near = near[1:]  # a guess wins no tie
    chosen = near[0]
    others = [name for name in names if name != chosen]
    runner_up = max(others, key=lambda name: expected[name].share, default="")
    return Choice(chosen, runner_up, best, expected)


def _measured(score: Interval | None) -> bool:
    return score is not None and not math.isnan(score.value)


@dataclass(frozen=True)
class Turn:
    """Labels a class at which another strategy is chosen."""

    labels_a_class: float
    strategy: str


def turns(question: Question, chosen: str) -> tuple[Turn | None, Turn | None]:
    """The nearest numbers of labels a class, below and above, at which the choice is another; None where there is none.

    The machine's limits stay out of it: what is allowed now is allowed at every size, but for `scratch`.
    """
    return _search(question, chosen, 1.0 / _STEP), _search(question, chosen, _STEP)


def _search(question: Question, chosen: str, step: float) -> Turn | None:
    if not question.allowed:
        return None
    here = question.evidence.per_class_median
    labels = here * step
    while here > 0 and (labels <= _MOST_LABELS if step > 1.0 else labels >= _FEWEST_LABELS):
        if _FEWEST_LABELS <= labels <= _MOST_LABELS:
            other = with_labels(question, labels)
            allowed = [name for name in question.allowed if name != "scratch" or other.evidence.labelled >= SCRATCH]
            found = choose(other, allowed).strategy
            if found != chosen:
                return Turn(labels, found)
        labels *= step
    return None


def with_labels(question: Question, labels_a_class: float) -> Question:
    """The same question with another number of labels a class: the probe moves along its curve."""
    evidence = question.evidence
    factor = labels_a_class / evidence.per_class_median
    points = () if evidence.labels is None else evidence.labels.curve
    slope = slope_of([point for point in points if point.strategy == "linear_probe"])
    more, unsure = slope.over(1.0, factor)
    changed = dataclasses.replace(
        evidence,
        per_class_median=labels_a_class,
        labelled=max(1, round(evidence.labelled * factor)),
        probe=_moved(evidence.probe, more, unsure),
        knn=_moved(evidence.knn, more, unsure),
        tfidf=None if evidence.tfidf is None else _moved(evidence.tfidf, more, unsure),
    )
    return dataclasses.replace(question, evidence=changed)


def _moved(score: Interval, more: float, unsure: float) -> Interval:
    """A measured score some logits further on, with a 95 % interval as measured ones have."""
    if math.isnan(score.value):
        return score
    share, rows = counts_of(score)
    moved = from_logit(to_logit(share) + more)
    variance = 1.0 / (rows * share * (1.0 - share)) + unsure**2
    return with_counts(moved, 1.0 / (variance * moved * (1.0 - moved)))


def contenders(question: Question, at_most: int) -> tuple[str, ...]:
    """Strategies that train and might be best: within two deviations of it, the likeliest first.

    Args:
        question: all that it depends on.
        at_most: how many.
    """
    found = choose(question)
    if found.strategy == NONE or not found.best:
        return ()
    level = found.expected[found.best].share
    names = [name for name in question.allowed if name in BACKWARD]
    hopes = {
        name: interval90(found.expected[name].mean, 1.2 * found.expected[name].apart).high  # two deviations
        for name in names
    }
    likely = sorted((name for name in names if hopes[name] > level), key=lambda name: -found.expected[name].share)
    return tuple(likely[:at_most])
