"""One suite over every index: known answers, batch = single, changes, filters, bad input; no id twice, none made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds_of_index import EVERY, EXACT, FAR, PLANS, empty, filled, unit

from warmstart.core.errors import SettingError
from warmstart.core.index import Effort, IndexPlan
from warmstart.neighbours.attributes import Attributes
from warmstart.neighbours.exact import ExactIndex, nearest_of
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.ids import Filter, IdTable
from warmstart.neighbours.protocol import Index

# what codes may cost a score
COARSE = {"fp16": 2e-3, "ivffp16": 2e-3, "sq8": 0.02, "ivfsq8": 0.02, "ivfpq": 0.02, "hnswsq8": 0.02}


def checkerboard(side: int) -> np.ndarray:
    """Corners of a board that lies before the sphere, as directions, (side², 3)."""
    across, down = np.meshgrid(np.linspace(-0.5, 0.5, side), np.linspace(-0.5, 0.5, side), indexing="ij")
    corners = np.stack([across.ravel(), down.ravel(), np.ones(side**2)], axis=1)
    return (corners / np.linalg.norm(corners, axis=1, keepdims=True)).astype(np.float32)


def agree(name: str, index: Index, truth: ExactIndex, queries: np.ndarray, k: int, where: Filter | None = None) -> None:
    """The same scores as the exact answer gives, as far as codes allow; and no id twice."""
    found, right = index.search(queries, k, where), truth.search(queries, k, where)
    assert found.ids.shape == right.ids.shape
    assert all(len(set(row.tolist())) == len(row) for row in found.ids)
    np.testing.assert_allclose(found.scores, right.scores, atol=COARSE.get(name, 1e-5))


@pytest.mark.parametrize("name", EVERY)
def test_checkerboard_with_a_known_answer(name: str) -> None:
    """A corner of the board is nearest to itself, then to the four corners beside it."""
    side = 5 if name in COARSE else 20  # codes must be able to tell the corners apart
    corners = checkerboard(side)
    ids = 1000 + 7 * np.arange(side**2)
    found = filled(name, corners, ids, FAR).search(corners, 5)
    assert (found.ids[:, 0] == ids).all()
    inside = [row for row in range(side**2) if 0 < row // side < side - 1 and 0 < row % side < side - 1]
    for row in inside:
        assert set(found.ids[row].tolist()) == {1000 + 7 * (row + step) for step in (0, 1, -1, side, -side)}


@pytest.mark.parametrize("name", EVERY)
def test_batch_is_single_and_ids_are_real(name: str) -> None:
    vectors, queries = unit(300, 8), unit(20, 8, seed=1)
    index = filled(name, vectors, np.arange(300) * 3 + 5)
    found = index.search(queries, 50)
    assert len(index) == 300
    assert index.width == 8
    assert found.ids.shape == found.scores.shape == (20, 50)
    assert all(len(set(row.tolist())) == 50 for row in found.ids)
    assert ((found.ids - 5) % 3 == 0).all()
    assert ((found.ids >= 5) & (found.ids < 905)).all()
    assert (np.diff(found.scores, axis=1) <= 1e-6).all()
    for row in range(20):
        single = index.search(queries[row : row + 1], 50)
        np.testing.assert_allclose(single.scores[0], found.scores[row], atol=1e-5)
        assert len(set(single.ids[0].tolist()) & set(found.ids[row].tolist())) >= 49  # ties in rounding


@pytest.mark.parametrize("name", EVERY)
def test_fewer_vectors_than_asked_for(name: str) -> None:
    """IVF finds none in a cell that it does not look into: such rows are answered by looking further."""
    vectors = unit(40, 4)
    index = filled(name, vectors, effort=Effort(nprobe=1, ef_search=1, k_factor=1))
    found = index.search(unit(5, 4, seed=2), 100)
    assert found.ids.shape == (5, 40)
    assert all(sorted(row.tolist()) == list(range(40)) for row in found.ids)


@pytest.mark.parametrize("name", PLANS)
def test_little_effort_finds_most_and_much_effort_all(name: str) -> None:
    vectors, queries = unit(2000, 16), unit(50, 16, seed=3)
    exact = filled("exact", vectors).search(queries, 10)

    def recall(effort: Effort) -> float:
        found = filled(name, vectors, effort=effort).search(queries, 10)
        return float(
            np.mean([len({*a} & {*b}) / 10 for a, b in zip(found.ids.tolist(), exact.ids.tolist(), strict=True)])
        )

    little, much = recall(Effort(nprobe=2, ef_search=10, k_factor=2)), recall(Effort(8, 400, 16))
    assert much > (0.9 if name in COARSE else 0.999)
    assert little > 0.3
    if name.startswith(("ivf", "hnsw")):
        assert little < much


@given(
    rows=st.integers(1, 60), width=st.integers(1, 6), k=st.integers(1, 70), seed=st.integers(0, 1000), cut=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_exact_indexes_agree_with_sorting(rows: int, width: int, k: int, seed: int, cut: bool) -> None:
    vectors, queries = unit(rows, width, seed), unit(4, width, seed + 1)
    scores = queries @ vectors.T
    expected = -np.sort(-scores, axis=1)[:, :k]
    for name in EXACT:
        index = empty(name, vectors)
        edge = rows // 2 if cut else rows
        index.add(np.arange(edge), vectors[:edge])
        index.add(np.arange(edge, rows), vectors[edge:])
        found = index.search(queries, k)
        np.testing.assert_allclose(found.scores, expected, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(scores, found.ids, axis=1), found.scores, atol=1e-5)


def test_the_first_of_equal_scores_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for rows in (1 << 16, 1, 2):  # also where equal ones are in different blocks
        monkeypatch.setattr("warmstart.neighbours.exact._ROWS", rows)
        index = ExactIndex(2)
        index.add(np.array([9, 4, 7, 1]), np.array([[1, 0], [1, 0], [2, 0], [1, 0]]))
        assert index.search(np.array([[1.0, 0.0]]), 3).ids.tolist() == [[7, 9, 4]]


@given(rows=st.integers(1, 50), queries=st.integers(1, 5), k=st.integers(1, 12), block=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_a_scan_in_blocks_is_a_sort(rows: int, queries: int, k: int, block: int) -> None:
    draw = np.random.default_rng(rows * 31 + k)
    vectors, asked = draw.integers(-2, 3, (rows, 3)).astype(np.float32), draw.integers(-2, 3, (queries, 3))
    places = np.flatnonzero(draw.random(rows) < 0.7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warmstart.neighbours.exact._ROWS", block)
        scores, found = nearest_of(asked.astype(np.float32), places, vectors.__getitem__, k)
    for row, query in enumerate(asked):
        order = sorted(places.tolist(), key=lambda place: (-float(query @ vectors[place]), place))[:k]
        assert found[row].tolist() == order
        assert scores[row].tolist() == [float(query @ vectors[place]) for place in order]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, list[int]]]:
    verbs = st.sampled_from(["add", "delete", "update"])
    ids = st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True)
    return draw(st.lists(st.tuples(verbs, ids), min_size=1, max_size=12))


@pytest.mark.parametrize("name", EVERY)
@given(steps=changes(), k=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_add_delete_and_update_against_a_dictionary(name: str, steps: list[tuple[str, list[int]]], k: int) -> None:
    training = np.random.default_rng(9).uniform(-1.3, 1.3, (600, 4))  # codes reach further than what is added
    index, model, draw = empty(name, training, FAR), {}, 0
    for verb, ids in steps:
        draw += 1
        vectors = unit(len(ids), 4, seed=100 + draw)
        bad = any(one in model for one in ids) if verb == "add" else any(one not in model for one in ids)
        arguments = (np.array(ids),) if verb == "delete" else (np.array(ids), vectors)
        if bad:
            with pytest.raises(SettingError):
                getattr(index, verb)(*arguments)
            continue
        getattr(index, verb)(*arguments)
        if verb == "delete":
            model = {one: vector for one, vector in model.items() if one not in ids}
        else:
            model.update(zip(ids, vectors, strict=True))
    assert len(index) == len(model)
    assert sorted(index.ids().tolist()) == sorted(model)
    truth = ExactIndex(4)
    truth.add(np.array(list(model), dtype=np.int64), np.array(list(model.values())).reshape(-1, 4))
    agree(name, index, truth, unit(3, 4, seed=5), k)
    index.delete(index.ids())
    assert index.search(unit(2, 4), k).ids.shape == (2, 0)


@pytest.mark.parametrize("share", [0.002, 0.3, 0.95])
@pytest.mark.parametrize("name", EVERY)
def test_filters_never_leak(name: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Selective ones are answered by a scan, the others inside the search; both as exactly as the index can."""
    monkeypatch.setattr("warmstart.neighbours.faiss_index._SCAN_ROWS", 20)
    vectors, queries = unit(1500, 8), unit(10, 8, seed=4)
    ids = np.random.default_rng(1).permutation(10_000)[:1500]
    index, truth = filled(name, vectors, ids, FAR), filled("exact", vectors, ids)
    allow = np.random.default_rng(2).choice(ids, max(1, int(share * 1500)), replace=False)
    for where in (
        Filter(allow=np.concatenate([allow, [123_456_789]])),  # an id that is not there
        Filter(block=allow),
        Filter(allow=allow, block=allow[::2]),
        Filter(allow=allow[:0]),
        Filter(block=ids),
    ):
        found = index.search(queries, 20, where)
        permitted = set(ids.tolist() if where.allow is None else where.allow.tolist())
        permitted -= set([] if where.block is None else where.block.tolist())
        permitted &= set(ids.tolist())
        assert found.ids.shape == (10, min(20, len(permitted)))
        assert set(found.ids.ravel().tolist()) <= permitted
        if name not in ("hnsw", "hnswsq8"):  # a graph may miss some
            agree(name, index, truth, queries, 20, where)
        prepared = index.search(queries, 20, index.prepare(where))
        np.testing.assert_array_equal(prepared.ids, found.ids)
    gone = index.search(queries, 5).ids[:, 0]
    index.delete(np.unique(gone))
    assert not np.isin(index.search(queries, 20, Filter(block=allow)).ids, gone).any()
    assert not np.isin(index.search(queries, 20, Filter(allow=ids)).ids, gone).any()


