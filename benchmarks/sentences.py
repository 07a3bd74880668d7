"""MiniLM trained on pairs by warmstart and by sentence-transformers' trainer: recall before and after, and wall time.

Pairs: (review title → review) of the sample reviews, and pairs of captions of one photograph (Flickr8k, in --data). The
same pairs, steps, batch, mini-batch, scale, peak rate, warm-up and precision on both sides; the rate is chosen for each
side from the same four on the validation pairs with seed 0. What else differs is each side's own default: warmstart's
rates fall with depth, its loss goes both ways, false negatives are masked, and it keeps its best checkpoint. Its time
is that of the whole training, evaluations and checkpoints included; the peer's has neither.
"""

from __future__ import annotations

import argparse
import csv
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import contract
import numpy as np
import torch

from warmstart.backbones.load import load_backbone
from warmstart.backbones.resolve import resolve
from warmstart.contrastive.ranking import ranks
from warmstart.contrastive.sentences import Judge, train_sentences
from warmstart.contrastive.settings import settings_from
from warmstart.core.clock import Clock
from warmstart.core.contrast_options import ContrastSentencesOptions
from warmstart.data.pairs import PairTask, Questions, load_pairs, questions

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
BATCH, PART, STEPS, LENGTH = 128, 32, 16, 128
RATES = (2e-5, 1e-4, 3e-4, 1e-3)
SEEDS = (0, 1, 2)
TRAIN, TEST = 2048, 2000


def task_of(data: str, folder: Path, seed: int) -> tuple[PairTask, ContrastSentencesOptions]:
    """2,048 pairs to learn from, 256 to choose by, 2,000 to judge by."""
    with tempfile.TemporaryDirectory() as place:
        values: dict[str, Any] = {"data": "sample:reviews", "anchor_column": "Title", "positive_column": "Review Text"}
        if data == "captions":
            values = {"anchor_column": "first", "positive_column": "second", "data": captions(folder, Path(place))}
        options = ContrastSentencesOptions(
            **values,
            drop_invalid=True,
            train_size=TRAIN + 256,
            validation_size=256,
            test_size=TEST,
            seed=seed,
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            mini_batch_size=PART,
            max_length=LENGTH,
            evaluations=3,
            output_dir="unused",
        )
        return load_pairs(options), options


def captions(folder: Path, place: Path) -> str:
    """The first two captions of every photograph as pairs."""
    found: dict[str, list[str]] = {}
    with (folder / "flickr8k" / "captions.tsv").open(encoding="utf-8", newline="") as file:
        for line in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            found.setdefault(line[0].partition("#")[0], []).append(line[-1])
    path = place / "captions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second"])
        writer.writerows(rows[:2] for rows in found.values() if len(rows) > 1)
    return str(path)


def ours(task: PairTask, options: ContrastSentencesOptions, rate: float, seed: int) -> dict[str, Any]:
    """Training by warmstart."""
    import dataclasses

    options = dataclasses.replace(options, learning_rate=rate)
    backbone = load_backbone(MODEL, max_length=LENGTH)
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        outcome = train_sentences(
            backbone,
            task.train,
            questions(task.validation),
            settings_from(options, seed, torch.device("cpu")),
            dimensions=(),
            work=Path(place),
            clock=Clock(),
            reserve=0.0,
        )
        seconds = time.perf_counter() - start
    scores = {name: found_ranks(outcome.encoder, backbone, part) for name, part in sides(task).items()}
    return {"seconds": seconds, **scores}


def sides(task: PairTask) -> dict[str, Questions]:
    return {"validation": questions(task.validation), "test": questions(task.test)}


def found_ranks(encoder: Any, backbone: Any, asked: Questions) -> list[int]:
    from warmstart.backbones.embed import forward

    inputs = [backbone.preprocessor.encode({"text": texts}) for texts in (asked.queries, asked.candidates)]
    first, second = (forward(encoder, rows, dtype=torch.float32).features for rows in inputs)
    return list(map(int, ranks(first, second, asked.positives)))


def theirs(task: PairTask, rate: float, seed: int, bf16: bool) -> dict[str, Any]:
    """Training by sentence-transformers' trainer with its cached loss."""
    import datasets
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = SentenceTransformer(str(resolve(MODEL).path), device="cpu")
    model.max_seq_length = LENGTH
    rows = datasets.Dataset.from_dict({"anchor": list(task.train.anchors), "positive": list(task.train.positives)})
    with tempfile.TemporaryDirectory() as place:
        args = SentenceTransformerTrainingArguments(
            output_dir=place,
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            learning_rate=rate,
            warmup_steps=0.1,
            weight_decay=0.01,
            batch_sampler="no_duplicates",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=bf16,
            use_cpu=True,
            seed=seed,
        )
        start = time.perf_counter()
        loss = CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=PART)
        SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss).train()
        seconds = time.perf_counter() - start
    model.eval()
    scores = {}
    for name, asked in sides(task).items():
        first, second = (
            model.encode(list(texts), normalize_embeddings=True) for texts in (asked.queries, asked.candidates)
        )
        scores[name] = list(map(int, ranks(first, second, asked.positives)))
    return {"seconds": seconds, **scores}


