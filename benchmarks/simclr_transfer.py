"""A small ViT pretrained by `contrast simclr` on photographs without labels, then adapted to satellite scenes.

Pretraining: the Flickr8k photographs, 48 pixels, random weights; one run in cells of at most nine minutes, each going
on where the last one stopped. Adapting: RSSCN7 with 28, 112 and 448 labels, 1,400 other scenes as test, the same
passes over the labels for every arm. Arms: `scratch` (the same network, random weights), and from the pretrained ones
`uniform` (one rate), `layer_decay` (rates fall by .8 a group) and `progressive` (the same, groups opening last to
first). A `-tune` cell finds each arm's peak rate on the validation rows of seed 0 with 448 labels, the same number of
rates for all. Every seed draws its own rows; intervals are a paired bootstrap over seeds and test rows.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contract
import numpy as np

import warmstart
from warmstart.core.contrast import ContrastRecord
from warmstart.core.options import AdaptOptions
from warmstart.core.statistics import paired_difference
from warmstart.data.task import load_task

NAME = "simclr_transfer"
WORK = contract.RESULTS / NAME / "work"  # not committed
VIT = {
    "model_type": "vit",
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "image_size": 48,
    "patch_size": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
EPOCHS, PRETRAIN_CELLS, CELL_SECONDS = 40, 8, 540
ARMS = ("scratch", "uniform", "layer_decay", "progressive")
RATES = (3e-4, 1e-3, 3e-3)
LABELS = (28, 112, 448)
SEEDS = (0, 1, 2)
TEST = 1400
PASSES = 40  # over the labelled rows


@contextlib.contextmanager
def interrupted_after(seconds: int) -> Iterator[None]:
    """Within it, the work is interrupted as by Ctrl-C when the time is over."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pretrain(args: argparse.Namespace) -> dict[str, Any]:
    """Begin the one pretraining, or go on with it; what came of it, once it has ended."""
    model = WORK / "pretrained"
    if not (model / "results.json").is_file():
        WORK.mkdir(parents=True, exist_ok=True)
        (WORK / "vit.json").write_text(json.dumps(VIT))
        try:
            with interrupted_after(CELL_SECONDS):
                warmstart.contrast_simclr(
                    images=str(args.data / "flickr8k" / "images"),
                    model=str(WORK / "vit.json"),
                    from_scratch=True,
                    pooling="mean",
                    augmentation="cifar",
                    learning_rate=2e-3,
                    head_learning_rate=2e-3,
                    temperature=0.1,
                    num_train_epochs=EPOCHS,
                    per_device_train_batch_size=128,
                    mini_batch_size=128,
                    weight_decay=0.05,
                    evaluations=40,
                    test_size=800,
                    validation_size=400,
                    output_dir=str(model),
                    resume=(model.with_name("pretrained.running") / "run.json").is_file(),
                    seed=0,
                )
        except KeyboardInterrupt:
            gc.collect()  # with the interrupted run its hold on the folder goes
            return {"ended": False}
    record = ContrastRecord.from_json((model / "results.json").read_text())
    course = [[p.step, p.loss, p.validation_score, p.effective_rank] for p in record.history]
    return {
        "ended": True,
        "seconds": record.seconds,
        "steps": record.steps,
        "before": record.before.to_dict(),
        "after": record.after.to_dict(),
        "alarms": [alarm.message for alarm in record.alarms],
        "course": course,
    }


def settings(arm: str, rate: float, folder: Path) -> dict[str, Any]:
    """What an arm is trained with; moving averages, smoothing and augmentation are the same for all."""
    decayed = arm in ("layer_decay", "progressive")
    strategy = {"scratch": "scratch", "progressive": "progressive"}.get(arm, "fine_tune")
    return {
        "model": str(WORK / "pretrained"),
        "strategy": strategy,
        "learning_rate": rate,
        "layer_decay": 0.8 if decayed else 1.0,
        "head_learning_rate": max(rate, 1e-3) if decayed else rate,
        "num_train_epochs": PASSES,
        "weight_decay": 0.05,
        "reference_data": "none",
        "test_size": TEST,
        "cache_dir": str(folder / "cache"),
        "output_dir": str(folder / "out"),
    }


