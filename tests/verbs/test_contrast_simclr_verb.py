"""`contrast simclr` end to end: the folder, AutoModel, adapting further, resuming, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images_data import LITE, VIT, pattern, write_images
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, ViTImageProcessorPil

import warmstart
from warmstart.backbones.efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel
from warmstart.backbones.embed import forward
from warmstart.backbones.groups import batch_norms
from warmstart.backbones.load import load_backbone
from warmstart.cli.main import run
from warmstart.contrastive.simclr import SimclrTrainer
from warmstart.core.contrast import ContrastRecord
from warmstart.core.errors import OutputError, ResultError, RoundTripError
from warmstart.core.files import digest
from warmstart.report.contrast import render_contrast, render_image_card
from warmstart.verbs import simclr_saving


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), 64)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vit") / "vit.json"
    path.write_text(json.dumps(VIT))
    return path


def arguments(images: Path, model: Path | str, out: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "images": str(images),
        "model": str(model),
        "from_scratch": True,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 24,
        "mini_batch_size": 12,
        "test_size": 0.25,
        "bf16": "false",
        "output_dir": str(out),
    }
    return {**values, **changes}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, images: Path, vit: Path) -> Path:
    """A finished training of a pooling that is not the trunk's own; tests must not change it."""
    out = tmp_path_factory.mktemp("simclr") / "out"
    warmstart.contrast_simclr(**arguments(images, vit, out, labels=True, pooling="mean"))
    return out


def vectors(folder: Path) -> np.ndarray:
    backbone = load_backbone(str(folder))
    inputs = backbone.preprocessor.encode({"image": [pattern(number) for number in range(3)]})
    return forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features


def test_the_folder_is_whole_and_the_head_is_gone(result: Path) -> None:
    record = ContrastRecord.from_json((result / "results.json").read_text())
    assert record.verb == "contrast simclr"
    assert record.data.sizes == {"train": 43, "validation": 5, "test": 16}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "report.html"} <= set(record.files)
    assert all(digest(result / name) == found for name, found in record.files.items())
    names = load_file(result / "model.safetensors").keys()
    assert names
    assert not any("projector" in name or "head" in name or "temperature" in name for name in names)
    assert ContrastRecord.from_json(record.to_json()) == record
    assert record.knn_before is not None
    assert record.knn_after is not None
    assert record.settings["crop_scale"] == 0.08
    assert record.settings["learning_rate"] == 1e-3
    assert not result.with_name("out.running").exists()


def test_automodel_loads_it_and_it_gives_the_same_vectors(result: Path) -> None:
    model = AutoModel.from_pretrained(result).eval()
    processor = AutoImageProcessor.from_pretrained(result, backend="pil")
    values = processor([pattern(number) for number in range(3)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        hidden = model(pixel_values=values).last_hidden_state.mean(1)
    np.testing.assert_allclose(hidden.numpy(), vectors(result), atol=2e-2)  # bytes are rounded once
    assert load_backbone(str(result)).config.pooling == "mean"
    kept = load_file(result / "verification.safetensors")
    assert set(kept) == {"images"}
    assert kept["images"].shape == (8, vectors(result).shape[1])


def test_it_was_trained(result: Path, vit: Path) -> None:
    from warmstart.backbones.random_start import random_backbone

    start = random_backbone(str(vit), 42, pooling="mean").encoder.backbone.state_dict()
    found = load_backbone(str(result)).encoder.backbone.state_dict()
    assert found.keys() == start.keys()
    changed = [name for name, value in found.items() if not torch.equal(value, start[name])]
    assert len(changed) > 0.8 * len(found)


def test_the_report_is_redrawn_from_the_record_alone(result: Path) -> None:
    record = ContrastRecord.from_json((result / "results.json").read_text())
    page = render_contrast(record)
    assert page.count("<svg") == 2
    assert page.count('src="data:image/jpeg;base64,') == 1
    for word in ("Images to learn from", "effective rank", "log N", "nearest labelled images", "two random views"):
        assert word in page
    assert "<script" not in page
    import dataclasses

    hostile = dataclasses.replace(record, views="https://example.org/x.png", knn_before=None)
    assert "example.org" not in render_contrast(hostile)
    assert "nearest labelled images" not in render_contrast(hostile)
    card = render_image_card(record, "pictures")
    assert 'library_name: "transformers"' in card
    assert "sentence" not in card


def test_the_result_adapts_further_and_lists_its_groups(result: Path, images: Path, tmp_path: Path) -> None:
    found = warmstart.adapt(
        data=str(images),
        model=str(result),
        strategy="linear_probe",
        reference_data="none",
        cache_dir=str(tmp_path / "cache"),
        output_dir=str(tmp_path / "adapted"),
    )
    assert found.record.backbone.pooling == "mean"
    assert found.record.run_of("linear_probe").test is not None
    table = warmstart.groups(model=str(result))
    assert table.rows[0].group == "embeddings"
    with pytest.raises(ResultError, match="contrast simclr"):
        warmstart.load(result)


def test_a_pretrained_network_keeps_its_statistics_and_learns(images: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = EfficientNetLiteModel(EfficientNetLiteConfig(**LITE))
    for norm in batch_norms(network):
        norm.running_mean.normal_()  # as if it had learned
    network.save_pretrained(tmp_path / "lite")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "lite")
    out = tmp_path / "out"
    record = warmstart.contrast_simclr(
        **arguments(images, tmp_path / "lite", out, from_scratch=False, max_steps=2)
    ).record
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "lite", out))
    assert before.keys() == after.keys()
    for name, value in before.items():
        if "running" in name:
            assert torch.equal(value, after[name])
        elif value.ndim > 1:
            assert not torch.equal(value, after[name])
    rates = [row.learning_rate for row in record.groups if row.group != "head"]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[0] < rates[-1]


