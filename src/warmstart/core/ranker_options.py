"""Options of `ranker`."""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.errors import SettingError
from warmstart.core.option import check_options, option, required
from warmstart.core.options import OutputOptions


@dataclass(frozen=True, kw_only=True)
class RankerTrainOptions:
    """How to build and train a ranker."""

    width: int = option(64, "Length of the transformer's states.")
    layers: int = option(1, "Blocks of the transformer that reads the history and the candidates.")
    heads: int = option(4, "Attention heads of a block.")
    max_history: int = option(50, "How many of the latest items of a history are read.")
    dropout: float = option(0.2, "Dropout in the transformer.")
    learning_rate: float = option(1e-3, "Peak rate.")
    weight_decay: float = option(0.01, "Decoupled weight decay; never on norms and biases.")
    warmup_steps: float = option(0.1, "Warm-up: a fraction of the steps below 1, or a count.")
    num_train_epochs: float = option(10.0, "Passes over the lists.")
    max_steps: int | None = option(None, "Optimizer steps, instead of --num-train-epochs.")
    per_device_train_batch_size: int = option(64, "Lists per step.")
    early_stopping_patience: int | None = option(None, "Stop after this many evaluations without improvement.")
    evaluations: int = option(10, "How often to judge by the questions kept for choosing, and to keep a checkpoint.")
    report_to: str = option("none", "Trainer's experiment trackers, comma-separated.")
    time_budget: float | None = option(
        None, "Seconds for the whole run; training stops inside it and keeps the best checkpoint."
    )


@dataclass(frozen=True, kw_only=True)
class RankerOptions(OutputOptions, RankerTrainOptions):
    """Options of `ranker`."""

    towers: str = required("Result of contrast two-tower whose candidates are to be put in a better order.")
    candidates: int = option(100, "How many of the best items of the towers are ranked again for each user.")
    validation_size: float = option(
        0.2,
        "Of the users' second last events, those kept for choosing the checkpoint: a count, or a fraction below 1. The "
        "ranker learns from the others.",
    )
    seed: int = option(42, "Seed of that choice, of the batches and of the training.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.width % self.heads:
            raise SettingError(f"--width is {self.width}; it must be a multiple of --heads, {self.heads}.")
