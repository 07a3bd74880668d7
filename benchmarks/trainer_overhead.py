"""What warmstart's Trainer adds to a step of transformers' own Trainer: one rate for all, the same model and rows.

MiniLM, rows of exactly 64 tokens, batches of 16, float32. Both trainers run in turn, four times each; a run's figure is
the median of its steps (from one step's begin to the next), and the first ten steps of a run do not count.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import contract
import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from warmstart.backbones.groups import layer_groups
from warmstart.backbones.load import load_backbone
from warmstart.backbones.text_inputs import TokenInputs
from warmstart.core.clock import Clock
from warmstart.train.arguments import Length, training_arguments
from warmstart.train.fit import fit
from warmstart.train.job import LossPlan, Rows, TrainJob
from warmstart.train.rates import RatePlan
from warmstart.train.trainer import WarmstartTrainer

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
STEPS, WARM, BATCH, TOKENS, TURNS = 50, 10, 16, 64, 4


class Steps(TrainerCallback):
    """The moment at which each step begins."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        self.moments.append(time.perf_counter())

    def median(self) -> float:
        """Seconds of the middle step."""
        return statistics.median(np.diff(self.moments)[WARM:].tolist())


def rows(seed: int) -> TokenInputs:
    draw = np.random.default_rng(seed).integers(1000, 20000, (BATCH * STEPS, TOKENS)).tolist()
    return TokenInputs(draw, None, 0, np.full(len(draw), TOKENS))


def plain(seed: int) -> float:
    """Transformers' own Trainer."""
    backbone, inputs = load_backbone(model=MODEL), rows(seed)
    model = backbone.classifier(("a", "b"), "text")
    labels = torch.arange(len(inputs)) % 2
    watch = Steps()

    def collate(chosen: list[int]) -> dict[str, torch.Tensor]:
        return {**inputs.batch(chosen), "labels": labels[chosen]}

    with tempfile.TemporaryDirectory() as place:
        args = TrainingArguments(
            output_dir=place, learning_rate=1e-5, max_steps=STEPS, per_device_train_batch_size=BATCH,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, seed=seed,
            weight_decay=0.01, warmup_steps=0.1, remove_unused_columns=False, dataloader_pin_memory=False,
        )  # fmt: skip
        places: Any = list(range(len(inputs)))
        Trainer(model=model, args=args, train_dataset=places, data_collator=collate, callbacks=[watch]).train()
    return watch.median()


def ours(seed: int) -> float:
    """Warmstart's, with one rate for all groups."""
    backbone, inputs = load_backbone(model=MODEL), rows(seed)
    model = backbone.classifier(("a", "b"), "text")
    labels = np.arange(len(inputs)) % 2
    watch = Steps()
    few = Rows(TokenInputs(inputs.ids[:2], None, 0, inputs.lengths[:2]), labels[:2])
    job = TrainJob(
        train=Rows(inputs, labels),
        validation=few,
        groups=layer_groups(model, head="head"),
        rates=RatePlan(1e-5, 1.0, 1e-5),
        loss=LossPlan(),
        metric="accuracy",
        clock=Clock(),
    )
    original = WarmstartTrainer.__init__

    def watched(self: WarmstartTrainer, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.add_callback(watch)

    with tempfile.TemporaryDirectory() as place:
        args = training_arguments(
            Path(place), Length(1, STEPS, BATCH, 1), len(inputs), seed=seed, bf16=False, metric_evaluations=1,
            device=torch.device("cpu"),
        )  # fmt: skip
        args.logging_steps = STEPS
        WarmstartTrainer.__init__ = watched  # type: ignore[method-assign]
        try:
            fit(model, args, job)
        finally:
            WarmstartTrainer.__init__ = original  # type: ignore[method-assign]
    return watch.median()


def uniform(args: argparse.Namespace) -> dict[str, Any]:
    pairs = []
    for turn in range(TURNS):
        sides = [("plain", plain), ("warmstart", ours)]
        pairs.append({name: run(turn) for name, run in (sides if turn % 2 == 0 else sides[::-1])})
    medians = {name: statistics.median(pair[name] for pair in pairs) for name in ("plain", "warmstart")}
    return {"turns": pairs, **medians, "ratio": medians["warmstart"] / medians["plain"]}


def report(found: dict[str, dict[str, Any]]) -> str:
    head = ["cell", "plain Trainer, ms a step", "warmstart, ms a step", "ratio (≤ 1.03)"]
    lines = [
        [name, f"{1e3 * v['plain']:.1f}", f"{1e3 * v['warmstart']:.1f}", f"{v['ratio']:.3f}"]
        for name, v in found.items()
    ]
    return contract.table(head, lines)


CELLS: dict[str, contract.Cell] = {"uniform": uniform}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run("trainer_overhead", CELLS, report, __doc__)
