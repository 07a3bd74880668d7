"""From a trainer that is set up to the encoder that it gives, and how it came about: what the trainers share."""

from __future__ import annotations

from dataclasses import dataclass

from peft import PeftModel

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.groups import group_rows
from warmstart.contrastive.towers import Towers
from warmstart.contrastive.trainer import ContrastTrainer
from warmstart.core.contrast import Alarm, ContrastPoint
from warmstart.core.records import GroupRow
from warmstart.train.fit import run
from warmstart.train.lora import merge
from warmstart.train.rates import group_rates


@dataclass(frozen=True)
class ContrastOutcome:
    """What a training gives: the encoder, and how it came about."""

    encoder: Classifier
    history: tuple[ContrastPoint, ...]
    groups: tuple[GroupRow, ...]
    alarms: tuple[Alarm, ...]
    steps: int
    processes: int
    note: str


def fit_tower(trainer: ContrastTrainer, towers: Towers, name: str) -> ContrastOutcome:
    """Train, or go on from the last whole checkpoint; adapters are merged into the encoder that comes out.

    Args:
        trainer: with its job.
        towers: its model.
        name: of the encoder that is wanted.

    Raises:
        SettingError: settings do not fit the model.
        ContrastError: training diverged.
    """
    job = trainer.job
    fractions = job.rates.unfreezing.fractions(job.groups)
    table = group_rows(towers, job.groups, group_rates(job.groups, job.rates), job.rates.weight_decay, fractions)
    trained = run(trainer, towers)
    found = towers.encoders[name]
    plain = merge(found) if isinstance(found, PeftModel) else towers.encoder(name)
    return ContrastOutcome(
        encoder=plain.float().cpu().eval(),
        history=trainer.course(),
        groups=table,
        alarms=trainer.alarms(),
        steps=trained.steps,
        processes=trainer.args.world_size,
        note=trained.note,
    )
