"""One suite over every index: known answers, batch = single, no id twice and none made up, bad input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.core.errors import SettingError
from warmstart.neighbours.exact import ExactIndex
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.protocol import Index

Make = Callable[[np.ndarray], Index]
EXACT: dict[str, Make] = {
    "exact": lambda vectors: ExactIndex(vectors.shape[1]),
    "faiss flat": lambda vectors: FaissIndex(vectors.shape[1]),
}
APPROXIMATE: dict[str, Make] = {
    "faiss hnsw": lambda vectors: FaissIndex(vectors.shape[1], "HNSW16"),
    "faiss ivf": lambda vectors: FaissIndex(vectors.shape[1], "IVF8,Flat", vectors),
    "faiss sq8": lambda vectors: FaissIndex(vectors.shape[1], "SQ8", vectors),
}
EVERY = {**EXACT, **APPROXIMATE}


def unit(rows: int, width: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def filled(make: Make, vectors: np.ndarray, ids: np.ndarray | None = None) -> Index:
    index = make(vectors)
    index.add(np.arange(len(vectors)) if ids is None else ids, vectors)
    return index


@pytest.mark.parametrize("name", EVERY)
def test_checkerboard_with_a_known_answer(name: str) -> None:
    """A corner of the board is nearest to itself, then to its neighbours on the circle."""
    angles = np.arange(360) * np.pi / 180
    board = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ids = 1000 + 7 * np.arange(360)
    found = filled(EXACT["exact"] if name == "faiss sq8" else EVERY[name], board, ids).search(board, 3)
    assert (found.ids[:, 0] == ids).all()
    neighbours = [{1000 + 7 * ((i - 1) % 360), 1000 + 7 * ((i + 1) % 360)} for i in range(360)]
    right = [set(row[1:].tolist()) == both for row, both in zip(found.ids, neighbours, strict=True)]
    assert np.mean(right) == 1 if name in EXACT else np.mean(right) > 0.9


@pytest.mark.parametrize("name", EVERY)
def test_batch_is_single_and_ids_are_real(name: str) -> None:
    vectors, queries = unit(300, 8), unit(20, 8, seed=1)
    index = filled(EVERY[name], vectors, np.arange(300) * 3 + 5)
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
    """IVF finds none in a cell that it does not look into: such rows are answered exactly."""
    vectors = unit(40, 4)
    index = filled(EVERY[name], vectors)
    found = index.search(unit(5, 4, seed=2), 100)
    assert found.ids.shape == (5, 40)
    assert all(sorted(row.tolist()) == list(range(40)) for row in found.ids)


@pytest.mark.parametrize("name", ["faiss hnsw", "faiss ivf", "faiss sq8"])
def test_approximate_ones_find_most(name: str) -> None:
    vectors, queries = unit(2000, 16), unit(50, 16, seed=3)
    found = filled(APPROXIMATE[name], vectors).search(queries, 10)
    exact = filled(EXACT["exact"], vectors).search(queries, 10)
    kept = [len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in zip(found.ids, exact.ids, strict=True)]
    assert np.mean(kept) > (0.3 if name == "faiss ivf" else 0.7)


@given(
    rows=st.integers(1, 60), width=st.integers(1, 6), k=st.integers(1, 70), seed=st.integers(0, 1000), cut=st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_exact_indexes_agree_with_sorting(rows: int, width: int, k: int, seed: int, cut: bool) -> None:
    vectors, queries = unit(rows, width, seed), unit(4, width, seed + 1)
    scores = queries @ vectors.T
    expected = -np.sort(-scores, axis=1)[:, :k]
    for make in EXACT.values():
        index = make(vectors)
        edge = rows // 2 if cut else rows
        index.add(np.arange(edge), vectors[:edge])
        index.add(np.arange(edge, rows), vectors[edge:])
        found = index.search(queries, k)
        np.testing.assert_allclose(found.scores, expected, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(scores, found.ids, axis=1), found.scores, atol=1e-5)


def test_the_first_of_equal_scores_comes_first() -> None:
    index = ExactIndex(2)
    index.add(np.array([9, 4, 7, 1]), np.array([[1, 0], [1, 0], [2, 0], [1, 0]]))
    assert index.search(np.array([[1.0, 0.0]]), 3).ids.tolist() == [[7, 9, 4]]


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_index_and_no_queries(name: str) -> None:
    index = EVERY[name](unit(40, 4))
    assert index.search(unit(3, 4), 5).ids.shape == (3, 0)
    index.add(np.arange(40), unit(40, 4))
    assert index.search(np.zeros((0, 4)), 5).ids.shape == (0, 5)


@pytest.mark.parametrize("name", EVERY)
def test_bad_input(name: str) -> None:
    index = filled(EVERY[name], unit(40, 4))
    bad = np.full((1, 4), np.nan)
    for call in (
        lambda: index.add(np.array([0]), unit(1, 4)),
        lambda: index.add(np.array([50, 50]), unit(2, 4)),
        lambda: index.add(np.array([-1]), unit(1, 4)),
        lambda: index.add(np.array([50]), unit(2, 4)),
        lambda: index.add(np.array([50]), unit(1, 5)),
        lambda: index.add(np.array([50]), bad),
        lambda: index.search(unit(1, 5), 3),
        lambda: index.search(bad, 3),
        lambda: index.search(unit(1, 4), 0),
    ):
        with pytest.raises(SettingError):
            call()
    assert len(index) == 40


def test_faiss_says_what_it_cannot_make() -> None:
    with pytest.raises(SettingError, match="Nonsense"):
        FaissIndex(4, "Nonsense")
    with pytest.raises(SettingError, match="trained"):
        FaissIndex(4, "IVF8,Flat")
