"""`adapt` end to end on a tiny model: the result folder, its guarantees, and the ways in which it can be broken."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kinds import write_rows
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

import warmstart
from warmstart.core.errors import OutputError, ResultError, RoundTripError, SettingError
from warmstart.core.files import digest
from warmstart.core.options import PushOptions
from warmstart.core.records import Interval, PairedDifference, RunRecord
from warmstart.report.html import render_report
from warmstart.verbs import saving
from warmstart.verbs.advice import advice_for
from warmstart.verbs.push import push_folder


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished fine-tuning; tests must not change it."""
    folder = tmp_path_factory.mktemp("result")
    data = write_rows(folder / "reviews.csv", 120)
    warmstart.adapt(
        data=str(data),
        text_column="text",
        label_column="kind",
        model=str(tiny_model),
        strategy="lora",
        num_train_epochs=2,
        bf16="false",
        cache_dir=str(folder / "cache"),
        reference_data=str(write_rows(folder / "other.csv", 60, seed=7)),
        output_dir=str(folder / "out"),
    )
    return folder / "out"


def copy(result: Path, to: Path) -> Path:
    return Path(shutil.copytree(result, to / "copy"))


def test_the_folder_holds_everything_and_nothing_is_left_beside_it(result: Path) -> None:
    names = {str(path.relative_to(result)) for path in result.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "results.json", "README.md", "report.html"} <= names
    assert {"tokenizer.json", "tokenizer_config.json", "verification.safetensors"} <= names
    assert {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"} <= names
    assert not result.with_name("out.running").exists()
    record = RunRecord.from_json((result / "results.json").read_text())
    assert set(record.files) == names - {"results.json", "README.md"}
    assert all(digest(result / name) == value for name, value in record.files.items())
    config = json.loads((result / "config.json").read_text())
    assert config["id2label"] == {"0": "animal", "1": "fruit", "2": "tool"}
    (result.parent / "new.txt").touch()
    assert {path.stat().st_mode for path in result.rglob("*") if path.is_file()} == {
        (result.parent / "new.txt").stat().st_mode
    }


def test_the_record_has_floors_strategies_seeds_versions_and_rebuilds_the_report(result: Path) -> None:
    record = RunRecord.from_json((result / "results.json").read_text())
    assert [run.strategy for run in record.runs] == ["zero_shot", "linear_probe", "lora"]
    assert {floor.name for floor in record.floors} == {"majority", "tfidf", "knn"}
    assert record.chosen == "lora"
    assert record.plan is not None
    assert record.plan.reasons[0].startswith("You asked for lora")
    test = record.run_of("lora").test
    assert test is not None
    assert test.accuracy.low <= test.accuracy.value <= test.accuracy.high
    assert sum(map(sum, test.confusion)) == test.rows == record.task.sizes["test"]
    assert record.versions["torch"] == torch.__version__
    assert "--strategy lora" in record.command
    assert record.seconds > sum(run.seconds for run in record.runs) + 1  # the check in a new process as well
    assert render_report(dataclasses.replace(record, files={})) == (result / "report.html").read_text()


def test_loading_gives_the_scores_that_were_reported(result: Path) -> None:
    found = warmstart.load(result)
    record = found.record
    frame = pd.read_csv(result.parent / "reviews.csv", dtype=str)
    predicted = [entry.label for entry in found.predict(list(frame["text"]))]
    right = np.array(predicted) == frame["kind"].to_numpy()
    confusion = record.run_of("lora").test.confusion
    wrong_on_test = record.task.sizes["test"] - sum(confusion[i][i] for i in range(3))
    assert int((~right).sum()) >= wrong_on_test
    assert AutoConfig.from_pretrained(result).model_type == "warmstart_classifier"
    probabilities = found.probabilities(["a cat and a dog", "the saw was here"])
    assert probabilities.shape == (2, 3)
    assert np.allclose(probabilities.sum(1), 1)
    assert found.predict([]) == []


def test_predict_keeps_columns_order_and_ids(result: Path, tmp_path: Path) -> None:
    data = tmp_path / "more.csv"
    data.write_text('id,text,note\n007,the cat was nice,x\n008,,y\n009,"a saw, a drill",\n')
    summary = warmstart.predict(result=str(result), data=str(data), output=str(tmp_path / "p.csv"), probabilities=True)
    found = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)
    assert list(found.columns)[:5] == ["id", "text", "note", "prediction", "probability"]
    assert list(found["id"]) == ["007", "008", "009"]
    assert summary.rows == 3
    shares = found[[f"probability: {label}" for label in ("animal", "fruit", "tool")]].astype(float)
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    with pytest.raises(OutputError, match="exists; --overwrite"):
        warmstart.predict(result=str(result), data=str(data), output=str(tmp_path / "p.csv"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "report.html"])
