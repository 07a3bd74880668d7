"""A model known by its configuration alone: its size and its shape, counted without any weights.

The modules are made on torch's `meta` device, where tensors have a shape and no content, so that a model of seventy
billion parameters costs next to nothing. Models with weights are `load.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig

from warmstart.backbones.checkpoint import first_line, read_config
from warmstart.core.errors import ModelError

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pth", ".pt")
_DEFAULT_TOKENS = 256
_NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Outline:
    """What a configuration says.

    Attributes:
        name: as the user gave it.
        architecture: class of the trunk.
        kind: "text" or "image".
        parameters: of the trunk.
        stored_bytes: of the same weights in the type that the configuration states.
        trunk: its modules, without content.
        layers, hidden, heads, inner: of a transformer; 0 where the configuration does not say.
        tokens: of the longest row that would be read.
    """

    name: str
    architecture: str
    kind: str
    parameters: int
    stored_bytes: int
    trunk: nn.Module
    layers: int
    hidden: int
    heads: int
    inner: int
    tokens: int


def is_outline(name: str) -> bool:
    """Whether a model is named by a configuration file, or by a folder that holds one and no weights."""
    path = Path(name).expanduser()
    if path.is_file():
        return path.suffix == ".json"
    if not (path / "config.json").is_file() or (path / "modules.json").is_file():
        return False
    return not any(file.suffix in _WEIGHTS for file in path.iterdir())


def read_outline(name: str, *, max_length: int | None = None, trust_remote_code: bool = False) -> Outline:
    """Count a model from its configuration.

    Args:
        name: a configuration file, or a folder that holds one.
        max_length: longest text, in tokens; what the model states, at most 256, by default.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: when it is no configuration of a model that transformers knows.
    """
    path = Path(name).expanduser()
    config = read_config(path, trust_remote_code)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder ({config.model_type}), which is not supported.")
    try:
        with torch.device("meta"):
            trunk = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever an architecture raises, the configuration is not one of a model
        raise ModelError(f"No model can be made from the configuration {name}: {first_line(error)}.") from error
    parameters = sum(parameter.numel() for parameter in trunk.parameters())
    shape = _text_part(config)
    return Outline(
        name=name,
        architecture=type(trunk).__name__,
        kind="image" if getattr(trunk, "main_input_name", "input_ids") == "pixel_values" else "text",
        parameters=parameters,
        stored_bytes=parameters * _stored(config, shape).itemsize,
        trunk=trunk,
        layers=_number(shape, "num_hidden_layers"),
        hidden=_number(shape, "hidden_size"),
        heads=_number(shape, "num_attention_heads"),
        inner=_number(shape, "intermediate_size"),
        tokens=_tokens(shape, max_length),
    )


def _text_part(config: PretrainedConfig) -> Any:
    return getattr(config, "text_config", None) or config


def _number(config: Any, name: str) -> int:
    value = getattr(config, name, 0)
    return value if isinstance(value, int) else 0


def _stored(config: Any, shape: Any) -> torch.dtype:
    for part in (config, shape):
        stated = getattr(part, "dtype", None)
        if isinstance(stated, str):
            stated = getattr(torch, stated, None)
        if isinstance(stated, torch.dtype):
            return stated
    return torch.float32


def _tokens(config: Any, asked: int | None) -> int:
    """Tokens of the longest row; of an image, its patches."""
    patch, side = _number(config, "patch_size"), _number(config, "image_size")
    if patch and side:
        return (side // patch) ** 2 + 1
    limit = _number(config, "max_position_embeddings") or _NO_LIMIT
    if asked is not None and asked > limit:
        raise ModelError(f"--max-length is {asked}, but the model reads at most {limit} tokens.")
    return min(limit, _DEFAULT_TOKENS) if asked is None else asked
