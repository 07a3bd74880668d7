"""A small SimCLR training; run with torchrun, one over several processes.

torchrun --nproc_per_node N simclr_training.py MODEL IMAGES FOLDER writes the course that each process saw.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from warmstart.backbones.random_start import random_backbone
from warmstart.contrastive.fitting import ContrastOutcome
from warmstart.contrastive.settings import ContrastSettings, settings_from
from warmstart.contrastive.simclr import train_simclr
from warmstart.contrastive.view_rows import ViewRows, ViewSource
from warmstart.contrastive.views import PRESETS
from warmstart.core.clock import Clock
from warmstart.core.contrast_options import ContrastSimclrOptions
from warmstart.data.decoded import DecodedImages
from warmstart.data.images import load_images


def options(model: Path, images: Path, **changes: Any) -> ContrastSimclrOptions:
    values: dict[str, Any] = {
        "learning_rate": 1e-3,
        "layer_decay": 1.0,
        "head_learning_rate": 2e-3,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 24,
        "mini_batch_size": 12,
        "test_size": 0.2,
        "validation_size": 0.2,
        "bf16": "false",
        "seed": 3,
        "output_dir": "unused",
    }
    return ContrastSimclrOptions(model=str(model), images=str(images), **{**values, **changes})


def settings(model: Path, images: Path, **changes: Any) -> ContrastSettings:
    return settings_from(options(model, images, **changes), 3, torch.device("cpu"))


def sources(model: Path, images: Path, work: Path) -> list[ViewSource]:
    """Images to learn from and to choose by."""
    task = load_images(options(model, images))
    preprocessor: Any = random_backbone(str(model), 3).preprocessor
    return [
        ViewSource(DecodedImages(part.pictures, 40, work), part.ids, preprocessor, PRESETS["mild"], 3)
        for part in (task.train, task.validation)
    ]


def rows_of(model: Path, images: Path, work: Path, part: int) -> ViewRows:
    return ViewRows(sources(model, images, work)[0], part)


def train(
    model: Path, images: Path, work: Path, clock: Clock | None = None, pretrained: bool = False, **changes: Any
) -> ContrastOutcome:
    chosen = settings(model, images, **changes)
    train_source, validation = sources(model, images, work)
    return train_simclr(
        random_backbone(str(model), 3),
        ViewRows(train_source, chosen.options.mini_batch_size),
        validation,
        chosen,
        pretrained=pretrained,
        work=work / "training",
        clock=Clock() if clock is None else clock,
        reserve=0.0,
    )


def course(found: ContrastOutcome) -> list[list[float | None]]:
    """Step, loss and validation score of every point."""
    return [[point.step, point.loss, point.validation_score] for point in found.history]


def weights(found: ContrastOutcome) -> float:
    return float(sum(p.detach().double().abs().sum() for p in found.encoder.backbone.parameters()))


if __name__ == "__main__":
    model, images, folder = (Path(argument) for argument in sys.argv[1:])
    world = int(os.environ["WORLD_SIZE"])
    found = train(model, images, folder, per_device_train_batch_size=24 // world, projection_norm="none")
    text = json.dumps({"world": found.processes, "course": course(found), "weights": weights(found)})
    (folder / f"{os.environ['RANK']}.json").write_text(text)