def test_an_altered_or_missing_file_is_refused(result: Path, tmp_path: Path, name: str) -> None:
    folder = copy(result, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ResultError, match=name):
        warmstart.load(folder)
    (folder / name).unlink()
    with pytest.raises(ResultError, match="missing"):
        warmstart.load(folder)


def test_without_its_record_a_folder_is_no_result(result: Path, tmp_path: Path) -> None:
    folder = copy(result, tmp_path)
    (folder / "results.json").unlink()
    with pytest.raises(ResultError, match="there is no results"):
        warmstart.load(folder)


class FakeHub:
    def __init__(self) -> None:
        self.uploaded: list[str] = []
        self.record = ""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.repo = (repo_id, private)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.uploaded = sorted(str(p.relative_to(folder_path)) for p in Path(folder_path).rglob("*") if p.is_file())
        self.record = (Path(folder_path) / "results.json").read_text()


def test_push_uploads_the_model_and_keeps_the_users_rows_here(result: Path) -> None:
    hub = FakeHub()
    summary = push_folder(PushOptions(result=str(result), repo_id="me/model", private=True), hub)
    assert hub.repo == ("me/model", True)
    assert "model.safetensors" in hub.uploaded
    assert not {"report.html", "verification.safetensors"} & set(hub.uploaded)
    assert RunRecord.from_json(hub.record).mistakes == ()
    assert summary.difference <= 1e-3


def test_push_refuses_weights_that_do_not_give_the_tested_logits(result: Path, tmp_path: Path) -> None:
    folder = copy(result, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] = weights["head.bias"] + torch.tensor([0.5, 0.0, 0.0])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    values = json.loads((folder / "results.json").read_text())
    values["files"]["model.safetensors"] = digest(folder / "model.safetensors")  # a forger who knows the digests
    (folder / "results.json").write_text(json.dumps(values))
    hub = FakeHub()
    with pytest.raises(RoundTripError, match="differ"):
        push_folder(PushOptions(result=str(folder), repo_id="me/model"), hub)
    assert hub.uploaded == []


def options(tiny_model: Path, data: Path, out: Path) -> dict[str, object]:
    return {
        "data": str(data),
        "text_column": "text",
        "label_column": "kind",
        "model": str(tiny_model),
        "strategy": "fine_tune",
        "bf16": "false",
        "max_steps": 4,
        "reference_data": "none",
        "output_dir": str(out),
    }


def test_a_full_disk_leaves_no_result(
    tiny_model: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "render_report", full)
    with pytest.raises(OutputError, match="No space left"):
        warmstart.adapt(**options(tiny_model, reviews, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="--resume"):
        warmstart.adapt(**options(tiny_model, reviews, tmp_path / "out"))
    with pytest.raises(OutputError, match="other options: max_steps"):
        warmstart.adapt(**{**options(tiny_model, reviews, tmp_path / "out"), "max_steps": 5}, resume=True)
    with reviews.open("a") as file:
        file.write("0999,a new cat was here,animal\n")
    with pytest.raises(OutputError, match="other fingerprints: data"):
        warmstart.adapt(**options(tiny_model, reviews, tmp_path / "out"), resume=True)


def test_overwrite_replaces_a_result_whole(tiny_model: Path, reviews: Path, tmp_path: Path) -> None:
    first = warmstart.adapt(**{**options(tiny_model, reviews, tmp_path / "out"), "strategy": "linear_probe"})
    with pytest.raises(OutputError, match="already holds a result"):
        warmstart.adapt(**options(tiny_model, reviews, tmp_path / "out"))
    again = warmstart.adapt(
        **{**options(tiny_model, reviews, tmp_path / "out"), "strategy": "zero_shot"}, overwrite=True
    )
    assert (first.record.chosen, again.record.chosen) == ("linear_probe", "zero_shot")
    assert warmstart.load(tmp_path / "out").record.chosen == "zero_shot"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "reviews.csv"]


def test_auto_is_never_below_the_probe_on_the_validation_rows(tiny_model: Path, reviews: Path, tmp_path: Path) -> None:
    found = warmstart.adapt(**{**options(tiny_model, reviews, tmp_path / "out"), "strategy": "auto"}).record
    by_name = {run.strategy: run.validation for run in found.runs}
    assert by_name[found.chosen] >= by_name["linear_probe"] - 0.1
    assert found.plan is not None
    assert found.plan.strategy in {run.strategy for run in found.runs}


