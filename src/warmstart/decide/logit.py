"""Accuracies as logits, where errors are about alike at every height and intervals stay between 0 and 1."""

from __future__ import annotations

import math

from warmstart.core.record import Interval

Z90 = 1.6448536269514722  # half the width of a 90 % interval, in standard deviations
Z95 = 1.959963984540054  # the same of a 95 % interval
_EDGE = 1e-4


def to_logit(share: float) -> float:
    """log(p / (1 - p)), p held between 0.0001 and 0.9999."""
    held = min(1.0 - _EDGE, max(_EDGE, share))
    return math.log(held / (1.0 - held))


def from_logit(value: float) -> float:
    """The share whose logit this is."""
    if value < -700:
        return 0.0
    return 1.0 / (1.0 + math.exp(-value))


def logit_of(score: Interval) -> tuple[float, float]:
    """A proportion with its 95 % Wilson interval as a logit with its standard deviation.

    The middle of the two bounds, in logits, is used: it is finite at 0 and 1, and close to the score elsewhere.
    """
    low, high = to_logit(score.low), to_logit(score.high)
    return (low + high) / 2.0, max(1e-3, (high - low) / (2.0 * Z95))


def interval90(mean: float, deviation: float) -> Interval:
    """A logit with its standard deviation as a share with a 90 % interval."""
    return Interval(from_logit(mean), from_logit(mean - Z90 * deviation), from_logit(mean + Z90 * deviation))
