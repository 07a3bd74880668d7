"""Accuracies as logits, where errors are about alike at every height and intervals stay between 0 and 1."""

from __future__ import annotations

import math

from warmstart.core.record import Interval
from warmstart.core.statistics import wilson_interval

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


def counts_of(score: Interval) -> tuple[float, float]:
    """A proportion with its 95 % Wilson interval as a share and the rows that it is of, half a hit and a miss added.

    Wilson's bounds a and b are the roots of (1 + z²/n) x² - (2p + z²/n) x + p² = 0, so √(ab) + √((1-a)(1-b)) is
    (1 + z²/n)^-½. Half a row to either side (Jeffreys) keeps 0 and 1 finite in logits.
    """
    hit, miss = math.sqrt(score.low * score.high), math.sqrt((1.0 - score.low) * (1.0 - score.high))
    total = hit + miss
    rows = Z95**2 / max(1e-9, total**-2 - 1.0)
    return (rows * hit / total + 0.5) / (rows + 1.0), rows


def with_counts(share: float, rows: float) -> Interval:
    """The inverse of `counts_of`: a share that has its half rows, as a proportion with its 95 % Wilson interval."""
    plain = min(1.0, max(0.0, (share * (rows + 1.0) - 0.5) / rows))
    return wilson_interval(plain * rows, rows)


def updated(guess: float, vague: float, score: Interval, scatter: float = 1.0) -> tuple[float, float]:
    """A guess in logits with its deviation, after a proportion was seen: the mode and the deviation around it.

    The likelihood is the binomial one. As a Gaussian in logits, 192 of 192 would be so uncertain that the guess
    outweighed it, and 188 of 192 would be worth more.

    Args:
        guess: logit.
        vague: its deviation.
        score: what was seen, with its 95 % Wilson interval.
        scatter: times the deviation by drawn rows that it has.
    """
    share, rows = counts_of(score)
    rows /= scatter**2
    low, high = min(guess, to_logit(share)), max(guess, to_logit(share))
    for _ in range(60):  # the slope of the log-posterior falls all the way from one to the other
        middle = (low + high) / 2.0
        rising = rows * (share - from_logit(middle)) > (middle - guess) / vague**2
        low, high = (middle, high) if rising else (low, middle)
    here = from_logit(middle)
    return middle, (rows * here * (1.0 - here) + vague**-2) ** -0.5


def interval90(mean: float, deviation: float) -> Interval:
    """A logit with its standard deviation as a share with a 90 % interval."""
    return Interval(from_logit(mean), from_logit(mean - Z90 * deviation), from_logit(mean + Z90 * deviation))
