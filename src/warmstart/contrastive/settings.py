"""How a contrastive training is set up, whichever trainer it is: from options to typed settings and arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import has_fast_bf16
from warmstart.contrastive.mining import MiningPlan
from warmstart.contrastive.temperature import Temperature
from warmstart.core.contrast_options import ContrastCoreOptions, MiningOptions
from warmstart.core.errors import SettingError
from warmstart.train.arguments import Length, training_arguments
from warmstart.train.lora import choose_targets, inject
from warmstart.train.rates import RatePlan
from warmstart.train.unfreezing import ALL_OPEN, Unfreezing, parse_group_rates, parse_unfreezing

_SHOWN = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "mini_batch_size",
    "temperature",
    "learn_temperature",
    "direction",
    "learning_rate",
    "layer_decay",
    "weight_decay",
    "warmup_steps",
    "dropout",
    "matryoshka_dims",
    "lock",
    "augmentation",
    "from_scratch",
    "time_budget",
)
_MINED = ("num_negatives", "range_min", "range_max", "absolute_margin", "relative_margin")
_RATES = ("attention_dropout", "activation_dropout", "dropout")  # where a module keeps a number of its own


@dataclass(frozen=True)
class ContrastSettings:
    """Typed settings of a training: what the options say, checked against each other."""

    options: ContrastCoreOptions
    rates: RatePlan
    bf16: bool
    seed: int

    def temperature(self) -> Temperature:
        """A fresh temperature."""
        return Temperature(self.options.temperature, learnable=self.options.learn_temperature)

    def arguments(self, folder: Path, rows: int, device: torch.device) -> TrainingArguments:
        """Transformers' arguments for a number of training pairs."""
        options = self.options
        return training_arguments(
            folder,
            Length(options.num_train_epochs, options.max_steps, options.per_device_train_batch_size, 1),
            rows,
            seed=self.seed,
            bf16=self.bf16,
            report_to=() if options.report_to == "none" else tuple(options.report_to.split(",")),
            metric_evaluations=options.evaluations,
            device=device,
        )

    def adapted(self, encoder: Classifier, new: Sequence[str] = ()) -> nn.Module:
        """The encoder with everything open, or inside of LoRA, and with the dropout that is asked for.

        Args:
            encoder: what is trained; it is changed.
            new: dotted names of what was not pretrained, and learns whole beside LoRA.
        """
        if self.options.dropout is not None:
            set_dropout(encoder, self.options.dropout)
        if not self.options.lora:
            return encoder
        options = self.options
        found = choose_targets(encoder, options.target_modules)
        targets = [name for name in found if not name.startswith(tuple(f"{path}." for path in new))]
        wrapped: nn.Module = inject(encoder, targets, options.r, options.lora_alpha, options.lora_dropout)
        for path in new:
            encoder.get_submodule(path).requires_grad_(requires_grad=True)
        return wrapped

    def shown(self) -> dict[str, Any]:
        """What a report tells of the settings."""
        values = asdict(self.options)
        names = [name for name in _SHOWN if name != "num_train_epochs" or self.options.max_steps is None]
        names += ["r", "lora_alpha"] if self.options.lora else []
        names += _MINED if values.get("num_negatives") else ()
        return {name: values[name] for name in names if values.get(name) is not None} | {"bf16": self.bf16}


def set_dropout(model: nn.Module, rate: float) -> None:
    """Give every dropout of a model one rate, those of its attention included."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = rate
        for name in _RATES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)


def settings_from(options: ContrastCoreOptions, seed: int, device: torch.device) -> ContrastSettings:
    """Settings from options.

    Raises:
        SettingError: options contradict each other.
    """
    rates = RatePlan(
        learning_rate=options.learning_rate,
        layer_decay=options.layer_decay,
        head_learning_rate=options.head_learning_rate,
        weight_decay=options.weight_decay,
        warmup=options.warmup_steps,
        unfreezing=_unfreezing(options),
        group_rates=parse_group_rates(options.group_rates),
    )
    bf16 = has_fast_bf16(device) if options.bf16 == "auto" else options.bf16 == "true"
    found = ContrastSettings(options, rates, bf16, seed)
    found.temperature()
    return found


def _unfreezing(options: ContrastCoreOptions) -> Unfreezing:
    return ALL_OPEN if options.unfreeze == "all" else parse_unfreezing(options.unfreeze, options.unfreeze_patience)


def mining_plan(options: MiningOptions) -> MiningPlan | None:
    """Which hard negatives to search for; None for none.

    Raises:
        SettingError: the filters leave nothing.
    """
    if options.num_negatives == 0:
        return None
    plan = MiningPlan(
        num_negatives=options.num_negatives,
        range_min=options.range_min,
        range_max=options.range_max,
        absolute_margin=options.absolute_margin,
        relative_margin=options.relative_margin,
    )
    plan.check()
    return plan


def parse_dimensions(text: str | None, width: int) -> tuple[int, ...]:
    """From "256,64" to dimensions, the longest first.

    Raises:
        SettingError: one is no whole number between 1 and the width, or it is the width itself.
    """
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 0 < int(part) < width for part in parts) or len(set(parts)) < len(parts):
        raise SettingError(
            f"--matryoshka-dims is {text!r}; it must be different whole numbers below {width}, comma-separated."
        )
    return tuple(sorted((int(part) for part in parts), reverse=True))
