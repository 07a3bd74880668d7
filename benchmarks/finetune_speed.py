"""Wall time to the validation score that a plain Trainer script reaches, and the time of equally many steps.

The plain script is what the documentation of transformers shows: AutoModelForSequenceClassification, Trainer, dynamic
padding, length grouping, an evaluation per epoch. Both sides use the same model, 2,000 labels, peak learning rate,
epochs, batch size and bfloat16; the plain script's rate is the best of three on the validation rows, tuned on seed 0.
What else is each side's own default: warmstart starts from the probe and judges a moving average of the weights.
Time runs from tokenised rows and loaded weights to the first evaluation that reaches the score, evaluations included;
warmstart's includes embedding the rows and solving the probe that it starts from.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import contract
import numpy as np
import torch

from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.backbones.resolve import resolve
from warmstart.core.clock import Clock
from warmstart.core.options import DataOptions, TrainOptions
from warmstart.data.task import load_task
from warmstart.strategies.fine_tune import fine_tune
from warmstart.strategies.protocol import Context, Rows
from warmstart.strategies.table import settings_for

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
EPOCHS, BATCH = 3, 16
RATES = (5e-5, 1e-4, 2e-4)
SEEDS = (0, 1, 2)


def rows_of(seed: int) -> tuple[Any, Any, Any]:
    """2,000 rows to fit and 2,000 to validate by."""
    options = DataOptions(data="sample:reviews", drop_invalid=True, train_size=2000, test_size=2000, seed=seed)
    task = load_task(options)
    return task.labelled, task.test, task.card.labels


def plain(seed: int, rate: float) -> dict[str, Any]:
    """The plain script: score and seconds after each epoch."""
    import datasets
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    fit, validation, labels = rows_of(seed)
    folder = resolve(MODEL).path
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(rows: Any) -> datasets.Dataset:
        tokens = tokenizer(list(rows["text"]), truncation=True, max_length=256)
        return datasets.Dataset.from_dict({**tokens, "labels": list(rows["label"])})

    train, evaluate = encode(fit), encode(validation)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels))
    course: list[tuple[float, float]] = []

    class Watch(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            course.append((time.perf_counter() - start, float(metrics["eval_accuracy"])))

    with tempfile.TemporaryDirectory() as place:
        args = TrainingArguments(
            output_dir=place,
            learning_rate=rate,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            train_sampling_strategy="group_by_length",
            warmup_steps=0.1,
            weight_decay=0.01,
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=True,
            use_cpu=True,
            seed=seed,
        )
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=train,
            eval_dataset=evaluate,
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
            callbacks=[Watch()],
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    return {"rate": rate, "course": course, "score": course[-1][1], "seconds": seconds}


def ours(seed: int, rate: float) -> dict[str, Any]:
    """Warmstart's fine_tune at the same peak rate, epochs, batch and precision."""
    fit, validation, labels = rows_of(seed)
    backbone = load_backbone(model=MODEL)
    inputs = [backbone.preprocessor.encode({"text": list(side["text"])}) for side in (fit, validation)]
    options = TrainOptions(learning_rate=rate, num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, bf16="true")
    settings = settings_for("fine_tune", "text", options, fast_bf16=True)
    with tempfile.TemporaryDirectory() as place:
        clock = Clock()
        features = forward(backbone.encoder, inputs[0]).features
        empty = np.zeros((len(inputs[1]), 0), dtype=np.float32)
        context = Context(
            backbone=backbone,
            modality="text",
            labels=labels,
            fit=Rows(inputs[0], np.asarray(fit["label"]), features),
            validation=Rows(inputs[1], np.asarray(validation["label"]), empty),
            settings=settings,
            seed=seed,
            work=Path(place),
            clock=clock,
            reserve=0.0,
        )
        outcome = fine_tune(context)
        seconds = clock.spent()
    course = [
        (point.seconds, point.validation_score) for point in outcome.history if point.validation_score is not None
    ]
    return {"rate": rate, "course": course, "score": course[-1][1], "seconds": seconds}


def reached(course: list[tuple[float, float]], score: float) -> float | None:
    return next((seconds for seconds, value in course if value >= score), None)


def tune(args: argparse.Namespace) -> dict[str, Any]:
    """The plain script's best rate, on seed 0."""
    runs = [plain(0, rate) for rate in RATES]
    return {"runs": runs, "rate": max(runs, key=lambda run: run["score"])["rate"]}


def cell(seed: int) -> contract.Cell:
    def measure(args: argparse.Namespace) -> dict[str, Any]:
        rate = json.loads((contract.RESULTS / "finetune_speed" / "tune.json").read_text())["rate"]
        base, own = plain(seed, rate), ours(seed, rate)
        to_score = reached(own["course"], base["score"])
        return {
            "rate": rate,
            "plain": base,
            "warmstart": own,
            "seconds_to_score": to_score,
            "ratio_to_score": None if to_score is None else to_score / reached(base["course"], base["score"]),
            "ratio_whole": own["seconds"] / base["seconds"],  # with the interpolation of weights that follows
        }

    return measure


def report(found: dict[str, dict[str, Any]]) -> str:
    rows = []
    seeds = {name: values for name, values in found.items() if name.startswith("seed")}
    for name, values in seeds.items():
        ratio = values["ratio_to_score"]
        rows.append(
            [
                name,
                f"{values['rate']:.0e}",
                f"{values['plain']['score']:.4f}",
                f"{values['warmstart']['score']:.4f}",
                f"{values['plain']['seconds']:.0f}",
                "never" if values["seconds_to_score"] is None else f"{values['seconds_to_score']:.0f}",
                "–" if ratio is None else f"{ratio:.2f}",
                f"{values['warmstart']['course'][-1][0] / values['plain']['course'][-1][0]:.2f}",
            ]
        )
    ratios = [values["ratio_to_score"] for values in seeds.values() if values["ratio_to_score"] is not None]
    if ratios:
        rows.append(["median", "", "", "", "", "", f"{statistics.median(ratios):.2f}", ""])
    head = [
        "cell",
        "rate",
        "plain score",
        "our score",
        "plain s",
        "our s to its score",
        "ratio (≤ 0.67)",
        "equal steps",
    ]
    return contract.table(head, rows)


CELLS: dict[str, contract.Cell] = {"tune": tune, **{f"seed{seed}": cell(seed) for seed in SEEDS}}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run("finetune_speed", CELLS, report, __doc__)
