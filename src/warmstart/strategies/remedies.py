"""Remedies against forgetting, applied to a training and accounted for: what each bought.

L2-SP and the moving average work inside the training (`train/anchor.py`, `train/average.py`); weight interpolation
comes after it (`train/wise.py`).
"""

from __future__ import annotations

from functools import partial

from torch import nn

from warmstart.backbones.embed import forward
from warmstart.core.metrics import selection_value
from warmstart.core.records import Remedy
from warmstart.strategies.protocol import Context, Settings
from warmstart.train.fit import Trained
from warmstart.train.trainer import inner_classifier
from warmstart.train.wise import GRID, Line, interpolate


def interpolates(settings: Settings) -> bool:
    """Whether weights are interpolated after training."""
    return settings.find_alpha or settings.wise_alpha is not None


def interpolation_seconds(settings: Settings, validation_seconds: float, reference_seconds: float) -> float:
    """About how long interpolating takes.

    Args:
        settings: of the strategy.
        validation_seconds: of a pass over the validation rows.
        reference_seconds: of a pass over the reference rows; 0 without any.
    """
    if not interpolates(settings):
        return 0.0
    passes = len(GRID) if settings.find_alpha else 2
    asked = 2 if settings.max_forgetting is None else 4
    return passes * validation_seconds + asked * reference_seconds


def weight_interpolation(context: Context, model: nn.Module, line: Line) -> Remedy:
    """Move a trained model back along the line to where it started, as far as the settings say."""
    settings = context.settings
    line.end_here()
    inner = inner_classifier(model).eval()
    rows = context.validation

    def score() -> float:
        return selection_value(settings.metric, forward(inner, rows.inputs).logits, rows.labels)

    kept = None if context.reference is None else partial(context.reference.kept_by, inner)
    fixed = settings.wise_alpha
    alphas = GRID if fixed is None else tuple(sorted({fixed, 1.0}))
    points = interpolate(line, alphas, score, kept, settings.max_forgetting, fixed)
    chosen = next(point for point in points if point.chosen)
    last = points[-1]
    return Remedy(
        "weight interpolation", chosen.alpha, last.validation, chosen.validation, last.kept, chosen.kept, points
    )


def remedies_of(context: Context, trained: Trained, l2_sp: float) -> tuple[Remedy, ...]:
    """Those that worked inside a training."""
    found = []
    if l2_sp > 0:  # what it bought shows only beside a training without it
        found.append(Remedy("L2-SP", l2_sp))
    if context.settings.ema_decay > 0 and trained.plain_score is not None:
        found.append(Remedy("moving average", context.settings.ema_decay, trained.plain_score, trained.best_score))
    return tuple(found)
