"""The order of the rows."""

from __future__ import annotations

import numpy as np
import pytest

from warmstart.train.sampler import LengthSampler


def lengths(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).geometric(0.03, rows).clip(1, 256)


def padding(order: list[int], sizes: np.ndarray, batch: int) -> float:
    """Share of the tokens that are padding."""
    runs = [sizes[order[at : at + batch]] for at in range(0, len(order), batch)]
    return 1 - sum(run.sum() for run in runs) / sum(run.max() * len(run) for run in runs)


@pytest.mark.parametrize("rows", [1, 7, 16, 17, 33, 1000, 1025])
@pytest.mark.parametrize("batch", [1, 16])
def test_each_row_once(rows: int, batch: int) -> None:
    sampler = LengthSampler(lengths(rows), batch, 4)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(rows))
        assert len(order) == len(sampler)
        assert all(type(row) is int for row in order)


def test_no_rows() -> None:
    assert list(LengthSampler(lengths(0), 8, 0)) == []


def test_order_follows_from_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        np.random.seed(np.random.randint(1000))
        sampler = LengthSampler(lengths(300), 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 3) == order(1, 3)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_far_less_padding_than_a_shuffle() -> None:
    sizes = lengths(4000)
    shuffled = padding(list(np.random.default_rng(1).permutation(4000)), sizes, 16)
    sampler = LengthSampler(sizes, 16, 1)
    assert padding(list(sampler), sizes, 16) < 0.25 * shuffled
    assert shuffled > 0.5


def test_batches_of_all_lengths_come_in_mixed_order() -> None:
    sizes = lengths(3200)
    order = list(LengthSampler(sizes, 16, 1))
    means = [sizes[order[at : at + 16]].mean() for at in range(0, 3200, 16)]
    assert abs(np.corrcoef(np.arange(200), means)[0, 1]) < 0.25


def test_ragged_batch_last() -> None:
    sizes = np.concatenate([np.full(64, 5), np.full(64, 50)])[: 64 + 35]
    order = list(LengthSampler(sizes, 8, 0))
    for at in range(0, 96, 8):
        run = sizes[order[at : at + 8]]
        assert run.tolist() == sorted(run, reverse=True)  # a sorted run was not cut in the middle
    assert len(order[96:]) == 3


@pytest.mark.parametrize(("rows", "again"), [(16, 0), (17, 1), (18, 0), (8, 0), (9, 1), (1, 1)])
def test_no_forward_pass_of_one_row_where_that_is_asked_for(rows: int, again: int) -> None:
    sampler = LengthSampler(lengths(rows), 16, 2, forward=8, at_least=2)
    order = list(sampler)
    assert len(order) == len(sampler) == rows + again
    assert sorted(order[:rows]) == list(range(rows))
    assert order[rows:] == order[:again]
    assert (len(order) - 1) // 8 == (rows - 1) // 8 if rows > 1 else len(order) == 2  # not one pass more
