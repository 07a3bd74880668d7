"""From what each rate did to the loss to the rate to train with: arithmetic on curves, no model.

How the curves are measured is `lr_find.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BELOW_DIVERGENCE = 10.0  # a rate that is survived for a few steps may ruin a whole training: stay this factor below
BELOW_LOWEST = 3.0  # by the lowest point the descent is over, and what follows is the way up
_LOST = 0.5  # of the way from the best loss to that of guessing: there a run has diverged …
_LEAST_RISE = 0.1  # … and has risen by at least this share of the reference loss, and so many nats
_LEAST_NATS = 0.02
_FALL = 0.01  # of the reference loss: a smaller descent is none
_ERRORS = 2.0  # standard errors over the runs that a descent must exceed
_KERNEL = np.array([1.0, 2.0, 3.0, 2.0, 1.0])  # smoothing over neighbouring rates


@dataclass(frozen=True)
class Choice:
    """The rate that was chosen, and what it was chosen from.

    Attributes:
        learning_rate: the rate.
        diverged: the lowest rate at which the loss was half way from its best to guessing; None when none was.
        reference: mean loss with nothing ramped, in nats; not a number when there is none.
        curve: smoothed loss after a step at each rate, in nats, (steps,); infinite where a run's loss was.
        note: why this rate.
    """

    learning_rate: float
    diverged: float | None
    reference: float
    curve: Floats
    note: str


def choose_rate(rates: Floats, losses: Floats, alone: Floats, *, start: float, guessing: float) -> Choice:
    """A rate that lowers the loss and is safely below the rates that ruin it.

    The effect of a rate is the loss after a step at it minus the loss of the same batch in a run in which nothing was
    ramped, smoothed over neighbouring rates and averaged over the runs. So neither a hard batch nor what the head
    learns meanwhile counts for or against a rate. The rate is the lowest of three: where the effect falls fastest
    (Smith 2017, arXiv 1506.01186, and fastai), a third of where it is lowest, and a tenth of where the runs diverge:
    where half of what is known is lost. A smaller rise is no divergence: from a solved head, whose loss on the training
    rows is as low as a head can make it, the loss rises a little at every rate worth having, and falls only after
    more steps than these. There no descent stands out from the noise, and the starting rate takes the place of the
    first two.

    Args:
        rates: rising, (steps,).
        losses: nats after a step at each rate, (runs, steps); not finite where a run had diverged.
        alone: nats of the same batches with nothing ramped, (runs, steps).
        start: the rate to fall back on.
        guessing: the loss of a model that knows the classes' frequencies and nothing else, in nats.
    """
    finite = np.isfinite(losses) & np.isfinite(alone)
    reference = float(alone[np.isfinite(alone)].mean()) if np.isfinite(alone).any() else float("nan")
    effects = _smooth(np.where(finite, losses - np.where(finite, alone, 0.0), np.inf))  # (runs, steps)
    effect = effects.mean(axis=0)  # (steps,)
    end = _divergence(effect, reference, guessing)
    diverged = float(rates[end]) if end < len(rates) else None
    bounds = _descent(rates[:end], effects[:, :end], reference)
    candidates = {"the starting rate": start}
    if bounds is not None:
        fastest, lowest = bounds
        candidates = {
            "where the loss fell fastest": fastest,
            f"1/{BELOW_LOWEST:g} of where the loss was lowest": lowest / BELOW_LOWEST,
        }
    if diverged is None:
        candidates[f"1/{BELOW_DIVERGENCE:g} of the highest rate tried"] = float(rates[-1]) / BELOW_DIVERGENCE
    else:
        candidates[f"1/{BELOW_DIVERGENCE:g} of where it diverged"] = diverged / BELOW_DIVERGENCE
    name = min(candidates, key=lambda candidate: candidates[candidate])
    fell = "No rate lowered the loss clearly"
    if bounds is not None:
        fell = f"The loss fell fastest at {bounds[0]:.1e} and was lowest at {bounds[1]:.1e}"
    rose = "did not diverge" if diverged is None else f"diverged (half way to guessing) at {diverged:.1e}"
    return Choice(candidates[name], diverged, reference, reference + effect, f"{fell}; it {rose}. Taken: {name}.")


def _smooth(values: Floats) -> Floats:
    """A weighted mean over up to five neighbours, (runs, steps) → the same; what is not finite spreads."""
    reach = len(_KERNEL) // 2
    steps = values.shape[1]
    out = np.empty_like(values)
    for place in range(steps):
        low, high = max(0, place - reach), min(steps, place + reach + 1)
        weights = _KERNEL[low - place + reach : high - place + reach]
        out[:, place] = values[:, low:high] @ weights / weights.sum()
    return out


def _divergence(effect: Floats, reference: float, guessing: float) -> int:
    """The first place where too much of what is known is lost, of (steps,); their number if there is none."""
    best = np.minimum(0.0, np.minimum.accumulate(effect))  # (steps,)
    least = max(_LEAST_RISE * reference, _LEAST_NATS)
    margin = np.maximum(_LOST * (guessing - reference - best), least)  # (steps,)
    risen = ~(effect <= best + margin)  # so that what is not a number counts as risen
    return int(risen.argmax()) if risen.any() else len(effect)


def _descent(rates: Floats, effects: Floats, reference: float) -> tuple[float, float] | None:
    """Where the mean effect falls fastest, and where it is lowest; None where it does not fall clearly.

    Args:
        rates: those before the divergence, (places,).
        effects: smoothed, finite, (runs, places).
        reference: in nats.
    """
    runs, places = effects.shape
    if places < 2:
        return None
    effect = effects.mean(axis=0)  # (places,)
    lowest = int(effect.argmin())
    error = float(effects[:, lowest].std(ddof=1)) / runs**0.5 if runs > 1 else 0.0
    if effect[lowest] > -max(_ERRORS * error, _FALL * reference):
        return None
    slope = np.gradient(effect, np.log(rates))[: lowest + 1]  # nats per e-fold of the rate
    return float(rates[slope.argmin()]), float(rates[lowest])
