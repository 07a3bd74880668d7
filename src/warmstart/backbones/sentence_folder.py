"""What a sentence-transformers folder states beyond its trunk: pooling, dense layers, normalisation, length, prompt.

A module that cannot stand between a trunk and a linear head is an error. The trunk itself is `load.py`'s.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from warmstart.core.errors import ModelError

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh", "GELU": "gelu", "ReLU": "relu"}


@dataclass(frozen=True)
class Stated:
    """What the folder states; all empty for a folder that is no sentence-transformers model."""

    trunk: str = ""  # subfolder of the transformer
    pooling: str = ""
    normalize: bool = False
    max_length: int | None = None
    prompt: str = ""
    projections: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)  # for an nn.ModuleList of the projections


def read(folder: Path) -> Stated:
    """Read modules.json and what it names.

    Raises:
        ModelError: for a module other than Transformer, Pooling, Dense, Normalize and Dropout.
    """
    if not (folder / "modules.json").is_file():
        return Stated()
    values: dict[str, Any] = {"projections": [], "weights": {}}
    for module in _json(folder / "modules.json"):
        kind = module["type"].rpartition(".")[2]
        place = folder / module["path"]
        if kind == "Transformer":
            values["trunk"] = module["path"]
            values["max_length"] = _max_length(place)
        elif kind == "Pooling":
            values["pooling"] = _pooling(place)
        elif kind == "Dense":
            _add_dense(place, values)
        elif kind == "Normalize":
            values["normalize"] = True
        elif kind != "Dropout":
            raise ModelError(
                f"The sentence-transformers model in {folder} has a module {kind}, which is not supported."
            )
    values["prompt"] = _prompt(folder)
    return Stated(**values)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error


def _max_length(place: Path) -> int | None:
    for name in ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_mpnet_config.json"):
        if (place / name).is_file():
            value = _json(place / name).get("max_seq_length")
            return None if value is None else int(value)
    return None


def _pooling(place: Path) -> str:
    values = _json(place / "config.json")
    mode = values.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else [name for key, name in _MODES.items() if values.get(key)]
    if len(modes) != 1 or modes[0] not in _MODES.values():
        raise ModelError(f"{place} pools by {modes}; one of {', '.join(_MODES.values())} is supported.")
    return str(modes[0])


def _add_dense(place: Path, values: dict[str, Any]) -> None:
    config = _json(place / "config.json")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS or config.get("use_residual"):
        what = "a residual connection" if config.get("use_residual") else f"the activation {activation}"
        raise ModelError(f"{place} uses {what}; supported: a dense layer with {', '.join(_ACTIVATIONS)}.")
    index = len(values["projections"])
    values["projections"].append(
        {
            "in_features": int(config["in_features"]),
            "out_features": int(config["out_features"]),
            "bias": bool(config.get("bias", True)),
            "activation": _ACTIVATIONS[activation],
        }
    )
    for name, tensor in _dense_weights(place).items():
        values["weights"][f"{index}.0.{name.removeprefix('linear.')}"] = tensor


def _dense_weights(place: Path) -> dict[str, torch.Tensor]:
    if (place / "model.safetensors").is_file():
        return load_file(place / "model.safetensors")
    if (place / "pytorch_model.bin").is_file():
        weights: dict[str, torch.Tensor] = torch.load(
            place / "pytorch_model.bin", map_location="cpu", weights_only=True
        )
        return weights
    raise ModelError(f"{place} is a dense layer without weights: no model.safetensors in it.")


def _prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return ""
    values = _json(path)
    name = values.get("default_prompt_name")
    prompts = values.get("prompts") or {}
    return str(prompts.get(name, "")) if name is not None else ""
