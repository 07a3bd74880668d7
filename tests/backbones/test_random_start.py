"""Architectures with random weights: from a configuration, from a folder, from a model with weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import saved
import torch

from warmstart.backbones.image_inputs import ImagePreprocessor
from warmstart.backbones.load import load_backbone
from warmstart.backbones.random_start import random_backbone
from warmstart.core.errors import ModelError

VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(VIT))
    return path


def test_a_configuration_file_is_enough(config: Path) -> None:
    first, again, other = (random_backbone(str(config), seed) for seed in (0, 0, 1))
    assert first.card.digest == again.card.digest != other.card.digest
    assert first.kind == "image"
    assert first.config.pooling == "cls"
    assert "random weights" in first.card.source
    assert isinstance(first.preprocessor, ImagePreprocessor)
    assert first.preprocessor.size == 16
    assert first.preprocessor.mean == first.preprocessor.std == (0.5, 0.5, 0.5)
    assert random_backbone(str(config), 0, pooling="mean").config.pooling == "mean"


def test_positions_are_made_for_the_size_that_is_asked_for(config: Path) -> None:
    found = random_backbone(str(config), 0, image_size=32)
    assert found.encoder.backbone.config.image_size == 32
    assert not found.config.interpolate_positions
    assert found.preprocessor.describe()["size"] == 32
    assert found.encoder.features(pixel_values=torch.zeros(1, 3, 32, 32)).shape == (1, 16)


@pytest.mark.parametrize("name", ["vit", "resnet", "convnext", "efficientnet_lite", "dinov2"])
def test_a_model_with_weights_lends_its_architecture_and_processor(name: str, tmp_path: Path) -> None:
    saved.save(name, tmp_path)
    known, found = load_backbone(str(tmp_path)), random_backbone(str(tmp_path), 0)
    assert found.card.architecture == known.card.architecture
    assert found.card.parameters == known.card.parameters
    assert found.config.pooling == known.config.pooling
    assert found.card.preprocessing == known.card.preprocessing
    assert found.card.digest != known.card.digest


def test_a_folder_without_weights_brings_its_processor(tmp_path: Path) -> None:
    saved.save("convnext", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    found = random_backbone(str(tmp_path), 0)
    assert found.preprocessor.describe()["processor"] == "ConvNextImageProcessorPil"


def test_what_reads_no_images_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="reads texts"):
        random_backbone(str(tiny_model), 0)
    text = tmp_path / "text.json"
    text.write_text((tiny_model / "config.json").read_text())
    with pytest.raises(ModelError, match="reads texts"):
        random_backbone(str(text), 0)
    text.write_text('{"model_type": "no such thing"}')
    with pytest.raises(ModelError, match="configuration"):
        random_backbone(str(text), 0)
    text.write_text(json.dumps({**VIT, "patch_size": 0}))
    with pytest.raises(ModelError, match="No model can be made"):
        random_backbone(str(text), 0)
