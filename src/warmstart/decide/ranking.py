"""Which of several backbones: each by the score that its own plan expects, a tie to the smallest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from warmstart.core.decision import Plan, RankedModel
from warmstart.decide.choice import NONE, TIE


def rank_models(plans: Sequence[Plan]) -> tuple[RankedModel, ...]:
    """The models of some plans for the same data, best first; those that nothing fits come last.

    The best is the smallest model that is expected to lose no more than a tie to the highest; then by expected score.
    A model whose features nobody saw comes after those that were measured: its score is a guess from the data alone.

    Args:
        plans: one a model.
    """
    seen = {plan.model for plan in plans if not math.isnan(plan.evidence.probe.value)}
    rows = [_ranked(plan, guessed=bool(seen) and plan.model not in seen) for plan in plans]
    fitting = [row for row in rows if row.score is not None]
    able = [row for row in fitting if row.model in seen] or fitting
    highest = max((row.score.value for row in able if row.score is not None), default=math.nan)
    near = [row for row in able if row.score is not None and highest - row.score.value <= TIE]
    first = min(near, key=lambda row: row.parameters, default=None)
    rest = sorted(
        (row for row in rows if row is not first),
        key=lambda row: (row not in able, math.inf if row.score is None else -row.score.value),
    )
    return (*([] if first is None else [first]), *rest)


def _ranked(plan: Plan, *, guessed: bool) -> RankedModel:
    forecast = plan.forecast_of(plan.strategy)
    known = forecast is not None and forecast.allowed and plan.strategy != NONE
    return RankedModel(
        model=plan.model,
        parameters=plan.evidence.parameters,
        strategy=plan.strategy,
        score=forecast.score if forecast is not None and known else None,
        seconds=forecast.seconds if forecast is not None and known else math.nan,
        peak_memory_mb=forecast.peak_memory_mb if forecast is not None and known else math.nan,
        transferability={} if plan.evidence.transferability is None else plan.evidence.transferability,
        note=("not measured: its score is a guess" if guessed else "") if known else plan.reasons[0],
    )