def test_a_prepared_filter_does_not_outlive_a_change() -> None:
    for name in ("exact", "flat"):
        index = filled(name, unit(50, 4))
        prepared = index.prepare(Filter(allow=np.array([1, 2])))
        index.delete(np.array([1]))
        with pytest.raises(SettingError, match="prepare it again"):
            index.search(unit(1, 4), 2, prepared)


def test_attributes_become_filters() -> None:
    year, kind = np.array([1990, 1995, 2001, 2010]), np.array(["war", "comedy", "comedy", "drama"])
    films = Attributes(np.array([10, 20, 30, 40]), {"year": year, "kind": kind})
    assert films.matching([("year", ">=", 1995), ("kind", "==", "comedy")]).tolist() == [20, 30]
    assert films.matching([("kind", "in", ["war", "drama"]), ("year", "<", 2010)]).tolist() == [10]
    assert films.matching([("kind", "!=", "war"), ("year", "<=", 2001), ("year", ">", 1995)]).tolist() == [30]
    assert films.matching([]).tolist() == [10, 20, 30, 40]
    index = filled("flat", unit(4, 4), np.array([10, 20, 30, 40]))
    found = index.search(unit(1, 4), 4, Filter(allow=films.matching([("year", ">", 1995)])))
    assert sorted(found.ids[0].tolist()) == [30, 40]
    for wrong in [("colour", "==", 1), ("year", "~", 1), ("year", "==", "1990"), ("kind", "==", 3)]:
        with pytest.raises(SettingError):
            films.matching([wrong])
    with pytest.raises(SettingError, match="twice"):
        Attributes(np.array([1, 1]), {})
    with pytest.raises(SettingError, match="shape"):
        Attributes(np.array([1, 2]), {"year": year})


