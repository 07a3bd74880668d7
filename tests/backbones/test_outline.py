"""Models by their configuration alone: counted as loading them would, and only when there are no weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as tf
from tiny import TINY

from warmstart.backbones.outline import is_outline, read_outline
from warmstart.core.errors import ModelError


@pytest.mark.parametrize("name", ["bert", "deberta_v2", "llama", "gemma3", "vit", "convnext", "efficientnet_lite"])
def test_counts_what_a_real_model_has(name: str, tmp_path: Path) -> None:
    model = TINY[name]()
    model.config.save_pretrained(tmp_path)
    assert is_outline(str(tmp_path))
    found = read_outline(str(tmp_path))
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.stored_bytes == 4 * found.parameters
    assert found.architecture == type(model).__name__
    assert found.kind == ("image" if name in ("vit", "convnext", "efficientnet_lite") else "text")
    assert {p.device for p in found.trunk.parameters()} == {torch.device("meta")}


def test_seventy_billion_parameters_without_weights(llama_70b: Path) -> None:
    assert is_outline(str(llama_70b))
    found = read_outline(str(llama_70b))
    per_layer = 8192 * (8192 + 2 * 1024 + 8192) + 3 * 8192 * 28672 + 2 * 8192
    assert found.parameters == 80 * per_layer + 128256 * 8192 + 8192
    assert found.stored_bytes == 2 * found.parameters
    assert (found.layers, found.hidden, found.heads, found.inner, found.tokens) == (80, 8192, 64, 28672, 256)
    assert read_outline(str(llama_70b), max_length=1000).tokens == 1000
    with pytest.raises(ModelError, match="at most 131072"):
        read_outline(str(llama_70b), max_length=200_000)


def test_a_folder_with_weights_is_no_outline(tiny_model: Path, tmp_path: Path) -> None:
    assert not is_outline(str(tiny_model))
    assert not is_outline("sentence-transformers/all-MiniLM-L6-v2")
    assert not is_outline(str(tmp_path))


@pytest.mark.parametrize("content", ["{}", "not json", '{"model_type": "nothing-known"}'])
def test_what_is_no_configuration_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"model\.json"):
        read_outline(str(path))


def test_encoder_decoders_are_refused(tmp_path: Path) -> None:
    tf.T5Config(num_layers=1, d_model=8, d_ff=8, num_heads=1).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="encoder-decoder"):
        read_outline(str(tmp_path))


def test_patches_are_the_tokens_of_an_image(tmp_path: Path) -> None:
    TINY["vit"]().config.save_pretrained(tmp_path)
    assert read_outline(str(tmp_path)).tokens == 5  # 16 pixels in patches of 8, and the class token