@pytest.mark.parametrize("strategy", ["fine_tune", "lora"])
def test_a_learning_rate_can_be_found(strategy: str, tiny_model: Path, reviews: Path, tmp_path: Path) -> None:
    made = {**options(tiny_model, reviews, tmp_path / "out"), "strategy": strategy, "learning_rate": "auto"}
    record = RunRecord.from_json(warmstart.adapt(**made).record.to_json())
    run = record.run_of(strategy)
    assert run.rate_search is not None
    assert run.settings["learning_rate"] == run.rate_search.learning_rate > 0
    assert run.rate_search.runs == 3
    assert record.plan is not None
    assert "learning_rate" not in record.plan.settings
    assert "--learning-rate auto" in record.command
    assert all(other.rate_search is None for other in record.runs if other.strategy != strategy)
    assert "found by a range test" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_two_processes_train_one_model(tiny_model: Path, reviews: Path, tmp_path: Path) -> None:
    """Under torchrun one process decides and writes, both train; the weights are those of one with the whole batch."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    still = {name: 0.0 for name in config if name.endswith(("dropout", "dropout_prob"))}
    (model / "config.json").write_text(json.dumps(config | still))
    common = {"data": reviews, "model": model, "text_column": "text", "label_column": "kind", "seed": 3}
    common |= {"strategy": "fine_tune", "max_steps": 4, "learning_rate": 1e-3, "bf16": "false"}
    common |= {"reference_data": "none", "cache_dir": tmp_path / "cache"}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in common.items()]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    launch += ["--rdzv-endpoint", "localhost:0", "-m", "warmstart"]

    def run_two(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *launch, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)

    done = run_two("adapt", *flags, "--per-device-train-batch-size=8", f"--output-dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("Trained on 2 processes.") == 1
    assert done.stdout.count("Result: ") == 1
    two = RunRecord.from_json((tmp_path / "two" / "results.json").read_text())
    assert two.machine.endswith("2 processes")
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in common.items()}
    warmstart.adapt(**plain, per_device_train_batch_size=16, output_dir=str(tmp_path / "one"))
    one, both = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    start = load_file(tiny_model / "model.safetensors")
    name = next(name for name in one if name.endswith("layer.0.intermediate.dense.weight"))
    alike = [key for key in one if not key.endswith("key.bias")]  # whose gradient is zero but for rounding
    assert max(float((one[key] - both[key]).abs().max()) for key in alike) < 1e-4
    moved = next(value for key, value in start.items() if name.endswith(key))
    assert float((one[name] - moved).abs().max()) > 1e-3
    refused = run_two("compare", *flags[:2], f"--output-dir={tmp_path / 'c'}")
    assert "compare runs in one process; torchrun is for adapt" in refused.stderr


def test_advice_names_the_strategy_that_beats_the_chosen_one(result: Path) -> None:
    record = RunRecord.from_json((result / "results.json").read_text())
    worse = PairedDifference("lora", "zero_shot", Interval(-0.2, -0.3, -0.1))
    unsure = PairedDifference("lora", "linear_probe", Interval(-0.3, -0.7, 0.1))
    told = advice_for(dataclasses.replace(record, differences=(unsure, worse)))[0]
    assert told == "zero_shot is clearly better on the test rows, by 20.0 points: use --strategy zero_shot."
    assert "clearly better" not in " ".join(advice_for(dataclasses.replace(record, differences=(unsure,))))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(SettingError, match="did you mean 'time_budget'"):
        warmstart.adapt(data="x", output_dir="y", time_buget=3)  # type: ignore[call-arg]


SCRIPT = """
import sys, json, warmstart
warmstart.adapt(**json.loads(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed(tiny_model: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.csv", 240)
    common = {**options(tiny_model, data, tmp_path / "a"), "max_steps": 120, "per_device_train_batch_size": 8}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(**more: object) -> subprocess.Popen[bytes]:
        values = json.dumps({**common, **more})
        return subprocess.Popen([sys.executable, "-c", SCRIPT, values], env=environment)

    whole = start()
    broken = start(output_dir=str(tmp_path / "b"))
    running = tmp_path / "b.running"
    deadline = time.monotonic() + 120
    while len(list(running.glob("fine_tune/checkpoint-*/complete.json"))) < 2:
        assert broken.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert not (tmp_path / "b").exists()
    plan = json.loads((running / "run.json").read_text())["plan"]
    resumed = start(output_dir=str(tmp_path / "b"), resume=True)
    assert whole.wait() == 0
    assert resumed.wait() == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)
    records = [RunRecord.from_json((tmp_path / name / "results.json").read_text()) for name in "ab"]
    assert records[1].plan is not None
    assert records[1].plan.to_dict() == plan
    steps = [[point.step for point in record.run_of("fine_tune").history] for record in records]
    assert steps[0] == steps[1]
