"""Training on pairs: it learns, resumes to the bit, keeps frozen groups, and is the same on two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training
from pairs_data import write_pairs

from warmstart.backbones.load import load_backbone
from warmstart.contrastive.mining import MiningPlan
from warmstart.contrastive.sentences import Judge, pair_rows, with_hard_negatives
from warmstart.contrastive.settings import mining_plan, parse_dimensions, settings_from
from warmstart.contrastive.towers import Towers, temperature_value, tower_groups
from warmstart.contrastive.trainer import ContrastTrainer
from warmstart.core.clock import Clock
from warmstart.core.contrast_options import ContrastSentencesOptions
from warmstart.core.errors import ContrastError, SettingError
from warmstart.data.pairs import load_pairs, questions


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.csv")


def state(found: training.ContrastOutcome) -> dict[str, torch.Tensor]:
    """The weights but for those of the head, which has no meaning and is random whenever a model is loaded."""
    return {name: value for name, value in found.encoder.state_dict().items() if not name.startswith("head.")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, data: Path) -> training.ContrastOutcome:
    return training.train(str(tiny_model), str(data), tmp_path_factory.mktemp("work"), num_train_epochs=8)


def options(data: Path, **changes: Any) -> ContrastSentencesOptions:
    columns = {"anchor_column": "question", "positive_column": "answer", "output_dir": "unused"}
    return ContrastSentencesOptions(data=str(data), **{**columns, **changes})


def test_it_learns_and_tells_its_course(trained: training.ContrastOutcome, tiny_model: Path, data: Path) -> None:
    losses = [point.loss for point in trained.history if point.loss is not None]
    assert losses[-1] < 0.7 * losses[0]
    for point in trained.history:
        if point.loss is not None:
            assert point.ceiling is not None
            assert point.bound is not None
            assert point.masked is not None
            assert point.bound == pytest.approx(point.ceiling - point.loss, abs=1e-4)
            assert 3.0 < point.ceiling <= np.log(24) + 1e-6
            assert point.scale == pytest.approx(20.0)
            assert point.rates
            assert all(rate >= 0 for rate in point.rates.values())
    scores = [point.validation_score for point in trained.history if point.validation_score is not None]
    assert len(scores) == 5
    score = Judge(questions(load_pairs(options(data, seed=3)).test), load_backbone(str(tiny_model)).preprocessor)
    before, after = score(load_backbone(str(tiny_model)).encoder), score(trained.encoder)
    assert after.reciprocal_rank.low > before.reciprocal_rank.value
    assert trained.processes == 1
    assert not trained.alarms


def test_rates_fall_with_depth_and_the_unused_head_learns_nothing(
    trained: training.ContrastOutcome, tiny_model: Path
) -> None:
    rates = {row.group: row.learning_rate for row in trained.groups}
    assert rates["layer.1"] == pytest.approx(1e-3)
    assert rates["layer.0"] == pytest.approx(9e-4)
    assert "head" not in rates
    towers = Towers({"text": load_backbone(str(tiny_model)).encoder}, settings_temperature(learn=True))
    groups = tower_groups(towers)
    assert groups[-1].parameters == ("temperature.log_scale",)
    own = {name for group in groups for name in group.parameters}
    assert own | {"encoders.text.head.weight", "encoders.text.head.bias"} == {
        name for name, _ in towers.named_parameters()
    }


def settings_temperature(learn: bool) -> Any:
    from warmstart.contrastive.temperature import Temperature

    return Temperature(0.05, learnable=learn)


def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.train(str(tiny_model), str(data), tmp_path / "whole", learn_temperature=True)
    original, steps = ContrastTrainer.training_step, []

    def dies(self: ContrastTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 10:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ContrastTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        training.train(str(tiny_model), str(data), tmp_path / "cut", learn_temperature=True)
    monkeypatch.undo()
    again = training.train(str(tiny_model), str(data), tmp_path / "cut", learn_temperature=True)
    first, second = state(whole), state(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [(p.step, p.loss, p.scale) for p in again.history] == [(p.step, p.loss, p.scale) for p in whole.history]
    assert len({p.scale for p in whole.history}) > 2  # the temperature was learnt


def test_parts_change_nothing(tmp_path: Path, tiny_model: Path, data: Path) -> None:
    """Without dropout: one part per side or many."""
    found = [
        training.train(str(tiny_model), str(data), tmp_path / str(size), mini_batch_size=size, max_steps=4)
        for size in (2, 64)
    ]
    for name, value in state(found[0]).items():
        torch.testing.assert_close(value, state(found[1])[name], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_two_processes_take_the_course_of_one(tmp_path: Path, tiny_model: Path, data: Path) -> None:
    courses = {}
    for world in (1, 2):
        folder = tmp_path / str(world)
        folder.mkdir()
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(world)]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(Path(training.__file__))]
        done = subprocess.run(
            [*command, str(tiny_model), str(data), str(folder)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        parts = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]
        assert [part["world"] for part in parts] == [world] * world
        assert all(part["weights"] == pytest.approx(parts[0]["weights"], rel=1e-9) for part in parts)
        courses[world] = parts[0]
    one, two = courses[1], courses[2]
    assert len(one["course"]) == len(two["course"]) > 5
    for first, second in zip(one["course"], two["course"], strict=True):
        assert first == pytest.approx(second, abs=2e-4)
    assert one["weights"] == pytest.approx(two["weights"], rel=1e-5)


def test_dropout_is_the_models_own_or_what_is_asked_for(tiny_model: Path, data: Path) -> None:
    def rates(**changes: Any) -> set[float]:
        encoder = load_backbone(str(tiny_model)).encoder
        options = ContrastSentencesOptions(
            data=str(data), anchor_column="question", positive_column="answer", output_dir="unused", **changes
        )
        settings_from(options, 0, torch.device("cpu")).adapted(encoder)
        return {module.p for module in encoder.modules() if isinstance(module, torch.nn.Dropout)}

    assert rates() == {0.1}
    assert rates(dropout=0.3) == {0.3}
    assert rates(dropout=0.0) == {0.0}
    with pytest.raises(SettingError, match="dropout"):
        rates(dropout=1.0)


def test_frozen_groups_stay_and_open_when_they_should(tmp_path: Path, tiny_model: Path, data: Path) -> None:
    start = dict(load_backbone(str(tiny_model)).encoder.state_dict())
    found = training.train(str(tiny_model), str(data), tmp_path / "top", unfreeze="layer.1=0", max_steps=3)
    moved = {name for name, value in state(found).items() if not torch.equal(value, start[name])}
    assert moved
    assert all(".layer.1." in name for name in moved)
    staged = training.train(str(tiny_model), str(data), tmp_path / "stages", unfreeze="stages", max_steps=8)
    assert [row.opens_at for row in staged.groups] == pytest.approx([0.6, 0.3, 0.0])
    rates = [point.rates for point in staged.history if point.rates and point.loss is not None]
    assert rates[0]["embeddings"] == rates[0]["layer.0"] == 0 < rates[0]["layer.1"]
    assert rates[3]["embeddings"] == 0 < rates[3]["layer.0"]
    assert min(rates[-1].values()) > 0


@pytest.mark.parametrize("bf16", ["true", "false"])
def test_mixed_precision_is_used_and_loses_no_gradient(
    bf16: str, tmp_path: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Towers.encode, set()

    def encode(self: Towers, name: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.add((torch.is_autocast_enabled("cpu"), self.encoder(name).backbone(**batch).last_hidden_state.dtype))
        return original(self, name, batch)

    monkeypatch.setattr(Towers, "encode", encode)
    found = training.train(str(tiny_model), str(data), tmp_path, bf16=bf16, max_steps=3, mini_batch_size=4)
    assert {autocast for autocast, _ in seen} == {bf16 == "true"}
    start = dict(load_backbone(str(tiny_model)).encoder.state_dict())
    still = {name for name, value in state(found).items() if torch.equal(value, start[name])}
    # the bias of the keys has no gradient: it shifts all scores of a query alike; segments are not told apart
    assert all("key.bias" in name or "position_ids" in name for name in still), still


def test_lora_trains_adapters_only_and_gives_a_plain_encoder(tmp_path: Path, tiny_model: Path, data: Path) -> None:
    found = training.train(str(tiny_model), str(data), tmp_path, lora=True, max_steps=5, learning_rate=1e-2)
    start = dict(load_backbone(str(tiny_model)).encoder.state_dict())
    assert state(found).keys() == start.keys() - {"head.weight", "head.bias"}
    changed = {name for name, value in state(found).items() if not torch.allclose(value, start[name], atol=1e-7)}
    assert changed
    assert not any("embeddings" in name or "LayerNorm" in name for name in changed)
    assert sum(row.trainable for row in found.groups) < sum(row.parameters for row in found.groups) / 2


def test_the_time_budget_ends_it(tmp_path: Path, tiny_model: Path, data: Path) -> None:
    found = training.train(str(tiny_model), str(data), tmp_path, Clock(0.0))
    assert found.steps == 0
    assert "time budget" in found.note


def test_diverging_is_an_error(tmp_path: Path, tiny_model: Path, data: Path) -> None:
    with pytest.raises(ContrastError, match="not finite"):
        training.train(str(tiny_model), str(data), tmp_path, learning_rate=10.0, weight_decay=1e9, max_steps=60)


def test_hard_negatives_are_near_and_no_answers(tiny_model: Path, tmp_path: Path) -> None:
    rows = [("apple", "the apple"), ("apple", "old apple"), ("pear", "the pear"), ("saw", "a saw"), ("cat", "my cat")]
    path = tmp_path / "pairs.csv"
    lines = [f"{a} {n} was,{b} {n} with" for n in ("new", "nice", "here") for a, b in rows]
    path.write_text("question,answer\n" + "\n".join(lines) + "\n")
    backbone = load_backbone(str(tiny_model))
    pairs = load_pairs(options(path, test_size=0.2, validation_size=0.2)).train
    found = with_hard_negatives(pairs, backbone, MiningPlan(num_negatives=2), seed=0)
    assert len(found.negatives) == len(found.negative_ids) == 2
    known = pairs.known()
    for place in range(len(found)):
        answers = set(known.get(int(found.anchor_ids[place]), [found.positive_ids[place]]))
        for texts, ids in zip(found.negatives, found.negative_ids, strict=True):
            assert int(ids[place]) not in answers
            assert texts[place] in pairs.positives
    made = pair_rows(found, backbone.preprocessor, 4)
    assert len(made.sides) == 4
    batch = made.collate([0, 1, 2])
    assert batch["candidates"].shape == (3, 3)


def test_hard_negatives_train(tmp_path: Path, tiny_model: Path, data: Path) -> None:
    pairs = load_pairs(options(data, negative_column="other")).train
    assert len(pairs.negatives) == 1
    found = training.train(str(tiny_model), str(data), tmp_path, negative_column="other", max_steps=4)
    losses = [point for point in found.history if point.loss is not None]
    assert all(point.bound is None and point.ceiling is not None for point in losses)
    assert all(np.log(24) < float(point.ceiling or 0) <= np.log(48) + 1e-6 for point in losses)


def test_settings_that_contradict(data: Path) -> None:
    device = torch.device("cpu")
    for bad in (
        {"temperature": 0.001, "learn_temperature": True},
        {"group_rates": "nonsense"},
        {"unfreeze": "sideways"},
    ):
        with pytest.raises(SettingError):
            settings_from(options(data, **bad), 0, device)
    with pytest.raises(SettingError):
        mining_plan(options(data, num_negatives=5, range_min=10, range_max=12))
    assert mining_plan(options(data)) is None
    assert parse_dimensions("64, 128", 384) == (128, 64)
    for text in ("384", "0", "a", "64,64", "12.5"):
        with pytest.raises(SettingError, match="--matryoshka-dims"):
            parse_dimensions(text, 384)


def test_the_temperature_is_part_of_the_model() -> None:
    towers = Towers({}, settings_temperature(learn=False))
    assert temperature_value(towers) == pytest.approx(20.0)
