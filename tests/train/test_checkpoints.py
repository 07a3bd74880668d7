"""Which checkpoints count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import toy
from transformers import Trainer

from warmstart.train.checkpoints import drop_broken, keep_only, last_complete, mark_complete
from warmstart.train.class_weights import balanced_class_weights
from warmstart.train.fit import fit


def checkpoint(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"x")
    return path


def test_newest_marked_one_by_number(tmp_path: Path) -> None:
    assert last_complete(tmp_path) is None
    for step in (9, 10, 99):
        mark_complete(checkpoint(tmp_path, f"checkpoint-{step}"), seconds=step / 2)
    checkpoint(tmp_path, "checkpoint-100")
    (tmp_path / "checkpoint-101").mkdir()
    found = last_complete(tmp_path)
    assert found is not None
    assert (found.path.name, found.seconds, found.finished, found.note) == ("checkpoint-99", 49.5, False, "")


def test_marker_says_whether_and_why_training_ended(tmp_path: Path) -> None:
    mark_complete(checkpoint(tmp_path, "checkpoint-3"), 1.5, finished=True, note="no time")
    found = last_complete(tmp_path)
    assert found is not None
    assert (found.finished, found.note) == (True, "no time")
    assert json.loads((found.path / "complete.json").read_text())["seconds"] == 1.5  # verbs/workspace.py reads it


def test_a_marker_that_was_being_written_does_not_count(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, "checkpoint-3")
    (path / "complete.json.part").write_text('{"seconds": 1')
    assert last_complete(tmp_path) is None


def test_broken_ones_go_and_other_things_stay(tmp_path: Path) -> None:
    mark_complete(checkpoint(tmp_path, "checkpoint-1"), 0.0)
    checkpoint(tmp_path, "checkpoint-2")
    checkpoint(tmp_path, "checkpoint-notes")
    (tmp_path / "checkpoint-7").write_text("a file")
    drop_broken(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-7", "checkpoint-notes"]


def test_removal_takes_the_marker_first(tmp_path: Path, monkeypatch) -> None:
    for step in (1, 2, 3):
        mark_complete(checkpoint(tmp_path, f"checkpoint-{step}"), 0.0)
    monkeypatch.setattr("shutil.rmtree", lambda path, ignore_errors: None)  # killed before it could remove anything
    keep_only(tmp_path, {"checkpoint-1"})
    found = last_complete(tmp_path)
    assert found is not None
    assert found.path.name == "checkpoint-1"


def test_marked_before_older_ones_are_removed(tmp_path: Path, monkeypatch) -> None:
    """Whatever the moment of a kill, the newest marked checkpoint's best one is still there."""
    seen: list[tuple[bool, int]] = []
    original = Trainer._save_checkpoint

    def spy(self, model, trial):
        before = len(list(tmp_path.glob("checkpoint-*")))
        original(self, model, trial)
        written = tmp_path / f"checkpoint-{self.state.global_step}"
        seen.append(((written / "complete.json").exists(), len(list(tmp_path.glob("checkpoint-*"))) - before))

    monkeypatch.setattr(Trainer, "_save_checkpoint", spy)
    task = toy.task("bert", 32, 6)
    model = task.classifier()
    fit(model, toy.arguments(tmp_path, 32, epochs=4), toy.job(task, model))
    assert seen == [(False, 1)] * 4  # transformers removes nothing by itself
    left = sorted(tmp_path.glob("checkpoint-*"))
    assert 1 <= len(left) <= 2
    assert all((path / "complete.json").is_file() for path in left)


def test_balanced_class_weights_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 3, 3])  # two rows a class would be even
    weights = balanced_class_weights(labels, 4)
    assert weights.tolist() == [2 / 3, 2 / 1, 1.0, 2 / 2]
    assert weights[labels].mean() == 1.0
