"""What the trainers share: what is checked before, and from a trainer that is set up to the encoders that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peft import PeftModel

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.groups import Group, group_rows
from warmstart.contrastive.batches import PairBatches
from warmstart.contrastive.settings import ContrastSettings
from warmstart.contrastive.towers import Towers, temperature_value
from warmstart.contrastive.trainer import ContrastTrainer
from warmstart.core.contrast import Alarm, ContrastPoint
from warmstart.core.records import GroupRow
from warmstart.train.fit import run
from warmstart.train.lora import merge
from warmstart.train.rates import group_rates


@dataclass(frozen=True)
class ContrastOutcome:
    """What a training gives: the encoders by name, and how they came about."""

    encoders: Mapping[str, Classifier]
    scale: float  # 1 / temperature
    history: tuple[ContrastPoint, ...]
    groups: tuple[GroupRow, ...]
    alarms: tuple[Alarm, ...]
    steps: int
    processes: int
    note: str
    kept_step: int = 0  # of the checkpoint that was kept

    @property
    def encoder(self) -> Classifier:
        """The only one."""
        (found,) = self.encoders.values()
        return found


def check_groups(groups: Sequence[Group], rows: int, settings: ContrastSettings, world: int) -> PairBatches:
    """Find the mistakes that groups and a number of rows show; the batches that there will be.

    Raises:
        SettingError: rates or openings for groups that are not there, or too few rows in a batch.
    """
    group_rates(groups, settings.rates)
    settings.rates.unfreezing.fractions(groups)
    return PairBatches(rows, settings.options.per_device_train_batch_size * world, settings.seed, 0, world)


def fit_towers(trainer: ContrastTrainer) -> ContrastOutcome:
    """Train, or go on from the last whole checkpoint; adapters are merged into the encoders that come out.

    Args:
        trainer: with its model and its job.

    Raises:
        SettingError: settings do not fit the model.
        ContrastError: training diverged.
    """
    towers, job = trainer.towers(), trainer.job
    fractions = job.rates.unfreezing.fractions(job.groups)
    table = group_rows(towers, job.groups, group_rates(job.groups, job.rates), job.rates.weight_decay, fractions)
    trained = run(trainer, towers)
    return ContrastOutcome(
        encoders={name: _plain(towers, name).float().cpu().eval() for name in towers.encoders},
        scale=temperature_value(towers),
        history=trainer.course(),
        groups=table,
        alarms=trainer.alarms(),
        steps=trained.steps,
        processes=trainer.args.world_size,
        note=trained.note,
        kept_step=int(trainer.state.best_global_step or 0),
    )


def _plain(towers: Towers, name: str) -> Classifier:
    found = towers.encoders[name]
    return merge(found) if isinstance(found, PeftModel) else towers.encoder(name)
