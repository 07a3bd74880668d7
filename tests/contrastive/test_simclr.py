"""SimCLR's training: its loss, its head, batch norms and parts, resumption to the bit, adapters, two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import loops
import numpy as np
import pytest
import simclr_training as training
import torch
from images_data import LITE, VIT, write_images

from warmstart.backbones.groups import batch_norms
from warmstart.backbones.random_start import random_backbone
from warmstart.contrastive.grad_cache import Side
from warmstart.contrastive.projection import ProjectedLoss, Projector
from warmstart.contrastive.simclr import SimclrTrainer, make_tower, view_groups
from warmstart.core.clock import Clock
from warmstart.core.errors import ContrastError, SettingError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), 72)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vit") / "vit.json"
    path.write_text(json.dumps(VIT))
    return path


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lite") / "lite.json"
    path.write_text(json.dumps(LITE))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, vit: Path, images: Path) -> Any:
    return training.train(vit, images, tmp_path_factory.mktemp("work"), num_train_epochs=12)


def state(found: Any) -> dict[str, torch.Tensor]:
    return dict(found.encoder.backbone.state_dict())


def test_it_learns_and_tells_its_course(trained: Any) -> None:
    losses = [point.loss for point in trained.history if point.loss is not None]
    assert losses[-1] < 0.85 * losses[0]
    scores = [point.validation_score for point in trained.history if point.validation_score is not None]
    assert len(scores) == 5
    for point in trained.history:
        if point.loss is not None:
            assert point.bound == pytest.approx(float(point.ceiling or 0) - point.loss, abs=1e-4)
            assert float(point.ceiling or 0) <= np.log(2 * 24 - 1) + 1e-5
            assert point.scale == pytest.approx(10.0)
    assert not any(alarm.kind == "rank" for alarm in trained.alarms)


def test_the_loss_is_nt_xent_of_what_the_head_makes_gradients_included() -> None:
    torch.manual_seed(0)
    projector = Projector(6, 4).double().train()
    first, second = torch.randn(2, 5, 6, dtype=torch.float64).requires_grad_().unbind(0)
    exclude = torch.eye(5, dtype=torch.bool)
    exclude[1, 3] = exclude[3, 1] = True
    found, seen = ProjectedLoss("two_view", projector=projector)(torch.tensor(5.0).double(), exclude, (first, second))
    both = projector(torch.cat([first, second]))
    expected = loops.two_view(both[:5], both[5:], torch.tensor(5.0).double(), exclude=exclude)
    assert float(found) == pytest.approx(float(expected), abs=1e-10)
    assert float(seen.masked) > 0
    wanted = [first, second, *projector.parameters()]
    for one, other in zip(torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


def test_the_heads_batch_norm_sees_both_views_of_the_whole_batch(tmp_path: Path, vit: Path, images: Path) -> None:
    """However small the parts are; so parts change nothing."""
    found = [
        training.train(vit, images, tmp_path / str(size), mini_batch_size=size, max_steps=4, bf16="false")
        for size in (5, 64)
    ]
    for name, value in state(found[0]).items():
        if value.ndim > 1:  # some biases have no gradient but for rounding: what follows takes a shift away
            torch.testing.assert_close(value, state(found[1])[name], atol=2e-5, rtol=0, msg=name)


def test_groups_hold_every_parameter_once_and_the_head_learns_at_its_own_rate(vit: Path, trained: Any) -> None:
    settings = training.settings(vit, Path("unused"), learn_temperature=True)
    tower = make_tower(random_backbone(str(vit), 0), settings, pretrained=False)
    groups = view_groups(tower)
    own = [name for group in groups for name in group.parameters]
    assert len(own) == len(set(own))
    unused = {"encoders.image.head.weight", "encoders.image.head.bias"}
    assert set(own) | unused == {name for name, _ in tower.named_parameters()}
    assert groups[-1].name == "head"
    assert "temperature.log_scale" in groups[-1].parameters
    rates = {row.group: row.learning_rate for row in trained.groups}
    assert rates.pop("head") == pytest.approx(2e-3)
    assert set(rates.values()) == {1e-3}  # random weights: depth sets no rate


@pytest.mark.parametrize("model", ["vit", "lite"])
def test_a_resumed_training_is_the_same_to_the_bit(
    model: str, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    whole = training.train(path, images, tmp_path / "whole")
    original, steps = SimclrTrainer.training_step, []

    def dies(self: SimclrTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SimclrTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        training.train(path, images, tmp_path / "cut")
    monkeypatch.undo()
    again = training.train(path, images, tmp_path / "cut")
    first, second = state(whole), state(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [(p.step, p.loss) for p in again.history] == [(p.step, p.loss) for p in whole.history]
    assert whole.steps == 6


def tower_step(lite: Path, *, pretrained: bool, part: int) -> tuple[Any, Any, Any]:
    """A tower before and after one pass through the gradient cache, and the views that it saw."""
    import copy

    from warmstart.contrastive import grad_cache

    settings = training.settings(lite, Path("unused"))
    tower = make_tower(random_backbone(str(lite), 0), settings, pretrained=pretrained)
    tower.train()
    before = copy.deepcopy(tower)
    views = torch.rand(2, 12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    sides = [
        Side(lambda batch: tower.encode("image", batch), [{"pixel_values": p} for p in view.split(part)])
        for view in views
    ]
    loss = ProjectedLoss("two_view", projector=tower.projector)
    grad_cache.backward(sides, lambda *vectors: loss(tower.temperature(), None, vectors))
    return before, tower, views


def test_random_batch_norms_take_each_part_in_once(lite: Path) -> None:
    """Gradient caching encodes a part twice; its statistics count as if it were encoded once, and gradients agree."""
    before, after, views = tower_step(lite, pretrained=False, part=4)
    parts = [[before.encode("image", {"pixel_values": p}) for p in view.split(4)] for view in views]
    first = batch_norms(before.encoders)[0]
    assert first.training
    for one, other in zip(batch_norms(before.encoders), batch_norms(after.encoders), strict=True):
        assert not torch.equal(one.running_mean, torch.zeros_like(one.running_mean))
        # the order in which parts are taken in differs, and a moving average weighs the last one most
        torch.testing.assert_close(one.running_mean, other.running_mean, atol=2e-3, rtol=0.05)
        assert other.momentum == pytest.approx(0.01)
    loss, _ = ProjectedLoss("two_view", projector=before.projector)(
        before.temperature(), None, tuple(torch.cat(side) for side in parts)
    )
    loss.backward()
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        if one.grad is not None:
            assert other.grad is not None, name
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


def test_pretrained_batch_norms_keep_their_statistics(lite: Path) -> None:
    before, after, _ = tower_step(lite, pretrained=True, part=5)
    for one, other in zip(batch_norms(before.encoders), batch_norms(after.encoders), strict=True):
        assert not other.training
        assert torch.equal(one.running_mean, other.running_mean)
        assert torch.equal(one.running_var, other.running_var)
        assert other.weight.grad is not None
    assert after.projector.norm.training
    assert not torch.equal(before.projector.norm.running_mean, after.projector.norm.running_mean)


def test_second_views_are_cut_in_another_order(vit: Path, images: Path, tmp_path: Path) -> None:
    rows = training.rows_of(vit, images, tmp_path, part=4)
    batch = rows.collate(list(range(12)))
    assert torch.equal(batch["draws"], rows.collate(list(range(12)))["draws"])
    first, second = rows.sides_of(batch["pixels"], batch["draws"], batch["places"])
    assert first["places"].tolist() == list(range(12)) == sorted(second["places"].tolist())
    assert second["places"].tolist() != list(range(12))
    made = Side(lambda part: part["pixel_values"], second["parts"], second["places"])
    in_order = made.in_order([made.encode(part) for part in made.parts])
    plain = rows.source.views(batch["pixels"], batch["draws"][1])
    torch.testing.assert_close(in_order, plain, atol=1e-5, rtol=1e-5)
    rows.set_epoch(1)
    assert not torch.equal(batch["draws"], rows.collate(list(range(12)))["draws"])


def test_lora_trains_adapters_and_gives_a_plain_encoder(vit: Path, images: Path, tmp_path: Path) -> None:
    start = dict(random_backbone(str(vit), 3).encoder.backbone.state_dict())
    found = training.train(vit, images, tmp_path, pretrained=True, lora=True, max_steps=3, learning_rate=1e-2)
    assert state(found).keys() == start.keys()
    changed = {name for name, value in state(found).items() if not torch.allclose(value, start[name], atol=1e-7)}
    assert changed
    assert not any("norm" in name or "embeddings.position" in name for name in changed)
    head = next(row for row in found.groups if row.group == "head")
    assert head.trainable == head.parameters > 0


def test_frozen_groups_stay(vit: Path, images: Path, tmp_path: Path) -> None:
    start = dict(random_backbone(str(vit), 3).encoder.backbone.state_dict())
    found = training.train(vit, images, tmp_path, unfreeze="layers.1=0,head=0", max_steps=3)
    moved = {name for name, value in state(found).items() if not torch.equal(value, start[name])}
    assert moved
    assert all("layers.1." in name for name in moved), moved


def test_the_time_budget_ends_it(vit: Path, images: Path, tmp_path: Path) -> None:
    found = training.train(vit, images, tmp_path, clock=Clock(0.0))
    assert found.steps == 0
    assert "time budget" in found.note


def test_diverging_is_an_error(vit: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ContrastError, match="not finite"):
        training.train(vit, images, tmp_path, learning_rate=10.0, weight_decay=1e9, max_steps=60)


def test_a_part_of_one_image_is_refused_where_batch_norms_learn(lite: Path, vit: Path, images: Path) -> None:
    from warmstart.contrastive.simclr import check_training

    settings = training.settings(lite, images, mini_batch_size=1)
    with pytest.raises(SettingError, match="--mini-batch-size"):
        check_training(random_backbone(str(lite), 0), 50, settings, 1, pretrained=False)
    check_training(random_backbone(str(lite), 0), 50, settings, 1, pretrained=True)
    check_training(random_backbone(str(vit), 0), 50, settings, 1, pretrained=False)


@pytest.mark.slow
def test_two_processes_take_the_course_of_one(tmp_path: Path, vit: Path, images: Path) -> None:
    """Without the head's batch norm, whose statistics are each process's own."""
    one = training.train(vit, images, tmp_path / "one", projection_norm="none")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", str(Path(training.__file__)), str(vit), str(images), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [part["world"] for part in parts] == [2, 2]
    assert parts[0]["weights"] == pytest.approx(parts[1]["weights"], rel=1e-9)
    course = training.course(one)
    assert len(course) == len(parts[0]["course"]) > 3
    for first, second in zip(course, parts[0]["course"], strict=True):
        assert first == pytest.approx(second, abs=5e-4)
    assert training.weights(one) == pytest.approx(parts[0]["weights"], rel=1e-5)