def adapt(data: Path, arm: str, rate: float, labels: int, seed: int, **more: Any) -> dict[str, Any]:
    """One `adapt`: its validation score, and which test rows it has right, as a string of 0 and 1."""
    if not (WORK / "pretrained" / "results.json").is_file():
        raise SystemExit("The pretraining has not ended: run its cells again.")
    with tempfile.TemporaryDirectory() as place:
        options = {
            **settings(arm, rate, Path(place)),
            "data": str(data / "rsscn7"),
            "train_size": labels,
            "seed": seed,
            **more,
        }
        record = warmstart.adapt(**options).record
        run = record.run_of(record.chosen)
        rows = load_task(AdaptOptions(**options)).test
        found = warmstart.load(Path(place) / "out").probabilities(rows["image"]).argmax(1)
        probe = record.run_of("linear_probe").test
        return {
            "rate": rate,
            "validation": run.validation,
            "right": "".join("1" if hit else "0" for hit in found == np.asarray(rows["label"])),
            "probe": None if probe is None else probe.accuracy.value,
            "seconds": run.seconds,
        }


def tune(arm: str) -> contract.Cell:
    """The peak rate of an arm, by the validation rows of seed 0."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        found = {f"{rate:g}": adapt(args.data, arm, rate, 448, 0, validation_size=0.25)["validation"] for rate in RATES}
        return {"tried": found, "rate": float(max(found, key=lambda rate: found[rate] or 0.0))}

    return measure


def seed_cell(labels: int, seed: int) -> contract.Cell:
    """Every arm at its own rate."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        found = {}
        for arm in ARMS:
            rate = json.loads((contract.RESULTS / NAME / f"tune-{arm}.json").read_text())["rate"]
            found[arm] = adapt(args.data, arm, rate, labels, seed)
        return found

    return measure


def hits(cells: list[dict[str, Any]], arm: str) -> np.ndarray:
    """Which rows were right, (seeds, rows)."""
    return np.array([[mark == "1" for mark in cell[arm]["right"]] for cell in cells])


def report(found: dict[str, dict[str, Any]]) -> str:
    """Pretraining in a line, then a table of arms."""
    ended = [cell for name, cell in found.items() if name.startswith("pretrain") and cell["ended"]]
    lines = []
    if ended:
        one = ended[0]
        before, after = (100 * one[when]["recall_at_1"]["value"] for when in ("before", "after"))
        lines += [
            f"Pretraining: {one['steps']} steps in {one['seconds']:.0f} s; a view finds the other of its image first "
            f"among those of {one['after']['queries']}: {before:.1f} % before, {after:.1f} % after.",
            "",
        ]
    rows = []
    for labels in LABELS:
        cells = [cell for name, cell in found.items() if name.startswith(f"labels{labels}-seed")]
        for arm in ARMS if cells else ():
            own = hits(cells, arm)
            texts = [_gap(own, hits(cells, other)) if arm != other else "" for other in ("scratch", "uniform")]
            rows.append([str(labels), arm, f"{cells[0][arm]['rate']:g}", f"{own.mean():.3f}", *texts])
        if cells:
            probe = np.mean([cell["uniform"]["probe"] for cell in cells])
            rows.append([str(labels), "linear probe", "", f"{probe:.3f}", "", ""])
    head = ["labels", "arm", "peak rate", "test accuracy", "minus scratch, points [95 %]", "minus uniform"]
    return "\n".join([*lines, contract.table(head, rows)])


def _gap(first: np.ndarray, second: np.ndarray) -> str:
    apart = paired_difference(first, second, 0)
    return f"{100 * apart.value:+.1f} [{100 * apart.low:+.1f}, {100 * apart.high:+.1f}]"


CELLS: dict[str, contract.Cell] = {f"pretrain-{part}": pretrain for part in range(1, PRETRAIN_CELLS + 1)}
CELLS |= {f"tune-{arm}": tune(arm) for arm in ARMS}
CELLS |= {f"labels{labels}-seed{seed}": seed_cell(labels, seed) for labels in LABELS for seed in SEEDS}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run(NAME, CELLS, report, __doc__, timed=False)
