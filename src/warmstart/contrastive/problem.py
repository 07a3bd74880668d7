"""One softmax over a pool for every row: the logits with their masks and corrections, and the losses of the rows.

Which rows and which pool make up a form of the loss is `info_nce.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from warmstart.core.errors import ContrastError, SettingError


@dataclass(frozen=True)
class Negatives:
    """Candidates that are nobody's positive.

    Args:
        vectors: (extra, width), shared by all queries, or (queries, extra, width), each query's own.
        exclude: (queries, extra), true where a candidate must not count against a query.
        log_q: (extra,) or (queries, extra); see `info_nce`.
    """

    vectors: Tensor
    exclude: Tensor | None = None
    log_q: Tensor | None = None


@dataclass(frozen=True)
class Problem:
    """Rows that each look for their positive in one pool.

    Attributes:
        rows: (rows, width).
        pool: (pool, width).
        positive: (rows,), places; or (rows, pool), true for positives.
        exclude: (rows, pool), false negatives.
        log_q: (pool,).
        own: (rows,), the place of each row itself in the pool, which is no candidate for it.
        negatives: further candidates.
    """

    rows: Tensor
    pool: Tensor
    positive: Tensor
    exclude: Tensor | None = None
    log_q: Tensor | None = None
    own: Tensor | None = None
    negatives: tuple[Negatives, ...] = ()

    def part(self, start: int, stop: int) -> Problem:
        """The problem of some rows."""

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[start:stop]

        extra = tuple(
            Negatives(
                n.vectors if n.vectors.dim() == 2 else n.vectors[start:stop],
                cut(n.exclude),
                n.log_q if n.log_q is None or n.log_q.dim() == 1 else n.log_q[start:stop],
            )
            for n in self.negatives
        )
        return replace(
            self,
            rows=self.rows[start:stop],
            positive=self.positive[start:stop],
            exclude=cut(self.exclude),
            own=cut(self.own),
            negatives=extra,
        )

    def is_positive(self) -> Tensor:
        """(rows, pool), true for positives."""
        if self.positive.dim() == 2:
            return self.positive
        places = torch.arange(len(self.pool), device=self.pool.device)
        return self.positive[:, None] == places  # (rows, pool)


def problem_logits(problem: Problem, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the pool with the further candidates after it, (rows, pool + extra), and which are false negatives.

    What is no candidate for a row has the logit −∞, so that its probability is exactly zero.
    """
    positive = problem.is_positive()
    logits = scale * (problem.rows @ problem.pool.T)  # (rows, pool)
    if problem.log_q is not None:
        logits = logits - problem.log_q.to(logits).masked_fill(positive, 0.0)
    masked = torch.zeros_like(positive) if problem.exclude is None else problem.exclude & ~positive
    gone = masked
    if problem.own is not None:
        places = torch.arange(len(problem.pool), device=logits.device)
        itself = problem.own[:, None] == places
        masked, gone = masked & ~itself, masked | itself
    parts, masks = [logits.masked_fill(gone, -torch.inf)], [masked]
    for extra in problem.negatives:
        shared = extra.vectors.dim() == 2
        found = problem.rows @ extra.vectors.T if shared else torch.einsum("rw,rew->re", problem.rows, extra.vectors)
        found = scale * found  # (rows, extra)
        if extra.log_q is not None:
            found = found - extra.log_q.to(found)
        out = torch.zeros_like(found, dtype=torch.bool) if extra.exclude is None else extra.exclude
        parts.append(found.masked_fill(out, -torch.inf))
        masks.append(out)
    return torch.cat(parts, dim=1), torch.cat(masks, dim=1)


