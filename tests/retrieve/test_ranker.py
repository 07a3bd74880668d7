"""The ranker: equivariance, padding, its start, its loss against a loop, what it may know, and a resumed training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from warmstart.core.clock import Clock
from warmstart.core.errors import DataError
from warmstart.core.ranker_options import RankerTrainOptions
from warmstart.data.histories import Asked, split_last
from warmstart.retrieve.candidates import Candidates, Moment, find_candidates, make_lists, ranker_scores, rerank
from warmstart.retrieve.evidence import Evidence, gather
from warmstart.retrieve.ranker import Lists, Ranker, RankerConfig
from warmstart.retrieve.ranker_training import (
    ListRows,
    RankerOutcome,
    fit_features,
    list_loss,
    mean_gain,
    ranker_groups,
    train_ranker,
)
from warmstart.retrieve.ranking import ndcg

ITEMS, USERS, DIM = 30, 120, 8


def walks(seed: int = 0) -> list[np.ndarray]:
    """Each user takes the next items of a ring: what comes next follows from the last item alone."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(USERS):
        start, length = int(draw.integers(ITEMS)), int(draw.integers(5, 12))
        found.append((start + np.arange(length)) % ITEMS)
    return found


WALKS = walks()
VECTORS = torch.nn.functional.normalize(
    torch.from_numpy(np.random.default_rng(3).normal(size=(ITEMS, DIM))).float(), dim=-1
)


def blunt(users: np.ndarray, histories: list[np.ndarray]) -> np.ndarray:
    """A retriever that knows where on the ring a user is, but not the order: near items score alike, with noise."""
    draw = np.random.default_rng(5)
    last = np.array([history[-1] for history in histories])
    away = (np.arange(ITEMS) - last[:, None]) % ITEMS
    noise = draw.normal(0, 0.3, (len(users), ITEMS))
    return np.asarray(np.where(np.minimum(away, ITEMS - away) <= 8, 1.0, 0.0) + noise, dtype=np.float32)


def asked_first() -> tuple[Asked, Moment]:
    split = split_last(WALKS)
    return split.validation, Moment(tuple(split.train), ITEMS)


def candidates(k: int = 12) -> Candidates:
    asked, moment = asked_first()
    return find_candidates(blunt, asked, moment, k)


def made(seed: int = 0, trained: bool = True, **changes: object) -> Ranker:
    """A ranker with random weights, or as training finds it."""
    shape = {"width": 16, "layers": 2, "heads": 2, "max_history": 6, "dropout": 0.2, "sharpness": 10.0, **changes}
    torch.manual_seed(seed)
    model = Ranker(RankerConfig(items=ITEMS, dim=DIM, **shape), VECTORS)  # type: ignore[arg-type]
    if trained:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def test_scores_do_not_depend_on_the_order_of_the_candidates() -> None:
    model, found = made(), candidates()
    lists = found.lists(np.arange(9), 6)
    order = torch.from_numpy(np.random.default_rng(1).permutation(12))
    moved = Lists(
        lists.history,
        lists.read,
        lists.candidates[:, order],
        lists.present[:, order],
        lists.retrieved[:, order],
        lists.taken[:, order],
        lists.pairs[:, order],
    )
    scores = model(lists)
    assert scores.std(1).min() > 0.1
    torch.testing.assert_close(model(moved), scores[:, order], atol=1e-4, rtol=1e-4)


def test_a_padded_batch_is_each_list_alone() -> None:
    model, found = made(), candidates()
    histories = [found.histories[0][:1], found.histories[1][:4], found.histories[2]]
    items, scores = found.items[:3].copy(), found.scores[:3].copy()
    items[0, 5:], scores[0, 5:] = -1, -np.inf
    items[2, 9:], scores[2, 9:] = -1, -np.inf
    together = model(make_lists(histories, items, scores, found.evidence, 6))
    for line, history in enumerate(histories):
        there = items[line] >= 0
        alone = model(
            make_lists([history], items[line : line + 1, there], scores[line : line + 1, there], found.evidence, 6)
        )
        torch.testing.assert_close(together[line, : there.sum()], alone[0], atol=1e-4, rtol=1e-4)
        assert torch.isneginf(together[line, there.sum() :]).all()


