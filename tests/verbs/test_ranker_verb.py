"""`ranker` end to end: the folder, its scores, resuming, leaks, and what goes wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shop import ITEMS, USERS, write_shop

import warmstart
from warmstart.cli.main import run
from warmstart.contrastive.two_tower_model import tower_scores
from warmstart.core.errors import DataError, OutputError, ResultError, RoundTripError, UserError
from warmstart.core.files import digest
from warmstart.core.recommend import RankerRecord
from warmstart.data.histories import HistorySplit, split_last
from warmstart.report.ranker import headline, render_ranker, verdict
from warmstart.retrieve.ranker_training import RankerTrainer
from warmstart.verbs import contrast_two_tower, ranker_check, ranker_folder
from warmstart.verbs import ranker as ranker_verb


def train_towers(shop: tuple[Path, Path], out: Path, **changes: Any) -> Path:
    values = {
        "interactions": str(shop[0]),
        "items": str(shop[1]),
        "model": "none",
        "dim": 16,
        "layers": 1,
        "max_history": 8,
        "num_train_epochs": 3,
        "learning_rate": 1e-2,
        "evaluations": 1,
        "no_floors": True,
        "output_dir": str(out),
    }
    warmstart.contrast_two_tower(**{**values, **changes})
    return out


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory, shop: tuple[Path, Path]) -> Path:
    """Towers that learned little, so that an order is left to learn; tests must not change them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast_two_tower, "check_towers", lambda folder: 0.0)  # towers have tests of their own
        return train_towers(shop, tmp_path_factory.mktemp("towers") / "out")


def arguments(towers: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "towers": str(towers),
        "candidates": 12,
        "width": 16,
        "heads": 2,
        "max_history": 6,
        "num_train_epochs": 20,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 16,
        "evaluations": 4,
        "output_dir": str(out),
    }
    return {**values, **changes}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, towers: Path) -> Path:
    """A finished training; tests must not change it."""
    out = tmp_path_factory.mktemp("ranker") / "out"
    warmstart.ranker(**arguments(towers, out))
    return out


def test_the_folder_is_whole_and_the_order_is_better(result: Path, towers: Path) -> None:
    record = RankerRecord.from_json((result / "results.json").read_text())
    assert record.verb == "ranker"
    assert record.questions["learn"] + record.questions["choose"] == USERS
    assert record.questions["choose"] == round(0.2 * USERS)
    assert record.questions["test"] == USERS
    assert record.helps
    assert record.choose_after > record.choose_before
    assert record.after.test.ndcg_10.value > record.before.test.ndcg_10.value
    assert record.gains["NDCG@10"].value == pytest.approx(
        record.after.test.ndcg_10.value - record.before.test.ndcg_10.value
    )
    assert record.after.test.hit_10.value <= record.ceiling.value
    assert record.after.test.hit_100 == record.before.test.hit_100
    assert record.towers == {
        name: digest(towers / name) for name in ("config.json", "ids.json", "items.safetensors", "model.safetensors")
    }
    assert record.files
    assert all(digest(result / name) == found for name, found in record.files.items())
    assert RankerRecord.from_json(record.to_json()) == record
    assert not result.with_name("out.running").exists()


def test_the_towers_row_is_what_the_towers_reported(result: Path, towers: Path) -> None:
    """The same questions, ranked alike: what their own run said of them."""
    record = RankerRecord.from_json((result / "results.json").read_text())
    own = ranker_verb.read_record(towers).towers.test
    assert record.before.test.hit_10 == own.hit_10
    assert record.before.test.ndcg_10.value == pytest.approx(own.ndcg_10.value)
    assert record.before.test.coverage_10 == own.coverage_10


def test_the_report_is_redrawn_from_the_record_alone(result: Path) -> None:
    text = (result / "results.json").read_text()
    record = RankerRecord.from_json(text)
    page = render_ranker(record)
    assert render_ranker(dataclasses.replace(record, files={})) == (result / "report.html").read_text()
    for word in ("towers + ranker", "NDCG@10", "thing number", "Took next", "The ranker "):
        assert word in page
    assert "<script" not in page
    assert "src=" not in page
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


