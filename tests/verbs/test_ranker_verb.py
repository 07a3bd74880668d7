"""`ranker` end to end: the folder, scores, the towers that it goes with, resuming, and what goes wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shop import ITEMS, write_shop

import warmstart
from warmstart.cli.main import run
from warmstart.core.errors import DataError, ResultError, RoundTripError, UserError
from warmstart.core.files import digest
from warmstart.core.recommend import RankerRecord
from warmstart.report.ranker import headline, render_ranker, verdict
from warmstart.retrieve import ranker_training
from warmstart.verbs import ranker_check, ranker_folder


def train_towers(folder: Path, **changes: Any) -> Path:
    events, products = write_shop(folder)
    values = {
        "interactions": str(events),
        "items": str(products),
        "model": "none",
        "dim": 8,
        "layers": 1,
        "max_history": 8,
        "max_steps": 30,
        "learning_rate": 1e-2,
        "evaluations": 2,
        "no_floors": True,
        "output_dir": str(folder / "towers"),
    }
    warmstart.contrast_two_tower(**{**values, **changes})
    return folder / "towers"


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers of the toy shop; tests must not change them."""
    return train_towers(tmp_path_factory.mktemp("shop"))


def arguments(towers: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "towers": str(towers),
        "candidates": 12,
        "width": 16,
        "heads": 2,
        "max_history": 6,
        "learning_rate": 1e-2,
        "num_train_epochs": 20,
        "per_device_train_batch_size": 16,
        "evaluations": 4,
        "output_dir": str(out),
    }
    return {**values, **changes}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, towers: Path) -> Path:
    """A finished ranker; tests must not change it."""
    out = tmp_path_factory.mktemp("ranker") / "out"
    warmstart.ranker(**arguments(towers, out))
    return out


def test_the_folder_is_whole_and_its_figures_agree(result: Path) -> None:
    record = RankerRecord.from_json((result / "results.json").read_text())
    assert record.verb == "ranker"
    assert record.files
    assert all(digest(result / name) == found for name, found in record.files.items())
    assert RankerRecord.from_json(record.to_json()) == record
    asked = record.questions
    assert asked["learn"] + asked["choose"] == asked["test"] == 60
    assert asked["found"] <= asked["learn"]
    gain = record.gains["NDCG@10"]
    assert gain.value == pytest.approx(record.after.test.ndcg_10.value - record.before.test.ndcg_10.value)
    assert max(record.before.test.hit_10.value, record.after.test.hit_10.value) <= record.ceiling.value
    assert record.helps is (record.choose_after > record.choose_before)
    assert not result.with_name("out.running").exists()


def test_the_report_is_redrawn_from_the_record_alone(result: Path) -> None:
    text = (result / "results.json").read_text()
    page = render_ranker(RankerRecord.from_json(text))
    for word in ("Without and with it", "HR@10", "thing number", "Took next", "difference, question by question"):
        assert word in page
    unsigned = dataclasses.replace(RankerRecord.from_json(text), files={})
    assert render_ranker(unsigned) == (result / "report.html").read_text()
    assert "<script" not in render_ranker(RankerRecord.from_json(text.replace("thing", "<script>alert(1)</script>")))


def test_the_headline_says_plainly_what_came_of_it(result: Path) -> None:
    values = json.loads((result / "results.json").read_text())
    values["helps"] = True
    for low, high, word in ((0.01, 0.02, "raises"), (-0.01, 0.02, "does not clearly change"), (-0.03, -0.01, "lowers")):
        values["gains"]["NDCG@10"] |= {"value": (low + high) / 2, "low": low, "high": high}
        record = RankerRecord.from_json(json.dumps(values))
        assert word in headline(record)
        assert verdict(record) == {"raises": "good", "lowers": "bad"}.get(word, "mixed")
    values["helps"] = False
    assert "does not help" in headline(RankerRecord.from_json(json.dumps(values)))


def test_scores_go_with_their_candidates(result: Path, towers: Path) -> None:
    ranker = warmstart.load_ranker(result, towers)
    items = np.array([7, 3, 11, 20, 0])
    retrieved = np.array([0.9, 0.8, 0.1, -0.2, 0.3], dtype=np.float32)
    scores = ranker.scores([4, 5, 6], items, retrieved)
    assert scores.shape == (5,)
    assert scores.dtype == np.float32
    order = np.array([3, 0, 4, 2, 1])
    np.testing.assert_allclose(ranker.scores([4, 5, 6], items[order], retrieved[order]), scores[order], atol=1e-4)
    for number in range(2, 5):
        assert ranker.scores([4] * number, items[:1], retrieved[:1]).shape == (1,)
    assert ranker.scores([4], items[:0], retrieved[:0]).shape == (0,)
    assert ranker_check.check_ranker(result) < 1e-5


