"""Run by test_sentences.py with torchrun: a contrastive training over several processes.

torchrun --nproc_per_node N training.py MODEL DATA FOLDER writes the course that each process saw.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from warmstart.backbones.load import load_backbone
from warmstart.contrastive.fitting import ContrastOutcome
from warmstart.contrastive.sentences import train_sentences
from warmstart.contrastive.settings import settings_from
from warmstart.core.clock import Clock
from warmstart.core.contrast_options import ContrastSentencesOptions
from warmstart.data.pairs import load_pairs, questions


def train(model: str, data: str, work: Path, clock: Clock | None = None, **changes: Any) -> ContrastOutcome:
    """Train a tiny model on the toy pairs, without dropout."""
    import torch

    values: dict[str, Any] = {
        "anchor_column": "question",
        "positive_column": "answer",
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 24,
        "mini_batch_size": 8,
        "num_train_epochs": 3,
        "bf16": "false",
        "dropout": 0.0,
        "seed": 3,
        "output_dir": "unused",
    }
    options = ContrastSentencesOptions(data=data, **{**values, **changes})
    task = load_pairs(options)
    backbone = load_backbone(model)
    return train_sentences(
        backbone,
        task.train,
        questions(task.validation),
        settings_from(options, options.seed, torch.device("cpu")),
        dimensions=(),
        work=work,
        clock=Clock() if clock is None else clock,
        reserve=0.0,
    )


if __name__ == "__main__":
    model, data, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    world = int(os.environ["WORLD_SIZE"])
    found = train(model, data, folder / "work", per_device_train_batch_size=24 // world)
    course = [[point.step, point.loss, point.validation_score] for point in found.history]
    weights = float(sum(p.double().abs().sum() for p in found.encoder.backbone.parameters()))
    text = json.dumps({"world": found.processes, "course": course, "weights": weights})
    (folder / f"{os.environ['RANK']}.json").write_text(text)