def test_only_the_latest_items_are_read_and_their_order_counts() -> None:
    model, found = made(), candidates()
    history = np.array([1, 2, 3, 4, 5, 6, 7, 8])
    one = make_lists([history], found.items[:1], found.scores[:1], found.evidence, 6)
    longer = make_lists([np.array([20, 21, *history])], found.items[:1], found.scores[:1], found.evidence, 6)
    torch.testing.assert_close(model(one), model(longer))
    turned = make_lists([history[::-1].copy()], found.items[:1], found.scores[:1], found.evidence, 8)
    assert (made(max_history=8)(turned) - made(max_history=8)(dataclasses.replace(one))).abs().max() > 1e-3


def test_an_untrained_ranker_keeps_the_order_of_the_retriever() -> None:
    found = candidates()
    model = made(trained=False)
    fit_features(model, ListRows(found, 6))
    scores = ranker_scores(model, found)
    assert (np.diff(scores, axis=1) <= 0).all()
    ranked = rerank(scores, found)
    np.testing.assert_array_equal(ranked.ranks, found.ranks)
    np.testing.assert_array_equal(ranked.top, found.items[:, :10])


def test_a_ranking_holds_the_candidates_and_nothing_else() -> None:
    found = candidates()
    items, scores = found.items.copy(), found.scores.copy()
    items[3, 4:], scores[3, 4:] = -1, -np.inf
    found = dataclasses.replace(found, items=items, scores=scores)
    made_up = np.where(items >= 0, np.random.default_rng(2).normal(size=items.shape), -np.inf).astype(np.float32)
    ranked = rerank(made_up, found)
    for line in range(len(found)):
        own = set(items[line][items[line] >= 0].tolist())
        shown = ranked.top[line][ranked.top[line] >= 0].tolist()
        assert len(shown) == min(10, len(own)) == len(set(shown))
        assert set(shown) <= own
        place = found.places[line]
        if place < 0:
            assert ranked.ranks[line] == found.ranks[line] > items.shape[1]
        elif items[line, place] >= 0:
            order = sorted(own, key=lambda item: -made_up[line][items[line].tolist().index(item)])
            assert order[ranked.ranks[line] - 1] == items[line, place]


def test_equal_scores_count_against_the_right_item() -> None:
    found = candidates()
    ranked = rerank(np.zeros(found.items.shape, dtype=np.float32), found)
    assert (ranked.ranks[found.places >= 0] == found.items.shape[1]).all()


def test_the_loss_is_that_of_a_loop_gradients_included() -> None:
    draw = torch.Generator().manual_seed(0)
    fast = torch.randn(5, 7, generator=draw, dtype=torch.float64)
    fast[1, 4:] = -torch.inf
    places = torch.tensor([0, 3, 6, 2, 2])
    slow = fast.clone().requires_grad_()
    fast.requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for line, place in enumerate(places.tolist()):
        there = [column for column in range(7) if math.isfinite(slow[line, column].item())]
        below = sum((slow[line, column].exp() for column in there), start=torch.zeros((), dtype=torch.float64))
        total = total - (slow[line, place].exp() / below).log()
    expected = total / len(places)
    loss = list_loss(fast, places)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    assert fast.grad is not None
    assert slow.grad is not None
    torch.testing.assert_close(fast.grad, slow.grad)
    assert (fast.grad[1, 4:] == 0).all()


def test_every_parameter_learns_and_is_in_one_group() -> None:
    model = made().train()
    rows = ListRows(candidates(), 6)
    batch = rows.collate(list(range(8)))
    labels, _ = batch.pop("labels"), batch.pop("rows")
    list_loss(model(Lists(**batch)), labels).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
    named = [name for group in ranker_groups(model) for name in group.parameters]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())


def test_evidence_is_that_of_a_slow_loop() -> None:
    histories = [np.array([0, 1, 2, 3]), np.array([2, 1]), np.array([], dtype=np.int64), np.array([3, 0, 1])]
    found = gather(histories, 5)
    counts = np.zeros(5)
    together, then = np.zeros((5, 5)), np.zeros((5, 5))
    for history in histories:
        for place, first in enumerate(history):
            counts[first] += 1
            for later, second in enumerate(history):
                together[first, second] += first != second
                if later > place:
                    then[first, second] += 1 / (later - place)
    over = np.sqrt(np.outer(counts, counts)) + 3
    every = np.arange(5)
    values = found.pairs(every[:, None], every[None, :])
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(values[..., 0], together / over, rtol=1e-6)
    np.testing.assert_allclose(values[..., 1], then / over, rtol=1e-6)
    nothing = gather([np.array([], dtype=np.int64)], 3)
    assert (nothing.pairs(np.array([0]), np.array([1])) == 0).all()


