"""Masks of false negatives: candidates that are no wrong answer to a query, and must not count as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor


def same(query_ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """(queries, candidates), true where a candidate is, or has the content of, the query's positive.

    Args:
        query_ids: (queries,), the id of each query's positive.
        candidate_ids: (candidates,).
    """
    return query_ids[:, None] == candidate_ids


def known_positives(queries: Sequence[int], candidates: Tensor, known: Mapping[int, AbstractSet[int]]) -> Tensor:
    """(queries, candidates), true where a candidate is any known positive of the query (an item the user took before).

    Args:
        queries: (queries,), id of each query (the user).
        candidates: (candidates,), ids.
        known: the ids of all known positives of each query; a query that is not there has none.
    """
    none: frozenset[int] = frozenset()
    ids = candidates.tolist()
    rows = [[candidate in known.get(query, none) for candidate in ids] for query in queries]
    return torch.tensor(rows, dtype=torch.bool, device=candidates.device).reshape(len(queries), len(ids))


def content_ids(*columns: Sequence[object]) -> tuple[Tensor, ...]:
    """Numbers for the values of some columns, (rows,) each; equal values have equal numbers in all of them."""
    number: dict[object, int] = {}
    return tuple(torch.tensor([number.setdefault(value, len(number)) for value in column]) for column in columns)
