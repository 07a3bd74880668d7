"""The folder of vectors: filled in parts, killed at any file operation, brought up to date, refused when altered."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from dying import die_after
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.core.errors import OutputError, ResultError
from warmstart.data.sharded_vectors import ShardedVectors
from warmstart.data.vector_store import MANIFEST, ItemList, Stored, VectorStore

WIDTH, ROWS = 4, 3


def row_digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def vector(text: str) -> np.ndarray:
    """What stands for encoding: any function of the text."""
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[: 2 * WIDTH], dtype=np.uint16).astype(np.float32)


def items(texts: dict[str, str]) -> ItemList:
    return ItemList(
        list(texts), [row_digest(text) for text in texts.values()], [text.title() for text in texts.values()]
    )


def fill(store: VectorStore, texts: dict[str, str], encoded: list[str] | None = None) -> None:
    """Bring a folder up to date, as the verb does; `encoded` takes what had to be made."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with store.lock():
        filling = store.begin(items(texts))
        every = list(texts.values())
        todo = filling.missing
        for start in range(0, len(todo), ROWS):
            rows = todo[start : start + ROWS]
            filling.append(rows, np.stack([vector(every[row]) for row in rows]))
            if encoded is not None:
                encoded.extend(every[row] for row in rows)
        filling.finish({"made": "by hand"}, unit_length=False, shard_rows=ROWS)


def check(store: VectorStore, texts: dict[str, str]) -> Stored:
    """Every item once, with its own vector, title and digest."""
    found = store.read()
    assert sorted(found.items.ids) == sorted(texts)
    assert len(set(found.items.numbers.tolist())) == len(texts)
    assert len(found.vectors) == len(texts)
    for row, name in enumerate(found.items.ids):
        np.testing.assert_array_equal(found.vectors[row : row + 1][0], vector(texts[name]))
        assert found.items.digests[row] == row_digest(texts[name])
        assert found.items.titles is not None
        assert found.items.titles[row] == texts[name].title()
    return found


OLD = {f"i{number}": f"text {number}" for number in range(10)}
NEW = {name: text for name, text in OLD.items() if name not in ("i2", "i3")} | {
    "i5": "another",
    "n1": "new",
    "n2": "er",
}


def test_items_come_back_with_their_vectors(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "v")
    fill(store, OLD)
    found = check(store, OLD)
    assert found.about == {"made": "by hand"}
    assert [found.items.number_of[name] for name in OLD] == list(range(10))  # in the order of the file
    assert isinstance(found.vectors, ShardedVectors)


def test_an_update_makes_only_what_is_new_or_changed(tmp_path: Path) -> None:
    store, made = VectorStore(tmp_path), []
    fill(store, OLD)
    before = check(store, OLD).items.number_of
    with store.lock():
        filling = store.begin(items(NEW))
    assert (filling.new, filling.changed, filling.removed, filling.kept) == (2, 1, 2, 7)
    fill(store, NEW, made)
    assert sorted(made) == ["another", "er", "new"]
    after = check(store, NEW).items.number_of
    assert all(after[name] == before[name] for name in NEW if name in before)
    assert (after["n1"], after["n2"]) == (10, 11)
    fill(store, {**NEW, "i2": OLD["i2"]})  # one that was removed is new: its number is not given again
    assert store.read().items.number_of["i2"] == 12
    made.clear()
    fill(store, {**NEW, "i2": OLD["i2"]}, made)
    assert made == []
    assert len(list(tmp_path.glob("items-*.parquet"))) == 1


def test_small_shards_are_put_together(tmp_path: Path) -> None:
    store, texts, made = VectorStore(tmp_path), dict(OLD), []
    for day in range(30):
        texts[f"d{day}"] = f"of day {day}"
        fill(store, texts, made)
    assert len(store.shards.numbers()) <= len(texts) / 2 + 1  # all but one are more than half full
    assert len(made) == len(texts)
    check(store, texts)


