"""InfoNCE as the papers write it: one exponential at a time, in float64. The tests' oracle, gradients included."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def unit(vector: Tensor, normalize: bool) -> Tensor:
    return vector / (vector * vector).sum().sqrt() if normalize else vector


def one_row(
    query: Tensor,
    pool: list[Tensor],
    positives: list[int],
    excluded: list[bool],
    log_q: list[Tensor] | None,
    extra: list[tuple[Tensor, bool, Tensor | None]],
    scale: Tensor,
    normalize: bool,
) -> Tensor:
    """Mean over the positives of −log( exp(s_p) / Σ exp(s_j) ), the sum over everything that is not excluded."""
    query = unit(query, normalize)

    def score(place: int) -> Tensor:
        found = scale * (query * unit(pool[place], normalize)).sum()
        return found if log_q is None or place in positives else found - log_q[place]

    total = torch.zeros((), dtype=query.dtype)
    for place in range(len(pool)):
        if place in positives or not excluded[place]:
            total = total + torch.exp(score(place))
    for vector, out, q in extra:
        if not out:
            found = scale * (query * unit(vector, normalize)).sum()
            total = total + torch.exp(found if q is None else found - q)
    losses = [-torch.log(torch.exp(score(place)) / total) for place in positives]
    return sum(losses, torch.zeros((), dtype=query.dtype)) / len(losses)


def extras(options: dict[str, Any], row: int) -> list[tuple[Tensor, bool, Tensor | None]]:
    found = []
    for negatives in options.get("negatives", ()):
        shared = negatives.vectors.dim() == 2
        vectors = negatives.vectors if shared else negatives.vectors[row]
        for place in range(len(vectors)):
            out = negatives.exclude is not None and bool(negatives.exclude[row, place])
            q = None
            if negatives.log_q is not None:
                q = negatives.log_q[place] if negatives.log_q.dim() == 1 else negatives.log_q[row, place]
            found.append((vectors[place], out, q))
    return found


def forward(queries: Tensor, candidates: Tensor, scale: Tensor, **options: Any) -> Tensor:
    normalize, positives = options.get("normalize", True), options.get("positives")
    exclude, log_q = options.get("exclude"), options.get("log_q")
    total = torch.zeros((), dtype=queries.dtype)
    for row in range(len(queries)):
        if positives is None:
            own = [row]
        elif positives.dim() == 1:
            own = [int(positives[row])]
        else:
            own = [place for place in range(len(candidates)) if positives[row, place]]
        out = [exclude is not None and bool(exclude[row, place]) for place in range(len(candidates))]
        q = None if log_q is None else list(log_q)
        total = total + one_row(queries[row], list(candidates), own, out, q, extras(options, row), scale, normalize)
    return total / len(queries)


def backward(queries: Tensor, candidates: Tensor, scale: Tensor, **options: Any) -> Tensor:
    normalize, positives = options.get("normalize", True), options.get("positives")
    exclude, log_q = options.get("exclude"), options.get("query_log_q")
    losses = []
    for column in range(len(candidates)):
        if positives is None:
            own = [column] if column < len(queries) else []
        elif positives.dim() == 1:
            own = [row for row in range(len(queries)) if int(positives[row]) == column]
        else:
            own = [row for row in range(len(queries)) if positives[row, column]]
        if not own:
            continue
        out = [exclude is not None and bool(exclude[row, column]) for row in range(len(queries))]
        q = None if log_q is None else list(log_q)
        losses.append(one_row(candidates[column], list(queries), own, out, q, [], scale, normalize))
    return torch.stack(losses).mean()


def symmetric(queries: Tensor, candidates: Tensor, scale: Tensor, **options: Any) -> Tensor:
    return (forward(queries, candidates, scale, **options) + backward(queries, candidates, scale, **options)) / 2


def two_view(first: Tensor, second: Tensor, scale: Tensor, **options: Any) -> Tensor:
    """NT-Xent (SimCLR, eq. 1): 2N views, each against the 2N − 1 others; masks speak of images: of all their views."""
    count, normalize = len(first), options.get("normalize", True)
    views = [*first, *second]
    positives, exclude, log_q = options.get("positives"), options.get("exclude"), options.get("log_q")
    total = torch.zeros((), dtype=first.dtype)
    for row in range(2 * count):
        others = [place for place in range(2 * count) if place != row]
        image = [place % count for place in others]
        own = [
            index
            for index, place in enumerate(others)
            if place % count == row % count or (positives is not None and bool(positives[row % count, place % count]))
        ]
        out = [exclude is not None and bool(exclude[row % count, place]) for place in image]
        q = None if log_q is None else [log_q[place] for place in image]
        total = total + one_row(
            views[row], [views[p] for p in others], own, out, q, extras(options, row % count), scale, normalize
        )
    return total / (2 * count)


LOOPS = {"forward": forward, "backward": backward, "symmetric": symmetric, "two_view": two_view}
