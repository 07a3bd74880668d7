"""Publishing that is killed at any file operation, rollback, pruning, and two publishers at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dying import die_after

from warmstart.core.errors import OutputError, ResultError, SettingError
from warmstart.core.files import digest
from warmstart.retrieve.versions import CURRENT, Pointer, Serving

FILES = ("towers/model", "towers/ids", "index/vectors", "manifest")


def fill(mark: str):  # type: ignore[no-untyped-def]
    def write(folder: Path) -> None:
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{name} of {mark}")

    return write


def whole(folder: Path) -> None:
    """Raise when a version is not whole, or of several publishings."""
    texts = [(folder / name).read_text() for name in FILES]
    if len({text.split(" of ")[1] for text in texts}) != 1:
        raise ResultError(f"{folder} is mixed")


def publish(serving: Serving, mark: str, keep: int = 2) -> str:
    with serving.lock():
        return serving.publish(fill(mark), whole, keep)


def mark_of(serving: Serving) -> str:
    """What serves, after checking it."""
    place = serving.place(serving.pointer().current)
    whole(place)
    return (place / "manifest").read_text().split(" of ")[1]


def test_versions_follow_each_other_and_old_ones_go(tmp_path: Path) -> None:
    serving = Serving(tmp_path / "serve")
    assert not serving.is_one()
    assert [publish(serving, mark) for mark in "abc"] == ["0001", "0002", "0003"]
    assert serving.names() == ["0002", "0003"]
    assert serving.pointer() == Pointer("0003", ("0002",))
    assert mark_of(serving) == "c"
    assert sorted(path.name for path in (tmp_path / "serve").iterdir()) == [".lock", CURRENT, "versions"]
    publish(serving, "d", keep=9)
    assert serving.pointer() == Pointer("0004", ("0003", "0002"))


def test_rollback_goes_to_what_served_before(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    for mark in "abc":
        publish(serving, mark, keep=3)
    assert serving.rollback(None, whole) == Pointer("0002", ("0001",))
    assert mark_of(serving) == "b"
    assert serving.rollback("3", whole) == Pointer("0003", ("0002", "0001"))
    assert serving.rollback(None, whole).current == "0002"
    publish(serving, "d", keep=3)
    assert serving.pointer() == Pointer("0004", ("0002", "0001"))  # not the third, which was rolled back
    assert serving.names() == ["0001", "0002", "0004"]
    assert serving.rollback(None, whole).current == "0002"
    assert serving.rollback(None, whole).current == "0001"
    with pytest.raises(SettingError, match="no version before 0001"):
        serving.rollback(None, whole)
    with pytest.raises(SettingError, match="no version 9; there are 0001, 0002, 0004"):
        serving.rollback("9", whole)
    with pytest.raises(SettingError, match="already"):
        serving.rollback("1", whole)


def test_a_version_that_is_not_whole_is_not_gone_back_to(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    for mark in "ab":
        publish(serving, mark)
    (serving.place("0001") / "manifest").write_text("manifest of x")
    with pytest.raises(ResultError, match="mixed"):
        serving.rollback(None, whole)
    assert mark_of(serving) == "b"


def test_what_cannot_be_used_is_not_published(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    publish(serving, "a")

    def refuse(folder: Path) -> None:
        raise ResultError("no")

    with serving.lock(), pytest.raises(ResultError, match="no"):
        serving.publish(fill("b"), refuse, 2)
    assert mark_of(serving) == "a"
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["0001"]


def test_a_first_publishing_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise ResultError("no")

    serving = Serving(tmp_path / "serve")
    with pytest.raises(ResultError, match="no"), serving.lock():
        serving.publish(fill("a"), refuse, 2)
    assert list(tmp_path.iterdir()) == []


def test_publishing_that_is_killed_at_any_operation_leaves_a_whole_version(tmp_path: Path) -> None:
    """Before the switch the old version serves, after it the new one; and the next publishing clears up."""
    served = []
    for operations in range(200):
        serving = Serving(tmp_path / str(operations))
        publish(serving, "a")
        publish(serving, "b")
        died = die_after(operations, str(serving.folder), lambda serving=serving: publish(serving, "c"))
        served.append(mark_of(serving))
        if not died:
            break
        assert serving.rollback(None, whole).current in ("0001", "0002")
        publish(serving, "d")
        assert mark_of(serving) == "d"
        left = {path.name for path in (serving.folder / "versions").iterdir()}
        assert left == set(serving.names())
        assert len(left) == 2
    else:
        pytest.fail("publishing does not end")
    assert len(served) > 15
    assert "".join(dict.fromkeys(served)) == "bc"
    assert served == sorted(served)
    assert served.count("c") > 3  # killed while old versions are removed


def test_a_first_publishing_that_is_killed_leaves_nothing_that_serves_or_one_that_does(tmp_path: Path) -> None:
    for operations in range(200):
        serving = Serving(tmp_path / str(operations))
        died = die_after(operations, str(serving.folder), lambda serving=serving: publish(serving, "a"))
        if serving.is_one():
            assert mark_of(serving) == "a"
        elif serving.folder.exists():
            assert serving.is_unfinished()
        if not died:
            assert serving.is_one()
            return
        publish(serving, "b")
        assert mark_of(serving) == "b"
    pytest.fail("publishing does not end")


def test_a_rollback_that_is_killed_leaves_one_of_both(tmp_path: Path) -> None:
    for operations in range(50):
        serving = Serving(tmp_path / str(operations))
        publish(serving, "a")
        publish(serving, "b")
        died = die_after(operations, str(serving.folder), lambda serving=serving: serving.rollback(None, whole))
        assert mark_of(serving) == ("b" if died else "a")
        if not died:
            return
    pytest.fail("rolling back does not end")


def test_one_publishes_at_a_time(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    publish(serving, "a")
    before = digest(tmp_path / CURRENT)
    with serving.lock(), pytest.raises(OutputError, match="Another process is publishing"):
        publish(Serving(tmp_path), "b")
    assert digest(tmp_path / CURRENT) == before
    publish(serving, "b")


@pytest.mark.parametrize("text", ["", "{}", '{"current": "0001", "more": 1}', '["0001"]'])
def test_a_damaged_pointer_is_told(tmp_path: Path, text: str) -> None:
    serving = Serving(tmp_path)
    publish(serving, "a")
    (tmp_path / CURRENT).write_text(text)
    with pytest.raises(ResultError, match="damaged"):
        serving.pointer()
    (tmp_path / CURRENT).write_text(json.dumps({"current": "0001"}))
    assert mark_of(serving) == "a"
