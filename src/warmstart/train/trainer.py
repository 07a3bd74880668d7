"""The one Trainer subclass: rates by group, unfreezing over time, seeded batches, evaluation by the fast path.

Everything else (accumulation, mixed precision, checkpoints, distributed launch, trackers) is transformers' own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.groups import Group, set_module_modes
from warmstart.backbones.text_inputs import Inputs
from warmstart.core.clock import Clock
from warmstart.core.errors import WarmstartError
from warmstart.core.metrics import log_loss, selection_value
from warmstart.core.records import Point
from warmstart.train.checkpoints import mark_complete
from warmstart.train.rates import RatePlan, opening_step, optimizer_groups, rate_factor
from warmstart.train.sampler import LengthSampler


class Rows(Dataset[int]):
    """Row numbers as a dataset; `collate` makes the batch, so that texts are padded together.

    Args:
        inputs: encoded rows.
        labels: (rows,).
        augment: whether training batches are augmented.
        seed: seed of the augmentation; with the epoch and the batch's first row it fixes every draw.
    """

    def __init__(self, inputs: Inputs, labels: np.ndarray, augment: bool = False, seed: int = 0) -> None:
        self.inputs, self.labels, self.augment, self.seed, self.epoch = inputs, labels, augment, seed, 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> int:
        return int(row)

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of an epoch."""
        self.epoch = epoch

    def collate(self, rows: list[int]) -> dict[str, Tensor]:
        """The model's inputs, and `labels`, (rows,)."""
        draw = None
        if self.augment:
            draw = int(np.random.SeedSequence((self.seed, self.epoch, rows[0])).generate_state(1)[0])
        batch = self.inputs.batch(rows, draw)
        batch["labels"] = torch.from_numpy(self.labels[rows].astype(np.int64))
        return batch