def test_what_a_question_knows_does_not_change_with_what_came_later() -> None:
    """The same candidates and the same features, whatever users took last and second last."""
    split = split_last(WALKS)
    changed = [np.concatenate([walk[:-2], walk[:-3:-1]]) for walk in WALKS]  # the last two in the other order
    other = split_last(changed)
    assert not np.array_equal(split.validation.targets, other.validation.targets)
    lists = []
    for one in (split, other):
        found = find_candidates(blunt, one.validation, Moment(tuple(one.train), ITEMS), 12)
        lists.append(found.lists(np.arange(len(found)), 6))
    for spec in dataclasses.fields(lists[0]):
        torch.testing.assert_close(getattr(lists[0], spec.name), getattr(lists[1], spec.name))


def test_a_planted_leak_is_caught() -> None:
    split = split_last(WALKS)
    with pytest.raises(DataError, match="the future leaks"):
        find_candidates(blunt, split.validation, Moment(tuple(split.complete), ITEMS), 12)
    with pytest.raises(DataError, match="the future leaks"):
        find_candidates(blunt, split.test, Moment(tuple(WALKS), ITEMS), 12)


def test_training_without_right_items_is_refused() -> None:
    found = candidates()
    with pytest.raises(DataError, match="found the right item for 0 of"):
        ListRows(dataclasses.replace(found, places=np.full(len(found), -1)), 6)


OPTIONS = RankerTrainOptions(
    width=16,
    heads=2,
    max_history=6,
    dropout=0.1,
    num_train_epochs=16,
    learning_rate=1e-2,
    per_device_train_batch_size=16,
    evaluations=4,
)


def trained(model: Ranker, work: Path, options: RankerTrainOptions = OPTIONS, **changes: object) -> RankerOutcome:
    found = candidates()
    given = {"learn": found.take(np.arange(90)), "choose": found.take(np.arange(90, USERS)), **changes}
    return train_ranker(
        model,
        given["learn"],  # type: ignore[arg-type]
        given["choose"],  # type: ignore[arg-type]
        options,
        seed=0,
        work=work,
        clock=Clock(),
        reserve=0.0,
        progress=given.get("progress"),  # type: ignore[arg-type]
    )


def small() -> Ranker:
    return made(trained=False, layers=1)


def test_it_learns_an_order_that_the_retriever_does_not_know(tmp_path: Path) -> None:
    model = small()
    outcome = trained(model, tmp_path)
    found = candidates().take(np.arange(90, USERS))
    before = float(ndcg(found.ranks).mean())
    assert outcome.helps
    assert outcome.chosen == pytest.approx(mean_gain(model, found))
    assert outcome.chosen > 1.3 * before
    assert outcome.chosen <= float((found.places >= 0).mean())


def test_a_ranker_that_does_not_help_is_put_back_to_its_start(tmp_path: Path) -> None:
    """Lists whose right item is drawn at random, against a retriever that is right on the others."""
    found = candidates()
    learn, choose = found.take(np.arange(90)), found.take(np.arange(90, USERS))
    draw = np.random.default_rng(0)
    wrong = dataclasses.replace(learn, places=draw.integers(6, 12, len(learn)))
    right = dataclasses.replace(choose, places=np.zeros(len(choose), dtype=np.int64), ranks=np.ones(len(choose)))
    model = small()
    outcome = trained(model, tmp_path, learn=wrong, choose=right)
    assert not outcome.helps
    assert (np.diff(ranker_scores(model, choose), axis=1) <= 0).all()


def test_a_resumed_training_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    whole = small()
    first = trained(whole, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(step: int, steps: int, text: str) -> None:
        if step > steps // 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        trained(small(), tmp_path / "broken", progress=stop)
    resumed = small()
    second = trained(resumed, tmp_path / "broken")
    assert second.steps == first.steps
    assert second.chosen == first.chosen
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)


def test_evidence_survives_its_arrays() -> None:
    found = gather(WALKS, ITEMS)
    again = Evidence(found.counts.copy(), found.starts.copy(), found.others.copy(), found.values.copy())
    first, second = np.arange(ITEMS)[:, None], np.arange(ITEMS)[None]
    np.testing.assert_array_equal(again.pairs(first, second), found.pairs(first, second))
