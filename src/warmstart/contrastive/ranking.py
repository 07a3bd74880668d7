"""How well queries find their positives among all candidates: ranks, recalls, and the geometry of the vectors."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import torch

from warmstart.contrastive.diagnostics import geometry
from warmstart.core.contrast import RankScores
from warmstart.core.errors import ContrastError
from warmstart.core.metrics import unit_rows
from warmstart.core.statistics import bootstrap_interval, wilson_interval

_SCORES = 1 << 24  # scores in memory at a time


def ranks(
    queries: np.ndarray, candidates: np.ndarray, positives: Sequence[AbstractSet[int]], own: np.ndarray | None = None
) -> np.ndarray:
    """The rank of each query's best positive, (queries,), 1 for the first; equal scores count against it.

    Args:
        queries: (queries, width), of unit length.
        candidates: (candidates, width), of unit length, each content once.
        positives: places of each query's positives among the candidates, at least one.
        own: (queries,), the place of each query itself among the candidates, which is no answer; −1 for none.

    Raises:
        ContrastError: vectors are not finite.
    """
    if not (np.isfinite(queries).all() and np.isfinite(candidates).all()):
        raise ContrastError("The model gives vectors that are not finite: training diverged. Use a lower rate.")
    found = np.zeros(len(queries), dtype=np.int64)
    step = max(1, _SCORES // max(1, len(candidates)))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ candidates.T
        for line, answers in enumerate(positives[start : start + step]):
            places = list(answers)
            best = scores[line, places].max()
            scores[line, places] = -np.inf
            if own is not None and own[start + line] >= 0:
                scores[line, own[start + line]] = -np.inf
            found[start + line] = 1 + int((scores[line] >= best).sum())
    return found


def score_ranks(
    queries: np.ndarray,
    candidates: np.ndarray,
    positives: Sequence[AbstractSet[int]],
    *,
    own: np.ndarray | None = None,
    seed: int = 0,
) -> RankScores:
    """Recalls and mean reciprocal rank with 95 % intervals over the queries; the arguments are those of `ranks`."""
    queries, candidates = (unit_rows(side).astype(np.float32) for side in (queries, candidates))
    found = ranks(queries, candidates, positives, own)
    first = np.array([min(answers) for answers in positives])
    everything = torch.from_numpy(np.concatenate([queries, candidates]))
    return RankScores(
        queries=len(queries),
        candidates=len(candidates),
        recall_at_1=wilson_interval(int((found <= 1).sum()), len(found)),
        recall_at_5=wilson_interval(int((found <= 5).sum()), len(found)),
        recall_at_10=wilson_interval(int((found <= 10).sum()), len(found)),
        reciprocal_rank=bootstrap_interval(1 / found, seed),
        geometry=geometry(torch.from_numpy(queries), torch.from_numpy(candidates[first]), everything),
    )
