"""An image model's architecture with random weights: from a configuration alone, or in place of pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PretrainedConfig, ViTImageProcessorPil

from warmstart.backbones.checkpoint import first_line, read_config, read_image_processor
from warmstart.backbones.image_inputs import ImagePreprocessor
from warmstart.backbones.load import POOLING_KEY, Backbone, image_backbone, load_backbone
from warmstart.backbones.outline import is_outline
from warmstart.backbones.resolve import Source
from warmstart.backbones.sentence_folder import Stated
from warmstart.core.errors import ModelError

_SIZE = 224  # pixels, where neither the configuration nor the user says


def random_backbone(
    model: str,
    seed: int,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    image_size: int | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """An image backbone whose weights are drawn.

    Args:
        model: a configuration file, a folder with one and no weights, or whatever `load_backbone` takes.
        seed: of the weights.
        revision: see `load_backbone`.
        pooling: see `load_backbone`.
        image_size: side of the images, in pixels; position embeddings are made for it.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: not found, or no model of images.
    """
    if is_outline(model):
        path = Path(model).expanduser()
        config = read_config(path, trust_remote_code)
        processor, text = _processor(path, config, image_size, trust_remote_code), f"configuration {model}"
    else:
        known = load_backbone(
            model, revision=revision, pooling=pooling, image_size=image_size, trust_remote_code=trust_remote_code
        )
        if not isinstance(known.preprocessor, ImagePreprocessor):
            raise ModelError(f"{model} reads {known.kind}s, not images. Choose another --model.")
        config, processor = known.encoder.backbone.config, known.preprocessor.processor
        pooling, text = known.config.pooling, f"architecture of {known.card.source}"
    side = ImagePreprocessor(processor, image_size).size
    if getattr(config, "image_size", None) is not None:
        config.image_size = side
    trunk = _drawn(model, config, seed, trust_remote_code)
    stated = Stated(pooling=pooling or str(getattr(config, POOLING_KEY, "")))
    source = Source(model, "folder", Path(model), f"random weights, {text}")
    return image_backbone(source, trunk, processor, stated, image_size)


def _drawn(model: str, config: PretrainedConfig, seed: int, trust_remote_code: bool) -> Any:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            trunk = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever an architecture raises, the configuration is not one of a model
        raise ModelError(f"No model can be made from the configuration {model}: {first_line(error)}.") from error
    if getattr(trunk, "main_input_name", "input_ids") != "pixel_values":
        raise ModelError(f"{model} ({config.model_type}) reads texts, not images. Choose another --model.")
    return trunk.eval()


def _processor(path: Path, config: PretrainedConfig, image_size: int | None, trust_remote_code: bool) -> Any:
    """The processor beside a configuration; without one, squares of the configuration's size, from −1 to 1."""
    if (path / "preprocessor_config.json").is_file():
        return read_image_processor(path, trust_remote_code)
    own = getattr(config, "image_size", None)
    side = image_size if image_size is not None else own if isinstance(own, int) else _SIZE
    half = [0.5] * 3
    return ViTImageProcessorPil(size={"height": side, "width": side}, image_mean=half, image_std=half)