@pytest.mark.parametrize(
    ("history", "items", "retrieved", "words"),
    [
        ([], [1], [0.1], "history is empty"),
        ([ITEMS + 1], [1], [0.1], "history hold an item"),
        ([1], [-1], [0.1], "candidates hold an item"),
        ([1], [2, 2], [0.1, 0.2], "twice"),
        ([1], [2, 3], [0.1], "candidates and"),
        ([1], [2], [float("nan")], "not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    result: Path, history: list[int], items: list[int], retrieved: list[float], words: str
) -> None:
    ranker = warmstart.load_ranker(result)
    with pytest.raises(DataError, match=words):
        ranker.scores(history, np.array(items), np.array(retrieved, dtype=np.float32))


def test_other_towers_are_refused(result: Path, tmp_path: Path) -> None:
    other = train_towers(tmp_path, seed=1, max_steps=2)
    with pytest.raises(ResultError, match="other towers"):
        warmstart.load_ranker(result, other)


@pytest.mark.parametrize("name", ["model.safetensors", "evidence.safetensors", "config.json"])
def test_altered_and_incomplete_folders_are_refused(result: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(result, copy)
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ResultError, match="altered"):
        warmstart.load_ranker(copy)
    (copy / name).unlink()
    with pytest.raises(ResultError, match="missing"):
        warmstart.load_ranker(copy)
    with pytest.raises(ResultError, match="no result"):
        warmstart.load_ranker(tmp_path)


def test_towers_are_no_ranker(towers: Path) -> None:
    with pytest.raises(ResultError, match="no result of ranker"):
        warmstart.load_ranker(towers)


def test_a_ranker_that_differs_when_loaded_is_not_published(
    towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = ranker_folder.save_file

    def wrong(tensors: dict[str, Any], path: Path) -> None:
        save({name: value + 1 if name == "direct.weight" else value for name, value in tensors.items()}, path)

    monkeypatch.setattr(ranker_folder, "save_file", wrong)
    with pytest.raises(RoundTripError, match="scores"):
        warmstart.ranker(**arguments(towers, tmp_path / "out", max_steps=2))
    assert not (tmp_path / "out").exists()


def test_a_broken_run_is_resumed_and_ends_the_same(
    towers: Path, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenError(Exception):
        pass

    asked: list[int] = []
    gain = ranker_training.mean_gain

    def breaks(*given: Any) -> float:
        asked.append(1)
        if len(asked) == 3:
            raise BrokenError
        return gain(*given)

    monkeypatch.setattr(ranker_training, "mean_gain", breaks)
    with pytest.raises(BrokenError):
        warmstart.ranker(**arguments(towers, tmp_path / "out"))
    with pytest.raises(UserError, match="--resume"):
        warmstart.ranker(**arguments(towers, tmp_path / "out"))
    with pytest.raises(UserError, match="candidates"):
        warmstart.ranker(**arguments(towers, tmp_path / "out", candidates=11), resume=True)
    record = warmstart.ranker(**arguments(towers, tmp_path / "out"), resume=True).record
    first = RankerRecord.from_json((result / "results.json").read_text())
    assert record.steps == first.steps
    assert record.choose_after == pytest.approx(first.choose_after)
    assert record.after == first.after


def test_a_time_budget_ends_training(towers: Path, tmp_path: Path) -> None:
    found = warmstart.ranker(**arguments(towers, tmp_path / "out", time_budget=1.0))
    assert "time budget" in found.record.note
    assert any("--time-budget" in line for line in found.record.advice)


def test_an_existing_result_stays(towers: Path, result: Path) -> None:
    before = digest(result / "results.json")
    with pytest.raises(UserError, match="already holds a result"):
        warmstart.ranker(**arguments(towers, result))
    assert digest(result / "results.json") == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 3}, "--heads"),
        ({"candidates": 1}, "--candidates"),
        ({"validation_size": 0.0}, "--validation-size"),
        ({"validation_size": 60.0}, "--validation-size 60 keeps 60 of 60"),
        ({"validation_size": 0.001}, "keeps 0 of 60"),
        ({"dropout": 1.0}, "--dropout"),
        ({"max_history": 0}, "--max-history"),
        ({"num_train_epochs": 0.0}, "--num-train-epochs"),
        ({"towers": "nowhere"}, "nowhere holds no result"),
        ({"time_budget": -1.0}, "--time-budget"),
    ],
)
def test_bad_calls_are_refused_before_anything_is_written(
    towers: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        warmstart.ranker(**{**arguments(towers, tmp_path / "out"), **changes})
    assert list(tmp_path.iterdir()) == []


def test_towers_of_another_split_or_with_a_changed_byte_are_refused(towers: Path, tmp_path: Path) -> None:
    other = train_towers(tmp_path, split="temporal", test_size=0.2, max_steps=2)
    with pytest.raises(ResultError, match="--split temporal"):
        warmstart.ranker(**arguments(other, tmp_path / "out"))
    copy = tmp_path / "copy"
    shutil.copytree(towers, copy)
    content = bytearray((copy / "items.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "items.safetensors").write_bytes(content)
    with pytest.raises(ResultError, match="altered"):
        warmstart.ranker(**arguments(copy, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_command_line_shows_the_table(towers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ranker", "--towers", str(towers), "--output-dir", str(tmp_path / "out"), "--max-steps", "2"]
    with pytest.raises(SystemExit) as stop:
        run(words)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in ("two towers", "towers + ranker", "difference", "candidates", "Report:"):
        assert word in shown
    with pytest.raises(SystemExit) as stop:
        run([*words, "--width", "10"])
    assert stop.value.code == 2
    assert "--heads" in capsys.readouterr().err
