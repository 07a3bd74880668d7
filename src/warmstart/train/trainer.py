"""The one Trainer subclass: rates by group, unfreezing over time, seeded batches, evaluation by the fast path.

Everything else (accumulation, mixed precision, checkpoints, distributed launch, trackers) is transformers' own. What
is trained on is `job.py`; what happens around a step, the time budget included, is `watch.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerState, TrainingArguments

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.groups import batch_norms, set_module_modes
from warmstart.core.errors import OutputError, WarmstartError
from warmstart.core.metrics import log_loss, row_losses, selection_value
from warmstart.core.records import Point
from warmstart.train import recompute
from warmstart.train.anchor import Anchor
from warmstart.train.arguments import checkpoints_activations
from warmstart.train.average import Average
from warmstart.train.checkpoints import keep_only, mark_complete
from warmstart.train.job import Rows, TrainJob
from warmstart.train.rates import optimizer_groups, rate_factor
from warmstart.train.sampler import LengthSampler
from warmstart.train.trunk_cache import TrunkCaches
from warmstart.train.watch import Watch


class WarmstartTrainer(Trainer):
    """Trainer with rates by layer group.

    Args:
        model: a `Classifier`, or one wrapped by peft.
        args: transformers' arguments.
        job: what else the training needs.
        patience: evaluations without improvement after which training stops; None for no such stop.

    Raises:
        SettingError: when gradient checkpointing is asked for and the model cannot do it.
    """

    args: TrainingArguments
    optimizer: torch.optim.Optimizer | None
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None
    state: TrainerState
    control: Any

    def __init__(self, model: nn.Module, args: TrainingArguments, job: TrainJob, patience: int | None = None) -> None:
        self.job = job
        self._recomputes = checkpoints_activations(args)
        if self._recomputes:
            recompute.check_supported(model)
        stopping = [] if patience is None else [EarlyStoppingCallback(early_stopping_patience=patience)]
        super().__init__(
            model=model,
            args=args,
            train_dataset=job.train,
            eval_dataset=job.validation,
            data_collator=job.train.collate,
            callbacks=[Watch(job, self), *stopping],
        )
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self.remove_callback(PrinterCallback)
        self._base_trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._rates: dict[str, float] = {}
        self._first_steps: tuple[int | None, ...] = ()
        folder = Path(str(args.output_dir))
        self._caches = TrunkCaches(
            job, self.trained_module(model), folder, args.process_index, recomputes=self._recomputes
        )
        head = {name for group in job.groups if group.name == "head" for name in group.parameters}
        self._anchor = Anchor(model, job.rates.l2_sp, head)
        self._average = Average(model, job.ema_decay)
        self.plain_score: float | None = None  # of the chosen checkpoint without the average
        self._closed: tuple[int, ...] | None = None
        self._share_of_row = 0.0  # what one row counts in the step under way, times the passes of the step

    def trained_module(self, model: nn.Module) -> nn.Module:
        """What a model is inside of its wrappers: here a `Classifier`."""
        return inner_classifier(model)

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
            chosen = self.create_optimizer() if optimizer is None else optimizer
            self._first_steps = self._openings(num_training_steps)
            factors = [self._factor(num_training_steps, int(group["place"])) for group in chosen.param_groups]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, factors)
        return self.lr_scheduler

    def _factor(self, total: int, place: int) -> Callable[[int], float]:
        """The course of the rate of one group; it follows the group's opening, which may come to be known later."""
        return lambda step: rate_factor(step, total, self._first_steps[place], self.job.rates.warmup)

    def _openings(self, total: int) -> tuple[int | None, ...]:
        """The step at which each group opens, as far as it is known now."""
        return self.job.rates.unfreezing.first_steps(self.job.groups, total, self._scores())

    def _scores(self) -> list[tuple[int, float]]:
        """Step and validation score of every evaluation so far."""
        return [
            (int(entry["step"]), float(entry["eval_score"]))
            for entry in self.state.log_history
            if "eval_score" in entry
        ]

    def _get_train_sampler(self, train_dataset: Rows | None = None) -> LengthSampler:
        rows = self.job.train if train_dataset is None else train_dataset
        batch = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        normalised = not self.job.fixed_statistics and bool(batch_norms(self.model))
        at_least = 2 if normalised and self.args.train_batch_size > 1 else 1
        return LengthSampler(rows.inputs.lengths, batch, seed, forward=self.args.train_batch_size, at_least=at_least)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], None]:
        """The batches of one step, each row of which counts the same however the batches are cut."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = sum(len(batch["labels"]) for batch in batches)
        self._share_of_row = len(batches) / rows if rows else 0.0
        return batches, None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The job's loss on one batch; frozen groups are put in evaluation mode first."""
        values = dict(inputs)
        labels, rows = values.pop("labels"), values.pop("rows").tolist()
        context: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if model.training:
            inner = self.accelerator.unwrap_model(model)
            set_module_modes(inner, self.job.groups, fixed_statistics=self.job.fixed_statistics)
            if self._recomputes:
                recompute.reach_frozen(inner)
            context = self._caches.around("train", inner_classifier(inner), rows, values)
        with context:
            outputs = model(**values)
        loss = self.job.loss(outputs.logits, labels) * (len(labels) * self._share_of_row)
        if not torch.isfinite(loss):
            raise self._diverged("loss", loss.item())
        return (loss, outputs) if return_outputs else loss

    def _diverged(self, what: str, value: float) -> WarmstartError:
        return WarmstartError(
            f"The {what} is {value} at step {self.state.global_step}: training diverged. Use a lower --learning-rate."
        )

    def open_groups(self, step: int, total: int) -> None:
        """Let exactly those groups learn that are open at a step; doing it twice changes nothing."""
        if self.job.rates.unfreezing.kind == "all":
            return
        known, self._first_steps = self._first_steps, self._openings(total)
        if known != self._first_steps:
            self._refresh_rates(step)
        closed = self.job.rates.unfreezing.closed_prefixes(self.job.groups, total, step, self._scores())
        if closed != self._closed:
            self._closed = closed
            self._caches.enter_stage(closed)
        named = dict(self.accelerator.unwrap_model(self.model).named_parameters())
        for group, first in zip(self.job.groups, self._first_steps, strict=True):
            is_open = first is not None and step >= first
            for name in group.parameters:
                if name in self._base_trainable:
                    named[name].requires_grad_(is_open)

    def _refresh_rates(self, step: int) -> None:
        """Give a group that has just opened its rate for this step: the scheduler computed it before that was known."""
        if self.optimizer is None or self.lr_scheduler is None:
            return
        scheduler: Any = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)  # accelerate wraps it
        rates = [base * factor(step) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates

    def begin(self, checkpoint: Path | None) -> None:
        """Start the frozen-trunk cache and the average of the weights anew, or go on with a checkpoint's."""
        self._caches.begin(checkpoint)
        if checkpoint is not None:
            self._average.load(checkpoint)

    def after_optimizer(self, step: int) -> None:
        """Draw the weights back to where they started, and take them into their average, where that is asked for."""
        if self.optimizer is not None:
            self._anchor.pull(self.optimizer)
        self._average.update(step)

    def end_cache(self) -> str:
        """Remove the frozen-trunk cache; whether it was used, or why not."""
        found = self._caches.describe()
        self._caches.end()
        return found

    def any_process(self, value: bool) -> bool:
        """Whether something holds in any process, so that all of them do the same."""
        if self.args.world_size == 1:
            return value
        return bool(self.accelerator.reduce(torch.tensor(float(value), device=self.args.device), "sum") > 0)

    def evaluate(
        self, eval_dataset: Rows | None = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Validation loss (nats) and the selection metric, by the fast forward pass.

        Raises:
            WarmstartError: when the model gives something other than numbers.
        """
        rows = self.job.validation if eval_dataset is None else eval_dataset
        with self._average.swapped_in():
            logits = self._logits(rows)
        if not np.isfinite(logits).all():
            raise self._diverged("output on the validation rows", float(logits[~np.isfinite(logits)][0]))
        score = selection_value(self.job.metric, logits, rows.labels)
        metrics = {
            f"{metric_key_prefix}_loss": log_loss(logits, rows.labels),
            f"{metric_key_prefix}_score": score,
            f"{metric_key_prefix}_selection": score + self._lean(logits, rows.labels),
        }
        if self.args.world_size > 1:  # all processes must choose the same checkpoint
            metrics = broadcast_object_list([metrics])[0]
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _logits(self, rows: Rows) -> np.ndarray:
        inner = inner_classifier(self.accelerator.unwrap_model(self.model))
        around = partial(self._caches.around, "validation") if rows is self.job.validation else None
        return forward(inner, rows.inputs, device=self.args.device, around=around).logits

    def _validation_score(self) -> float:
        """The selection metric on the validation rows, with the weights as they are."""
        return selection_value(self.job.metric, self._logits(self.job.validation), self.job.validation.labels)

    def _lean(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Up to one standard error of the score in favour of late checkpoints, by the share of training that is done.

        On a few dozen validation rows the highest of many noisy scores is often an early, half-trained checkpoint.
        """
        if not self.job.lean_late or self.state.max_steps <= 0:
            return 0.0
        values = row_losses(logits, labels) if self.job.metric == "log_loss" else logits.argmax(1) == labels
        return float(values.std() / len(labels) ** 0.5) * float(self.state.global_step / self.state.max_steps)

    def best_score(self) -> float:
        """The validation score of the chosen checkpoint; not-a-number before the first evaluation."""
        at = self.state.best_global_step
        scores = [score for step, score in self._scores() if step == at]
        return scores[-1] if scores else float("nan")

    def note_rates(self) -> None:
        """Keep the rates as they are now, before the scheduler moves on, for the history."""
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        self._rates = {f"rate/{group['group']}": float(group["lr"]) for group in groups}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds spent and the rates that the last step used to what Trainer logs and keeps."""
        if {"loss", "eval_loss"} & set(logs):
            logs = {**logs, "seconds": self.job.clock.spent(), **self._rates}
        super().log(logs, start_time)

    def opened(self) -> tuple[int | None, ...]:
        """The step at which each group opened; None for one that never did."""
        total = self.state.max_steps
        return tuple(first if first is not None and first < total else None for first in self._openings(total))

    def history(self) -> tuple[Point, ...]:
        """The course of training so far, interruptions included."""
        return tuple(_point(entry) for entry in self.state.log_history if "seconds" in entry)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint, mark it as whole when every process has written its part, then remove the old ones."""
        folder = Path(str(self.args.output_dir))
        name = f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self._caches.save(folder / name)
            if self.args.should_save:
                self._average.save(folder / name)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                finished = bool(self.control.should_training_stop)
                mark_complete(folder / name, self.job.clock.spent(), finished=finished, note=self.job.stopped_early)
                keep_only(folder, {name, Path(str(self.state.best_model_checkpoint)).name})
            self._caches.tidy()
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own
            raise OutputError(f"A checkpoint could not be written to {folder}: {_reason(error)}.") from error

    def _load_best_model(self) -> None:
        """The best checkpoint's weights, or their average where one is kept; the score of the weights beside it."""
        super()._load_best_model()
        best = self.state.best_model_checkpoint
        if self._average and best is not None:
            self.plain_score = self._validation_score()
            self._average.load(Path(best))
            self._average.put_in()

    def restore(self, checkpoint: Path) -> None:
        """Load what a run that ended with a checkpoint gave: its history, and its best weights."""
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        best = self.state.best_model_checkpoint
        source = checkpoint if best is None else checkpoint.with_name(Path(best).name)
        self.state.best_model_checkpoint = str(source)
        self._load_best_model()


def inner_classifier(model: nn.Module) -> Classifier:
    """The `Classifier` itself, or the one inside peft's wrapper."""
    get_base_model: Callable[[], nn.Module] | None = getattr(model, "get_base_model", None)
    inner = model if get_base_model is None else get_base_model()
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


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0]
    return (text or type(error).__name__).rstrip(".")