@pytest.mark.parametrize("before", [None, OLD])
def test_a_kill_at_any_file_operation_loses_nothing(tmp_path: Path, before: dict[str, str] | None) -> None:
    """What was committed is not made again; until the new manifest is there, the old folder is whole."""
    wanted, committed = (OLD if before is None else NEW), []
    for operations in range(400):
        store = VectorStore(tmp_path / str(operations))
        store.folder.mkdir()
        if before is not None:
            fill(store, before)
        died = die_after(operations, str(store.folder), lambda store=store: fill(store, wanted))
        if died and store.is_whole():
            now = check(store, before if set(store.read().items.ids) != set(wanted) else wanted)
            assert now.about == {"made": "by hand"}
        elif died:
            assert before is None
            with pytest.raises(ResultError, match="no encoded items"):
                store.read()
        there = {name for number in store.shards.numbers() for name, _ in store.shards.rows(number)}
        made: list[str] = []
        fill(store, wanted, made)
        check(store, wanted)
        assert not list(store.folder.rglob("*.part"))
        committed.append(len(made))
        if before is None:
            assert len(made) == len(wanted) - len(there)
        if not died:
            break
    else:
        pytest.fail("filling does not end")
    assert committed[0] == (10 if before is None else 3)
    assert committed[-1] == 0
    assert len(set(committed)) > 1
    assert len(committed) > 15


def test_a_shard_that_is_damaged_and_does_not_count_yet_is_made_again(tmp_path: Path) -> None:
    store, made = VectorStore(tmp_path), []
    with store.lock():
        filling = store.begin(items(OLD))
        for rows in (np.arange(3), np.arange(3, 6)):
            filling.append(rows, np.stack([vector(OLD[f"i{row}"]) for row in rows]))
    path = store.shards.place(2) / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-1])
    fill(store, OLD, made)
    assert sorted(made) == sorted(OLD[f"i{number}"] for number in range(3, 10))
    check(store, OLD)


def test_any_changed_byte_is_refused(tmp_path: Path) -> None:
    store = VectorStore(tmp_path)
    fill(store, OLD)
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"):
        content = path.read_bytes()
        altered = bytearray(content)
        altered[len(content) // 2] ^= 1
        path.write_bytes(altered)
        with pytest.raises(ResultError, match=r"altered|damaged") as told:
            store.read()
        assert path.name in str(told.value) or path.parent.name in str(told.value)
        path.unlink()
        with pytest.raises(ResultError, match=r"missing|altered|no encoded items"):
            store.read()
        path.write_bytes(content)
    check(store, OLD)
    assert (tmp_path / MANIFEST).is_file()


def test_one_fills_at_a_time(tmp_path: Path) -> None:
    store = VectorStore(tmp_path)
    with store.lock(), pytest.raises(OutputError, match="Another process"):
        fill(VectorStore(tmp_path), OLD)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_sharded_vectors_read_as_one_array(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    draw = np.random.default_rng(sum(lengths))
    parts = [draw.normal(size=(length, 3)).astype(np.float32) for length in lengths]
    chosen: list[np.ndarray | None] = []
    for length in lengths:
        subset = data.draw(st.none() | st.sets(st.integers(0, max(0, length - 1)), max_size=length))
        chosen.append(None if subset is None or not length else np.array(sorted(subset), dtype=np.int64))
    whole = np.concatenate([p if c is None else p[c] for p, c in zip(parts, chosen, strict=True)])
    found = ShardedVectors(parts, chosen)
    assert (len(found), found.shape, found.dtype) == (len(whole), whole.shape, whole.dtype)
    bounds = st.none() | st.integers(-len(whole) - 1, len(whole) + 1)
    cut = slice(data.draw(bounds), data.draw(bounds), data.draw(st.none() | st.integers(1, 3)))
    np.testing.assert_array_equal(found[cut], whole[cut])
    if len(whole):
        rows = np.array(data.draw(st.lists(st.integers(-len(whole), len(whole) - 1), min_size=4, max_size=4)))
        np.testing.assert_array_equal(found[rows], whole[rows])
        np.testing.assert_array_equal(found[rows.reshape(2, 2)], whole[rows.reshape(2, 2)])
    with pytest.raises(IndexError):
        found[np.array([len(whole)])]
