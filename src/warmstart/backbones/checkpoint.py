"""The files of one folder → configuration, trunk, tokenizer, image processor, classifier. Nothing is left at random.

Every failure is a `ModelError` that names the folder. What the parts become together is `load.py`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from warmstart.backbones.classifier import Classifier
from warmstart.core.errors import ModelError

_LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, StrictDataclassError)
_OTHER_VOCABULARIES = (".model", ".tiktoken", ".spm", "tekken.json")  # that transformers converts


def read_config(folder: Path, trust_remote_code: bool) -> PretrainedConfig:
    """The configuration in a folder."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except _LOAD_ERRORS as error:
        verb = _verb_of(folder)
        if verb:
            raise ModelError(f"{folder} is a result of {verb}: no encoder of texts or images.") from error
        hint = " It brings its own code: --trust-remote-code runs it." if "trust_remote_code" in str(error) else ""
        raise ModelError(
            f"The model in {folder} has no configuration that loads: {first_line(error)}.{hint}"
        ) from error


def _verb_of(folder: Path) -> str:
    """Which verb of warmstart wrote a folder; empty for none that says so."""
    try:
        found = json.loads((folder / "results.json").read_text(encoding="utf-8")).get("verb")
    except (OSError, ValueError, AttributeError):
        return ""
    return found if isinstance(found, str) else ""


def read_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a folder. Without its files, transformers would make one that knows no words: an error here."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except _LOAD_ERRORS as error:
        raise ModelError(f"The model in {folder} has no tokenizer that loads ({first_line(error)}).") from error
    names = set(type(tokenizer).vocab_files_names.values())
    found = {path.name for path in folder.iterdir()}
    if names and not names & found and not any(name.endswith(_OTHER_VOCABULARIES) for name in found):
        raise ModelError(f"The model in {folder} has no tokenizer: none of {', '.join(sorted(names))} is there.")
    return tokenizer


def read_image_processor(folder: Path, trust_remote_code: bool = False) -> Any:
    """The image processor in a folder, in the form that works through Pillow."""
    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=trust_remote_code)
    except _LOAD_ERRORS as error:
        raise ModelError(f"The model in {folder} has no image processor that loads ({first_line(error)}).") from error


def load_trunk(folder: Path, trust_remote_code: bool, pooling: str | None) -> PreTrainedModel:
    """The pretrained model without its head, in float32.

    A pooler that the checkpoint does not hold is removed, unless `pooling` asks for it.
    """
    trunk, info = _load(AutoModel, folder, trust_remote_code=trust_remote_code)
    missing = sorted(info["missing_keys"])
    forgiven = [] if pooling == "pooler" else [key for key in missing if key.startswith("pooler.")]
    _refuse_random(folder, [key for key in missing if key not in forgiven], info)
    if forgiven:
        trunk.pooler = None
    return trunk


def load_whole(loader: Any, folder: Path, **settings: Any) -> PreTrainedModel:
    """The pretrained model with the head that it was trained with, in float32.

    Args:
        loader: the auto class of its kind.
        folder: where the checkpoint is.
        settings: more for the loader.

    Raises:
        ModelError: when it does not load, or lacks any of its weights.
    """
    found, info = _load(loader, folder, **settings)
    absent = sorted(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
    if absent:
        raise ModelError(f"The checkpoint lacks weights of the head that it was trained with ({absent[0]}).")
    model: PreTrainedModel = found
    return model


def load_classifier(folder: Path) -> Classifier:
    """The classifier in a result folder."""
    model, info = _load(Classifier, folder)
    _refuse_random(folder, sorted(info["missing_keys"]), info)
    found: Classifier = model
    return found


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file: safetensors, or PyTorch's own format (never unpickling more than tensors)."""
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # zip, pickle and safetensors each have errors of their own
        raise ModelError(f"The weights in {path} are damaged or cut off: {first_line(error)}.") from error


def _load(loader: Any, folder: Path, **settings: Any) -> tuple[Any, dict[str, Any]]:
    try:
        model, info = loader.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **settings
        )
    except SafetensorError as error:
        raise ModelError(f"The weights in {folder} are damaged or cut off: {first_line(error)}.") from error
    except _LOAD_ERRORS as error:
        raise ModelError(f"The weights in {folder} do not load: {first_line(error)}.") from error
    return model, info


def _refuse_random(folder: Path, missing: list[str], info: dict[str, Any]) -> None:
    other_shape = sorted(key if isinstance(key, str) else str(key[0]) for key in info["mismatched_keys"])
    at_random = missing + [key for key in other_shape if key not in missing]
    if at_random:
        names = ", ".join(at_random[:4]) + (", …" if len(at_random) > 4 else "")
        raise ModelError(
            f"Part of the model in {folder} would be left at random: {len(at_random)} weights are missing or of "
            f"another shape ({names}). Use a complete checkpoint."
        )


def first_line(error: Exception) -> str:
    """What an error says, cut to its first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def weights_digest(*modules: nn.Module) -> str:
    """sha256 over names, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            if tensor.device.type != "meta":
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
