"""What a strategy gives over the probe, as a function of the situation: a small Bayesian regression in logits.

Starting values stand in a table; outcomes that were seen (`experience`) move them. The regression knows that rows of
one data set resemble each other, and scales its doubt by how far forecasts of a data set that was left out were off.
What a situation is, and which strategy to take, is left to `expected` and `choice`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from warmstart.core.record import Record

Doubles = npt.NDArray[np.float64]

REGRESSORS = ("constant", "doublings of labels a class over 16", "doublings of classes over 6", "images",
              "best floor above the probe", "distance from the reference domain")  # fmt: skip
SMALL = 24.0  # labels a class at which outcomes scatter twice as much (in variance) as with many
_LEAST_INFLATION, _PRIOR_ROWS = 0.7, 12.0  # of the doubt; how many outcomes the starting value of 1 counts as


@dataclass(frozen=True)
class Observation(Record):
    """One outcome: what a strategy reached over the probe that was adapted to the same rows."""

    dataset: str
    strategy: str
    regressors: tuple[float, ...]  # as REGRESSORS
    labels_a_class: float
    gain: float  # logit of its test accuracy minus that of the probe's; of linear_probe, minus its cross-validated one
    error: float  # standard deviation of the gain by which test rows were drawn


@dataclass(frozen=True)
class Prior:
    """Starting values of one strategy, in logits.

    Attributes:
        mean: of the coefficients, as REGRESSORS.
        deviation: of the coefficients.
        between: deviation from data set to data set.
        within: deviation from run to run of one data set, with many labels.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    between: float
    within: float


_DEVIATION = (0.15, 0.05, 0.08, 0.25, 0.3, 0.2)
PRIORS: dict[str, Prior] = {
    # A learned probe gains on label names with every label.
    "zero_shot": Prior((-0.8, -0.15, 0.0, 0.0, 0.2, 0.0), (0.3, 0.08, 0.15, 0.4, 0.3, 0.3), 0.6, 0.05),
    "linear_probe": Prior((0.03, 0.0, 0.0, 0.0, 0.0, 0.0), (0.04, 0.01, 0.02, 0.03, 0.05, 0.05), 0.04, 0.05),
    # Reasoned from docs/lab-notes.md: reviews at 17 labels a class (a point below the probe) and at 170 (two above),
    # satellite scenes at 64 (nine above).
    "fine_tune": Prior((-0.02, 0.05, 0.0, 0.45, 0.5, 0.1), _DEVIATION, 0.12, 0.10),
    "progressive": Prior((-0.05, 0.042, 0.0, 0.35, 0.45, 0.1), _DEVIATION, 0.12, 0.10),
    "lora": Prior((-0.05, 0.045, 0.0, 0.30, 0.45, 0.1), _DEVIATION, 0.12, 0.10),
    "scratch": Prior((-2.2, 0.22, 0.0, 0.0, 0.6, 0.2), (0.5, 0.08, 0.15, 0.5, 0.5, 0.3), 0.4, 0.2),
}


@dataclass(frozen=True)
class _Fit:
    mean: Doubles  # (regressors,)
    covariance: Doubles  # (regressors, regressors)
    inflation: float


@dataclass(frozen=True)
class Response:
    """The regression after some outcomes: one fit a strategy.

    Args:
        observations: outcomes; none leaves the starting values.
        priors: starting values by strategy.
    """

    observations: tuple[Observation, ...] = ()
    priors: Mapping[str, Prior] = field(default_factory=lambda: PRIORS)
    _fits: dict[str, _Fit] = field(default_factory=dict, repr=False, compare=False)

    def without(self, dataset: str) -> Response:
        """The same as if a data set had never been seen."""
        return Response(tuple(o for o in self.observations if o.dataset != dataset), self.priors)

    def predict(self, strategy: str, regressors: Sequence[float], labels_a_class: float) -> tuple[float, float]:
        """Expected gain in logits, and its standard deviation for a data set that was not seen.

        Args:
            strategy: one that has starting values.
            regressors: as REGRESSORS.
            labels_a_class: decides how much a single run scatters.
        """
        fit, prior = self._fitted(strategy), self.priors[strategy]
        x = np.asarray(regressors, dtype=np.float64)
        own = prior.between**2 + prior.within**2 * scatter(labels_a_class)
        variance = float(x @ fit.covariance @ x) + own
        return float(x @ fit.mean), math.sqrt(fit.inflation * variance)

    def scatter_of_a_run(self, strategy: str, labels_a_class: float) -> float:
        """The part of `predict`'s deviation that is one run's own luck, which nothing known beforehand can lessen."""
        inflation = self._fitted(strategy).inflation
        return math.sqrt(inflation * scatter(labels_a_class)) * self.priors[strategy].within

    def _fitted(self, strategy: str) -> _Fit:
        if strategy not in self._fits:
            self._fits[strategy] = self._fit(strategy)
        return self._fits[strategy]

    def _fit(self, strategy: str) -> _Fit:
        prior = self.priors[strategy]
        rows = [o for o in self.observations if o.strategy == strategy]
        squares = []
        for dataset in {o.dataset for o in rows}:
            others = [o for o in rows if o.dataset != dataset]
            squares += _surprises(prior, posterior(prior, others), [o for o in rows if o.dataset == dataset])
        inflation = (_PRIOR_ROWS + sum(squares)) / (_PRIOR_ROWS + len(squares))
        return _Fit(*posterior(prior, rows), max(_LEAST_INFLATION, inflation))


def scatter(labels_a_class: float) -> float:
    """How much more a run scatters than one with many labels, as a factor on the variance."""
    return 1.0 + SMALL / max(1.0, labels_a_class)


def posterior(prior: Prior, rows: Sequence[Observation]) -> tuple[Doubles, Doubles]:
    """Mean (regressors,) and covariance of the coefficients after some outcomes of one strategy.

    Generalised least squares with a Gaussian prior: outcomes of one data set share a deviation of their own.
    """
    start = np.array(prior.mean, dtype=np.float64)
    precision = np.diag(np.array(prior.deviation, dtype=np.float64) ** -2.0)
    if not rows:
        return start, _inverse(precision)
    x, y, noise = _design(prior, rows)
    weighted = np.asarray(np.linalg.solve(noise, x), dtype=np.float64)  # (rows, regressors)
    total = precision + x.T @ weighted
    covariance = _inverse(total)
    mean = np.asarray(covariance @ (precision @ start + weighted.T @ y), dtype=np.float64)
    return mean, covariance


def _inverse(matrix: Doubles) -> Doubles:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _design(prior: Prior, rows: Sequence[Observation]) -> tuple[Doubles, Doubles, Doubles]:
    """Regressors (rows, regressors), gains (rows,) and their covariance (rows, rows)."""
    x = np.array([o.regressors for o in rows])
    y = np.array([o.gain for o in rows])
    same = np.array([[a.dataset == b.dataset for b in rows] for a in rows])
    own = [prior.within**2 * scatter(o.labels_a_class) + o.error**2 for o in rows]
    return x, y, same * prior.between**2 + np.diag(own)


def _surprises(prior: Prior, fit: tuple[Doubles, Doubles], rows: Sequence[Observation]) -> list[float]:
    """Squared deviations of outcomes from a forecast that did not know their data set, 1 where it was as unsure."""
    mean, covariance = fit
    x, y, noise = _design(prior, rows)
    variance = np.einsum("ij,jk,ik->i", x, covariance, x) + np.diag(noise)
    found: list[float] = ((y - x @ mean) ** 2 / variance).tolist()
    return found
