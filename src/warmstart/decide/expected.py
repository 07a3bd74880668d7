"""The score that each strategy is expected to reach: what was measured, what a strategy adds to it, and pilots.

Everything is in logits of accuracy. The doubt that all strategies share (how good the features are) is kept apart from
the doubt between them, which is what a choice depends on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from warmstart.core.decision import CurvePoint, Evidence, PilotRun
from warmstart.core.record import Interval
from warmstart.core.records import Modality
from warmstart.decide.label_evidence import slope_of
from warmstart.decide.logit import from_logit, interval90, logit_of, to_logit, updated
from warmstart.decide.response import PRIORS, Response

FOLD = 0.8  # share of the labelled rows that a cross-validated score was learned from
SCATTER = 1.2  # times the deviation by drawn rows alone, that a cross-validated score has: its folds share rows
PILOT_DOUBT = (0.08, 0.08)  # logits by which a pilot misleads about the whole: always, and for each halving of the rows
CUT_SHORT = (0.37, 0.27)  # logits that a training misses without its epochs, in proportion, and the deviation
KIN = 0.12  # logits by which a strategy that trains adds other than a second one does, expectations left out
_UNKNOWN = 1.2  # deviation of a probe's logit where nothing was measured
_FROM_WORDS = (0.3, 0.5)  # logits of a probe above TF-IDF, and the deviation
_ROOM = 0.55  # of the way from the majority to 1, where a probe is expected when nothing was measured


@dataclass(frozen=True)
class Expected:
    """A forecast of accuracy.

    Attributes:
        strategy: which one.
        mean: logit.
        deviation: of the logit, all doubts together.
        apart: of the logit, without the doubt that it shares with the probe.
    """

    strategy: str
    mean: float
    deviation: float
    apart: float

    @property
    def share(self) -> float:
        """The expected accuracy."""
        return from_logit(self.mean)

    @property
    def score(self) -> Interval:
        """The expected accuracy with its 90 % interval."""
        return interval90(self.mean, self.deviation)


def expected_scores(
    evidence: Evidence,
    modality: Modality,
    strategies: Iterable[str],
    response: Response,
    pilots: Sequence[PilotRun] = (),
    lengths: Mapping[str, Epochs] | None = None,
) -> dict[str, Expected]:
    """What each strategy is expected to reach on rows like the labelled ones.

    Args:
        evidence: as measured; with effort `rules` no features were seen.
        modality: text, pair or image.
        strategies: which ones.
        response: what each adds to the probe.
        pilots: short trainings, if there were any.
        lengths: of the trainings; whole ones where nothing is said.
    """
    level, doubt = probe_level(evidence)
    added, own = response.predict("linear_probe", regressors(evidence, modality), evidence.per_class_median)
    level, doubt = level + added, math.hypot(doubt, own)
    found = {}
    for name in strategies:
        if name == "zero_shot":
            found[name] = _zero_shot(evidence, modality, response, level, doubt)
        elif name == "linear_probe":
            found[name] = Expected(name, level, doubt, 0.0)
        elif name in PRIORS:
            gain, apart = gain_over_probe(name, evidence, modality, response, pilots, lengths)
            found[name] = Expected(name, level + gain, math.hypot(doubt, apart), apart)
    return found


def probe_level(evidence: Evidence) -> tuple[float, float]:
    """Logit of the accuracy that a probe on all labelled rows has, and its deviation.

    The cross-validated score, carried from the rows of its folds to all of them along its curve, and held together
    with what would be expected before any measurement: few rows say little.
    """
    guess, vague = _before_measuring(evidence)
    if math.isnan(evidence.probe.value):
        return guess, vague
    more, unsure = slope_of(_probe_curve(evidence)).over(FOLD, 1.0)
    there, spread = guess - more, math.hypot(vague, unsure)  # the guess, carried to the rows of the folds
    found, deviation = updated(there, spread, evidence.probe, SCATTER)
    kept = (vague / spread) ** 2
    return guess + kept * (found - there), math.hypot(kept * deviation, vague * math.sqrt(1.0 - kept))


def _probe_curve(evidence: Evidence) -> list[CurvePoint]:
    if evidence.labels is None:
        return []
    return [point for point in evidence.labels.curve if point.strategy == "linear_probe"]


def _before_measuring(evidence: Evidence) -> tuple[float, float]:
    majority = 1.0 / evidence.classes if math.isnan(evidence.majority) else evidence.majority
    guess = to_logit(majority + _ROOM * (1.0 - majority))
    if evidence.tfidf is not None and not math.isnan(evidence.tfidf.value) and math.isnan(evidence.probe.value):
        words, error = updated(guess - _FROM_WORDS[0], _UNKNOWN, evidence.tfidf)
        return words + _FROM_WORDS[0], math.hypot(_FROM_WORDS[1], error)
    return guess, _UNKNOWN


def _zero_shot(evidence: Evidence, modality: Modality, response: Response, level: float, doubt: float) -> Expected:
    """What zero-shot reached on the labelled rows, of which it learned nothing; a guess where it was not tried."""
    known = evidence.tfidf, evidence.probe  # without either, the level does not depend on how many labels there are
    labels = evidence.per_class_median if any(i is not None and not math.isnan(i.value) for i in known) else 16.0
    gain, own = response.predict("zero_shot", _regressors(evidence, modality, labels), labels)
    guess, vague = level + gain, math.hypot(doubt, own)
    if evidence.zero_shot is None or math.isnan(evidence.zero_shot.value):
        return Expected("zero_shot", guess, vague, own)
    mean, deviation = updated(guess, vague, evidence.zero_shot)
    return Expected("zero_shot", mean, deviation, math.hypot(deviation, doubt))


def regressors(evidence: Evidence, modality: Modality) -> tuple[float, ...]:
    """The situation as `response.REGRESSORS` has it."""
    return _regressors(evidence, modality, evidence.per_class_median)


def _regressors(evidence: Evidence, modality: Modality, labels_a_class: float) -> tuple[float, ...]:
    probe = evidence.probe.value
    floors = [i for i in (evidence.tfidf, evidence.knn) if i is not None and not math.isnan(i.value)]
    above = max((_surely_above(floor, evidence.probe) for floor in floors), default=0.0) if probe == probe else 0.0
    position = math.nan if evidence.domain is None else evidence.domain.position
    return (
        1.0,
        math.log2(max(1.0, labels_a_class) / 16.0),
        math.log2(evidence.classes / 6.0),
        1.0 if modality == "image" else 0.0,
        min(1.0, max(0.0, above)),
        0.0 if math.isnan(position) else position - 0.5,
    )


def _surely_above(floor: Interval, probe: Interval) -> float:
    """Logits by which a floor is above the probe, less the deviation of the difference: with few rows, often 0."""
    return to_logit(floor.value) - to_logit(probe.value) - math.hypot(logit_of(floor)[1], logit_of(probe)[1])


@dataclass(frozen=True)
class Epochs:
    """How many epochs of a training are planned, and how many it would take unhurried."""

    planned: float
    wanted: float

    def missing(self, epochs: float | None = None) -> float:
        """Share of the wanted epochs that so many, or those planned, fall short by; 0 where none are planned."""
        some = self.planned if epochs is None else epochs
        return max(0.0, 1.0 - some / self.wanted) if some > 0 and self.wanted > 0 else 0.0


def gain_over_probe(
    strategy: str,
    evidence: Evidence,
    modality: Modality,
    response: Response,
    pilots: Sequence[PilotRun] = (),
    lengths: Mapping[str, Epochs] | None = None,
) -> tuple[float, float]:
    """Logits that a trained strategy is expected to add to the probe, and the deviation.

    A pilot's gain is carried from the labels and epochs that it had to all of them, and weighed against what the
    regression alone expects. So is, with more doubt, a pilot of another strategy: what trains gains or loses together.
    Nothing lessens the luck of the one run that counts.
    """
    here = evidence.per_class_median
    mean, deviation = response.predict(strategy, _regressors(evidence, modality, here), here)
    luck = response.scatter_of_a_run(strategy, here)
    length = None if lengths is None else lengths.get(strategy)
    missing = 0.0 if length is None else length.missing()
    weights, gains = [1.0 / max(1e-9, deviation**2 - luck**2)], [mean]
    for other in dict.fromkeys(pilot.strategy for pilot in pilots if pilot.judged):
        if other != strategy and "scratch" in (other, strategy):  # random weights tell nothing of pretrained ones
            continue
        own = [pilot for pilot in pilots if pilot.strategy == other and pilot.judged]
        judged = sum(pilot.judged for pilot in own)
        there = here * sum(pilot.rows * pilot.judged for pilot in own) / judged / max(1, evidence.labelled)
        whole = None if lengths is None else lengths.get(other)
        short = sum(pilot.judged * (0.0 if whole is None else whole.missing(pilot.epochs)) for pilot in own) / judged
        before, _ = response.predict(other, _regressors(evidence, modality, there), there)
        seen, error = pilot_gain(own)
        runs = response.scatter_of_a_run(other, there) ** 2 / len(own)
        halvings = math.log2(max(1.0, here / max(1.0, there)))
        misled = PILOT_DOUBT[0] ** 2 + (PILOT_DOUBT[1] * halvings) ** 2 + (CUT_SHORT[1] * short) ** 2
        apart = 0.0 if other == strategy else KIN**2
        weights.append(1.0 / (error**2 + misled + runs + apart))
        gains.append(seen + mean - before + CUT_SHORT[0] * short)
    mean = sum(w * gain for w, gain in zip(weights, gains, strict=True)) / sum(weights)
    deviation = math.sqrt(1.0 / sum(weights) + luck**2)
    return mean - CUT_SHORT[0] * missing, math.hypot(deviation, CUT_SHORT[1] * missing)


def pilot_gain(pilots: Sequence[PilotRun]) -> tuple[float, float]:
    """Logits by which pilots of one strategy were above the probe on the same rows, and the deviation by those rows.

    The deviation is McNemar's (1947): only rows that one has right and the other wrong tell them apart; one such row is
    added to either side, so that few rows never look certain.
    """
    judged = sum(pilot.judged for pilot in pilots)
    mine, probe = (sum(getattr(pilot, name) for pilot in pilots) for name in ("right", "probe_right"))
    only, other = (1 + sum(getattr(pilot, name) for pilot in pilots) for name in ("only_right", "only_probe"))
    shares = [(right + 0.5) / (judged + 1.0) for right in (mine, probe)]
    middle = min(0.995, max(0.005, sum(shares) / 2))
    variance = (only + other - (only - other) ** 2 / (judged + 2)) / (judged + 2) ** 2
    return to_logit(shares[0]) - to_logit(shares[1]), math.sqrt(variance) / (middle * (1.0 - middle))