def test_a_saved_model_that_differs_leaves_no_result(
    images: Path, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = simclr_saving.check_vectors

    def spoil(folder: Path, **given: Any) -> float:
        config = json.loads((folder / "config.json").read_text())
        config["warmstart_pooling"] = "max"
        (folder / "config.json").write_text(json.dumps(config))
        return original(folder, **given)

    monkeypatch.setattr(simclr_saving, "check_vectors", spoil)
    with pytest.raises(RoundTripError, match="image processor"):
        warmstart.contrast_simclr(**arguments(images, vit, tmp_path / "out", max_steps=1))
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_is_resumed_with_the_same_options_only(
    images: Path, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, steps = SimclrTrainer.training_step, []

    def dies(self: SimclrTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SimclrTrainer, "training_step", dies)
    values = arguments(images, vit, tmp_path / "out", num_train_epochs=4)
    with pytest.raises(KeyboardInterrupt):
        warmstart.contrast_simclr(**values)
    monkeypatch.undo()
    with pytest.raises(OutputError, match="--resume"):
        warmstart.contrast_simclr(**values)
    with pytest.raises(OutputError, match="temperature"):
        warmstart.contrast_simclr(**{**values, "temperature": 0.2}, resume=True)
    record = warmstart.contrast_simclr(**values, resume=True).record
    assert record.steps == 8
    with pytest.raises(OutputError, match="--overwrite"):
        warmstart.contrast_simclr(**values)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such folder": ({"images": "absent"}, "absent"),
    "no such model": ({"model": "absent.json"}, "absent.json"),
    "no weights": ({"from_scratch": False}, "--from-scratch"),
    "a text model": ({"model": "TEXT"}, "texts"),
    "crop": ({"crop_scale": 1.5}, "--crop-scale"),
    "jitter": ({"color_jitter": -1}, "--color-jitter"),
    "blur": ({"blur": 2}, "--blur"),
    "augmentation": ({"augmentation": "wild"}, "--augmentation"),
    "temperature": ({"temperature": 0}, "--temperature"),
    "rates of no group": ({"group_rates": "layer.99=1e-4"}, "layer.99"),
    "batch of one": ({"per_device_train_batch_size": 1}, "--per-device-train-batch-size"),
    "image size": ({"image_size": 8}, "--image-size"),
    "projection": ({"projection_dim": 1}, "--projection-dim"),
    "adapters on random weights": ({"lora": True}, "--lora"),
    "length of images": ({"max_length": 64}, "--max-length"),
    "too few": ({"test_size": 63}, "--test-size"),
    "labels of a column": ({"label_column": "kind"}, "--label-column"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    name: str, tmp_path: Path, images: Path, vit: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, word = BAD[name]
    values = {**arguments(images, vit, tmp_path / "out"), **changes}
    flags = []
    for option, value in values.items():
        given = str(tiny_model) if value == "TEXT" else str(value)
        if value is False:
            continue
        flags += [f"--{option.replace('_', '-')}"] if value is True else [f"--{option.replace('_', '-')}", given]
    with pytest.raises(SystemExit) as stop:
        run(["contrast", "simclr", *flags])
    said = capsys.readouterr().err
    assert stop.value.code == 2, said
    assert word in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.running").exists()


@pytest.mark.real
def test_packaged_weights(images: Path, tmp_path: Path) -> None:
    """EfficientNet-Lite0 on patterns that it has never seen: views find each other better after a few steps."""
    out = tmp_path / "out"
    changes = {"from_scratch": False, "image_size": 32, "max_steps": 6, "learning_rate": 5e-4}
    record = warmstart.contrast_simclr(**arguments(images, "EfficientNet-Lite0", out, **changes)).record
    assert record.backbone.source.startswith("package")
    assert vectors(out).shape == (3, 1280)
    losses = [point.loss for point in record.history if point.loss is not None]
    assert losses[-1] < losses[0]
