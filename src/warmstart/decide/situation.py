"""The situation: evidence and forecasts turned into the few quantities that rules speak of.

Also the thresholds. They are starting values, reasoned and not fitted: measuring the regret of the choices they lead
to is left to a benchmark. The rules themselves are in `warmstart.decide.rules`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from warmstart.core.records import Evidence, Interval, Modality
from warmstart.decide.forecast import BACKWARD, StrategyCost

FEW = 8  # labels a class: below, too few rows to choose a learning rate or a checkpoint by
ENOUGH = 20  # labels a class: at 17 (100 reviews, MiniLM) fine-tuning was measured one point below the probe
PLENTY = 50  # labels a class: from here on progressive unfreezing gives way to LoRA as the runner-up
CEILING = 0.98  # probe accuracy that leaves less to win than an interval is wide
HUGE = 1_000_000_000  # parameters: above, weights, gradients and moments need more than 16 GB
SCRATCH = 20_000  # labelled rows: below, random weights are not worth a trial (ULMFiT, arXiv 1801.06146)


@dataclass(frozen=True)
class Situation:
    """What the rules look at.

    Attributes:
        evidence: as measured.
        modality: text, pair or image.
        allowed: strategies that the budget, the model and the data allow, cheapest first.
        costs: strategy → its cost.
    """

    evidence: Evidence
    modality: Modality
    allowed: tuple[str, ...]
    costs: dict[str, StrategyCost]

    @property
    def per_class(self) -> float:
        """Labels in the middle class: one rare class does not make a set small."""
        return self.evidence.per_class_median

    @property
    def headroom(self) -> float:
        """What the probe leaves to win."""
        return 1.0 - self.evidence.probe.value

    @property
    def trains(self) -> bool:
        """Whether any strategy that changes the backbone is allowed."""
        return any(name in self.allowed for name in ("fine_tune", "progressive", "lora"))

    @property
    def better_floors(self) -> tuple[str, ...]:
        """Floors that beat the probe beyond both intervals, or that it does not clear: the features do not fit."""
        probe = self.evidence.probe
        found = []
        if above(self.evidence.tfidf, probe):
            found.append(f"TF-IDF ({self.evidence.tfidf})")
        if above(self.evidence.knn, probe):
            found.append(f"kNN ({self.evidence.knn})")
        if probe.low <= self.evidence.majority:
            found.append(f"the majority guess ({self.evidence.majority:.3f}, not cleared)")
        return tuple(found)

    @property
    def inputs(self) -> str:
        """What the rows are, as a word."""
        return {"text": "texts", "pair": "pairs of texts", "image": "images"}[self.modality]


def above(one: Interval | None, other: Interval) -> bool:
    """Whether one interval lies wholly above the other; False where nothing is known."""
    return one is not None and not math.isnan(one.value) and one.low > other.high


def situation(evidence: Evidence, costs: Sequence[StrategyCost], modality: Modality) -> Situation:
    """Evidence and forecasts as the rules see them; scratch is left out below `SCRATCH` rows."""
    affordable = [cost.forecast for cost in costs if cost.forecast.allowed]
    allowed = [
        forecast.strategy
        for forecast in sorted(affordable, key=lambda f: (f.strategy in BACKWARD, f.seconds))
        if forecast.strategy != "scratch" or evidence.labelled >= SCRATCH
    ]
    return Situation(evidence, modality, tuple(allowed), {cost.forecast.strategy: cost for cost in costs})
