"""WiSE-FT: the weights between the original and the adapted model (Wortsman et al. 2022, arXiv 2109.01903, eq. 1).

`weights(alpha) = (1 − alpha) · original + alpha · adapted`, for every weight and the head. The original is the
pretrained trunk with the head that training started from. Under LoRA the same line is walked by scaling B alone:
`W + (scale / r) · B A` starts at B = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.core.records import MixPoint

GRID = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The mixing coefficients that are tried."""

_KEPT_AS_TRAINED = "lora_A"  # of an adapter; its B carries the way back


class Line:
    """The line between two states of a model's weights.

    Args:
        model: the model, as it starts.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._start = self._weights()
        self._end: dict[str, Tensor] = {}

    def end_here(self) -> None:
        """The other end is the model as it is now; weights that did not move are left alone from here on."""
        now = self._weights()
        moved = [name for name, value in now.items() if not torch.equal(value, self._start[name])]
        self._end = {name: now[name] for name in moved}
        self._start = {name: self._start[name] for name in moved}

    def go_to(self, alpha: float) -> None:
        """Give the model the weights at `alpha`: 0 is exactly the start, 1 exactly the end."""
        named = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, end in self._end.items():
                start = self._start[name]
                value = end if alpha == 1 else start if alpha == 0 else torch.lerp(start, end, alpha)
                named[name].copy_(value)

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: parameter.detach().clone()
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad and _KEPT_AS_TRAINED not in name
        }


def interpolate(
    line: Line,
    alphas: Sequence[float],
    score: Callable[[], float],
    kept: Callable[[], float] | None,
    max_forgetting: float | None = None,
    fixed: float | None = None,
) -> tuple[MixPoint, ...]:
    """Walk the line; leave the model at the mixture with the best validation score that forgets no more than it may.

    Scores on a few dozen rows jump about, so each is averaged with those of the coefficients beside it before they are
    compared; of equal ones the one nearer to the original is taken. What is kept costs a pass over the reference rows,
    so it is asked of few: best mixtures first, and none beyond one that forgets too much.

    Args:
        line: between the two ends.
        alphas: coefficients to choose from, rising.
        score: validation score of the model as it is, higher is better.
        kept: share of neighbours kept by the model as it is; None when there are no reference rows.
        max_forgetting: share of neighbours that may be lost; None for no bound.
        fixed: the coefficient to take whatever its score, one of `alphas`.

    Returns:
        Every coefficient that was tried, rising, the chosen one marked; what is kept only where it was asked for.
    """
    scores: dict[float, float] = {}
    for alpha in alphas:
        line.go_to(alpha)
        scores[alpha] = score()
    shares: dict[float, float] = {}

    def share(alpha: float) -> float:
        if alpha not in shares and kept is not None:
            line.go_to(alpha)
            shares[alpha] = kept()
        return shares.get(alpha, 1.0)

    chosen, limit = alphas[0], float("inf")
    for alpha in by_preference(alphas, [scores[alpha] for alpha in alphas]) if fixed is None else [fixed]:
        if alpha >= limit:
            continue
        if max_forgetting is None or 1 - share(alpha) <= max_forgetting + 1e-9:
            chosen = alpha
            break
        limit = alpha
    for alpha in (chosen, alphas[-1]):
        share(alpha)
    line.go_to(chosen)
    return tuple(MixPoint(alpha, scores[alpha], shares.get(alpha), alpha == chosen) for alpha in alphas)


def by_preference(alphas: Sequence[float], scores: Sequence[float]) -> list[float]:
    """The coefficients, best first: by the score averaged with its neighbours', then nearer to the original."""
    padded = np.array([scores[0], *scores, scores[-1]])
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3  # (alphas,)
    return [alphas[place] for place in sorted(range(len(alphas)), key=lambda n: (-round(float(smooth[n]), 9), n))]
