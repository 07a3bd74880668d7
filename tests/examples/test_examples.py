"""Every script in examples/ runs, and says what it is there to show."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"

pytestmark = [pytest.mark.real, pytest.mark.slow]


def run(name: str, *arguments: str) -> str:
    """Standard output of an example."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the example for adapt wrote into, and what it printed."""
    folder = tmp_path_factory.mktemp("adapt")
    return folder, run("adapt", str(folder))


def test_every_example_is_tested() -> None:
    tested = {"adapt", "compare", "contrast", "advise", "predict", "groups", "push", "recommend"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_adapt(adapted: tuple[Path, str]) -> None:
    folder, printed = adapted
    record = json.loads((folder / "adapted" / "results.json").read_text(encoding="utf-8"))
    assert f"Chosen: {record['chosen']}" in printed
    for run_ in record["runs"]:
        assert f"{run_['strategy']:14} {run_['test']['accuracy']['value']:.3f} [" in printed
    assert "The dress fits like a glove. → " in printed
    assert f"Report: {folder / 'adapted' / 'report.html'}" in printed
    assert (folder / "adapted" / "report.html").is_file()
    assert not (folder / "adapted.running").exists()


def test_push_lists_what_would_be_uploaded(adapted: tuple[Path, str]) -> None:
    printed = run("push", str(adapted[0] / "adapted"))
    listed = {line.strip() for line in printed.splitlines() if line.startswith("  ")}
    assert {"README.md", "config.json", "model.safetensors", "results.json", "tokenizer.json"} <= listed
    assert not {"report.html", "verification.safetensors"} & listed
    assert "Would make the private repository user/review-departments" in printed
    assert "Stays here: report.html, verification.safetensors" in printed


def test_predict(tmp_path: Path) -> None:
    printed = run("predict", str(tmp_path))
    with (tmp_path / "more.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    assert len(rows) == len(answers) == 25
    assert [row["Review Text"] for row in rows] == [row["Review Text"] for row in answers]
    assert list(answers[0])[: len(rows[0])] == list(rows[0])
    assert all(0 < float(row["probability"]) <= 1 for row in answers)
    assert f"25 rows in {tmp_path / 'answers.csv'}" in printed
    assert "'Jackets': " in printed


def test_compare(tmp_path: Path) -> None:
    printed = run("compare", str(tmp_path))
    record = json.loads((tmp_path / "comparison" / "results.json").read_text(encoding="utf-8"))
    assert [(r["strategy"], r["seed"]) for r in record["runs"]] == [
        (strategy, seed) for strategy in ("zero_shot", "linear_probe", "fine_tune") for seed in (42, 43)
    ]
    assert f"Best by the validation rows: {record['chosen']}" in printed
    assert printed.count(" minus ") == 2
    assert sorted(path.name for path in (tmp_path / "comparison").iterdir()) == ["report.html", "results.json"]


def test_advise() -> None:
    printed = run("advise")
    assert printed.startswith("Plan: ")
    assert "- What would change it: " in printed
    for strategy in ("zero_shot", "linear_probe", "fine_tune", "progressive", "lora", "scratch"):
        assert f"\n{strategy} " in printed


def test_groups() -> None:
    lines = run("groups", MINILM).splitlines()
    assert lines[0].startswith(f"{MINILM}: BertModel, from ")
    assert [line.split()[1] for line in lines[1:-1]] == ["embeddings", *(f"layer.{n}" for n in range(6))]
    assert lines[-1] == "22,565,376 parameters, each in exactly one group"


def test_contrast(tmp_path: Path) -> None:
    """The folder is a sentence-transformers model that finds reviews by their titles no worse than before."""
    printed = run("contrast", str(tmp_path))
    record = json.loads((tmp_path / "encoder" / "results.json").read_text(encoding="utf-8"))
    assert f"Recall@10 after:  {record['after']['recall_at_10']['value']:.3f} [" in printed
    assert record["after"]["recall_at_10"]["value"] > record["before"]["recall_at_10"]["low"]
    assert record["backbone"]["name"] == MINILM
    assert (tmp_path / "encoder" / "modules.json").is_file()
    assert f"Report: {tmp_path / 'encoder' / 'report.html'}" in printed


def test_recommend(tmp_path: Path) -> None:
    """Films with titles, by a filter, and a version that is gone back to."""
    printed = run("recommend", str(tmp_path))
    assert "Version 0001 serves; its index finds " in printed
    assert "After Aladdin (1992): " in printed
    assert " films allowed, " in printed
    assert "Version 0001 serves again in place of 0002" in printed
    current = json.loads((tmp_path / "serving" / "current.json").read_text(encoding="utf-8"))
    assert current["current"] == "0001"
    assert (tmp_path / "serving" / "versions" / "0002" / "bundle.json").is_file()