def _row_values(problem: Problem, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each row: loss, log of its candidates, excluded places, and whether its positive comes first; (rows,) each."""
    logits, masked = problem_logits(problem, scale)
    log_z = logits.logsumexp(1)  # (rows,)
    if problem.positive.dim() == 1:
        best = logits.gather(1, problem.positive[:, None])[:, 0]
        losses = log_z - best
    else:
        pool = logits[:, : len(problem.pool)]
        count = problem.positive.sum(1)
        losses = log_z - pool.masked_fill(~problem.positive, 0.0).sum(1) / count
        best = pool.masked_fill(~problem.positive, -torch.inf).amax(1)
    with torch.no_grad():
        candidates = torch.isfinite(logits).sum(1).to(losses.dtype).log()
        first = (best >= logits.amax(1)).to(losses.dtype)
        excluded = masked.sum(1).to(losses.dtype) / masked.shape[1]
    return losses, candidates, excluded, first


def solve(problem: Problem, scale: Tensor, chunk: int | None) -> tuple[Tensor, ...]:
    """Of each row, (rows,): loss, log of its candidates, share of excluded places, whether its positive comes first.

    Args:
        problem: the rows and their pool.
        scale: 1 / temperature, a scalar.
        chunk: rows at a time, computed again for the gradient; None: all at once.
    """
    count = len(problem.rows)
    if chunk is None or chunk >= count:
        return _row_values(problem, scale)

    def some(start: int) -> tuple[Tensor, ...]:
        return _row_values(problem.part(start, start + chunk), scale)

    parts = [checkpoint(some, start, use_reentrant=False, preserve_rng_state=False) for start in range(0, count, chunk)]
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def check_problem(problem: Problem) -> None:
    """Whether a loss can be made of a problem.

    Raises:
        ContrastError: a row has no positive, there is nothing to tell it from, or a candidate cannot be drawn.
        SettingError: shapes or types do not fit.
    """
    _check_positives(problem)
    _check_negatives(problem)
    rows, pool = len(problem.rows), len(problem.pool)
    if problem.exclude is not None and (problem.exclude.shape != (rows, pool) or problem.exclude.dtype != torch.bool):
        raise SettingError(f"exclude must be a boolean mask, ({rows}, {pool}); it is {tuple(problem.exclude.shape)}.")
    if problem.log_q is not None and problem.log_q.shape != (pool,):
        raise SettingError(f"log_q must have one value per candidate, ({pool},); it is {tuple(problem.log_q.shape)}.")
    places = pool - (problem.own is not None) + sum(extra.vectors.shape[-2] for extra in problem.negatives)
    if places < 2:
        raise ContrastError("There is one candidate only: with nothing to tell it from, there is nothing to learn.")
    if problem.log_q is not None and not bool(torch.isfinite(problem.log_q).all()):
        raise ContrastError("log_q holds values that are not finite: every candidate must be expected in the pool.")


def _check_positives(problem: Problem) -> None:
    rows, pool = len(problem.rows), len(problem.pool)
    if problem.positive.dim() == 2:
        if problem.positive.shape != (rows, pool) or problem.positive.dtype != torch.bool:
            raise SettingError(f"positives must be a boolean mask, ({rows}, {pool}), or ({rows},) places.")
        missing = ~problem.positive.any(1)
        if bool(missing.any()):
            raise ContrastError(f"Row {int(missing.nonzero()[0])} has no positive: there is nothing for it to find.")
    elif problem.positive.shape != (rows,):
        raise SettingError(f"positives must be ({rows},) places, or a boolean mask, ({rows}, {pool}).")
    elif bool((problem.positive < 0).any()) or bool((problem.positive >= pool).any()):
        raise ContrastError(f"A positive's place is outside of the {pool} candidates.")


def _check_negatives(problem: Problem) -> None:
    rows = len(problem.rows)
    for extra in problem.negatives:
        shape = (rows, extra.vectors.shape[-2])
        if extra.vectors.dim() == 3 and len(extra.vectors) != rows:
            raise SettingError(f"Each of {rows} queries needs its own negatives; there are {len(extra.vectors)}.")
        if extra.exclude is not None and (extra.exclude.shape != shape or extra.exclude.dtype != torch.bool):
            raise SettingError(f"The mask of further negatives must be boolean, {shape}.")
