"""Batches of pairs: every row once an epoch, the same whatever the number of processes; parts, places and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy

from warmstart.backbones.text_inputs import TokenInputs
from warmstart.contrastive.batches import PairBatches, PairLoader, PairRows
from warmstart.core.errors import SettingError


def tokens(lengths: list[int]) -> TokenInputs:
    """Row i holds the token i + 1, as often as it is long."""
    return TokenInputs([[i + 1] * n for i, n in enumerate(lengths)], None, 0, np.array(lengths))


def rows(count: int, part_rows: int = 4, **changes: object) -> PairRows:
    draw = np.random.default_rng(0)
    sides = [tokens(draw.integers(1, 20, count).tolist()) for _ in range(2)]
    ids = np.arange(count)
    return PairRows(sides, ids, ids[None], part_rows=part_rows, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_row_once_and_batches_of_equal_size(world: int) -> None:
    each = [PairBatches(103, 24, 5, rank, world) for rank in range(world)]
    together = [[row for part in parts for row in part] for parts in zip(*each, strict=True)]
    assert len(together) == len(each[0]) == 5
    assert sorted(row for batch in together for row in batch) == list(range(103))
    assert {len(batch) for batch in together} == {20, 21}
    assert together == list(PairBatches(103, 24, 5))  # what one process would see
    assert max(len(part) for batches in each for part in batches) - min(len(p) for b in each for p in b) <= 1


def test_order_follows_seed_and_epoch_alone() -> None:
    batches = PairBatches(40, 8, 1)
    first = list(batches)
    assert list(batches) == first
    batches.set_epoch(1)
    second = list(batches)
    assert second != first
    loader = PairLoader(rows(40), batch_sampler=PairBatches(40, 8, 1), collate_fn=rows(40).collate)
    loader.set_epoch(1)
    assert [batch["anchors"].tolist() for batch in loader] == second
    assert list(PairBatches(40, 8, 2)) != first


def test_too_few_rows_for_the_processes() -> None:
    with pytest.raises(SettingError, match="fewer than two in a batch"):
        PairBatches(3, 8, 0, 0, 2)
    with pytest.raises(SettingError, match="fewer than two in a batch"):
        PairBatches(9, 1, 0)
    assert len(PairBatches(4, 8, 0, 0, 2)) == 1


def test_parts_hold_each_row_once_at_little_padding_and_places_say_where() -> None:
    made = rows(30, part_rows=3)
    chosen = [7, 3, 29, 11, 0, 15, 4, 22, 9, 8]
    batch = made.collate(chosen)
    for inputs, side in zip(made.sides, batch["sides"], strict=True):
        found = torch.cat([part["input_ids"][:, 0] for part in side["parts"]]) - 1
        assert [chosen[place] for place in side["places"].tolist()] == found.tolist()
        longest = int(inputs.lengths[chosen].max())
        assert all(part["input_ids"].numel() <= 3 * longest for part in side["parts"])
        widths = [part["input_ids"].shape[1] for part in side["parts"]]
        assert widths == sorted(widths)
        assert len(side["parts"]) < len(chosen) / 3 + 2  # short rows go together in larger parts
    assert batch["anchors"].tolist() == chosen
    assert batch["candidates"].tolist() == [chosen]


def test_masks_know_equal_contents_and_all_known_positives() -> None:
    sides = [tokens([2] * 4) for _ in range(3)]
    anchors = np.array([0, 0, 1, 2])
    candidates = np.array([[10, 11, 12, 10], [13, 13, 11, 14]])  # positives, then hard negatives
    made = PairRows(sides, anchors, candidates, {0: np.array([10, 11])})
    batch = made.collate([0, 1, 2, 3])
    found = made.false_negatives(batch["anchors"], batch["candidates"], gather=False).int().tolist()
    assert found == [
        [1, 1, 0, 1, 0, 0, 1, 0],  # 10 and 11 answer anchor 0, wherever they stand
        [1, 1, 0, 1, 0, 0, 1, 0],
        [0, 0, 1, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 0, 0, 0, 0],
    ]


def test_real_rows() -> None:
    backbone = toy.backbone("bert")
    texts, _ = toy.texts(12, 0)
    inputs = backbone.preprocessor.encode(texts)
    made = PairRows([inputs, inputs], np.arange(12), np.arange(12)[None], part_rows=4)
    batch = made.collate(list(range(12)))
    vectors = torch.cat([backbone.encoder.features(**part) for part in batch["sides"][0]["parts"]])
    whole = backbone.encoder.features(**inputs.batch(range(12)))
    torch.testing.assert_close(vectors[batch["sides"][0]["places"].argsort()], whole, atol=1e-5, rtol=0)