def test_a_loaded_ranker_scores_like_the_trained_one(result: Path, towers: Path) -> None:
    """The figures of the report again, by the public way: one user at a time, from the folders alone."""
    two, ranker = warmstart.load_two_tower(towers), warmstart.load_ranker(result, towers)
    record = RankerRecord.from_json((result / "results.json").read_text())
    gains = []
    counts = dataclasses.replace(ranker, evidence=ranker_verb.gather([one[:-1] for one in two.histories], ITEMS + 1))
    for user, whole in enumerate(two.histories):
        history, target = whole[:-1], int(whole[-1])
        scores = tower_scores(two.model, np.array([user]), [history], two.vectors)[0]
        scores[history] = -np.inf
        items = np.argsort(-scores, kind="stable")[:12]
        found = counts.scores(history.tolist(), items, scores[items].astype(np.float32))
        order = items[np.argsort(-found, kind="stable")].tolist()
        rank = order.index(target) + 1 if target in order else 99
        gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
    assert np.mean(gains) == pytest.approx(record.after.test.ndcg_10.value, abs=1e-3)


def test_scores_go_with_their_candidates(result: Path) -> None:
    ranker = warmstart.load_ranker(str(result))
    items = np.array([7, 2, 19, 11, 23])
    retrieved = np.array([0.1, 0.5, -0.2, 0.3, 0.0], dtype=np.float32)
    scores = ranker.scores([3, 4, 5, 6], items, retrieved)
    assert scores.dtype == np.float32
    assert scores.shape == (5,)
    np.testing.assert_allclose(ranker.scores([3, 4, 5, 6], items[::-1], retrieved[::-1]), scores[::-1], atol=1e-4)
    assert np.abs(ranker.scores([12, 13, 14], items, retrieved) - scores).max() > 1e-2
    assert ranker.scores([3], items[:0], retrieved[:0]).shape == (0,)
    assert ranker_check.check_ranker(result) < 1e-5
    for history, candidates, given, words in (
        ([], items, retrieved, "history is empty"),
        ([3, ITEMS + 1], items, retrieved, "history hold an item that is none of the 25"),
        ([3], items - 3, retrieved, "candidates hold an item"),
        ([3], items, retrieved[:4], "candidates and"),
        ([3], np.array([1, 1]), retrieved[:2], "twice"),
        ([3], items, retrieved * np.nan, "not finite"),
    ):
        with pytest.raises(DataError, match=words):
            ranker.scores(history, candidates, given)


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


def test_other_towers_are_refused(result: Path, towers: Path, shop: tuple[Path, Path], tmp_path: Path) -> None:
    other = train_towers(shop, tmp_path / "other", seed=7, max_steps=2)
    warmstart.load_ranker(result, towers)
    with pytest.raises(ResultError, match="trained for other towers"):
        warmstart.load_ranker(result, other)
    with pytest.raises(ResultError, match="no result of ranker"):
        warmstart.load_ranker(towers)


