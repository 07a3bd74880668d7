"""Forecasts of cost: seconds and memory of each strategy, which ones the machine rules out, and how many epochs fit.

Arithmetic on measured seconds and bytes a row. What a strategy is expected to reach is `expected`, which one to take is
`choice`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warmstart.core.decision import ComputeEvidence
from warmstart.core.errors import SettingError
from warmstart.core.options import STRATEGIES
from warmstart.core.records import Evidence, Forecast
from warmstart.core.sizes import show_bytes, show_parameters
from warmstart.decide.memory import FLOAT, FULL, Memory, memory_of

SLACK = 0.05  # share of the budget left unplanned: a forecast errs, and a training that is cut short ends badly

BACKWARD = {"fine_tune": 1.0, "progressive": 0.5, "lora": 0.95, "scratch": 1.0}
"""Share of a full backward pass that an average step of the strategy takes. Progressive unfreezing goes back about half
of the network on average; LoRA goes all the way, and on small models is hardly faster (peft#622)."""

HALF_AT_LEAST = ("progressive", "lora", "scratch")
"""Strategies that are not worth starting with less than half of the epochs wanted: they begin far from a good answer,
or would open only some of their groups. Fine-tuning from the probe's head is worth a single epoch."""

HUGE = 1_000_000_000  # parameters: above, LoRA stands for every strategy that would train them all
SCRATCH = 20_000  # labelled rows: below, random weights are not worth a trial (ULMFiT, arXiv 1801.06146)
_MEBI = 2.0**20
_EPOCH_SECONDS = 0.1  # to turn from training to evaluating and back
_WRITTEN_PER_SECOND = 400e6  # bytes of a checkpoint: the model, and of what learns two moments and the average
_BESIDE_WEIGHTS = 3

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
        short_of_time: whether the budget rules it out.
        never: whether it is out of the question with all the time and memory there is.
    """

    forecast: Forecast
    epochs: float
    epochs_wanted: float
    short_of_time: bool = False
    never: bool = False


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
    found = (_cost(name, evidence, rows, epochs.get(name, 0.0), left, features_ready) for name in strategies)
    return tuple(_within_reach(cost, evidence) for cost in found)


def _within_reach(cost: StrategyCost, evidence: Evidence) -> StrategyCost:
    """The same with its memory, ruled out where something else than time forbids it."""
    forecast, compute = cost.forecast, evidence.compute
    memory = None if compute is None else memory_of(forecast.strategy, compute)
    if memory is not None:
        forecast = dataclasses.replace(forecast, peak_memory_mb=memory.total / _MEBI)
    never = _never(forecast.strategy, evidence)
    forbidden = never if never else _too_large(forecast.strategy, evidence, memory)
    if forbidden and (forecast.allowed or cost.short_of_time):
        forecast = dataclasses.replace(forecast, allowed=False, reason=forbidden)
    impossible = (
        not forecast.allowed and not forbidden and not cost.short_of_time
    )  # the model or the data lack something
    return dataclasses.replace(cost, forecast=forecast, never=bool(never) or impossible)


def _never(strategy: str, evidence: Evidence) -> str:
    """Why a strategy is not considered on any machine; empty when it is."""
    if strategy in FULL and evidence.parameters > HUGE:
        return f"{strategy} would train all {show_parameters(evidence.parameters)}, where lora will do"
    if strategy == "scratch" and 0 < evidence.labelled < SCRATCH:
        return f"scratch is never worth it below {SCRATCH:,} labelled rows, and there are {evidence.labelled:,}"
    return ""


def _too_large(strategy: str, evidence: Evidence, memory: Memory | None) -> str:
    """Why a strategy does not fit the device; empty when it does, or when no limit is known."""
    device = None if evidence.compute is None else evidence.compute.device_bytes
    if memory is None or device is None or memory.total <= device:
        return ""
    return f"{strategy} needs {show_bytes(memory.total)}, and there are {show_bytes(device)}: {memory.arithmetic()}"


def _cost(
    strategy: str, evidence: Evidence, rows: Rows, wanted: float, left: float | None, features_ready: bool
) -> StrategyCost:
    if strategy == "zero_shot" and evidence.zero_shot is None:
        reason = "zero_shot needs label names in words and a model that embeds them beside the inputs; one is missing"
        return StrategyCost(Forecast(strategy, 0.0, False, reason), 0.0, 0.0)
    if strategy != "zero_shot" and rows.fit == 0:
        return StrategyCost(Forecast(strategy, 0.0, False, f"{strategy} needs labelled rows"), 0.0, wanted)
    if math.isnan(evidence.seconds_forward) or (strategy in BACKWARD and math.isnan(evidence.seconds_train)):
        reason = f"{strategy} cannot be timed without the model's weights"
        return StrategyCost(Forecast(strategy, math.nan, True, reason, epochs=wanted), wanted, wanted)
    fixed = _fixed_rows(strategy, rows, features_ready) * evidence.seconds_forward
    judging = rows.test * evidence.seconds_forward
    if strategy not in BACKWARD:
        fits = left is None or fixed <= left
        reason = _frozen_reason(strategy, fixed, left)
        forecast = Forecast(strategy, fixed, fits, reason, learning_seconds=fixed - judging)
        return StrategyCost(forecast, 0.0, 0.0, short_of_time=not fits)
    backward = max(0.0, evidence.seconds_train - evidence.seconds_forward) * BACKWARD[strategy]
    epoch = rows.fit * (evidence.seconds_forward + backward) + rows.validation * evidence.seconds_forward
    epoch += 0.0 if evidence.compute is None else beside_steps(strategy, evidence.compute)
    fitting = _epochs_that_fit(strategy, wanted, epoch, None if left is None else left - fixed)
    epochs = fitting if fitting > 0 else min(wanted, 1.0)
    seconds = fixed + epoch * epochs
    reason = _trained_reason(strategy, wanted, fitting, epoch, seconds, left)
    forecast = Forecast(strategy, seconds, fitting > 0, reason, learning_seconds=seconds - judging, epochs=epochs)
    return StrategyCost(forecast, fitting, wanted, short_of_time=fitting <= 0)


def beside_steps(strategy: str, compute: ComputeEvidence) -> float:
    """Seconds of an epoch that are not spent in steps: a copy to evaluate with, and a checkpoint on disk."""
    learns = compute.parameters * BACKWARD[strategy] if strategy in FULL else compute.lora_parameters
    written = FLOAT * (compute.parameters + _BESIDE_WEIGHTS * learns)
    return _EPOCH_SECONDS + written / _WRITTEN_PER_SECOND


def _fixed_rows(strategy: str, rows: Rows, features_ready: bool) -> int:
    """Rows that go through the frozen or finished model once, apart from the epochs."""
    if strategy == "zero_shot":
        return rows.test if features_ready else rows.validation + rows.test
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
        return f"{strategy} takes about {max(1, round(seconds))} s"
    return f"{strategy} needs about {seconds:.0f} s, and {left:.0f} s of the budget are left"


def _trained_reason(
    strategy: str, wanted: float, fitting: float, epoch: float, seconds: float, left: float | None
) -> str:
    if left is None or fitting == wanted:
        return f"{wanted:.3g} epochs of {strategy} take about {seconds:.0f} s"
    if fitting > 0:
        return f"{fitting:.3g} of {wanted:.3g} epochs of {strategy} fit into the {left:.0f} s left of the budget"
    spare = f"one takes about {epoch:.0f} s, {seconds:.0f} s with all around it, and {left:.0f} s are left"
    needed = f"at least half of {wanted:.3g} epochs" if strategy in HALF_AT_LEAST else "one epoch"
    return f"{strategy} needs {needed}: {spare}"