@dataclass(frozen=True)
class LossPlan:
    """Cross-entropy with optional class weights, (classes,) averaging 1 over the training rows, and smoothing."""

    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the batch, a scalar; weights are not re-normalised within a batch, so batches stay comparable."""
        losses = nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none"
        )  # (batch,)
        if self.class_weights:
            losses = losses * torch.tensor(self.class_weights, device=losses.device)[labels]
        return losses.mean()


@dataclass
class TrainJob:
    """What one training needs beyond the model: data, groups, rates, loss, time, and whom to tell."""

    train: Rows
    validation: Rows
    groups: tuple[Group, ...]
    rates: RatePlan
    loss: LossPlan
    metric: str
    clock: Clock
    reserve: float = 0.0  # seconds to keep for what follows training
    progress: Callable[[int, int, str], None] | None = None
    stopped_early: str = ""


class WarmstartTrainer(Trainer):
    """Trainer with rates by layer group.

    Args:
        model: a `Classifier`, or one wrapped by peft.
        args: transformers' arguments.
        job: what else the training needs.
    """

    def __init__(self, model: nn.Module, args: TrainingArguments, job: TrainJob) -> None:
        self.job = job
        super().__init__(
            model=model,
            args=args,
            train_dataset=job.train,
            eval_dataset=job.validation,
            data_collator=job.train.collate,
            callbacks=[_Watch(job, self)],
        )
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self.remove_callback(PrinterCallback)
        self._base_trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """One optimizer group per layer group; see `optimizer_groups`."""
        if self.optimizer is None:
            target = self.model if model is None else model
            kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = kind(optimizer_groups(target, self.job.groups, self.job.rates), **arguments)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Each group's own warm-up from when it opens, and one decay for all; see `rate_factor`."""
        if self.lr_scheduler is None:
            chosen = self.optimizer if optimizer is None else optimizer
            warmup = self.job.rates.warmup
            factors = [_factor(num_training_steps, float(group["opens_at"]), warmup) for group in chosen.param_groups]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, factors)
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Rows | None = None) -> LengthSampler:
        rows = self.job.train if train_dataset is None else train_dataset
        batch = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthSampler(rows.inputs.lengths, batch, seed)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The job's loss on one batch; frozen groups are put in evaluation mode first."""
        if model.training:
            set_module_modes(self.accelerator.unwrap_model(model), self.job.groups)
        values = dict(inputs)
        labels = values.pop("labels")
        outputs = model(**values)
        loss = self.job.loss(outputs.logits, labels)
        if not torch.isfinite(loss):
            raise WarmstartError(
                f"The loss is {loss.item()} at step {self.state.global_step}: training diverged. "
                "Use a lower --learning-rate."
            )
        return (loss, outputs) if return_outputs else loss

    def open_groups(self, step: int, total: int) -> None:
        """Let exactly those groups learn that are open at a step; doing it twice changes nothing."""
        if not self.job.rates.opens_at:
            return
        named = dict(self.accelerator.unwrap_model(self.model).named_parameters())
        for group, opens in zip(self.job.groups, self.job.rates.opens_at, strict=True):
            is_open = opens < 1 and step >= opening_step(total, opens)
            for name in group.parameters:
                if name in self._base_trainable:
                    named[name].requires_grad_(is_open)

    def evaluate(
        self, eval_dataset: Rows | None = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Validation loss (nats) and the selection metric, by the fast forward pass."""
        rows = self.job.validation if eval_dataset is None else eval_dataset
        found = forward(
            inner_classifier(self.accelerator.unwrap_model(self.model)), rows.inputs, device=self.args.device
        )
        metrics = {
            f"{metric_key_prefix}_loss": log_loss(found.logits, rows.labels),
            f"{metric_key_prefix}_score": selection_value(self.job.metric, found.logits, rows.labels),
        }
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds spent and every group's rate to what Trainer logs and keeps in its checkpoints."""
        if self.optimizer is not None and {"loss", "eval_loss"} & set(logs):
            rates = {f"rate/{group['group']}": float(group["lr"]) for group in self.optimizer.param_groups}
            logs = {**logs, "seconds": self.job.clock.spent(), **rates}
        super().log(logs, start_time)

    def history(self) -> tuple[Point, ...]:
        """The course of training so far, interruptions included."""
        return tuple(_point(entry) for entry in self.state.log_history if "seconds" in entry)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            mark_complete(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}", self.job.clock.spent())


def inner_classifier(model: nn.Module) -> Classifier:
    """The `Classifier` itself, or the one inside peft's wrapper."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(inner, Classifier):
        raise TypeError(f"expected a Classifier, got {type(inner).__name__}")
    return inner


def _point(entry: dict[str, float]) -> Point:
    return Point(
        step=int(entry["step"]),
        epoch=float(entry["epoch"]),
        seconds=entry["seconds"],
        loss=entry.get("loss"),
        validation_loss=entry.get("eval_loss"),
        validation_score=entry.get("eval_score"),
        rates={name.removeprefix("rate/"): rate for name, rate in entry.items() if name.startswith("rate/")},
    )


def _factor(total: int, opens: float, warmup: float) -> Callable[[int], float]:
    return lambda step: rate_factor(step, total, opens, warmup)


class _Watch(TrainerCallback):
    """Opens groups, keeps the history, tells progress, and stops inside the time budget."""

    def __init__(self, job: TrainJob, trainer: WarmstartTrainer) -> None:
        self.job, self.trainer = job, trainer
        self.evaluation = 0.0  # seconds of the slowest evaluation and save so far
        self.slowest = 0.0  # seconds of the slowest step so far
        self._mark = 0.0

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.job.train.set_epoch(int(state.epoch or 0))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        now = time.perf_counter()
        if self._mark:
            self.evaluation = max(self.evaluation, now - self._mark)
        self._mark = now
        self.trainer.open_groups(state.global_step, state.max_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        now = time.perf_counter()
        self.slowest = max(self.slowest, now - self._mark)
        self._mark = now
        if self.job.progress is not None:
            self.job.progress(state.global_step, state.max_steps, f"epoch {state.epoch:.1f}")
        needed = self.job.reserve + self.evaluation + 2 * self.slowest
        if state.global_step < state.max_steps and self.job.clock.left() < needed:
            self.job.stopped_early = f"the time budget ended training at step {state.global_step} of {state.max_steps}"
            control.should_training_stop = True
            control.should_evaluate = control.should_save = True


_CHECKPOINTING = (  # renamed in transformers 5
    "activation_checkpointing"
    if "activation_checkpointing" in TrainingArguments.__dataclass_fields__
    else "gradient_checkpointing"
)


@dataclass(frozen=True)
class Length:
    """How long to train, and in what steps."""

    epochs: float
    max_steps: int | None
    batch: int
    accumulation: int

    def steps(self, rows: int) -> int:
        """Optimizer steps for a number of rows."""
        if self.max_steps is not None:
            return self.max_steps
        batches = math.ceil(rows / self.batch)
        return max(1, math.ceil(math.ceil(batches / self.accumulation) * self.epochs))


def training_arguments(
    folder: Path,
    length: Length,
    rows: int,
    *,
    seed: int,
    bf16: bool,
    gradient_checkpointing: bool = False,
    report_to: Sequence[str] = (),
    metric_evaluations: int | None = None,
    find_unused: bool = False,
    device: torch.device | None = None,
) -> TrainingArguments:
    """Transformers' arguments for a job: evaluation and a checkpoint about once an epoch, the best one loaded last."""
    steps = length.steps(rows)
    times = max(1, math.ceil(length.epochs)) if metric_evaluations is None else metric_evaluations
    every = max(1, math.ceil(steps / times))
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=length.batch,
        gradient_accumulation_steps=length.accumulation,
        seed=seed,
        bf16=bf16,
        use_cpu=device is not None and device.type == "cpu",
        logging_steps=max(1, steps // 50),
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_score",
        greater_is_better=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=list(report_to) if report_to else "none",
        log_level="error",
        ddp_find_unused_parameters=find_unused,
        **({_CHECKPOINTING: True} if gradient_checkpointing else {}),
    )
