"""`compare`, `advise`, `groups`: one table over paired seeds, plans with reasons, complete partitions."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

import warmstart
from warmstart.core.errors import ResultError
from warmstart.core.options import AdviseOptions
from warmstart.core.records import RunRecord
from warmstart.train.lr_find import search_seconds
from warmstart.verbs import compare as module
from warmstart.verbs.compare import chosen_strategies
from warmstart.verbs.planning import seconds_to_search


def options(tiny_model: Path, reviews: Path, out: Path) -> dict[str, object]:
    return {
        "data": str(reviews),
        "text_column": "text",
        "label_column": "kind",
        "model": str(tiny_model),
        "bf16": "false",
        "max_steps": 3,
        "seeds": 2,
        "reference_data": "none",
        "output_dir": str(out),
    }


def test_every_strategy_on_every_seed_in_one_record(tiny_model: Path, reviews: Path, tmp_path: Path) -> None:
    found = warmstart.compare(**options(tiny_model, reviews, tmp_path / "out"))
    record = RunRecord.from_json((tmp_path / "out" / "results.json").read_text())
    assert record == RunRecord.from_json(found.record.to_json())
    names = ["zero_shot", "linear_probe", "fine_tune", "progressive", "lora", "scratch"]
    assert [run.strategy for run in record.runs] == [name for name in names for _ in range(2)]
    assert {run.seed for run in record.runs} == {42, 43}
    trained = [run for run in record.runs if run.strategy == "fine_tune"]
    assert trained[0].settings["learning_rate"] == trained[1].settings["learning_rate"]
    assert all(run.settings["tuning_seconds"] > 0 for run in trained)
    assert {pair.strategy for pair in record.differences} == {record.chosen}
    assert len(record.differences) == 5
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(ResultError, match="keeps no model"):
        warmstart.load(tmp_path / "out")


def test_a_resumed_comparison_keeps_what_was_finished(
    tiny_model: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {**options(tiny_model, reviews, tmp_path / "out"), "strategies": "linear_probe,fine_tune", "seeds": 1}
    real, calls = module.run_strategy, []

    def interrupted(bench: object, name: str, settings: object, title: str) -> object:
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(bench, name, settings, title)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run_strategy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        warmstart.compare(**common)
    assert not (tmp_path / "out").exists()
    calls.clear()
    calls.extend(["…"] * 10)  # never interrupt again
    found = warmstart.compare(**common, resume=True)
    assert calls[10:] == ["fine_tune", "fine_tune"]  # the probe and the first of three rates were kept
    assert [run.strategy for run in found.record.runs] == ["linear_probe", "fine_tune"]


def test_a_rate_is_found_on_the_first_seed_and_kept_for_the_others(
    tiny_model: Path, reviews: Path, tmp_path: Path
) -> None:
    common = {**options(tiny_model, reviews, tmp_path / "out"), "strategies": "linear_probe,fine_tune,lora"}
    record = warmstart.compare(**common, learning_rate="auto").record
    for name in ("fine_tune", "lora"):
        first, second = (run for run in record.runs if run.strategy == name)
        assert first.rate_search is not None
        assert second.rate_search is None
        assert first.rate_search.learning_rate == first.settings["learning_rate"] == second.settings["learning_rate"]
        assert first.settings["tuning_seconds"] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("found by a range test") == 2
    assert "on seed 42" in page


def test_a_search_is_paid_for_from_the_budget() -> None:
    evidence: Any = types.SimpleNamespace(seconds_train=0.01)
    found, given = (AdviseOptions(data="x", learning_rate=rate) for rate in ("auto", 1e-4))
    assert seconds_to_search(found, evidence, 1000.0) == pytest.approx(search_seconds(0.01, 16))
    assert seconds_to_search(found, evidence, 10.0) == pytest.approx(2.0)  # a fifth of what is left
    assert seconds_to_search(given, evidence, 1000.0) == 0.0


def test_strategies_are_named_once_and_in_order() -> None:
    assert chosen_strategies("lora, linear_probe,lora") == ("lora", "linear_probe")


def test_advise_gives_reasons_with_numbers_and_writes_nothing(tiny_model: Path, reviews: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    plan = warmstart.advise(data=str(reviews), label_column="kind", model=str(tiny_model), time_budget=1000)
    assert sorted(tmp_path.iterdir()) == before
    assert plan.strategy in {"linear_probe", "fine_tune", "progressive", "lora", "zero_shot"}
    assert any(character.isdigit() for character in plan.reasons[0])
    assert plan.would_change
    assert {forecast.strategy for forecast in plan.forecasts} >= {"linear_probe", "fine_tune", "scratch"}
    assert plan.evidence.labelled == 96
    assert plan.evidence.seconds_train > 0


def test_a_budget_too_small_rules_training_out_by_name(tiny_model: Path, reviews: Path) -> None:
    plan = warmstart.advise(data=str(reviews), label_column="kind", model=str(tiny_model), time_budget=1)
    assert plan.strategy in ("linear_probe", "zero_shot")
    ruled_out = {forecast.strategy for forecast in plan.forecasts if not forecast.allowed}
    assert {"fine_tune", "lora", "scratch"} <= ruled_out


def test_groups_places_every_parameter_once(tiny_model: Path) -> None:
    table = warmstart.groups(model=str(tiny_model), learning_rate=1e-3, layer_decay=0.5)
    names = [name for row in table.rows for name in row.names]
    assert len(names) == len(set(names))
    assert sum(row.parameters for row in table.rows) == table.backbone.parameters
    assert [row.group for row in table.rows] == ["embeddings", "layer.0", "layer.1"]
    assert [row.learning_rate for row in table.rows] == pytest.approx([2.5e-4, 5e-4, 1e-3])
