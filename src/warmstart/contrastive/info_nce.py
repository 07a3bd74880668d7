"""InfoNCE: tensors in, loss and what it was made of out. One softmax over a pool of candidates for every query.

The four forms are query → candidate, candidate → query, both (CLIP, arXiv 2103.00020, fig. 3) and two views with
self-exclusion (NT-Xent, arXiv 2002.05709, eq. 1). Models are not known here; the softmax itself is `problem.py`, where
the pool comes from `negatives.py`, batches larger than memory are `grad_cache.py`, masks of false negatives `masks.py`,
and what a pool is corrected by `frequency.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from warmstart.contrastive.gather import gather_rows, gathered, total_sum, world_size
from warmstart.contrastive.problem import Negatives, Problem, check_problem, solve
from warmstart.core.errors import ContrastError, SettingError

Direction = Literal["forward", "backward", "symmetric", "two_view"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "symmetric", "two_view")


@dataclass(frozen=True)
class Contrast:
    """A loss, and what it was made of; all but `loss` without gradients.

    Attributes:
        loss: nats, a scalar, mean over the rows. Where rows were gathered, the mean of it over the processes is the
            mean over all rows, and so are its gradients.
        row_losses: nats, (rows,), of this process; for two directions the one after the other.
        ceiling: log N, a scalar: the mean over the rows of the log of how many candidates took part. `ceiling − loss`
            is a lower bound on the mutual information of queries and candidates (arXiv 1807.03748, sec. 2.3), as long
            as each row has one positive and the others are drawn as the data are, without a correction.
        masked: share of all places in the pool that were excluded as false negatives, a scalar.
        accuracy: share of rows whose positive has the highest logit, a scalar.
    """

    loss: Tensor
    row_losses: Tensor
    ceiling: Tensor
    masked: Tensor
    accuracy: Tensor

    @property
    def bound(self) -> Tensor:
        """The ceiling log N minus the loss, in nats, a scalar."""
        return self.ceiling - self.row_losses.mean()


def info_nce(
    queries: Tensor,
    candidates: Tensor,
    *,
    scale: Tensor | float,
    direction: Direction = "forward",
    positives: Tensor | None = None,
    exclude: Tensor | None = None,
    log_q: Tensor | None = None,
    query_log_q: Tensor | None = None,
    negatives: Sequence[Negatives] = (),
    normalize: bool = True,
    chunk: int | None = None,
    gather: bool = False,
) -> Contrast:
    """Cross-entropy of finding each query's positive in its pool, with logits `scale · cosine − log_q`.

    Args:
        queries: (queries, width).
        candidates: (candidates, width); candidate i is the positive of query i, and those beyond are shared negatives,
            unless `positives` says otherwise. For two views, (queries, width), the second views.
        scale: 1 / temperature; see `temperature.py`.
        direction: "forward" finds candidates for queries, "backward" queries for candidates, "symmetric" is the mean
            of both, "two_view" finds each view's other view among all other views.
        positives: (queries,), the place of each query's positive; or (queries, candidates), true for each of several,
            whose losses are averaged (arXiv 2004.11362, eq. 2: every other candidate, positives included, is in the
            denominator).
        exclude: (queries, candidates), true where a candidate must not count against a query (a false negative): its
            probability is exactly zero. A positive is never excluded.
        log_q: (candidates,), log of how often each is expected in a pool, in draws: what the others were drawn with
            is divided out of their share of the denominator (Yi et al. 2019, RecSys). The positive is always there, was
            not drawn, and is not corrected (arXiv 2507.09331).
        query_log_q: (queries,), the same for the direction that draws queries.
        negatives: more candidates for the queries.
        normalize: cosine (vectors are scaled to unit length) or dot product.
        chunk: rows that are compared at a time, and compared again for the gradient, so that memory grows with the
            rows and not with their square; None compares all at once.
        gather: pool the rows of all processes, gradients included. Masks then have the rows of this process and the
            columns of all, in the order of the processes; `positives` must be None or, for two views, a mask.

    Raises:
        ContrastError: when no loss can be made of this: not finite, a vector of length zero, nothing to tell apart, a
            query without a positive.
        SettingError: when arguments do not go together.
    """
    _check_arguments(queries, candidates, direction, positives, query_log_q, negatives, gather)
    with torch.autocast(queries.device.type, enabled=False):
        queries, candidates = (_prepared(name, x, normalize) for name, x in _named(queries, candidates))
        negatives = [replace(n, vectors=_prepared("negatives", n.vectors, normalize)) for n in negatives]
        scale = _as_scale(scale, queries)
        if gather and world_size() > 1:
            problems = _gathered_problems(
                queries, candidates, direction, positives, exclude, log_q, query_log_q, negatives
            )
        else:
            problems = _problems(queries, candidates, direction, positives, exclude, log_q, query_log_q, negatives)
        return _reduced([solve(problem, scale, chunk) for problem in problems], gather=gather)


def _reduced(solved: Sequence[tuple[Tensor, ...]], *, gather: bool) -> Contrast:
    """The mean over rows within each direction, and over directions; see `Contrast.loss` for several processes."""
    means = []
    for losses, *_ in solved:
        if gather and world_size() > 1:
            means.append(losses.sum() * world_size() / total_sum(len(losses), losses.device))
        else:
            means.append(losses.mean())
    losses, candidates, excluded, first = (torch.cat(values).detach() for values in zip(*solved, strict=True))
    return Contrast(
        loss=torch.stack(means).mean(),
        row_losses=losses,
        ceiling=candidates.mean(),
        masked=excluded.mean(),
        accuracy=first.mean(),
    )


def _problems(
    queries: Tensor,
    candidates: Tensor,
    direction: Direction,
    positives: Tensor | None,
    exclude: Tensor | None,
    log_q: Tensor | None,
    query_log_q: Tensor | None,
    negatives: Sequence[Negatives],
) -> list[Problem]:
    """One problem per direction, on the rows of one process."""
    if direction == "two_view":
        return [_two_views(queries, candidates, queries, candidates, 0, positives, exclude, log_q, negatives)]
    places = torch.arange(len(queries), device=queries.device) if positives is None else positives
    found = []
    if direction in ("forward", "symmetric"):
        found.append(Problem(queries, candidates, places, exclude, log_q, negatives=tuple(negatives)))
    if direction in ("backward", "symmetric"):
        found.append(_backward(queries, candidates, places, exclude, query_log_q))
    for problem in found:
        check_problem(problem)
    return found


def _backward(
    queries: Tensor, candidates: Tensor, places: Tensor, exclude: Tensor | None, query_log_q: Tensor | None
) -> Problem:
    """Candidates look for their queries; those that are nobody's positive do not look."""
    turned = None if exclude is None else exclude.T
    if places.dim() == 1 and len(set(places.tolist())) == len(places):
        rows = None if turned is None else turned[places]
        own = torch.arange(len(queries), device=queries.device)
        return Problem(candidates[places], queries, own, rows, query_log_q)
    mask = places if places.dim() == 2 else places[:, None] == torch.arange(len(candidates), device=queries.device)
    wanted = mask.any(0)  # (candidates,)
    rows = None if turned is None else turned[wanted]
    return Problem(candidates[wanted], queries, mask.T[wanted], rows, query_log_q)