def recalls(found: list[int]) -> dict[str, float]:
    return {f"recall@{k}": float(np.mean(np.array(found) <= k)) for k in (1, 10)}


def train(side: str, task: PairTask, options: ContrastSentencesOptions, rate: float, seed: int) -> dict[str, Any]:
    if side == "ours":
        return ours(task, options, rate, seed)
    return theirs(task, rate, seed, settings_from(options, seed, torch.device("cpu")).bf16)


def rate_cell(data: str, side: str, rate: float) -> contract.Cell:
    """The validation score of one rate, seed 0."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        task, options = task_of(data, args.data, 0)
        found = train(side, task, options, rate, 0)
        score = float(np.mean(1 / np.array(found["validation"])))
        return {"rate": rate, "validation": score, "seconds": found["seconds"]}

    return measure


def chosen_rate(data: str, side: str) -> float:
    import json

    folder = contract.RESULTS / "sentences"
    cells = [json.loads((folder / f"{data}-{side}-rate{rate:g}.json").read_text()) for rate in RATES]
    return float(max(cells, key=lambda cell: cell["validation"])["rate"])


def before_cell(data: str) -> contract.Cell:
    def measure(args: argparse.Namespace) -> dict[str, Any]:
        backbone = load_backbone(MODEL, max_length=LENGTH)
        asked = questions(task_of(data, args.data, 0)[0].test)
        scores = Judge(asked, backbone.preprocessor)(backbone.encoder)
        return {
            **recalls(found_ranks(backbone.encoder, backbone, asked)),
            "reciprocal_rank": scores.reciprocal_rank.value,
        }

    return measure


def seed_cell(data: str, side: str, seed: int) -> contract.Cell:
    def measure(args: argparse.Namespace) -> dict[str, Any]:
        task, options = task_of(data, args.data, seed)
        rate = chosen_rate(data, side)
        found = train(side, task, options, rate, seed)
        return {"rate": rate, "seconds": found["seconds"], **recalls(found["test"]), "ranks": found["test"]}

    return measure


def report(found: dict[str, dict[str, Any]]) -> str:
    rows = []
    for data in ("reviews", "captions"):
        before = found.get(f"{data}-before")
        if before:
            rows.append([data, "before", f"{before['recall@1']:.3f}", f"{before['recall@10']:.3f}", "", ""])
        for side in ("ours", "theirs"):
            cells = [found[name] for name in (f"{data}-{side}-seed{seed}" for seed in SEEDS) if name in found]
            if cells:
                means = [f"{statistics.fmean(cell[name] for cell in cells):.3f}" for name in ("recall@1", "recall@10")]
                seconds = f"{statistics.median(cell['seconds'] for cell in cells):.0f}"
                rows.append([data, side, *means, seconds, difference(found, data) if side == "ours" else ""])
    head = ["pairs", "", "recall@1", "recall@10", "seconds", "recall@10 minus theirs, points [95 %]"]
    return contract.table(head, rows)


def difference(found: dict[str, dict[str, Any]], data: str) -> str:
    """Paired over queries: of each seed, and of all seeds together."""
    from warmstart.core.statistics import paired_difference

    hits = []
    for seed in SEEDS:
        pair = [found.get(f"{data}-{side}-seed{seed}") for side in ("ours", "theirs")]
        if pair[0] is not None and pair[1] is not None:
            hits.append([np.array(cell["ranks"]) <= 10 for cell in pair if cell is not None])
    gaps = [paired_difference(first[None], second[None], 0) for first, second in hits]
    texts = [f"{100 * apart.value:+.1f} [{100 * apart.low:+.1f}, {100 * apart.high:+.1f}]" for apart in gaps]
    if len(hits) > 1:
        least = min(len(first) for first, _ in hits)  # repeated texts leave some seeds a few queries fewer
        both = np.array([[side[:least] for side in pair] for pair in hits])  # (seeds, sides, queries)
        apart = paired_difference(both[:, 0], both[:, 1], 0)
        texts.append(f"all {100 * apart.value:+.2f} [{100 * apart.low:+.2f}, {100 * apart.high:+.2f}]")
    return "; ".join(texts)


CELLS: dict[str, contract.Cell] = {}
for _data in ("reviews", "captions"):
    CELLS[f"{_data}-before"] = before_cell(_data)
    for _rate in RATES:
        for _side in ("ours", "theirs"):
            CELLS[f"{_data}-{_side}-rate{_rate:g}"] = rate_cell(_data, _side, _rate)
    for _seed in SEEDS:
        for _side in ("ours", "theirs") if _seed % 2 == 0 else ("theirs", "ours"):
            CELLS[f"{_data}-{_side}-seed{_seed}"] = seed_cell(_data, _side, _seed)

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run("sentences", CELLS, report, __doc__)
