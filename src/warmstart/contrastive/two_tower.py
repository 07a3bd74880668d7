"""Two towers of users and items: from histories to a trained model. Who judges is handed in; reading is `data`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from warmstart.backbones.groups import group_rows
from warmstart.contrastive.diagnostics import effective_rank
from warmstart.contrastive.history_rows import HistoryRows, PoolMaker, chosen_kind
from warmstart.contrastive.item_tower import Content
from warmstart.contrastive.two_tower_model import TwoTower, TwoTowerConfig, two_tower_groups
from warmstart.contrastive.two_tower_trainer import TwoTowerJob, TwoTowerTrainer
from warmstart.core.clock import Clock
from warmstart.core.contrast import Alarm, ContrastPoint
from warmstart.core.records import GroupRow
from warmstart.core.two_tower_options import TwoTowerTrainOptions
from warmstart.train.arguments import Length, training_arguments
from warmstart.train.fit import run
from warmstart.train.job import LossPlan
from warmstart.train.rates import RatePlan, group_rates

_SHOWN = (
    "dim",
    "layers",
    "heads",
    "max_history",
    "dropout",
    "id_dropout",
    "num_negatives",
    "temperature",
    "learn_temperature",
    "learning_rate",
    "weight_decay",
    "warmup_steps",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
)


@dataclass(frozen=True)
class TwoTowerOutcome:
    """What a training gives: the towers, and how they came about."""

    model: TwoTower
    history: tuple[ContrastPoint, ...]
    groups: tuple[GroupRow, ...]
    alarms: tuple[Alarm, ...]
    steps: int
    note: str


def shown_settings(options: TwoTowerTrainOptions, items: int) -> dict[str, Any]:
    """What a report tells of the settings."""
    values = asdict(options)
    kind = chosen_kind(options.negatives, items)
    found = {name: values[name] for name in _SHOWN if values[name] is not None}
    if kind in ("catalogue", "in_batch"):
        found.pop("num_negatives")
    corrected = {} if kind == "catalogue" else {"log_q": not options.no_log_q}
    return {"negatives": kind, **corrected, **found}


def new_model(
    options: TwoTowerTrainOptions,
    items: int,
    learnt: np.ndarray,
    item_content: Content | None,
    user_content: Content | None,
    seed: int,
) -> TwoTower:
    """Towers with fresh weights.

    Args:
        options: their shape.
        items: number of items.
        learnt: (items,), which items training meets.
        item_content: what is known of the items; None for nothing.
        user_content: what is known of the users; None for nothing.
        seed: of the weights.
    """
    config = TwoTowerConfig(
        items,
        options.dim,
        options.layers,
        options.heads,
        options.max_history,
        options.dropout,
        options.id_dropout,
        options.temperature,
        options.learn_temperature,
        () if item_content is None else item_content.shape,
        () if user_content is None else user_content.shape,
    )
    torch.manual_seed(seed)
    return TwoTower(config, torch.from_numpy(learnt), item_content, user_content)


def train_two_tower(
    model: TwoTower,
    histories: Sequence[np.ndarray],
    judge: Callable[[TwoTower], float],
    options: TwoTowerTrainOptions,
    *,
    seed: int,
    work: Path,
    clock: Clock,
    reserve: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> TwoTowerOutcome:
    """Train towers in place.

    Args:
        model: the towers, on the processor.
        histories: of every user, what to learn from.
        judge: the validation score that checkpoints are chosen by.
        options: how.
        seed: of batches, draws and dropout.
        work: folder of the checkpoints; what is there already is gone on from.
        clock: seconds spent and left.
        reserve: seconds to keep for what follows.
        progress: told after every step.

    Raises:
        SettingError: there is nothing to learn from.
        WarmstartError: training diverged.
    """
    rows = HistoryRows(histories, options.max_history)
    items, counts = model.shape.items, rows.counts(model.shape.items)
    pools = PoolMaker(
        chosen_kind(options.negatives, items),
        model.items.learnt.bool() | (counts > 0),
        options.num_negatives,
        counts,
        correct=not options.no_log_q,
        seed=seed,
    )
    rates = RatePlan(
        learning_rate=options.learning_rate,
        head_learning_rate=options.head_learning_rate,
        weight_decay=options.weight_decay,
        warmup=options.warmup_steps,
    )
    groups = two_tower_groups(model)
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
    job = TwoTowerJob(
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
        pools=pools,
        judge=judge,
        start_rank=effective_rank(model.catalogue()),
    )
    table = group_rows(model, groups, group_rates(groups, rates), rates.weight_decay, [0.0] * len(groups))
    trainer = TwoTowerTrainer(model, args, job, options.early_stopping_patience)
    trained = run(trainer, model)
    return TwoTowerOutcome(model.cpu().eval(), trainer.course(), table, trainer.alarms(), trained.steps, trained.note)
