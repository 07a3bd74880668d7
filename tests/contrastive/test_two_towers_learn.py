"""The towers: what a query may see, the pool and its correction, new items, and a training that is resumed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from shop import ITEMS, walks

from warmstart.contrastive.frequency import presence_log_q
from warmstart.contrastive.history_rows import HistoryRows, Pool, PoolMaker, chosen_kind
from warmstart.contrastive.item_tower import content_of
from warmstart.contrastive.two_tower import TwoTowerOutcome, new_model, train_two_tower
from warmstart.contrastive.two_tower_model import TwoTower, two_tower_groups
from warmstart.contrastive.two_tower_trainer import TwoTowerJob, step_loss
from warmstart.core.clock import Clock
from warmstart.core.errors import SettingError
from warmstart.core.two_tower_options import TwoTowerTrainOptions
from warmstart.data.features import Features

HISTORIES = [np.array(items) for items in walks()]
OPTIONS = TwoTowerTrainOptions(dim=16, layers=1, max_history=6, dropout=0.1, num_train_epochs=4, evaluations=4)


def made(**changes: object) -> TwoTower:
    options = TwoTowerTrainOptions(**{"dim": 16, "layers": 2, "max_history": 6, "dropout": 0.0, **changes})
    features = Features(
        ("",) * ITEMS,
        tuple(np.array([item // 6]) if item % 5 else np.zeros(0, dtype=np.int64) for item in range(ITEMS)),
        (np.arange(ITEMS, dtype=np.float32)[:, None] - 12) / 7,
    )
    content = content_of(features, np.zeros((ITEMS, 0)), 4)
    learnt = np.ones(ITEMS, dtype=bool)
    learnt[-1] = False
    return new_model(options, ITEMS, learnt, content, None, 0)


def test_a_query_does_not_see_what_comes_after() -> None:
    model = made().eval()
    vectors = model.catalogue()
    first, other = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[1, 2, 3, 9, 8]])
    one, two = (model.queries(vectors, history, None) for history in (first, other))
    torch.testing.assert_close(one[:, :3], two[:, :3])
    assert (one[:, 3:] - two[:, 3:]).abs().max() > 1e-3
    vectors = vectors.clone().requires_grad_()
    model.queries(vectors, first, None)[0, 2, 0].backward()
    assert vectors.grad is not None
    assert vectors.grad[[1, 2, 3]].abs().sum(1).min() > 0
    assert vectors.grad[[4, 5]].abs().max() == 0


def test_encoding_histories_together_is_encoding_each_alone() -> None:
    model = made()
    vectors = model.catalogue()
    histories = [np.array([1]), np.array([3, 4, 5, 6, 7, 8, 9, 10]), np.array([2, 0])]
    together = model.encode(vectors, histories, None)
    for line, history in enumerate(histories):
        torch.testing.assert_close(together[line], model.encode(vectors, [history], None)[0])
    torch.testing.assert_close(together[1], model.encode(vectors, [histories[1][-6:]], None)[0])
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))


def test_an_item_that_training_never_met_is_its_content_alone() -> None:
    model = made().eval()
    with torch.no_grad():
        before = model.item_vectors(torch.tensor([3, ITEMS - 1]))
        model.items.ids.weight += 1.0
        after = model.item_vectors(torch.tensor([3, ITEMS - 1]))
    torch.testing.assert_close(before[1], after[1])
    torch.testing.assert_close(after[0] - before[0], torch.ones(16))
    assert before[1].abs().max() > 0


def test_id_dropout_shows_items_by_their_content() -> None:
    model = made(id_dropout=0.5).train()
    torch.manual_seed(0)
    ids = torch.arange(ITEMS - 1)
    with torch.no_grad():
        whole = model.eval().item_vectors(ids)
        bare = model.items.content(model.item_content.take(ids))
        seen = model.train().item_vectors(ids)
    is_bare = (seen - bare).abs().amax(1) < 1e-6
    is_whole = (seen - whole).abs().amax(1) < 1e-6
    assert (is_bare ^ is_whole).all()
    assert 4 < int(is_bare.sum()) < ITEMS - 4


def test_an_item_without_content_keeps_its_learnt_vector_in_training() -> None:
    """It would be a vector of zeros, which has no direction to compare."""
    model = made(id_dropout=0.9).train()
    content = model.item_content
    bare = content.starts.clone()
    bare[1:] -= content.starts[1]  # the first item's categories go
    model.item_content = dataclasses.replace(
        content,
        inputs=content.inputs.index_fill(0, torch.tensor([0]), 0.0),
        values=content.values[int(content.starts[1]) :],
        starts=bare,
        numbers=content.numbers.index_fill(0, torch.tensor([0]), 0.0),
    )
    with torch.no_grad():
        for _ in range(20):
            torch.testing.assert_close(model.item_vectors(torch.tensor([0])), model.items.ids.weight[:1])


def test_taking_rows_of_content_takes_their_bags() -> None:
    content = made().item_content
    rows = torch.tensor([7, 5, 7, 0])
    taken = content.take(rows)
    for line, row in enumerate(rows.tolist()):
        own = content.values[content.starts[row] : content.starts[row + 1]]
        assert taken.values[taken.starts[line] : taken.starts[line + 1]].tolist() == own.tolist()
    torch.testing.assert_close(taken.numbers, content.numbers[rows])


def test_every_parameter_is_in_one_group() -> None:
    model = made(learn_temperature=True)
    grouped = [name for group in two_tower_groups(model) for name in group.parameters]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    assert [group.label for group in two_tower_groups(model)][-1] == "joint/head"


def test_windows_ask_every_item_but_the_first_once() -> None:
    rows = HistoryRows([np.arange(12), np.array([5]), np.array([7, 8])], 5)
    asked = [(w.user, place) for w in rows.windows for place in range(w.start + 1, w.start + w.length + 1)]
    assert sorted(asked) == [*((0, place) for place in range(1, 12)), (2, 1)]
    assert all(window.length <= 5 for window in rows.windows)
    assert rows.counts(12).tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    batch = rows.collate(list(range(len(rows))))
    assert sum(int((part["next"] >= 0).sum()) for part in batch["parts"]) == 12
    with pytest.raises(SettingError, match="two events"):
        HistoryRows([np.array([1])], 5)


def test_pools_hold_each_candidate_once_and_all_answers() -> None:
    answers = torch.tensor([3, 3, 9])
    counts, every = torch.ones(ITEMS, dtype=torch.long), torch.ones(ITEMS, dtype=torch.bool)
    for kind, correct in (("in_batch", True), ("uniform", True), ("popular", True), ("mixed", True), ("mixed", False)):
        maker = PoolMaker(kind, every, 10, counts, correct=correct, seed=0)
        pool = maker.make(answers, 5)
        assert pool.ids.tolist() == sorted(set(pool.ids.tolist()))
        assert pool.ids[pool.places(answers)].tolist() == answers.tolist()
        assert (pool.log_q is not None) is correct
        again = PoolMaker(kind, every, 10, counts, correct=correct, seed=0).make(answers, 5)
        assert again.ids.tolist() == pool.ids.tolist()
    whole = PoolMaker("catalogue", every, 10, counts, correct=True, seed=0).make(answers, 0)
    assert (len(whole.ids), whole.log_q) == (ITEMS, None)
    assert chosen_kind("auto", 100) == "catalogue"
    assert chosen_kind("auto", 100_000) == "mixed"
    taken = Pool(torch.tensor([1, 4, 6]), None).taken([np.array([4, 9]), np.array([0])])
    assert taken.tolist() == [[False, True, False], [False, False, False]]


def test_items_that_training_never_meets_are_no_wrong_answers() -> None:
    answers, counts = torch.tensor([3, 3, 9]), torch.ones(ITEMS, dtype=torch.long)
    met = torch.ones(ITEMS, dtype=torch.bool)
    met[[0, 5, ITEMS - 1]] = False
    for kind in ("catalogue", "in_batch", "uniform", "popular", "mixed"):
        maker = PoolMaker(kind, met, 200, counts, correct=True, seed=0)
        pool = maker.make(answers, 0)
        assert bool(met[pool.ids].all())
        assert pool.ids[pool.places(answers)].tolist() == answers.tolist()
        if kind != "in_batch":
            assert len(pool.ids) == int(met.sum())
    fewer = PoolMaker("uniform", met, 12, counts, correct=True, seed=0).make(answers, 0)
    renumbered = torch.searchsorted(met.nonzero().flatten(), fewer.ids)
    small = PoolMaker("uniform", torch.ones(ITEMS - 3) > 0, 12, counts[:-3], correct=True, seed=0)
    same = small.make(torch.searchsorted(met.nonzero().flatten(), answers), 0)
    assert same.ids.tolist() == renumbered.tolist()
    assert fewer.log_q is not None
    assert same.log_q is not None
    torch.testing.assert_close(fewer.log_q, same.log_q)


def test_the_correction_is_the_chance_of_being_in_the_pool() -> None:
    draw = np.random.default_rng(0)
    p = np.array([0.4, 0.3, 0.2, 0.09, 0.01])
    there = np.mean([np.isin(np.arange(5), draw.choice(5, 8, p=p)) for _ in range(20_000)], axis=0)
    found = presence_log_q(torch.from_numpy(np.log(8 * p))).exp().numpy()
    np.testing.assert_allclose(found, there, atol=0.04)  # binomial against Poisson
    assert presence_log_q(torch.tensor([-20.0])).item() == pytest.approx(-20.0, abs=1e-4)


def test_a_sampled_pool_with_correction_costs_what_the_whole_catalogue_does() -> None:
    """Over many draws, the mean denominator of the corrected pool is that of all items."""
    torch.manual_seed(0)
    scores, target = torch.randn(ITEMS, dtype=torch.float64), 3
    others = [item for item in range(ITEMS) if item != target]
    exact = float(scores[others].exp().sum())
    maker = PoolMaker("uniform", torch.ones(ITEMS) > 0, 12, torch.ones(ITEMS, dtype=torch.long), correct=True, seed=1)
    totals = []
    for step in range(4000):
        generator = torch.Generator().manual_seed(step)
        ids = torch.unique(maker.sampler.draw(generator))
        ids = ids[ids != target]
        log_q = presence_log_q(torch.full((len(ids),), math.log(12 / ITEMS), dtype=torch.float64))
        totals.append(float((scores[ids] - log_q).exp().sum()))
    assert np.mean(totals) == pytest.approx(exact, rel=0.03)


def slow_loss(model: TwoTower, histories: list[np.ndarray], scale: float) -> float:
    """Position by position: the next item against all items that the user has not taken."""
    vectors, losses = model.catalogue().double(), []
    for items in histories:
        for place in range(1, len(items)):
            query = model.encode(vectors.float(), [items[max(0, place - 6) : place]], None)[0].double()
            logits = scale * (vectors @ query)
            target = int(items[place])
            left = [item for item in range(ITEMS) if item not in items or item == target]
            losses.append(float(logits[left].logsumexp(0) - logits[target]))
    return float(np.mean(losses))


def test_the_loss_of_a_step_is_that_of_a_slow_loop() -> None:
    model = made().eval()
    histories = [np.array([1, 2, 3, 5]), np.array([9, 4]), np.array([0, 8, 7, 6, 10, 11])]
    rows = HistoryRows(histories, 6)
    pools = PoolMaker("catalogue", torch.ones(ITEMS) > 0, 0, rows.counts(ITEMS), correct=True, seed=0)
    job = TwoTowerJob.__new__(TwoTowerJob)
    job.train, job.pools = rows, pools
    found = step_loss(model, rows.collate([0, 1, 2])["parts"], job, 0)
    assert found.loss.item() == pytest.approx(slow_loss(model, histories, 1 / 0.07), rel=1e-4)
    found.loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "places" not in name)


def judge(model: TwoTower) -> float:
    """Share of the last items that come first."""
    vectors = model.catalogue()
    queries = model.encode(vectors, [items[:-1] for items in HISTORIES], np.arange(len(HISTORIES)))
    best = (queries @ vectors.T).argmax(1)
    return float(np.mean([best[user] == items[-1] for user, items in enumerate(HISTORIES)]))


def train(work: Path, clock: Clock | None = None, options: TwoTowerTrainOptions = OPTIONS) -> TwoTowerOutcome:
    model = made(dropout=0.1, id_dropout=0.1, layers=1)
    return train_two_tower(
        model,
        [items[:-1] for items in HISTORIES],
        judge,
        options,
        seed=0,
        work=work,
        clock=Clock() if clock is None else clock,
        reserve=0.0,
    )


def test_towers_learn_what_comes_next(tmp_path: Path) -> None:
    options = TwoTowerTrainOptions(dim=16, layers=1, max_history=6, num_train_epochs=40, learning_rate=1e-2)
    found = train(tmp_path, options=options)
    assert judge(found.model) > 0.4  # chance is 0.04
    assert any(point.loss is not None for point in found.history)
    assert not found.alarms


@pytest.mark.parametrize("kind", ["catalogue", "mixed"])
def test_a_resumed_training_is_the_whole_one(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TwoTowerTrainOptions(
        dim=16, layers=1, max_history=6, num_train_epochs=4, evaluations=4, negatives=kind, num_negatives=8
    )
    whole = train(tmp_path / "whole", options=options)
    calls = []

    def stop(model: TwoTower) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return judge(model)

    with pytest.raises(KeyboardInterrupt):
        train_two_tower(
            made(dropout=0.1, id_dropout=0.1, layers=1),
            [items[:-1] for items in HISTORIES],
            stop,
            options,
            seed=0,
            work=tmp_path / "part",
            clock=Clock(),
            reserve=0.0,
        )
    resumed = train(tmp_path / "part", options=options)
    assert [(p.step, p.loss, p.validation_score) for p in resumed.history] == [
        (p.step, p.loss, p.validation_score) for p in whole.history
    ]
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0)
