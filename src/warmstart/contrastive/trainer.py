"""Contrastive training on the one Trainer subclass: only the step and the evaluation are its own.

Rates by group, unfreezing, checkpoints, resumption and the time budget are those of `train.trainer`. A step goes
through `grad_cache.py` and averages the gradients over the processes once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from warmstart.backbones.groups import set_module_modes
from warmstart.contrastive import grad_cache
from warmstart.contrastive.batches import PairBatches, PairLoader, PairRows
from warmstart.contrastive.diagnostics import find_alarms
from warmstart.contrastive.gather import average_gradients
from warmstart.contrastive.grad_cache import Side
from warmstart.contrastive.info_nce import Contrast
from warmstart.contrastive.pair_loss import PairLoss
from warmstart.contrastive.towers import Towers, temperature_value
from warmstart.core.contrast import Alarm, ContrastPoint, RankScores
from warmstart.core.progress import reporter
from warmstart.train.job import TrainJob
from warmstart.train.trainer import WarmstartTrainer

_MEANS = ("ceiling", "bound", "accuracy", "masked")


@dataclass
class ContrastJob(TrainJob):
    """What contrastive training needs beyond `TrainJob`, whose loss and metric it does not use.

    Args:
        sides: which encoder each side of a batch goes through.
        pair_loss: vectors → loss.
        score: ranks the validation pairs with the model as it is.
        start_rank: effective rank of their vectors before training.
    """

    sides: tuple[str, ...] = field(kw_only=True)
    pair_loss: PairLoss = field(kw_only=True)
    score: Callable[[Towers], RankScores] = field(kw_only=True)
    start_rank: float | None = None

    @property
    def pairs(self) -> PairRows:
        """The training rows."""
        return cast("PairRows", self.train)

    @property
    def bound_holds(self) -> bool:
        """Whether log N − loss bounds the mutual information: not with hard negatives, drawn otherwise than data."""
        return len(self.sides) == 2


class ContrastTrainer(WarmstartTrainer):
    """Trains `Towers` on pairs.

    Args:
        model: the encoders and the temperature.
        args: transformers' arguments; without accumulation, which would not enlarge the pool.
        job: what else the training needs.
        patience: evaluations without improvement after which training stops; None for no such stop.
    """

    job: ContrastJob

    def __init__(self, model: Towers, args: TrainingArguments, job: ContrastJob, patience: int | None = None) -> None:
        super().__init__(model, args, job, patience)
        self._seen: list[Contrast] = []
        self._alarmed: set[str] = set()

    def trained_module(self, model: nn.Module) -> nn.Module:
        """The towers, out of what Trainer wraps them in."""
        return model

    def towers(self) -> Towers:
        """What is trained, out of what Trainer wraps it in."""
        inner: Towers = self.accelerator.unwrap_model(self.model)
        return inner

    def get_train_dataloader(self) -> PairLoader:
        """The share of this process of every batch."""
        args = self.args
        batch = args.train_batch_size * args.world_size
        batches = PairBatches(len(self.job.pairs), batch, args.seed, args.process_index, args.world_size)
        return PairLoader(self.job.pairs, batch_sampler=batches, collate_fn=self.job.pairs.collate)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], None]:
        """The batches of one step."""
        batches, _ = Trainer.get_batch_samples(self, epoch_iterator, num_batches, device)
        return batches, None

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Gradients of one batch, by parts; frozen groups are put in evaluation mode first."""
        towers = self.towers()
        model.train()
        set_module_modes(towers, self.job.groups, fixed_statistics=self.job.fixed_statistics)
        inputs = self._prepare_inputs(inputs)
        exclude = self.job.pairs.false_negatives(
            inputs["anchors"], inputs["candidates"], gather=self.job.pair_loss.gather
        )

        def encoder(name: str) -> Callable[[dict[str, Tensor]], Tensor]:
            def encode(batch: dict[str, Tensor]) -> Tensor:
                with self.accelerator.autocast():  # one for each part: it keeps cast weights until it ends
                    return towers.encode(name, batch)

            return encode

        def loss(*vectors: Tensor) -> tuple[Tensor, Contrast]:
            return self.job.pair_loss(towers.temperature(), exclude, vectors)

        sides = [
            Side(encoder(name), side["parts"], side["places"])
            for name, side in zip(self.job.sides, inputs["sides"], strict=True)
        ]
        parts = sum(len(side.parts) for side in sides)
        keep = parts if parts == len(sides) else 1  # what fits in one part a side is not cut, so not encoded twice
        found = grad_cache.backward(sides, loss, keep=keep)
        average_gradients(towers.parameters())
        self._seen.append(found)
        value = found.loss.detach()
        if not torch.isfinite(value):
            raise self._diverged("loss", value.item())
        return value

    def after_optimizer(self, step: int) -> None:
        """Also put the learnt temperature back between its bounds."""
        super().after_optimizer(step)
        self.towers().temperature.project()

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean reciprocal rank of the validation pairs, and how their vectors lie."""
        with self._average.swapped_in():
            found = self.job.score(self.towers())
        metrics = {
            f"{metric_key_prefix}_score": found.reciprocal_rank.value,
            f"{metric_key_prefix}_selection": found.reciprocal_rank.value,
            "contrast/alignment": found.geometry.alignment,
            "contrast/uniformity": found.geometry.uniformity,
            "contrast/effective_rank": found.geometry.effective_rank,
        }
        if self.args.world_size > 1:  # all processes must choose the same checkpoint
            metrics = broadcast_object_list([metrics])[0]
        self.log({**metrics, "seconds": self.job.clock.spent()})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._warn()
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the losses since the last entry say of themselves."""
        if "loss" in logs and self._seen:
            means = {name: [float(getattr(one, name)) for one in self._seen] for name in _MEANS}
            logs = {**logs, **{f"contrast/{name}": sum(found) / len(found) for name, found in means.items()}}
            if not self.job.bound_holds:
                del logs["contrast/bound"]
            logs["contrast/scale"] = temperature_value(self.towers())
            self._seen.clear()
        super().log(logs, start_time)

    def _validation_score(self) -> float:
        return self.job.score(self.towers()).reciprocal_rank.value

    def course(self) -> tuple[ContrastPoint, ...]:
        """The course of training so far, interruptions included."""
        return tuple(_point(entry) for entry in self.state.log_history if "seconds" in entry)

    def max_scale(self) -> float | None:
        """Highest value of a learnt scale; None where it is fixed."""
        temperature = self.towers().temperature
        return temperature.max_scale if temperature.learnable else None

    def alarms(self) -> tuple[Alarm, ...]:
        """Signs of collapse so far."""
        return find_alarms(self.course(), self.state.max_steps, self.max_scale(), self.job.start_rank)

    def _warn(self) -> None:
        """Say each kind of collapse once, while there is still something to save."""
        if not self.state.is_world_process_zero:
            return
        for alarm in self.alarms():
            if alarm.kind not in self._alarmed:
                self._alarmed.add(alarm.kind)
                reporter().warn(f"At step {alarm.step} {alarm.message}. {alarm.advice}")


def _point(entry: dict[str, float]) -> ContrastPoint:
    own = {name.removeprefix("contrast/"): value for name, value in entry.items() if name.startswith("contrast/")}
    rates = {name.removeprefix("rate/"): rate for name, rate in entry.items() if name.startswith("rate/")}
    return ContrastPoint(
        step=int(entry["step"]),
        epoch=float(entry["epoch"]),
        seconds=entry["seconds"],
        loss=entry.get("loss"),
        validation_score=entry.get("eval_score"),
        rates=rates or None,
        **own,
    )
