"""Masks of false negatives: candidates that are no wrong answer to a query, and must not count as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def same(query_ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """(queries, candidates), true where a candidate is, or has the content of, the query's positive.

    Args:
        query_ids: (queries,), the id of each query's positive.
        candidate_ids: (candidates,).
    """
    return query_ids[:, None] == candidate_ids


def known_positives(queries: Sequence[int], candidates: Tensor, known: Mapping[int, Tensor]) -> Tensor:
    """(queries, candidates), true where a candidate is any known positive of the query (an item the user took before).

    Args:
        queries: (queries,), id of each query (the user).
        candidates: (candidates,), ids.
        known: the ids of all known positives of each query; a query that is not there has none.
    """
    found = torch.zeros(len(queries), len(candidates), dtype=torch.bool, device=candidates.device)
    for row, query in enumerate(queries):
        if query in known:
            found[row] = torch.isin(candidates, known[query].to(candidates.device))
    return found
