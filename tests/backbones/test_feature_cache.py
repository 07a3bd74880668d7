"""Features on disk: found by every part of the key, lost without harm."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from warmstart.backbones.feature_cache import FeatureCache

PARTS = {
    "weights": "w",
    "preprocessing": {"max_length": 8, "prompt": ""},
    "pooling": "mean",
    "normalize": True,
    "data": "d",
    "rows": "r",
    "split": "test",
    "precision": "torch.float32 on cpu",
}
ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path)


def test_put_and_get(cache):
    key = cache.key(PARTS)
    assert cache.get(key) is None
    cache.put(key, ARRAY)
    found = cache.get(key)
    np.testing.assert_array_equal(found, ARRAY)
    assert found.dtype == np.float32
    assert [path.name for path in cache.root.iterdir()] == [f"{key}.npy"]  # nothing half-written


@pytest.mark.parametrize("part", list(PARTS))
def test_every_part_of_the_key_counts(cache, part):
    cache.put(cache.key(PARTS), ARRAY)
    assert cache.get(cache.key(dict(reversed(PARTS.items())))) is not None
    other = False if part == "normalize" else {"max_length": 9, "prompt": ""} if part == "preprocessing" else "other"
    assert cache.get(cache.key({**PARTS, part: other})) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "nonsense", "pickle", "huge"])
def test_a_damaged_file_is_a_miss_and_is_written_again(cache, damage):
    key = cache.key(PARTS)
    cache.put(key, ARRAY)
    path = cache.root / f"{key}.npy"
    whole = path.read_bytes()
    if damage == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif damage == "huge":  # a header that asks for petabytes
        path.write_bytes(whole.replace(b"(3, 4), }" + b" " * 15, b"(3, 4" + b"0" * 15 + b"), }"))
    else:
        path.write_bytes({"cut": whole[:-3], "empty": b"", "nonsense": b"PK\x03\x04" + whole}[damage])
    assert cache.get(key) is None
    cache.put(key, ARRAY)
    np.testing.assert_array_equal(cache.get(key), ARRAY)


def test_the_least_recently_used_go_first(tmp_path):
    size = ARRAY.nbytes + 128
    cache = FeatureCache(tmp_path, limit=2 * size)
    for age, name in ((30, "a"), (20, "b")):
        cache.put(name, ARRAY)
        os.utime(cache.root / f"{name}.npy", (time.time() - age,) * 2)
    assert cache.get("a") is not None  # used now: "b" is the older one
    cache.put("c", ARRAY)
    assert sorted(path.stem for path in cache.root.iterdir()) == ["a", "c"]


def test_left_over_parts_are_removed_when_they_are_old(cache):
    cache.put("a", ARRAY)
    old, new = cache.root / "x.part", cache.root / "y.part"
    for path in (old, new):
        path.write_bytes(b"1")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.put("b", ARRAY)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_full_disk_is_harmless(cache, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    cache.put("a", ARRAY)
    with monkeypatch.context() as patched:
        patched.setattr("numpy.save", full)
        cache.put("b", ARRAY)
    assert cache.get("b") is None
    assert [path.name for path in cache.root.iterdir()] == ["a.npy"]
    assert cache.get("a") is not None


def test_a_folder_that_cannot_be_made_is_harmless(tmp_path):
    (tmp_path / "features").write_text("a file")
    cache = FeatureCache(tmp_path)
    cache.put("a", ARRAY)
    assert cache.get("a") is None
