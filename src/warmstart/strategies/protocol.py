"""What every strategy receives and gives back, and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from peft import PeftModel

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.load import Backbone
from warmstart.backbones.text_inputs import Inputs, Subset
from warmstart.core.clock import Clock
from warmstart.core.records import GroupRow, Modality, Point, RateSearch, Remedy
from warmstart.train.class_weights import balanced_class_weights
from warmstart.train.forgetting import Reference
from warmstart.train.unfreezing import Unfreezing


@dataclass(frozen=True)
class Rows:
    """Encoded rows with their labels, and their pretrained features when they are known."""

    inputs: Inputs
    labels: np.ndarray  # (rows,)
    features: np.ndarray  # (rows, width), of the pretrained model
    groups: np.ndarray | None = None  # (rows,); rows of one group are held out together

    def take(self, chosen: np.ndarray) -> Rows:
        """The rows at some places."""
        groups = None if self.groups is None else self.groups[chosen]
        return Rows(Subset(self.inputs, chosen), self.labels[chosen], self.features[chosen], groups)


@dataclass(frozen=True)
class Settings:
    """What a strategy is told; the typed form of a Plan's settings."""

    learning_rate: float
    find_rate: bool  # search for the learning rate, starting from `learning_rate`
    layer_decay: float
    head_learning_rate: float
    group_rates: dict[str, float]
    unfreezing: Unfreezing
    num_train_epochs: float
    max_steps: int | None
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    weight_decay: float
    l2_sp: float
    ema_decay: float
    wise_alpha: float | None  # share of the adapted weights in the result; None: all, or found when `find_alpha`
    find_alpha: bool
    max_forgetting: float | None
    warmup_steps: float
    label_smoothing_factor: float
    class_weights: str
    early_stopping_patience: int | None
    metric: str
    bf16: bool
    gradient_checkpointing: bool
    cache_gb: float
    augment: bool
    r: int
    lora_alpha: int
    lora_dropout: float
    target_modules: str
    report_to: tuple[str, ...]
    templates: tuple[str, ...]  # for zero-shot, with {} for the name; none for the modality's own


@dataclass(frozen=True)
class Context:
    """Everything a strategy may use."""

    backbone: Backbone
    modality: Modality
    labels: tuple[str, ...]
    fit: Rows
    validation: Rows
    settings: Settings
    seed: int
    work: Path  # checkpoints go here; what is there already is gone on from
    clock: Clock
    reserve: float  # seconds to keep for what follows
    progress: Callable[[int, int, str], None] | None = None
    reference: Reference | None = None  # rows that have nothing to do with the task, seen by the original

    def class_weights(self) -> np.ndarray | None:
        """Inverse frequencies, (classes,), averaging 1 over the rows; None when classes are not weighed."""
        if self.settings.class_weights == "none":
            return None
        return balanced_class_weights(self.fit.labels, len(self.labels))


@dataclass(frozen=True)
class Outcome:
    """What a strategy gives: a plain classifier, and how it came about."""

    model: Classifier
    trainable: int
    note: str = ""
    stopped: bool = False
    history: tuple[Point, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    settings: dict[str, Any] | None = None
    adapter: PeftModel | None = None
    remedies: tuple[Remedy, ...] = ()
    rate_search: RateSearch | None = None


class Strategy(Protocol):
    """One way to adapt a backbone."""

    def __call__(self, context: Context) -> Outcome:
        """Adapt.

        Raises:
            StrategyNotPossibleError: when this strategy cannot work on this backbone or data, saying why.
        """