def _two_views(
    first: Tensor,
    second: Tensor,
    all_first: Tensor,
    all_second: Tensor,
    start: int,
    positives: Tensor | None,
    exclude: Tensor | None,
    log_q: Tensor | None,
    negatives: Sequence[Negatives],
) -> Problem:
    """Every view looks for its other view among all views but itself; `start` is the place of the first row."""
    count, total = len(first), len(all_first)
    here = start + torch.arange(count, device=first.device)
    own, partner = torch.cat([here, total + here]), torch.cat([total + here, here])  # (2 · rows,)
    positive = partner
    if positives is not None:
        if positives.dim() != 2:
            raise SettingError("For two views, positives must be a mask, (rows, rows).")
        itself = own[:, None] == torch.arange(2 * total, device=first.device)
        other = partner[:, None] == torch.arange(2 * total, device=first.device)
        positive = (positives.repeat(2, 2) | other) & ~itself
    extra = tuple(
        Negatives(
            n.vectors if n.vectors.dim() == 2 else n.vectors.repeat(2, 1, 1),
            None if n.exclude is None else n.exclude.repeat(2, 1),
            n.log_q if n.log_q is None or n.log_q.dim() == 1 else n.log_q.repeat(2, 1),
        )
        for n in negatives
    )
    problem = Problem(
        rows=torch.cat([first, second]),
        pool=torch.cat([all_first, all_second]),
        positive=positive,
        exclude=None if exclude is None else exclude.repeat(2, 2),
        log_q=None if log_q is None else log_q.repeat(2),
        own=own,
        negatives=extra,
    )
    check_problem(problem)
    return problem


