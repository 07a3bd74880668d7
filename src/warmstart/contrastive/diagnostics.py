"""What a contrastive training tells about itself: the geometry of its vectors, and alarms when it collapses.

The bound on the mutual information is in `info_nce.Contrast`. Drawing is left to `report/`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from warmstart.core.contrast import Alarm, ContrastPoint, Geometry

_STUCK = 0.98  # of log N, that a loss stands at when nothing is learned
_WINDOW = 5  # points that must agree
_WARM, _WARM_STEPS = 0.2, 20  # share of training, and steps, before which a loss may well stand at log N
_RANK_LEFT = 0.25  # of the effective rank before training; less is a collapse
_PAIRS = 4096  # rows that uniformity is measured on, at most


def alignment(queries: Tensor, positives: Tensor) -> float:
    """Mean squared distance of a query and its positive, both of unit length (arXiv 2005.10242, eq. 1, alpha = 2).

    Args:
        queries: (pairs, width).
        positives: (pairs, width).
    """
    return float((_unit(queries) - _unit(positives)).square().sum(1).mean())


def uniformity(vectors: Tensor, t: float = 2.0) -> float:
    """Log of the mean of exp(−t · squared distance) over pairs of different vectors (arXiv 2005.10242, eq. 2).

    Args:
        vectors: (rows, width), at least two; of more than 4,096, evenly spaced ones are taken.
        t: how far a vector's influence reaches.
    """
    step = max(1, math.ceil(len(vectors) / _PAIRS))
    distances = torch.pdist(_unit(vectors)[::step])
    return float((-t * distances.square()).logsumexp(0)) - math.log(len(distances))


def effective_rank(vectors: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values (Roy and Vetterli 2007, eq. 4).

    Args:
        vectors: (rows, width); scaled to unit length, not centred: that all point one way is what is looked for.
    """
    values = torch.linalg.svdvals(_unit(vectors))
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def geometry(queries: Tensor, positives: Tensor, vectors: Tensor) -> Geometry:
    """How vectors lie.

    Args:
        queries: (pairs, width).
        positives: (pairs, width).
        vectors: (rows, width), each text or image once.
    """
    return Geometry(alignment(queries, positives), uniformity(vectors), effective_rank(vectors))


def find_alarms(
    history: Sequence[ContrastPoint], max_steps: int, max_scale: float | None, start_rank: float | None
) -> tuple[Alarm, ...]:
    """Signs of collapse in what is recorded so far, each kind once, at the first step where it shows.

    Args:
        history: the points in order.
        max_steps: optimizer steps in all.
        max_scale: highest value of a learnt scale; None where it is fixed.
        start_rank: effective rank of the validation vectors before training; None where it says nothing.
    """
    found = [_stuck(history, max_steps), _rank(history, start_rank), _scale(history, max_scale)]
    return tuple(sorted((alarm for alarm in found if alarm is not None), key=lambda alarm: alarm.step))


def _stuck(history: Sequence[ContrastPoint], max_steps: int) -> Alarm | None:
    """The loss stands at log N: every candidate looks the same (open_clip#17)."""
    learned = [p for p in history if p.loss is not None and p.ceiling is not None]
    for end in range(_WINDOW, len(learned) + 1):
        last = learned[end - _WINDOW : end]
        if last[-1].step < max(_WARM * max_steps, _WARM_STEPS):
            continue
        if all(p.loss is not None and p.ceiling is not None and p.loss >= _STUCK * p.ceiling for p in last):
            return Alarm(
                "stuck",
                last[-1].step,
                f"the loss stands at log N ({last[-1].loss:.2f} of {last[-1].ceiling:.2f} nats): the model tells no "
                "candidate from another",
                "Use a lower --learning-rate or a lower --temperature, and look whether anchors and positives belong "
                "together row by row.",
            )
    return None


def _scale(history: Sequence[ContrastPoint], max_scale: float | None) -> Alarm | None:
    """The learnt scale leans on its bound, or has fallen to nothing (open_clip#815)."""
    if max_scale is None:
        return None
    scaled = [p for p in history if p.scale is not None]
    for end in range(_WINDOW, len(scaled) + 1):
        last = scaled[end - _WINDOW : end]
        if all(p.scale is not None and p.scale >= 0.999 * max_scale for p in last):
            return Alarm(
                "scale",
                last[-1].step,
                f"the learnt scale stands at its bound, {max_scale:g}",
                "Harder negatives or larger batches give it something to tell apart; or fix --temperature.",
            )
        if all(p.scale is not None and p.scale <= 1.001 for p in last):
            return Alarm(
                "scale",
                last[-1].step,
                "the learnt scale has fallen to 1, its lower bound",
                "Fix --temperature, or use a lower --head-learning-rate.",
            )
    return None


def _rank(history: Sequence[ContrastPoint], start: float | None) -> Alarm | None:
    """The vectors use a small part of the dimensions that they used before."""
    for point in history if start is not None else ():
        rank = point.effective_rank
        if rank is not None and start is not None and rank < max(1.5, _RANK_LEFT * start):
            return Alarm(
                "rank",
                point.step,
                f"the vectors use {rank:.1f} dimensions; before training they used {start:.1f}",
                "Use a lower --learning-rate, a larger batch, or a higher --temperature.",
            )
    return None


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