@given(batches=st.lists(st.lists(st.integers(0, 200), unique=True, max_size=30), max_size=8), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_table_of_ids_is_a_dictionary(batches: list[list[int]], seed: int) -> None:
    table, model, draw = IdTable(), {}, np.random.default_rng(seed)
    for batch in batches:
        new = np.array([one for one in batch if one not in model], dtype=np.int64)
        model.update(zip(new.tolist(), range(table.places, table.places + len(new)), strict=True))
        table.add(table.check_new(new, len(new)))
        gone = [one for one in model if draw.random() < 0.3]
        table.delete(table.check_known(np.array(gone, dtype=np.int64), len(gone)))
        model = {one: place for one, place in model.items() if one not in gone}
    wanted = np.arange(-1, 202)
    assert table.find(wanted).tolist() == [model.get(one, -1) for one in wanted.tolist()]
    assert table.alive().tolist() == sorted(model.values())
    assert len(table) == len(model)


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_index_and_no_queries(name: str) -> None:
    index = empty(name, unit(40, 4))
    assert index.search(unit(3, 4), 5).ids.shape == (3, 0)
    index.add(np.zeros(0, dtype=np.int64), np.zeros((0, 4)))
    assert index.search(unit(3, 4), 5, Filter(allow=np.array([1]))).ids.shape == (3, 0)
    index.add(np.arange(40), unit(40, 4))
    assert index.search(np.zeros((0, 4)), 5).ids.shape == (0, 5)


@pytest.mark.parametrize("name", EVERY)
def test_vectors_that_are_all_alike(name: str) -> None:
    index = filled(name, np.ones((60, 4), dtype=np.float32))
    found = index.search(np.ones((2, 4)), 60)
    assert all(sorted(row.tolist()) == list(range(60)) for row in found.ids)


@pytest.mark.parametrize("name", EVERY)
def test_bad_input(name: str) -> None:
    index = filled(name, unit(40, 4))
    bad = np.full((1, 4), np.nan)
    for call in (
        lambda: index.add(np.array([0]), unit(1, 4)),
        lambda: index.add(np.array([50, 50]), unit(2, 4)),
        lambda: index.add(np.array([-1]), unit(1, 4)),
        lambda: index.add(np.array([50]), unit(2, 4)),
        lambda: index.add(np.array([50.5]), unit(1, 4)),
        lambda: index.add(np.array([50]), unit(1, 5)),
        lambda: index.add(np.array([50]), bad),
        lambda: index.delete(np.array([50])),
        lambda: index.delete(np.array([3, 3])),
        lambda: index.delete(np.array([3, 50])),
        lambda: index.update(np.array([50]), unit(1, 4)),
        lambda: index.update(np.array([3]), bad),
        lambda: index.update(np.array([3]), unit(1, 5)),
        lambda: index.search(unit(1, 5), 3),
        lambda: index.search(bad, 3),
        lambda: index.search(unit(1, 4), 0),
    ):
        with pytest.raises(SettingError):
            call()
    assert len(index) == 40
    assert sorted(index.search(unit(1, 4), 40).ids[0].tolist()) == list(range(40))


def test_what_cannot_be_made() -> None:
    with pytest.raises(SettingError, match="nonsense"):
        FaissIndex(4, IndexPlan("nonsense"))
    with pytest.raises(SettingError, match="nlist"):
        FaissIndex(4, IndexPlan("ivf"), unit(10, 4))
    with pytest.raises(SettingError, match="--m"):
        FaissIndex(4, IndexPlan("hnsw"))
    with pytest.raises(SettingError, match="trained"):
        FaissIndex(4, PLANS["ivf"])
    with pytest.raises(SettingError, match="at least 8"):
        FaissIndex(4, PLANS["ivf"], unit(7, 4))
    with pytest.raises(SettingError, match="at least 16"):
        FaissIndex(4, PLANS["ivfpq"], unit(15, 4))


def test_a_rebuild_is_due_once_much_is_deleted() -> None:
    index = FaissIndex(4)
    index.add(np.arange(100), unit(100, 4))
    index.delete(np.arange(30))
    assert not index.rebuild_due
    index.update(np.array([40]), unit(1, 4, seed=1))  # an update leaves a tombstone too
    index.delete(np.arange(50, 60))
    assert index.rebuild_due
