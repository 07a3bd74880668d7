"""Two towers on captioned images: what learns, what stays, what is cached, and that a killed training goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captions_data import write_captions
from saved import save

from warmstart.backbones.embed import forward
from warmstart.backbones.feature_cache import FeatureCache
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.text_inputs import PooledInputs
from warmstart.contrastive import grad_cache
from warmstart.contrastive.clip import (
    TEXT,
    VISION,
    Encoded,
    Judge,
    Side,
    caption_rows,
    check_sides,
    encode,
    new_side,
    old_side,
    towers_of,
    train_clip,
)
from warmstart.contrastive.fitting import ContrastOutcome
from warmstart.contrastive.settings import ContrastSettings, settings_from
from warmstart.contrastive.towers import tower_groups
from warmstart.contrastive.trainer import ContrastTrainer
from warmstart.core.clock import Clock
from warmstart.core.contrast_options import ContrastClipOptions
from warmstart.core.errors import ModelError, SettingError
from warmstart.data.captions import CaptionTask, load_captions

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> CaptionTask:
    return load_captions(options(write_captions(tmp_path_factory.mktemp("captions"))))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Backbone, Backbone]:
    folder = tmp_path_factory.mktemp("vision")
    save("efficientnet_lite", folder)
    return load_backbone(str(folder)), load_backbone(str(tiny_model))


def options(captions: Path | str = "unused", **changes: Any) -> ContrastClipOptions:
    values = {
        "captions": str(captions),
        "images": None if captions == "unused" else str(Path(captions).parent / "images"),
        "test_size": 12,
        "validation_size": 12,
        "learning_rate": 3e-3,
        "head_learning_rate": 1e-2,
        "per_device_train_batch_size": 24,
        "mini_batch_size": 8,
        "num_train_epochs": 4,
        "evaluations": 2,
        "bf16": "false",
        "temperature": 0.07,
        "seed": 3,
        "output_dir": "unused",
    }
    return ContrastClipOptions(**{**values, **changes})


def settings(**changes: Any) -> ContrastSettings:
    return settings_from(options(**changes), 3, CPU)


def sides(models: tuple[Backbone, Backbone], lock: str = "none", hidden: bool = False) -> tuple[Side, Side]:
    made = [
        new_side(backbone, 16, hidden=hidden, locked=lock in (name, "both"), seed=number)
        for number, (name, backbone) in enumerate(zip((VISION, TEXT), models, strict=True))
    ]
    return made[0], made[1]


def splits(task: CaptionTask, pair: tuple[Side, Side]) -> tuple[Encoded, Encoded]:
    return encode(task.train, *pair, judged=False), encode(task.validation, *pair)


def train(
    task: CaptionTask,
    pair: tuple[Side, Side],
    work: Path,
    read: Callable[[CaptionTask, tuple[Side, Side]], tuple[Encoded, Encoded]] = splits,
    augment: bool = False,
    **changes: Any,
) -> ContrastOutcome:
    first, second = read(task, pair)
    chosen = settings(**changes)
    return train_clip(*pair, first, second, chosen, augment=augment, work=work, clock=Clock(), reserve=0.0)


def weights(found: ContrastOutcome) -> dict[str, torch.Tensor]:
    return {
        f"{tower}.{name}": value
        for tower, encoder in found.encoders.items()
        for name, value in encoder.state_dict().items()
        if not name.startswith("head.")
    }


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_images_and_captions_come_to_find_each_other(
    task: CaptionTask, models: tuple[Backbone, Backbone], tmp_path: Path
) -> None:
    pair = sides(models)
    found = train(task, pair, tmp_path, num_train_epochs=12, augment=False)
    judge = Judge(encode(task.test, *pair))
    before = judge.vectors(pair[0].encoder, pair[1].encoder)
    after = judge.vectors(found.encoders[VISION], found.encoders[TEXT])
    for way in (judge.text_to_image, judge.image_to_text):
        assert way(*after).reciprocal_rank.value > way(*before).reciprocal_rank.value + 0.15
    scores = judge.text_to_image(*after)
    assert scores.recall_at_1.value <= scores.recall_at_5.value <= scores.recall_at_10.value
    scales = [point.scale for point in found.history if point.scale is not None]
    assert len(set(scales)) > 2
    assert found.scale == pytest.approx(scales[-1], rel=0.05)
    assert found.steps == 12 * 4


def test_every_parameter_is_in_one_group_and_new_heads_are_heads(models: tuple[Backbone, Backbone]) -> None:
    for hidden, layers in ((False, 1), (True, 2)):
        towers = towers_of(*sides(models, hidden=hidden), settings())
        groups = tower_groups(towers)
        names = [name for group in groups for name in group.parameters]
        unused = {f"encoders.{tower}.head.{kind}" for tower in (VISION, TEXT) for kind in ("weight", "bias")}
        assert len(names) == len(set(names))
        assert set(names) | unused == {name for name, _ in towers.named_parameters()}
        heads = {group.label: group for group in groups if group.name == "head"}
        assert set(heads) == {"vision/head", "text/head", "joint/head"}
        assert len({name.rpartition(".")[0] for name in heads["vision/head"].parameters}) == layers
        assert all(name.startswith("encoders.text.projections.") for name in heads["text/head"].parameters)
        assert heads["joint/head"].parameters == ("temperature.log_scale",)
        for tower in (VISION, TEXT):
            depths = [group.depth for group in groups if group.tower == tower]
            assert depths == list(range(len(depths)))


@pytest.mark.parametrize("lock", [VISION, TEXT, "both"])
def test_a_locked_tower_keeps_every_weight_and_the_other_learns(
    lock: str, task: CaptionTask, models: tuple[Backbone, Backbone], tmp_path: Path
) -> None:
    pair = sides(models, lock)
    found = train(task, pair, tmp_path)
    for name, side in zip((VISION, TEXT), pair, strict=True):
        before, after = side.encoder.state_dict(), found.encoders[name].state_dict()
        moved = {key for key in before if not key.startswith("head.") and not torch.equal(before[key], after[key])}
        if side.locked:
            assert moved == {"projections.0.0.weight"}
        else:
            assert any(key.startswith("backbone.") for key in moved)
    trainable = {f"{row.tower}/{row.group}": row.trainable for row in found.groups}
    assert trainable["text/head"] > 0
    assert (trainable["text/layer.0"] == 0) is (lock in (TEXT, "both"))


def test_a_locked_tower_is_computed_once_and_to_the_same_end(
    task: CaptionTask, models: tuple[Backbone, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached features against the same training that runs the locked trunk at every step."""
    pair = sides(models, VISION)
    opened = (replace(pair[0], locked=False), pair[1])
    monkeypatch.setattr("warmstart.contrastive.clip.fast_dtype", lambda device: torch.float32)
    cached = train(task, pair, tmp_path / "cached")
    run = train(task, pair, tmp_path / "run", read=lambda task, _: splits(task, opened))
    first, second = weights(cached), weights(run)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=2e-4, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")
    for one, other in zip(cached.history, run.history, strict=True):
        assert (one.loss is None) == (other.loss is None)
        assert one.loss is None or one.loss == pytest.approx(other.loss, abs=2e-3)


