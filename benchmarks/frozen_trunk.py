"""Progressive unfreezing with the frozen-trunk cache against the same schedule without it: wall time and final weights.

MiniLM on labelled reviews, five epochs a stage. `top` opens the head and then the top three layers (300 rows to learn
from, 100 to validate by); `full` opens everything (half as many rows, so that a cell ends within ten minutes). Time is
that of the whole training, building the cache and evaluations included; the order of the two changes with the seed.
Final weights: distance between the two over the distance from the start.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
from pathlib import Path
from typing import Any

import contract
import numpy as np
import torch

from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.core.clock import Clock
from warmstart.core.options import DataOptions, TrainOptions
from warmstart.data.task import load_task
from warmstart.strategies.progressive import progressive
from warmstart.strategies.protocol import Context, Rows
from warmstart.strategies.table import settings_for

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
EPOCHS_A_STAGE = 5
SCHEDULES = {"top": (4, "head=0,layer.5=0.25,layer.4=0.5,layer.3=0.75"), "full": (8, "")}
ROWS = {"top": (300, 100), "full": (150, 50)}  # to learn from, to validate by
SEEDS = (0, 1, 2)


def full_schedule(groups: list[str]) -> str:
    """Every group in its turn, last to first, five epochs each."""
    last = list(reversed(groups))
    return ",".join(f"{name}={place / len(last):.6f}" for place, name in enumerate(last))


def training(seed: int, schedule: str, bf16: str, cache_gb: float) -> tuple[float, str, dict[str, torch.Tensor]]:
    """Seconds, what became of the cache, and the final weights."""
    learn, judge = ROWS[schedule]
    task = load_task(
        DataOptions(data="sample:reviews", drop_invalid=True, train_size=learn, test_size=judge, seed=seed)
    )
    backbone = load_backbone(model=MODEL)
    sides = [backbone.preprocessor.encode({"text": list(side["text"])}) for side in (task.labelled, task.test)]
    stages, unfreeze = SCHEDULES[schedule]
    if not unfreeze:
        names = ["embeddings", *(f"layer.{n}" for n in range(6)), "head"]
        stages, unfreeze = len(names), full_schedule(names)
    options = TrainOptions(
        unfreeze=unfreeze, num_train_epochs=EPOCHS_A_STAGE * stages, bf16=bf16, cache_gb=cache_gb, learning_rate=5e-5
    )
    settings = settings_for("progressive", "text", options, fast_bf16=True)
    features = forward(backbone.encoder, sides[0]).features
    empty = np.zeros((len(sides[1]), 0), dtype=np.float32)
    with tempfile.TemporaryDirectory() as place:
        clock = Clock()
        outcome = progressive(
            Context(
                backbone=backbone,
                modality="text",
                labels=task.card.labels,
                fit=Rows(sides[0], np.asarray(task.labelled["label"]), features),
                validation=Rows(sides[1], np.asarray(task.test["label"]), empty),
                settings=settings,
                seed=seed,
                work=Path(place),
                clock=clock,
                reserve=0.0,
            )
        )
        seconds = clock.spent()
    used = "" if outcome.settings is None else str(outcome.settings.get("frozen_trunk_cache", "off"))
    return seconds, used, {name: value.detach().clone() for name, value in outcome.model.state_dict().items()}


def cell(schedule: str, seed: int, bf16: str) -> contract.Cell:
    def measure(args: argparse.Namespace) -> dict[str, Any]:
        sizes = (0.0, 8.0) if seed % 2 == 0 else (8.0, 0.0)
        found = {size: training(seed, schedule, bf16, size) for size in sizes}
        start = load_backbone(model=MODEL).encoder.state_dict()
        plain, kept = found[0.0][2], found[8.0][2]
        trunk = [name for name in plain if name in start and not name.startswith("head")]
        apart = sum(float((plain[name] - kept[name]).norm() ** 2) for name in trunk) ** 0.5
        moved = sum(float((plain[name] - start[name]).norm() ** 2) for name in trunk) ** 0.5
        return {
            "seconds_without": found[0.0][0],
            "seconds_with": found[8.0][0],
            "ratio": found[8.0][0] / found[0.0][0],
            "cache": found[8.0][1],
            "bf16": bf16,
            "weights_apart": apart / moved,
        }

    return measure


def report(found: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            name,
            f"{values['seconds_without']:.0f}",
            f"{values['seconds_with']:.0f}",
            f"{values['ratio']:.2f}",
            values["cache"],
            f"{values['weights_apart']:.1e}",
        ]
        for name, values in found.items()
    ]
    for group in sorted({name.rpartition("-seed")[0] for name in found}):
        ratios = [values["ratio"] for name, values in found.items() if name.startswith(f"{group}-seed")]
        rows.append([f"{group}, median", "", "", f"{statistics.median(ratios):.2f}", "", ""])
    head = ["cell", "seconds without", "seconds with", "ratio (top ≤ 0.5, full ≤ 0.85)", "cache", "weights apart"]
    return contract.table(head, rows)


CELLS: dict[str, contract.Cell] = {
    **{f"top-fp32-seed{seed}": cell("top", seed, "false") for seed in SEEDS},
    **{f"full-fp32-seed{seed}": cell("full", seed, "false") for seed in SEEDS},
    **{f"top-bf16-seed{seed}": cell("top", seed, "true") for seed in SEEDS[:1]},
}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run("frozen_trunk", CELLS, report, __doc__)