def test_a_ranker_that_differs_when_loaded_is_not_published(
    towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = ranker_folder.save_file

    def wrong(tensors: dict[str, torch.Tensor], path: Path) -> None:
        save({name: value + 1 if name == "direct.weight" else value for name, value in tensors.items()}, path)

    monkeypatch.setattr(ranker_folder, "save_file", wrong)
    with pytest.raises(RoundTripError, match="scores"):
        warmstart.ranker(**arguments(towers, tmp_path / "out", max_steps=4))
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_is_resumed_with_the_same_options_only(
    towers: Path, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, steps = RankerTrainer.training_step, []

    def dies(self: RankerTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 35:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    values = arguments(towers, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(RankerTrainer, "training_step", dies)
        with pytest.raises(KeyboardInterrupt):
            warmstart.ranker(**values)
    with pytest.raises(OutputError, match="--resume"):
        warmstart.ranker(**values)
    with pytest.raises(OutputError, match="width"):
        warmstart.ranker(**{**values, "width": 8}, resume=True)
    record = warmstart.ranker(**values, resume=True).record
    whole = RankerRecord.from_json((result / "results.json").read_text())
    assert record.steps == whole.steps
    assert record.choose_after == whole.choose_after
    assert record.after.test == whole.after.test


def test_a_planted_leak_is_caught(towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that hold what is asked for, of a question to learn from and of one to judge by, end the run."""

    def spoilt(part: str) -> Any:
        def split(items: Sequence[np.ndarray]) -> HistorySplit:
            return dataclasses.replace(split_last(items), **{part: list(items)})

        return split

    for part in ("train", "complete"):
        monkeypatch.setattr(ranker_verb, "split_last", spoilt(part))
        with pytest.raises(DataError, match="the future leaks into the past"):
            warmstart.ranker(**arguments(towers, tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_taken_last_changes_nothing_that_is_learned_from(towers: Path) -> None:
    """Other last events: the same lists to learn from and to choose by, bit for bit."""
    two = warmstart.load_two_tower(towers)
    changed = []
    for one in two.histories:
        left = np.setdiff1d(np.arange(ITEMS), one)
        changed.append(np.concatenate([one[:-1], left[:1]]))
    made = [
        ranker_verb.ranker_data(two, split_last(histories), 12, 0.2, 0) for histories in (list(two.histories), changed)
    ]
    assert not np.array_equal(made[0].test.places, made[1].test.places)
    for part in ("learn", "choose"):
        first, second = (getattr(one, part) for one in made)
        for spec in dataclasses.fields(first.lists([0], 6)):
            rows = np.arange(len(first))
            torch.testing.assert_close(
                getattr(first.lists(rows, 6), spec.name), getattr(second.lists(rows, 6), spec.name), atol=0, rtol=0
            )
        np.testing.assert_array_equal(first.places, second.places)


def test_a_time_budget_ends_training(towers: Path, tmp_path: Path) -> None:
    record = warmstart.ranker(**arguments(towers, tmp_path / "out", time_budget=1.0)).record
    assert "time budget" in record.note
    assert record.steps < 60
    assert any("--time-budget" in line for line in record.advice)


def test_an_existing_result_stays(towers: Path, result: Path) -> None:
    before = digest(result / "results.json")
    with pytest.raises(UserError, match="already holds a result"):
        warmstart.ranker(**arguments(towers, result))
    assert digest(result / "results.json") == before


def test_the_command_line_shows_the_table(towers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ranker", "--towers", str(towers), "--output-dir", str(tmp_path / "out"), "--max-steps", "3", "--verbose"]
    with pytest.raises(SystemExit) as stop:
        run([*words, "--candidates", "5", "--width", "8"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in ("two towers", "towers + ranker", "difference", "NDCG@10", "items: NDCG@10", "Report:"):
        assert word in shown


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such folder": ({"towers": "absent"}, "absent holds no result"),
    "a ranker, no towers": ({"towers": "RESULT"}, "no result of contrast two-tower"),
    "towers of another split": ({"towers": "COLD"}, "--split cold_items; a ranker needs --split last"),
    "altered towers": ({"towers": "ALTERED"}, "altered"),
    "heads": ({"heads": 3}, "--width is 16; it must be a multiple of --heads, 3"),
    "one candidate": ({"candidates": 1}, "--candidates"),
    "nothing left to learn from": ({"validation_size": USERS}, "--validation-size 60 keeps 60 of 60"),
    "nothing to choose by": ({"validation_size": 0.001}, "keeps 0 of 60"),
    "dropout": ({"dropout": 1.0}, "--dropout"),
    "nothing to resume": ({"resume": True}, "nothing to resume"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_calls_end_with_one_line(
    name: str,
    towers: Path,
    result: Path,
    shop: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes, word = BAD[name]
    place = str(changes.get("towers", towers))
    if place == "RESULT":
        place = str(result)
    elif place == "COLD":
        place = str(train_towers(shop, tmp_path / "cold", split="cold_items", max_steps=1))
    elif place == "ALTERED":
        place = str(shutil.copytree(towers, tmp_path / "altered"))
        (tmp_path / "altered" / "ids.json").write_text("{}")
    flags = []
    for option, value in {**arguments(towers, tmp_path / "out"), **changes, "towers": place}.items():
        flags += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(["ranker", *flags])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert word in " ".join(said.split())
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.running").exists()
