"""LoRA (arXiv 2106.09685) through peft: which modules, injecting, and merging back. W' = W + (alpha / r) · B A."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from warmstart.backbones.classifier import Classifier
from warmstart.core.errors import SettingError, StrategyNotPossibleError


def linear_modules(model: nn.Module) -> tuple[str, ...]:
    """Dotted names of every linear layer below the head, and of every convolution that is not depthwise."""
    found = []
    for name, module in model.named_modules():
        if name == "head" or name.startswith("head."):
            continue
        plain_convolution = isinstance(module, nn.Conv2d) and module.groups == 1
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D" or plain_convolution:
            found.append(name)
    return tuple(found)


def lora_size(model: nn.Module, targets: Sequence[str], r: int) -> int:
    """Parameters that LoRA of a rank adds to some modules: r · (in + out) each, a convolution's kernel counted with in.

    Args:
        model: what the modules are of; their weights may be without content.
        targets: dotted names, as `linear_modules` gives them.
        r: rank.
    """
    total = 0
    for name in targets:
        shape = model.get_parameter(f"{name}.weight").shape  # (out, in), or (out, in, height, width)
        total += r * (shape[0] + math.prod(shape[1:]))
    return total


def choose_targets(model: nn.Module, target_modules: str) -> tuple[str, ...]:
    """Full names of the modules that get LoRA.

    Args:
        model: the classifier.
        target_modules: "all-linear", or comma-separated names or endings of names, as peft takes them.

    Raises:
        SettingError: when a name matches no module that LoRA can adapt.
        StrategyNotPossibleError: when the model has no such module at all.
    """
    available = linear_modules(model)
    if not available:
        raise StrategyNotPossibleError("LoRA needs linear or convolutional layers; this model has none below its head.")
    if target_modules == "all-linear":
        return available
    chosen: list[str] = []
    for wanted in (part.strip() for part in target_modules.split(",")):
        matches = [name for name in available if name == wanted or name.endswith(f".{wanted}")]
        if not matches:
            endings = sorted({name.rpartition(".")[2] for name in available})
            raise SettingError(f"--target-modules: no module is called {wanted!r}; there are {', '.join(endings)}.")
        chosen.extend(matches)
    return tuple(dict.fromkeys(chosen))


def inject(model: Classifier, targets: Sequence[str], r: int, lora_alpha: int, lora_dropout: float) -> PeftModel:
    """Wrap the classifier: its base frozen, LoRA on the targets, the head trained and saved with the adapter."""
    config = LoraConfig(
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=list(targets),
        modules_to_save=["head"],
        task_type=None,
    )
    return get_peft_model(model, config)


def merge(wrapped: PeftModel) -> Classifier:
    """A plain classifier with the adapter added into its weights; the wrapped model is left as it was."""
    merged = copy.deepcopy(wrapped).merge_and_unload()
    if not isinstance(merged, Classifier):
        raise TypeError(f"merging gave a {type(merged).__name__}")
    return merged


def save_adapter(wrapped: PeftModel, folder: Path, base_name: str) -> None:
    """Write the adapter with its head: adapter_model.safetensors and adapter_config.json."""
    for config in wrapped.peft_config.values():
        config.base_model_name_or_path = base_name
    wrapped.save_pretrained(folder, save_embedding_layers=False)  # the default asks the Hub about the vocabulary


def load_adapter(base: Classifier, folder: Path) -> PeftModel:
    """Put a saved adapter on a fresh classifier of the same base and labels."""
    return PeftModel.from_pretrained(base, folder)
