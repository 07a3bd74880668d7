"""Training a ranker on the retriever's own candidates, on the one Trainer subclass.

The loss is softmax cross-entropy over each list (ListNet with one right item, Cao et al. 2007): the right item against
the other candidates. Lists without the right item teach nothing about an order and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.backbones.groups import Group, group_rows
from warmstart.core.clock import Clock
from warmstart.core.errors import DataError
from warmstart.core.ranker_options import RankerTrainOptions
from warmstart.core.records import GroupRow, Point
from warmstart.retrieve.candidates import Candidates, ranker_scores, rerank
from warmstart.retrieve.ranker import Lists, Ranker
from warmstart.retrieve.ranking import ndcg
from warmstart.train.arguments import Length, training_arguments
from warmstart.train.fit import run
from warmstart.train.job import Lengths, LossPlan, Rows, TrainJob
from warmstart.train.rates import RatePlan, group_rates
from warmstart.train.trainer import WarmstartTrainer

_LEAST = 2  # lists without which there is nothing to learn


@dataclass(frozen=True)
class RankerOutcome:
    """What a training gave, besides the ranker that it changed.

    Attributes:
        history: its course; the score is NDCG@10 of the questions kept for choosing.
        groups: what learned, and how fast.
        chosen: NDCG@10 of the ranker on the questions kept for choosing.
        steps: optimizer steps.
        note: why training ended early; empty where it did not.
        helps: whether the ranker beats the retriever on the questions kept for choosing; if not, it adds nothing.
    """

    history: tuple[Point, ...]
    groups: tuple[GroupRow, ...]
    chosen: float
    steps: int
    note: str
    helps: bool


class ListRows(Rows):
    """Lists that hold the right item, by row number.

    Args:
        candidates: the questions.
        longest: how many of the latest items of a history are read.
    """

    def __init__(self, candidates: Candidates, longest: int) -> None:
        found = np.flatnonzero(candidates.places >= 0)
        if len(found) < _LEAST:
            raise DataError(
                f"the retriever found the right item for {len(found)} of {len(candidates)} questions to learn from",
                remedy="Use more --candidates, or better towers.",
            )
        self.candidates, self.longest = candidates.take(found), longest
        lengths = np.array([min(len(history), longest) for history in self.candidates.histories])
        super().__init__(Lengths(lengths), self.candidates.places)

    def collate(self, rows: list[int]) -> dict[str, Tensor]:
        """The fields of `Lists`, with the `rows` and the places of the right items as `labels`, both (rows,)."""
        lists = self.candidates.lists(rows, self.longest)
        batch: dict[str, Tensor] = {spec.name: getattr(lists, spec.name) for spec in fields(lists)}
        return {**batch, "rows": torch.tensor(rows), "labels": torch.from_numpy(self.labels[rows])}


@dataclass
class RankerJob(TrainJob):
    """What a ranker needs beyond `TrainJob`.

    Args:
        judge: the NDCG@10 of the questions kept for choosing, with the model as it is.
    """

    judge: Callable[[Ranker], float] = field(kw_only=True)


class RankerTrainer(WarmstartTrainer):
    """Trains a `Ranker` on lists; the arguments are those of `WarmstartTrainer`."""

    job: RankerJob

    def trained_module(self, model: nn.Module) -> Any:
        """The ranker as it is."""
        return model

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch of lists."""
        values = dict(inputs)
        labels, _ = values.pop("labels"), values.pop("rows")
        scores = model(Lists(**values))
        loss = list_loss(scores, labels)
        if not torch.isfinite(loss):
            raise self._diverged("loss", loss.item())
        return (loss, scores) if return_outputs else loss

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """NDCG@10 of the questions kept for choosing."""
        score = self._validation_score()
        metrics = {f"{metric_key_prefix}_score": score, f"{metric_key_prefix}_selection": score}
        self.log({**metrics, "seconds": self.job.clock.spent()})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validation_score(self) -> float:
        return self.job.judge(cast("Ranker", self.accelerator.unwrap_model(self.model)))


