"""The second training of `adapt`: what it averages and leaves alone, when it is made, and that it can be resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kinds import write_rows
from safetensors.torch import load_file
from torch import nn

import warmstart
from warmstart.core.clock import Clock
from warmstart.core.options import AdaptOptions
from warmstart.strategies.protocol import Settings
from warmstart.strategies.table import settings_for
from warmstart.verbs import soup


def options(tiny_model: Path, data: Path, out: Path) -> dict[str, Any]:
    return {
        "data": str(data),
        "text_column": "text",
        "label_column": "kind",
        "model": str(tiny_model),
        "strategy": "fine_tune",
        "bf16": "false",
        "num_train_epochs": 2,
        "reference_data": "none",
        "output_dir": str(out),
    }


def test_the_result_is_the_mean_of_both_and_is_judged_anew(
    tiny_model: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = warmstart.adapt(**options(tiny_model, reviews, tmp_path / "one"))
    others: list[dict[str, torch.Tensor]] = []
    average = soup.average

    def noting(model: nn.Module, other: nn.Module) -> None:
        others.append({name: value.detach().clone() for name, value in other.named_parameters()})
        average(model, other)

    monkeypatch.setattr(soup, "average", noting)
    both = warmstart.adapt(**options(tiny_model, reviews, tmp_path / "two"), soup=True)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert len(others) == 1
    moved = [name for name, value in others[0].items() if not torch.equal(value, one[name])]
    assert moved
    for name, value in others[0].items():
        torch.testing.assert_close(two[name], (one[name] + value) / 2)
    first, second = plain.record.run_of("fine_tune"), both.record.run_of("fine_tune")
    assert second.validation == first.validation
    assert both.record.temperature == plain.record.temperature
    assert [(p.step, p.loss, p.validation_score) for p in second.history] == [
        (p.step, p.loss, p.validation_score) for p in first.history
    ]
    assert (second.settings["soup_epochs"], second.settings["soup_rows"]) == (2, plain.record.task.sizes["labelled"])
    assert "second training" in second.note
    assert first.test is not None
    assert f"{100 * first.test.accuracy.value:.1f} %" in second.note
    assert "second training" in (tmp_path / "two" / "report.html").read_text()


def test_a_resumed_second_training_is_the_same(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "rows.csv", 120)
    warmstart.adapt(**options(tiny_model, data, tmp_path / "whole"), soup=True)
    with monkeypatch.context() as patch:

        def stop(*args: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(soup, "average", stop)
        with pytest.raises(KeyboardInterrupt):
            warmstart.adapt(**options(tiny_model, data, tmp_path / "broken"), soup=True)
    warmstart.adapt(**options(tiny_model, data, tmp_path / "broken"), soup=True, resume=True)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_training_that_was_cut_short_is_not_averaged(
    tiny_model: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmstart.adapt(**options(tiny_model, reviews, tmp_path / "one"))
    monkeypatch.setattr(soup, "second_epochs", lambda *args: 50.0)
    made = soup.STRATEGY["fine_tune"]
    monkeypatch.setitem(soup.STRATEGY, "fine_tune", lambda context: _stopped(made(context), context.settings))
    both = warmstart.adapt(**options(tiny_model, reviews, tmp_path / "two"), soup=True)
    assert "soup_rows" not in both.record.run_of("fine_tune").settings


def _stopped(outcome: Any, settings: Settings) -> Any:
    return dataclasses.replace(outcome, stopped=settings.num_train_epochs == 50)


class Stand:
    """As much of a bench and a first training as the arithmetic needs."""

    def __init__(self, budget: float | None, seconds: float, strategy: str = "fine_tune") -> None:
        self.clock = Clock(budget)
        self.fit = self.situation = self.labelled = self
        self.labels = np.zeros(100)
        self.run = self
        self.seconds, self.strategy, self.status, self.reserve = seconds, strategy, "done", 20.0

    def context(self, *args: object) -> Stand:
        return self


@pytest.mark.parametrize(
    ("budget", "seconds", "more", "wanted"),
    [
        (None, 10.0, {}, 4),
        (1000.0, 40.0, {}, 4),
        (60.0, 40.0, {}, 3),  # 0.9 · (60 − 20) = 36 s at 10 s a pass
        (40.0, 40.0, {}, 0),  # one pass is less than half of four
        (1000.0, 40.0, {"max_steps": 25}, 4),  # 25 steps of 16 rows are four passes over 100
    ],
)
def test_how_long_a_second_training_is(
    budget: float | None, seconds: float, more: dict[str, Any], wanted: float
) -> None:
    made = AdaptOptions(data="x", output_dir="y", num_train_epochs=4, **more)
    settings = settings_for("fine_tune", "text", made, fast_bf16=False)
    stand: Any = Stand(budget, seconds)
    assert soup.second_epochs(stand, stand, settings) == wanted
    other: Any = Stand(budget, seconds, "lora")
    assert soup.second_epochs(other, other, settings) == 0
