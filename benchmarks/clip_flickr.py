"""EfficientNet-Lite0 and MiniLM brought together on Flickr8k: recall on 1,000 test images, temperatures, and zero-shot.

Three cells in a row, each going on from the folder that the last one wrote: both trunks locked (heads alone), the text
tower open, then the upper image tower too. Their seconds are those of the whole verb: reading, features, training,
judging, saving. The temperatures are swept with both trunks locked, from features that are computed once. The class
names of the satellite scenes (RSSCN7) are then asked of each of the three, on all 2,800 images, whatever it gives.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import contract
import numpy as np
from PIL import Image

from warmstart.backbones.embed import forward
from warmstart.backbones.label_names import IMAGE_TEMPLATES, embed_names
from warmstart.backbones.load import load_backbone
from warmstart.backbones.resolve import cache_root
from warmstart.core.contrast import ContrastRecord, RankScores
from warmstart.verbs.contrast_clip import contrast_clip

VISION, TEXT = "EfficientNet-Lite0", "sentence-transformers/all-MiniLM-L6-v2"
SIZE, TEST, VALIDATION, BATCH, SEED = 224, 1000, 500, 512, 0
BUDGET = 570.0  # seconds of a cell
STAGES = ("locked", "text", "both")
TEMPERATURES = (0.01, 0.02, 0.05, 0.07, 0.1, 0.2)
SWEEP_EPOCHS = 3
OPEN = ",".join(f"vision/{name}=0" for name in ("blocks.13", "blocks.14", "blocks.15", "final"))
OPEN += "," + ",".join(f"text/layer.{layer}=0" for layer in range(6)) + ",text/final=0,joint/head=0"
SETTINGS: dict[str, dict[str, Any]] = {
    "locked": {"lock": "both", "num_train_epochs": 5, "per_device_train_batch_size": BATCH},
    "text": {
        "lock": "vision",
        "num_train_epochs": 1,
        "per_device_train_batch_size": 256,
        "mini_batch_size": 64,  # captions of like length together: less padding than it costs to encode twice
        "learning_rate": 3e-5,
        "layer_decay": 0.8,
    },
    "both": {
        "max_steps": 40,
        "per_device_train_batch_size": 256,
        "learning_rate": 3e-5,
        "layer_decay": 0.8,
        "unfreeze": OPEN,
        "evaluations": 2,
    },
}


def place(stage: str) -> Path:
    """Where a stage's model is kept for the next one: not among the results."""
    return cache_root() / "benchmarks" / "clip_flickr" / stage


def train(data: Path, out: Path, **changes: Any) -> ContrastRecord:
    """One run of the verb on the same splits; a batch in one piece, so encoded once, unless `changes` say otherwise."""
    batch = changes["per_device_train_batch_size"]
    values: dict[str, Any] = {
        "images": str(data / "flickr8k" / "images"),
        "captions": str(data / "flickr8k" / "captions.tsv"),
        "image_size": SIZE,
        "test_size": TEST,
        "validation_size": VALIDATION,
        "mini_batch_size": batch,
        "seed": SEED,
        "time_budget": BUDGET,
        "output_dir": str(out),
        "overwrite": True,
    }
    return contrast_clip(**values | changes).record


def recalls(scores: RankScores | None) -> dict[str, Any]:
    if scores is None or scores.recall_at_5 is None:
        raise ValueError("an image-text run has both directions")
    kept = (scores.recall_at_1, scores.recall_at_5, scores.recall_at_10)
    found = {f"recall@{k}": [one.value, one.low, one.high] for k, one in zip((1, 5, 10), kept, strict=True)}
    return {**found, "reciprocal_rank": scores.reciprocal_rank.value}


def summary(record: ContrastRecord) -> dict[str, Any]:
    points = [point for point in record.history if point.scale is not None]
    return {
        "settings": record.settings,
        "images": record.data.images,
        "text_to_image": recalls(record.after),
        "image_to_text": recalls(record.image_to_text_after),
        "before": recalls(record.before),
        "seconds": record.seconds,
        "steps": record.steps,
        "note": record.note,
        "scale": points[-1].scale if points else None,
        "alarms": [alarm.kind for alarm in record.alarms],
        "peak_memory_mb": record.peak_memory_mb,
    }


