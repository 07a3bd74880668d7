"""Two towers on the contrastive trainer: only the step, a checkpoint's addition and the judgement are its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainingArguments

from warmstart.contrastive.batches import PairBatches, PairLoader
from warmstart.contrastive.diagnostics import effective_rank, find_alarms, uniformity
from warmstart.contrastive.history_rows import HistoryRows, PoolMaker
from warmstart.contrastive.info_nce import Contrast, info_nce
from warmstart.contrastive.trainer import ContrastTrainer
from warmstart.contrastive.two_tower_model import TwoTower
from warmstart.core.contrast import Alarm
from warmstart.train.job import TrainJob

_FREQUENCY = "frequency.safetensors"
_CHUNK = 4096  # questions that are compared with the pool at a time


@dataclass
class TwoTowerJob(TrainJob):
    """What two towers need beyond `TrainJob`, whose loss and metric they do not use.

    Args:
        pools: makes the pool of every step.
        judge: the NDCG@10 of the validation questions, with the model as it is.
        start_rank: effective rank of the item vectors before training.
    """

    pools: PoolMaker = field(kw_only=True)
    judge: Callable[[TwoTower], float] = field(kw_only=True)
    start_rank: float | None = None

    @property
    def histories(self) -> HistoryRows:
        """The training rows."""
        return cast("HistoryRows", self.train)

    @property
    def bound_holds(self) -> bool:
        """Whether log N − loss bounds the mutual information: not where the pool is drawn otherwise than the data."""
        return False


class TwoTowerTrainer(ContrastTrainer):
    """Trains a `TwoTower` on histories.

    Args:
        model: the towers.
        args: transformers' arguments; of one process, without accumulation.
        job: what else the training needs.
        patience: evaluations without improvement after which training stops; None for no such stop.
    """

    job: TwoTowerJob  # type: ignore[assignment]

    def __init__(self, model: TwoTower, args: TrainingArguments, job: TwoTowerJob, patience: int | None = None) -> None:
        super().__init__(cast("Any", model), args, cast("Any", job), patience)

    def _model(self) -> TwoTower:
        inner: TwoTower = self.accelerator.unwrap_model(self.model)
        return inner

    def get_train_dataloader(self) -> PairLoader:
        """Batches of windows of about equal size, in an order by (seed, epoch)."""
        rows = self.job.histories
        batches = PairBatches(len(rows), self.args.train_batch_size, self.args.seed)
        return PairLoader(rows, batch_sampler=batches, collate_fn=rows.collate)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Gradients of one batch: every position of every history looks for its next item in the pool of the step."""
        towers = self._model()
        model.train()
        found = step_loss(towers, inputs["parts"], self.job, self.state.global_step)
        self._seen.append(found)
        value = found.loss.detach()
        if not torch.isfinite(value):
            raise self._diverged("loss", value.item())
        self.accelerator.backward(found.loss)
        return value

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """NDCG@10 of the validation questions, and how the item vectors lie."""
        towers = self._model()
        score = self.job.judge(towers)
        vectors = towers.catalogue()
        metrics = {
            f"{metric_key_prefix}_score": score,
            f"{metric_key_prefix}_selection": score,
            "contrast/uniformity": uniformity(vectors),
            "contrast/effective_rank": effective_rank(vectors),
        }
        self.log({**metrics, "seconds": self.job.clock.spent()})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._warn()
        return metrics

    def _validation_score(self) -> float:
        return self.job.judge(self._model())

    def alarms(self) -> tuple[Alarm, ...]:
        """Signs of collapse so far."""
        return find_alarms(self.course(), self.state.max_steps, self.max_scale(), self.job.start_rank)

    def begin(self, checkpoint: Path | None) -> None:
        """Also go on with the frequencies of the items."""
        super().begin(checkpoint)
        if checkpoint is not None and (checkpoint / _FREQUENCY).is_file():
            self.job.pools.frequency.load_state_dict(load_file(checkpoint / _FREQUENCY))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Also keep the frequencies of the items."""
        super()._save_optimizer_and_scheduler(output_dir)
        save_file(self.job.pools.frequency.state_dict(), Path(output_dir) / _FREQUENCY)


def step_loss(towers: TwoTower, parts: list[dict[str, Tensor]], job: TwoTowerJob, step: int) -> Contrast:
    """The loss of one step, mean over all questions of its histories.

    Args:
        towers: the model.
        parts: `read` and `next`, (histories, length), and `users`, (histories,); `next` is −1 behind the end.
        job: makes the pool, and has what each user took.
        step: optimizer steps already done.
    """
    answers = torch.cat([part["next"][part["next"] >= 0] for part in parts])  # (questions,)
    pool = job.pools.make(answers, step)
    every = torch.unique(torch.cat([pool.ids, *(part["read"].flatten() for part in parts)]))
    vectors = towers.item_vectors(every)  # (items of the step, dim)
    queries, owners, first = [], [], 0
    for part in parts:
        states = towers.queries(vectors, torch.searchsorted(every, part["read"]), part["users"])
        there = part["next"] >= 0
        queries.append(states[there])
        owners.append((first + torch.arange(len(there)))[:, None].expand_as(there)[there])
        first += len(there)
    users = torch.cat([part["users"] for part in parts]).tolist()
    taken = pool.taken([job.histories.histories[user] for user in users])
    return info_nce(
        torch.cat(queries),
        vectors[torch.searchsorted(every, pool.ids)],
        scale=towers.temperature(),
        positives=pool.places(answers),
        exclude=taken[torch.cat(owners)],
        log_q=pool.log_q,
        chunk=_CHUNK,
    )
