"""Weights that published packages carry in a form of their own: EfficientNet-Lite0's checkpoint and a GGUF decoder."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, ViTImageProcessorPil

from warmstart.backbones.efficientnet_lite import (
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
    state_dict_from_package,
)
from warmstart.backbones.resolve import cache_root
from warmstart.core.errors import ModelError


def efficientnet_lite0(path: Path) -> tuple[PreTrainedModel, Any]:
    """The ImageNet trunk of EfficientNet-Lite0, and its preprocessing: (x − 127) / 128 on RGB bytes."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    state, _ = state_dict_from_package(weights)
    trunk = EfficientNetLiteModel(EfficientNetLiteConfig())
    trunk.load_state_dict(state)
    processor = ViTImageProcessorPil(
        size={"height": 224, "width": 224},
        resample=3,  # bicubic
        rescale_factor=1 / 128,
        image_mean=[127 / 128] * 3,
        image_std=[1.0] * 3,
    )
    return trunk, processor


def gguf_decoder(package: Path) -> tuple[PreTrainedModel, Any]:
    """A decoder from the GGUF file that a package carries in parts, dequantised by transformers to float32.

    Raises:
        ModelError: see `gguf_file`.
    """
    file = gguf_file(package)
    trunk = AutoModel.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    return trunk, _gguf_tokenizer(file)


def _gguf_tokenizer(file: Path) -> Any:
    """The tokenizer of a GGUF file. Making it takes half a minute for 262,144 tokens, so it is kept beside the file."""
    kept = file.with_name(f"{file.stem}-tokenizer-{transformers.__version__}")
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(dir=file.parent) as place:
            part = Path(place) / kept.name
            AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(part)
            with contextlib.suppress(OSError):  # another process has just made the same
                part.rename(kept)
    return AutoTokenizer.from_pretrained(kept)


def gguf_file(package: Path) -> Path:
    """The file that a package carries in parts, put together in the cache.

    Args:
        package: folder of the package, whose module assembles the file and checks its digest.

    Raises:
        ModelError: when a part or the reader is missing.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ModelError("Reading a GGUF file needs the package gguf: pip install 'warmstart[offline-llm]'.")
    module = importlib.import_module(package.name)
    target: Path = cache_root() / "gguf" / module.MODEL_NAME
    try:
        module.assemble(target)
    except (ImportError, FileNotFoundError) as error:
        raise ModelError(f"The packages with the parts of {package.name} are not all installed: {error}.") from error
    return target
