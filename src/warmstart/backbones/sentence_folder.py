"""What a sentence-transformers folder states beyond its trunk: pooling, dense layers, normalisation, length, prompt.

`read` takes it from a folder, `write` puts it beside a trunk that was saved there. A module that cannot stand between a
trunk and a linear head is an error. The trunk itself is `load.py`'s.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from warmstart.backbones.checkpoint import load_tensors
from warmstart.core.errors import ModelError
from warmstart.core.files import write_text

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_BESIDE = "cls+mean"
_POOLINGS = (*_MODES.values(), _BESIDE)
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
_ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh", "GELU": "gelu", "ReLU": "relu"}


@dataclass(frozen=True)
class Stated:
    """What the folder states; all empty for a folder that is no sentence-transformers model."""

    trunk: str = ""  # subfolder of the transformer
    pooling: str = ""
    normalize: bool = False
    max_length: int | None = None
    lower_case: bool = False
    prompt: str = ""
    projections: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)  # for an nn.ModuleList of the projections


def read(folder: Path) -> Stated:
    """Read modules.json and what it names.

    Raises:
        ModelError: for a module other than Transformer, Pooling, Dense, Normalize and Dropout, for another order of
            these, and for a setting of one that is not supported.
    """
    if not (folder / "modules.json").is_file():
        return Stated()
    values: dict[str, Any] = {"projections": [], "weights": {}}
    values["prompt"] = _prompt(folder)
    modules = [(module["type"].rpartition(".")[2], module["path"]) for module in _json(folder / "modules.json")]
    _check_order(folder, [kind for kind, _ in modules])
    for kind, path in modules:
        place = folder / path
        if kind == "Transformer":
            values["trunk"] = path
            _add_transformer(place, values)
        elif kind == "Pooling":
            values["pooling"] = _pooling(place, bool(values["prompt"]))
        elif kind == "Dense":
            _add_dense(place, values)
        elif kind == "Normalize":
            values["normalize"] = True
    return Stated(**values)


def _check_order(folder: Path, kinds: list[str]) -> None:
    """Transformer, Pooling, then dense layers, then perhaps Normalize; Dropout does nothing to features."""
    unknown = [kind for kind in kinds if kind not in _ORDER and kind != "Dropout"]
    if unknown:
        raise ModelError(
            f"The sentence-transformers model in {folder} has a module {unknown[0]}, which is not supported."
        )
    places = [_ORDER.index(kind) for kind in kinds if kind != "Dropout"]
    if places != sorted(places) or any(kinds.count(kind) != 1 for kind in _ORDER[:2]):
        raise ModelError(
            f"The sentence-transformers model in {folder} has the modules {', '.join(kinds)}; supported: "
            "Transformer, Pooling, dense layers, Normalize, in this order."
        )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error


def _add_transformer(place: Path, values: dict[str, Any]) -> None:
    for path in sorted(place.glob("sentence_*_config.json")):
        config = _json(path)
        length = config.get("max_seq_length")
        values["max_length"] = None if length is None else int(length)
        values["lower_case"] = bool(config.get("do_lower_case", False))


def lower_case(tokenizer: Any) -> None:
    """Have a tokenizer lower its texts first; saved with it, for tokenizers with a backend."""
    from tokenizers import normalizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        tokenizer.do_lower_case = True
        return
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])


def _pooling(place: Path, prompted: bool) -> str:
    values = _json(place / "config.json")
    mode = values.get("pooling_mode")
    if mode is None:
        modes = [name for key, name in _MODES.items() if values.get(key)] or ["mean"]
    else:
        modes = [mode] if isinstance(mode, str) else list(mode)
    if prompted and not values.get("include_prompt", True):
        raise ModelError(f"{place} leaves its prompt out of the pooling (include_prompt), which is not supported.")
    if set(modes) == set(_BESIDE.split("+")):  # in this order, whatever the file's
        return _BESIDE
    if len(modes) != 1 or modes[0] not in _MODES.values():
        raise ModelError(f"{place} pools by {modes}; one of {', '.join(_POOLINGS)} is supported.")
    return str(modes[0])


def _add_dense(place: Path, values: dict[str, Any]) -> None:
    config = _json(place / "config.json")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS or config.get("use_residual"):
        what = "a residual connection" if config.get("use_residual") else f"the activation {activation}"
        raise ModelError(f"{place} uses {what}; supported: a dense layer with {', '.join(_ACTIVATIONS)}.")
    reads = [config.get(name) for name in ("module_input_name", "module_output_name")]
    if any(name not in (None, "sentence_embedding") for name in reads):
        raise ModelError(f"{place} works on {reads[0]}; only a dense layer on the sentence embedding is supported.")
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
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (place / name).is_file():
            return load_tensors(place / name)
    raise ModelError(f"{place} is a dense layer without weights: no model.safetensors in it.")


def _prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return ""
    values = _json(path)
    name = values.get("default_prompt_name")
    prompts = values.get("prompts") or {}
    return str(prompts.get(name, "")) if name is not None else ""


def write(folder: Path, stated: Stated) -> None:
    """Write what `read` reads, so that sentence-transformers loads the folder: trunk and tokenizer are there already.

    Args:
        folder: with the trunk's config.json and weights, and its tokenizer, at the top.
        stated: pooling, dense layers, normalisation, length and prompt; a lower-casing tokenizer does that itself.

    Raises:
        ModelError: sentence-transformers has no such pooling.
    """
    if stated.pooling not in _POOLINGS:
        raise ModelError(
            f"sentence-transformers cannot pool by {stated.pooling}: use --pooling {', '.join(_POOLINGS)}."
        )
    width = int(stated.projections[0]["in_features"]) if stated.projections else _width(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [(f"{place + 2}_Dense", "Dense") for place in range(len(stated.projections))]
    if stated.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    _write_json(
        folder / "modules.json",
        [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (path, kind) in enumerate(modules)
        ],
    )
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": stated.max_length, "do_lower_case": False})
    flags = {key: name in stated.pooling.split("+") for key, name in _MODES.items()}
    _write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **flags, "include_prompt": True}
    )
    for place, spec in enumerate(stated.projections):
        _write_dense(folder / f"{place + 2}_Dense", spec, stated.weights, place)
    prompt = {"prompts": {"default": stated.prompt}, "default_prompt_name": "default"} if stated.prompt else {}
    _write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine", **prompt})


def _write_dense(place: Path, spec: dict[str, Any], weights: dict[str, torch.Tensor], number: int) -> None:
    from safetensors.torch import save_file

    names = {kind: name for name, kind in _ACTIVATIONS.items()}
    module = "linear" if spec["activation"] == "identity" else "activation"
    _write_json(
        place / "config.json",
        {
            "in_features": spec["in_features"],
            "out_features": spec["out_features"],
            "bias": spec["bias"],
            "activation_function": f"torch.nn.modules.{module}.{names[spec['activation']]}",
        },
    )
    prefix = f"{number}.0."
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    save_file({f"linear.{name}": value.contiguous() for name, value in own.items()}, place / "model.safetensors")


def _width(folder: Path) -> int:
    from transformers import AutoConfig

    from warmstart.backbones.classifier import trunk_width

    return trunk_width(AutoConfig.from_pretrained(folder))


def _write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(values, indent=2) + "\n")