def _gathered_problems(
    queries: Tensor,
    candidates: Tensor,
    direction: Direction,
    positives: Tensor | None,
    exclude: Tensor | None,
    log_q: Tensor | None,
    query_log_q: Tensor | None,
    negatives: Sequence[Negatives],
) -> list[Problem]:
    """The rows of this process, in the pool of all processes."""
    all_queries, query_start = gathered(queries)
    all_candidates, start = gathered(candidates)
    all_log_q = None if log_q is None else gather_rows(log_q)
    own = tuple(n if n.vectors.dim() == 3 else _gathered_negatives(n, all_queries, query_start) for n in negatives)
    if direction == "two_view":
        return [
            _two_views(
                queries, candidates, all_queries, all_candidates, query_start, positives, exclude, all_log_q, own
            )
        ]
    here = torch.arange(len(queries), device=queries.device)
    found = []
    if direction in ("forward", "symmetric"):
        found.append(Problem(queries, all_candidates, start + here, exclude, all_log_q, negatives=own))
    if direction in ("backward", "symmetric"):
        turned = None if exclude is None else gather_rows(exclude)[:, start : start + len(queries)].T
        all_query_q = None if query_log_q is None else gather_rows(query_log_q)
        found.append(Problem(candidates[: len(queries)], all_queries, query_start + here, turned, all_query_q))
    for problem in found:
        check_problem(problem)
    return found


def _gathered_negatives(shared: Negatives, all_queries: Tensor, start: int) -> Negatives:
    vectors, _ = gathered(shared.vectors)
    if shared.exclude is not None and shared.exclude.shape[1] != len(vectors):
        raise SettingError("The mask of gathered negatives needs a column for those of every process.")
    log_q = shared.log_q if shared.log_q is None or shared.log_q.dim() == 2 else gather_rows(shared.log_q)
    return Negatives(vectors, shared.exclude, log_q)


def _named(queries: Tensor, candidates: Tensor) -> tuple[tuple[str, Tensor], ...]:
    return (("queries", queries), ("candidates", candidates))


def _prepared(name: str, vectors: Tensor, normalize: bool) -> Tensor:
    """In float32 or float64, finite, and of unit length where asked for."""
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    if not bool(torch.isfinite(vectors).all()):
        raise ContrastError(f"The {name} hold values that are not finite: training diverged. Use a lower rate.")
    if not normalize:
        return vectors
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    if bool((length == 0).any()):
        place = int((length.flatten() == 0).nonzero()[0])
        raise ContrastError(f"Row {place} of the {name} is a vector of zeros: it has no direction to compare.")
    return vectors / length


def _as_scale(scale: Tensor | float, like: Tensor) -> Tensor:
    value = scale if isinstance(scale, Tensor) else torch.tensor(scale, dtype=like.dtype, device=like.device)
    value = value.to(like.dtype).reshape(())
    number = float(value.detach())
    if not (math.isfinite(number) and number > 0):
        raise ContrastError(f"The scale (1 / temperature) is {number}; it must be above 0.")
    return value


def _check_arguments(
    queries: Tensor,
    candidates: Tensor,
    direction: Direction,
    positives: Tensor | None,
    query_log_q: Tensor | None,
    negatives: Sequence[Negatives],
    gather: bool,
) -> None:
    if direction not in DIRECTIONS:
        raise SettingError(f"direction is {direction!r}; it must be one of: {', '.join(DIRECTIONS)}.")
    if queries.dim() != 2 or candidates.dim() != 2 or queries.shape[1] != candidates.shape[1]:
        shapes = f"{tuple(queries.shape)} and {tuple(candidates.shape)}"
        raise SettingError(f"Queries and candidates must be (rows, width) of one width; they are {shapes}.")
    if len(queries) == 0 or len(candidates) == 0:
        raise ContrastError("There are no queries, or no candidates, to compare.")
    if positives is None and len(candidates) < len(queries):
        raise SettingError(f"{len(queries)} queries have only {len(candidates)} candidates: some have no positive.")
    if direction == "two_view" and len(candidates) != len(queries):
        raise SettingError(f"Two views must be of the same rows; there are {len(queries)} and {len(candidates)}.")
    if direction == "backward" and negatives:
        raise SettingError("Further negatives are candidates: they count in forward and symmetric, not in backward.")
    if direction in ("forward", "two_view") and query_log_q is not None:
        raise SettingError(f"query_log_q corrects the drawing of queries, which {direction} does not do.")
    if gather and positives is not None and direction != "two_view":
        raise SettingError("With gathered rows, candidate i must be the positive of query i: leave out positives.")