def stage_cell(stage: str) -> contract.Cell:
    def measure(args: argparse.Namespace) -> dict[str, Any]:
        number = STAGES.index(stage)
        towers: dict[str, Any] = {"vision_model": VISION, "text_model": TEXT}
        if number:
            start = place(STAGES[number - 1])
            if not (start / "results.json").is_file():
                sys.exit(f"The cell {stage} goes on from {STAGES[number - 1]}: run it first (--cell).")
            towers = {"model": str(start)}
        return summary(train(args.data, place(stage), **towers, **SETTINGS[stage]))

    return measure


def temperature_cell(temperature: float | None) -> contract.Cell:
    """A fixed temperature, or the learnt one that starts at 0.07."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        chosen = {"lock": "both", "num_train_epochs": SWEEP_EPOCHS, "per_device_train_batch_size": BATCH}
        fixed = {} if temperature is None else {"temperature": temperature, "learn_temperature": False}
        towers = {"vision_model": VISION, "text_model": TEXT}
        with tempfile.TemporaryDirectory() as folder:
            return summary(train(args.data, Path(folder) / "out", **towers, **chosen, **fixed))

    return measure


class Files:
    """Images by number, opened when asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> Image.Image:
        return Image.open(self._paths[row])


def zero_shot_cell(stage: str) -> contract.Cell:
    def measure(args: argparse.Namespace) -> dict[str, Any]:
        if not (place(stage) / "results.json").is_file():
            sys.exit(f"The model of the cell {stage} is not there: run it first (--cell {stage}).")
        backbone = load_backbone(str(place(stage)))
        files = sorted((args.data / "rsscn7").glob("*/*.jpg"))
        names = sorted({file.parent.name for file in files})
        labels = np.array([names.index(file.parent.name) for file in files])
        inputs = backbone.preprocessor.encode({"image": Files(files)})
        if backbone.embed_labels is None:
            raise ValueError("a pair embeds names")
        weights = embed_names(backbone.embed_labels, names, IMAGE_TEMPLATES).numpy()
        answers = (forward(backbone.encoder, inputs).features @ weights.T).argmax(1)
        by_name = {name: float((answers[labels == k] == k).mean()) for k, name in enumerate(names)}
        return {"images": len(files), "accuracy": float((answers == labels).mean()), "by_name": by_name}

    return measure


def report(found: dict[str, dict[str, Any]]) -> str:
    ways = ("text_to_image", "image_to_text")
    head = ["", *(f"{way.replace('_to_', '→')} @{k}" for way in ways for k in (1, 5, 10)), "seconds", "steps", "scale"]
    names = [*STAGES, *(f"temperature-{value:g}" for value in TEMPERATURES), "temperature-learnt"]
    rows = []
    for name in names:
        if name in found:
            cell = found[name]
            values = [f"{cell[way][f'recall@{k}'][0]:.3f}" for way in ways for k in (1, 5, 10)]
            rows.append([name, *values, f"{cell['seconds']:.0f}", str(cell["steps"]), f"{cell['scale']:.1f}"])
    lines = [contract.table(head, rows)]
    asked = [[stage, f"{100 * found[f'zero-shot-{stage}']['accuracy']:.1f}"] for stage in STAGES
             if f"zero-shot-{stage}" in found]  # fmt: skip
    if asked:
        lines += ["", contract.table(["zero-shot RSSCN7, 7 names", "accuracy, %"], asked)]
    return "\n".join(lines)


CELLS: dict[str, contract.Cell] = {stage: stage_cell(stage) for stage in STAGES}
CELLS |= {f"temperature-{value:g}": temperature_cell(value) for value in TEMPERATURES}
CELLS["temperature-learnt"] = temperature_cell(None)
CELLS |= {f"zero-shot-{stage}": zero_shot_cell(stage) for stage in STAGES}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run("clip_flickr", CELLS, report, __doc__)
