"""One training from start, or from its last whole checkpoint, to the best checkpoint loaded."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import TrainingArguments

from warmstart.core.records import Point
from warmstart.train import recompute
from warmstart.train.checkpoints import Whole, drop_broken, last_complete
from warmstart.train.cpu import quick_steps
from warmstart.train.job import TrainJob
from warmstart.train.trainer import WarmstartTrainer


@dataclass(frozen=True)
class Trained:
    """What a training gave, besides the model that it changed."""

    history: tuple[Point, ...]
    best_score: float
    steps: int
    note: str
    plain_score: float | None  # of the chosen checkpoint without the average of its weights, where one is kept
    cache: str  # whether activations of closed lower groups were kept, or why not; empty when not asked for
    planned_steps: int
    opened: tuple[int | None, ...]  # the step at which each group opened, or None


def fit(model: nn.Module, args: TrainingArguments, job: TrainJob, patience: int | None = None) -> Trained:
    """Train a model in place; its best checkpoint by the job's metric is loaded at the end.

    Goes on from the last whole checkpoint in `args.output_dir`, if there is one. A training that had already ended is
    not gone on with, nor is one begun or gone on with for which no time is left.

    Raises:
        OutputError: when a checkpoint cannot be written.
        SettingError: when gradient checkpointing is asked for and the model cannot do it.
        WarmstartError: when the loss stops being finite.
    """
    return run(WarmstartTrainer(model, args, job, patience), model)


def run(trainer: WarmstartTrainer, model: nn.Module) -> Trained:
    """`fit`, with a trainer that is already made for the model."""
    args, job = trainer.args, trainer.job
    folder = Path(str(args.output_dir))
    if args.should_save:
        drop_broken(folder)
    checkpoint = last_complete(folder)
    if not _ended(checkpoint, job, trainer):
        trainer.begin(None if checkpoint is None else checkpoint.path)
        with quick_steps(model, args.device):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
    elif checkpoint is not None:
        trainer.restore(checkpoint.path)
    cache = trainer.end_cache()
    _unwrap(model)
    recompute.stop(model)
    return Trained(
        history=trainer.history(),
        best_score=trainer.best_score(),
        steps=int(trainer.state.global_step),
        note=job.stopped_early,
        planned_steps=int(trainer.state.max_steps),
        opened=trainer.opened(),
        plain_score=trainer.plain_score,
        cache=cache,
    )


def _ended(checkpoint: Whole | None, job: TrainJob, trainer: WarmstartTrainer) -> bool:
    """Whether there is nothing to train, with the reason put into the job."""
    if checkpoint is not None and checkpoint.finished:
        job.stopped_early = checkpoint.note
        return True
    if not trainer.any_process(job.clock.left() <= job.reserve):
        return False
    begun = "went on" if checkpoint is not None else "began"
    job.stopped_early = f"the time budget was spent before training {begun}"
    return True


def _unwrap(model: nn.Module) -> None:
    """Take off accelerate's autocast: outside training the model computes in the type of its weights again."""
    for module in model.modules():
        original = module.__dict__.pop("_original_forward", None)
        if original is not None:
            module.__dict__.pop("forward", None)
            if getattr(original, "__func__", None) is not type(module).forward:
                module.forward = original


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2
