"""Saved indexes: the same answers after loading, in memory and mapped; whatever was altered is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from kinds_of_index import FAR, PLANS, filled, unit

from warmstart.core.errors import OutputError, ResultError, SettingError
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.folder import load_index, save_index
from warmstart.neighbours.ids import Filter

IDS = np.random.default_rng(3).permutation(5000)[:600]


def made(name: str) -> FaissIndex:
    index = filled(name, unit(600, 8), IDS, FAR)
    assert isinstance(index, FaissIndex)
    index.delete(IDS[:50])
    index.update(IDS[50:60], unit(10, 8, seed=7))
    return index


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", PLANS)
def test_round_trip(name: str, mmap: bool, tmp_path: Path) -> None:
    index, queries = made(name), unit(20, 8, seed=1)
    again = load_index(save_index(index, tmp_path / "x"), mmap=mmap)
    assert (len(again), again.width, again.plan, again.effort) == (550, 8, index.plan, index.effort)
    assert again.ids().tolist() == index.ids().tolist()
    for where in (None, Filter(allow=IDS[40:80]), Filter(block=IDS[100:200]), Filter(allow=IDS[5:500])):
        expected, found = index.search(queries, 15, where), again.search(queries, 15, where)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)
    if mmap:
        with pytest.raises(SettingError, match="memory-mapped"):
            again.add(np.array([9999]), unit(1, 8))
        with pytest.raises(SettingError, match="memory-mapped"):
            again.update(IDS[100:101], unit(1, 8))
        assert len(again) == 550
        again.delete(IDS[100:101])
    else:
        again.add(np.array([9999]), unit(1, 8, seed=2))
        assert again.search(unit(1, 8, seed=2), 1).ids.tolist() == [[9999]]
    assert IDS[0] not in again.search(queries, 549).ids


@pytest.mark.parametrize("name", PLANS)
def test_what_memory_is_said_to_be_taken_is_what_the_files_take(name: str, tmp_path: Path) -> None:
    index = filled(name, unit(5000, 16), effort=FAR)
    assert isinstance(index, FaissIndex)
    folder = save_index(index, tmp_path / "x")
    size = sum(path.stat().st_size for path in folder.glob("*.*y")) + (folder / "index.faiss").stat().st_size
    assert index.memory_bytes() == pytest.approx(size, rel=0.03)


def test_every_altered_byte_is_refused(tmp_path: Path) -> None:
    folder = save_index(made("ivfsq8"), tmp_path / "x")
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in np.linspace(0, len(whole) - 2, 12).astype(int).tolist():
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(bytes(changed))
            with pytest.raises(ResultError):
                load_index(folder)
        path.unlink()
        with pytest.raises(ResultError):
            load_index(folder)
        path.write_bytes(whole)
    assert len(load_index(folder)) == 550


def test_what_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no folder"):
        load_index(tmp_path / "absent")
    with pytest.raises(ResultError, match="no index"):
        load_index(tmp_path)
    folder = save_index(made("flat"), tmp_path / "x")
    with pytest.raises(OutputError, match="exists"):
        save_index(made("flat"), folder)
    (folder / "index.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ResultError, match="altered"):
        load_index(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_empty_index_is_kept_too(tmp_path: Path) -> None:
    again = load_index(save_index(FaissIndex(4), tmp_path / "x"))
    assert again.search(unit(2, 4), 3).ids.shape == (2, 0)
    again.add(np.array([7]), unit(1, 4))
    assert again.search(unit(2, 4), 3).ids.tolist() == [[7], [7]]
