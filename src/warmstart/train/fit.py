"""One training from start, or from its last whole checkpoint, to the best checkpoint loaded."""

from __future__ import annotations

import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import EarlyStoppingCallback, TrainingArguments

from warmstart.core.errors import OutputError
from warmstart.core.records import Point
from warmstart.train.checkpoints import last_complete
from warmstart.train.trainer import TrainJob, WarmstartTrainer


@dataclass(frozen=True)
class Trained:
    """What a training gave, besides the model that it changed."""

    history: tuple[Point, ...]
    best_score: float
    steps: int
    note: str


def fit(model: nn.Module, args: TrainingArguments, job: TrainJob, patience: int | None = None) -> Trained:
    """Train a model in place; its best checkpoint by the job's metric is loaded at the end.

    Goes on from the last whole checkpoint in `args.output_dir`, if there is one.

    Raises:
        OutputError: when a checkpoint cannot be written.
        WarmstartError: when the loss stops being finite.
    """
    folder = Path(str(args.output_dir))
    _drop_broken(folder)
    trainer = WarmstartTrainer(model, args, job)
    if patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=patience))
    checkpoint = last_complete(folder)
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint[0]))
    except OSError as error:
        raise OutputError(f"A checkpoint could not be written to {folder}: {error.strerror or error}.") from error
    _unwrap(model)
    best = trainer.state.best_metric
    return Trained(
        history=trainer.history(),
        best_score=float("nan") if best is None else float(best),
        steps=int(trainer.state.global_step),
        note=job.stopped_early,
    )


def _unwrap(model: nn.Module) -> None:
    """Take off accelerate's autocast: outside training the model computes in the type of its weights again."""
    for module in model.modules():
        module.__dict__.pop("_original_forward", None)
        module.__dict__.pop("forward", None)


def _drop_broken(folder: Path) -> None:
    """Remove checkpoints that a killed process left half written, so that nothing can mistake them for whole ones."""
    for path in folder.glob("checkpoint-*"):
        if not (path / "complete.json").is_file():
            shutil.rmtree(path, ignore_errors=True)


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2
