"""Forecasts: what each strategy will cost in seconds, which ones the budget rules out, and how many epochs fit.

Arithmetic on measured seconds per row. Expected scores and memory are not forecast yet, and which strategy to take
is left to `warmstart.decide.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warmstart.core.errors import SettingError
from warmstart.core.options import STRATEGIES
from warmstart.core.records import Evidence, Forecast

SLACK = 0.05  # share of the budget left unplanned: a forecast errs, and a training that is cut short ends badly

BACKWARD = {"fine_tune": 1.0, "progressive": 0.6, "lora": 1.0, "scratch": 1.0}
"""Share of a full backward pass that an average step of the strategy takes. Progressive unfreezing goes back about half
of the network on average; LoRA goes all the way, and on small models is no faster (peft#622)."""

HALF_AT_LEAST = ("progressive", "lora", "scratch")
"""Strategies that are not worth starting with less than half of the epochs wanted: they begin far from a good answer,
or would open only some of their groups. Fine-tuning from the probe's head is worth a single epoch."""

STARTS_FROM_PROBE = ("fine_tune", "progressive", "lora")  # these solve the probe first, for their head


@dataclass(frozen=True)
class Rows:
    """How many rows are learned from, chosen by, and judged by."""

    fit: int
    validation: int
    test: int


@dataclass(frozen=True)
class StrategyCost:
    """A forecast, and the epochs it stands for.

    Attributes:
        forecast: seconds, whether the strategy is allowed, and why.
        epochs: passes over the fit rows that fit into the budget; 0 for strategies that do not train by epochs.
        epochs_wanted: passes that were asked for.
    """

    forecast: Forecast
    epochs: float
    epochs_wanted: float


def forecast_costs(
    evidence: Evidence,
    rows: Rows,
    epochs: Mapping[str, float],
    *,
    spent_seconds: float = 0.0,
    features_ready: bool = False,
    strategies: Sequence[str] = STRATEGIES,
) -> tuple[StrategyCost, ...]:
    """The cost of each strategy, in the order given.

    Args:
        evidence: gives seconds per row, the budget, and whether zero-shot is possible.
        rows: how many there are of each kind.
        epochs: strategy → epochs wanted, for every strategy that trains.
        spent_seconds: seconds of the budget that are already gone, or kept for saving, reloading and the report.
        features_ready: the frozen features of fit and validation rows are already cached.
        strategies: which ones to cost.

    Raises:
        SettingError: for a strategy that is unknown or for which no epochs are given.
    """
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown:
        raise SettingError(f"unknown strategy {', '.join(unknown)}; there are: {', '.join(STRATEGIES)}.")
    missing = [name for name in strategies if name in BACKWARD and name not in epochs]
    if missing:
        raise SettingError(f"a forecast needs the epochs wanted for {', '.join(missing)}.")
    left = None
    if evidence.budget_seconds is not None:
        left = max(0.0, evidence.budget_seconds * (1.0 - SLACK) - spent_seconds)
    return tuple(_cost(name, evidence, rows, epochs.get(name, 0.0), left, features_ready) for name in strategies)


def _cost(
    strategy: str, evidence: Evidence, rows: Rows, wanted: float, left: float | None, features_ready: bool
) -> StrategyCost:
    if strategy == "zero_shot" and evidence.zero_shot is None:
        reason = "zero_shot needs a model that embeds label names and inputs in one space, and this one does not"
        return StrategyCost(Forecast(strategy, 0.0, False, reason), 0.0, 0.0)
    if strategy != "zero_shot" and rows.fit == 0:
        return StrategyCost(Forecast(strategy, 0.0, False, f"{strategy} needs labelled rows"), 0.0, wanted)
    fixed = _fixed_rows(strategy, rows, features_ready) * evidence.seconds_forward
    if strategy not in BACKWARD:
        fits = left is None or fixed <= left
        return StrategyCost(Forecast(strategy, fixed, fits, _frozen_reason(strategy, fixed, left)), 0.0, 0.0)
    backward = max(0.0, evidence.seconds_train - evidence.seconds_forward) * BACKWARD[strategy]
    epoch = rows.fit * (evidence.seconds_forward + backward) + rows.validation * evidence.seconds_forward
    fitting = _epochs_that_fit(strategy, wanted, epoch, None if left is None else left - fixed)
    seconds = fixed + epoch * (fitting if fitting > 0 else min(wanted, 1.0))
    return StrategyCost(
        Forecast(strategy, seconds, fitting > 0, _trained_reason(strategy, wanted, fitting, epoch, seconds, left)),
        fitting,
        wanted,
    )


def _fixed_rows(strategy: str, rows: Rows, features_ready: bool) -> int:
    """Rows that go through the frozen or finished model once, apart from the epochs."""
    if strategy == "zero_shot":
        return rows.validation + rows.test
    if strategy == "linear_probe":
        return rows.test if features_ready else rows.fit + rows.validation + rows.test
    starts = strategy in STARTS_FROM_PROBE and not features_ready
    return rows.test + (rows.fit + rows.validation if starts else 0)


def _epochs_that_fit(strategy: str, wanted: float, epoch_seconds: float, left: float | None) -> float:
    """All that is wanted if it fits, else whole epochs, else (or when too few to be worth it) none."""
    if left is None or wanted * epoch_seconds <= left:
        return float(wanted)
    whole = float(max(0, int(left // epoch_seconds)))
    return 0.0 if strategy in HALF_AT_LEAST and whole < wanted / 2 else whole


def _frozen_reason(strategy: str, seconds: float, left: float | None) -> str:
    if left is None or seconds <= left:
        return f"{strategy} takes about {seconds:.0f} s"
    return f"{strategy} needs about {seconds:.0f} s, and {left:.0f} s of the budget are left"


def _trained_reason(
    strategy: str, wanted: float, fitting: float, epoch: float, seconds: float, left: float | None
) -> str:
    if left is None or fitting == wanted:
        return f"{wanted:g} epochs of {strategy} take about {seconds:.0f} s"
    if fitting > 0:
        return f"{fitting:g} of {wanted:g} epochs of {strategy} fit into the {left:.0f} s left of the budget"
    spare = f"one takes about {epoch:.0f} s, {seconds:.0f} s with all around it, and {left:.0f} s are left"
    needed = f"at least half of {wanted:g} epochs" if strategy in HALF_AT_LEAST else "one epoch"
    return f"{strategy} needs {needed}: {spare}"