def list_loss(scores: Tensor, places: Tensor) -> Tensor:
    """Softmax cross-entropy over each list, mean over the batch, nats.

    Args:
        scores: (batch, candidates), minus infinity at padding.
        places: (batch,), where the right item is.
    """
    return nn.functional.cross_entropy(scores, places)


def mean_gain(model: Ranker, candidates: Candidates) -> float:
    """NDCG@10 of all questions, those that the retriever missed included."""
    return float(ndcg(rerank(ranker_scores(model, candidates), candidates).ranks).mean())


def fit_features(model: Ranker, rows: ListRows) -> None:
    """Mean and deviation of every feature over the training lists."""
    parts = []
    for start in range(0, len(rows), 256):
        lists = rows.candidates.lists(np.arange(start, min(start + 256, len(rows))), rows.longest)
        parts.append(model.raw_features(lists)[lists.present])
    values = torch.cat(parts).double()
    model.scale_features(values.mean(0), values.std(0, correction=0))


def train_ranker(
    model: Ranker,
    learn: Candidates,
    choose: Candidates,
    options: RankerTrainOptions,
    *,
    seed: int,
    work: Path,
    clock: Clock,
    reserve: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> RankerOutcome:
    """Train a ranker in place; one that does not beat the retriever on `choose` is put back to its start.

    Args:
        model: the ranker, untrained.
        learn: questions to learn from.
        choose: questions that checkpoints are chosen by.
        options: how.
        seed: of batches and dropout.
        work: folder of the checkpoints; what is there already is gone on from.
        clock: seconds spent and left.
        reserve: seconds to keep for what follows.
        progress: told after every step.

    Raises:
        DataError: the retriever found too few of the right items.
        WarmstartError: training diverged.
    """
    rows = ListRows(learn, model.shape.max_history)
    fit_features(model, rows)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    rates = RatePlan(
        learning_rate=options.learning_rate, weight_decay=options.weight_decay, warmup=options.warmup_steps
    )
    groups = ranker_groups(model)
    args = training_arguments(
        work,
        Length(options.num_train_epochs, options.max_steps, options.per_device_train_batch_size, 1),
        len(rows),
        seed=seed,
        bf16=False,
        report_to=() if options.report_to == "none" else tuple(options.report_to.split(",")),
        metric_evaluations=options.evaluations,
        device=torch.device("cpu"),
    )
    job = RankerJob(
        train=rows,
        validation=rows,
        groups=groups,
        rates=rates,
        loss=LossPlan(),
        metric="ndcg_10",
        clock=clock,
        reserve=reserve,
        progress=progress,
        fixed_statistics=True,
        judge=lambda ranker: mean_gain(ranker, choose),
    )
    table = group_rows(model, groups, group_rates(groups, rates), rates.weight_decay, [0.0] * len(groups))
    trainer = RankerTrainer(model, args, job, options.early_stopping_patience)
    trained = run(trainer, model)
    model.eval()
    chosen = mean_gain(model, choose)
    helps = chosen > float(ndcg(choose.ranks).mean())
    if not helps:
        model.load_state_dict(start)
    return RankerOutcome(trained.history, table, chosen, trained.steps, trained.note, helps)


def ranker_groups(model: Ranker) -> tuple[Group, ...]:
    """The parts of the model, from its input on."""
    parts: list[tuple[str, tuple[str, ...]]] = [("input", ("item", "candidate", "recency", "features"))]
    parts += [(f"block.{number}", (f"blocks.{number}",)) for number in range(model.shape.layers)]
    parts += [("output", ("norm", "head", "direct"))]
    named = [name for name, _ in model.named_parameters()]
    found = []
    for depth, (name, modules) in enumerate(parts):
        own = tuple(one for one in named if one.startswith(tuple(f"{module}." for module in modules)))
        if name == "output":
            own += ("log_sharpness",)
        found.append(Group("", name, depth, modules, own))
    return tuple(found)