def test_what_a_locked_tower_gives_is_kept_on_disk(
    task: CaptionTask, models: tuple[Backbone, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, cache, key = sides(models, "both"), FeatureCache(tmp_path), {"data": task.card.fingerprint}
    first = encode(task.test, *pair, cache, key)
    assert isinstance(first.images, PooledInputs)
    assert len(list((tmp_path / "features").glob("*.npy"))) == 2

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("warmstart.contrastive.clip.forward", refuse)
    again = encode(task.test, *pair, cache, key)
    assert torch.equal(first.images.batch([0, 3])["pooled"], again.images.batch([0, 3])["pooled"])
    for other in ({"data": "another"}, {**key, "split": "train"}):
        with pytest.raises(AssertionError, match="computed again"):
            encode(task.test, *pair, cache, other)


def test_pooled_rows_give_the_features_of_their_inputs(models: tuple[Backbone, Backbone], task: CaptionTask) -> None:
    vision, text = sides(models, hidden=True)
    for side, columns in ((vision, {"image": task.test.pictures["image"]}), (text, {"text": task.test.captions})):
        batch = side.preprocessor.encode(columns).batch(range(5))
        with torch.no_grad():
            pooled = side.encoder.pooled(**batch)
            torch.testing.assert_close(side.encoder.features(pooled=pooled), side.encoder.features(**batch))


def test_captions_of_one_image_are_no_wrong_answers(task: CaptionTask, models: tuple[Backbone, Backbone]) -> None:
    train_, _ = splits(task, sides(models))
    rows = caption_rows(train_, 8, augment=False, seed=0)
    chosen = list(range(12))
    batch = rows.collate(chosen)
    found = rows.false_negatives(batch["anchors"], batch["candidates"], gather=False)
    images = train_.part.images[chosen]
    assert torch.equal(found, torch.from_numpy(images[:, None] == images[None]))
    assert found.sum() > 12


def test_augmentation_repeats_within_an_epoch_and_changes_between(
    task: CaptionTask, models: tuple[Backbone, Backbone]
) -> None:
    train_, _ = splits(task, sides(models))

    def pixels(epoch: int, augment: bool = True) -> torch.Tensor:
        rows = caption_rows(train_, 8, augment=augment, seed=0)
        rows.set_epoch(epoch)
        return torch.cat([part["pixel_values"] for part in rows.collate(list(range(10)))["sides"][0]["parts"]])

    assert torch.equal(pixels(0), pixels(0))
    assert not torch.equal(pixels(0), pixels(1))
    assert not torch.equal(pixels(0), pixels(0, augment=False))


def test_a_killed_training_goes_on_to_the_same_weights(
    task: CaptionTask, models: tuple[Backbone, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(task, sides(models), tmp_path / "whole", augment=True)
    original, steps = ContrastTrainer.training_step, []

    def dies(self: ContrastTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 11:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ContrastTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(task, sides(models), tmp_path / "cut", augment=True)
    monkeypatch.undo()
    again = train(task, sides(models), tmp_path / "cut", augment=True)
    assert same(weights(whole), weights(again))
    assert [(p.step, p.loss, p.scale) for p in again.history] == [(p.step, p.loss, p.scale) for p in whole.history]


def test_lora_learns_beside_new_heads_and_is_merged(
    task: CaptionTask, models: tuple[Backbone, Backbone], tmp_path: Path
) -> None:
    pair = sides(models)
    towers = towers_of(*copy.deepcopy(pair), settings(lora=True))
    learning = {name for name, parameter in towers.named_parameters() if parameter.requires_grad}
    heads = {name for name in learning if "projections" in name}
    assert {name.partition(".base_model.model.")[2] for name in heads} == {"projections.0.0.weight"}
    assert len(heads) == 2
    assert all("lora_" in name for name in learning - heads - {"temperature.log_scale"})
    found = train(task, pair, tmp_path, lora=True)
    assert set(found.encoders[TEXT].state_dict()) == set(pair[1].encoder.state_dict())
    moved = [
        name
        for name, value in pair[1].encoder.state_dict().items()
        if not torch.equal(value, found.encoders[TEXT].state_dict()[name])
    ]
    assert "projections.0.0.weight" in moved
    assert any("attention" in name for name in moved)
    assert not any("LayerNorm" in name or "embeddings" in name for name in moved)


def test_a_side_that_nothing_learns_in_costs_the_other_nothing() -> None:
    torch.manual_seed(0)
    fixed, learning = torch.nn.Linear(4, 3).requires_grad_(requires_grad=False), torch.nn.Linear(5, 3)
    x, y = torch.randn(6, 4), torch.randn(6, 5)

    def loss(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, None]:
        return (first * second).sin().sum(), None

    loss(fixed(x), learning(y))[0].backward()
    wanted = learning.weight.grad.clone()
    for keep in (1, 3):
        learning.zero_grad()
        parts = [grad_cache.Side(fixed, list(x.split(2))), grad_cache.Side(learning, list(y.split(3)))]
        grad_cache.backward(parts, loss, keep=keep)
        torch.testing.assert_close(learning.weight.grad, wanted)
        assert fixed.weight.grad is None


def test_towers_that_do_not_fit(models: tuple[Backbone, Backbone]) -> None:
    vision, _ = sides(models)
    other = new_side(models[1], 8, hidden=False, locked=False, seed=0)
    with pytest.raises(ModelError, match="16 numbers, the text tower of 8"):
        check_sides(vision, other, learns_temperature=True)
    old = [old_side(backbone, locked=True) for backbone in models]
    old[1] = replace(old[0])
    with pytest.raises(SettingError, match="nothing would learn"):
        check_sides(old[0], old[1], learns_temperature=False)
    check_sides(old[0], old[1], learns_temperature=True)


def test_heads_are_drawn_by_their_seed_alone(models: tuple[Backbone, Backbone]) -> None:
    first = new_side(models[0], 16, hidden=True, locked=False, seed=1)
    for seed, equal in ((1, True), (2, False)):
        other = new_side(models[0], 16, hidden=True, locked=False, seed=seed)
        found = torch.equal(first.encoder.projections[1][0].weight, other.encoder.projections[1][0].weight)
        assert found is equal
    weight = first.encoder.projections[0][0].weight.detach()
    assert float(weight.std()) == pytest.approx(weight.shape[1] ** -0.5, rel=0.1)


def test_ranks_are_those_of_cosines(task: CaptionTask, models: tuple[Backbone, Backbone]) -> None:
    """Both directions against a loop."""
    pair = sides(models)
    encoded = encode(task.test, *pair)
    judge = Judge(encoded)
    images, texts = judge.vectors(pair[0].encoder, pair[1].encoder)
    part = task.test
    ranks, back = [], []
    rows = forward(pair[1].encoder, pair[1].preprocessor.encode({"text": part.captions})).features
    for row, image in enumerate(part.images.tolist()):
        scores = images @ rows[row]
        ranks.append(int((scores >= scores[image]).sum()))
    for image in range(len(part.pictures)):
        scores = rows @ images[image]
        own = part.images == image
        back.append(1 + int((scores[~own] >= scores[own].max()).sum()))
    found, reverse = judge.text_to_image(images, texts), judge.image_to_text(images, texts)
    assert found.reciprocal_rank.value == pytest.approx(float(np.mean(1 / np.array(ranks))), abs=1e-3)
    assert reverse.reciprocal_rank.value == pytest.approx(float(np.mean(1 / np.array(back))), abs=1e-3)
    places, rank = judge.found(images, texts, 0, 5)
    first = part.images[part.captions.index(encoded.asked.texts[0])]
    assert rank == ranks[part.captions.index(encoded.asked.texts[0])]
    assert (first in places) is (rank <= 5)
