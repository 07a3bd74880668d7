"""Pairs per second and peak memory of a contrastive step against sentence-transformers' cached loss, with MiniLM.

Both sides see the same (title → review) pairs in the same batches, in float32, with dropout on, the same mini-batch
size, scale and AdamW. Each cell is a process of its own, so that peak memory is its own; the sides alternate. At batch
256 the first step does not count; at 2,048 one step is timed, of at least a hundred forward passes. The loss curve
compares the losses of the same batches with dropout off.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import contract
import torch

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PART = 32
STEPS = {256: 3, 2048: 1}  # of a run; where there are several, the first does not count
REPEATS = {256: 3, 2048: 1}
RATE = 2e-5


def texts(rows: int) -> tuple[list[str], list[str]]:
    """Titles and reviews."""
    from warmstart.core.contrast_options import ContrastSentencesOptions
    from warmstart.data.pairs import load_pairs

    options = ContrastSentencesOptions(
        data="sample:reviews",
        anchor_column="Title",
        positive_column="Review Text",
        drop_invalid=True,
        output_dir="unused",
    )
    pairs = load_pairs(options).train
    if len(pairs) < rows:
        raise SystemExit(f"{len(pairs)} pairs are fewer than the {rows} that the batches need.")
    return list(pairs.anchors[:rows]), list(pairs.positives[:rows])


def ours(batch: int, steps: int, dropout: bool) -> list[tuple[float, float]]:
    """Loss and seconds of each step."""
    import numpy as np

    from warmstart.backbones.load import load_backbone
    from warmstart.contrastive import grad_cache
    from warmstart.contrastive.batches import PairRows
    from warmstart.contrastive.grad_cache import Side
    from warmstart.contrastive.info_nce import info_nce
    from warmstart.contrastive.settings import set_dropout
    from warmstart.train.cpu import quick_steps

    backbone = load_backbone(MODEL, max_length=256)
    model = backbone.encoder.train().requires_grad_(requires_grad=True)
    model.head.requires_grad_(requires_grad=False)
    if not dropout:
        set_dropout(model, 0.0)
    sides = [backbone.preprocessor.encode({"text": column}) for column in texts(batch * steps)]
    ids = np.arange(batch * steps)
    rows = PairRows(sides, ids, ids[None], part_rows=PART)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    found = []
    torch.manual_seed(0)
    with quick_steps(model, torch.device("cpu")):
        for step in range(steps):
            start = time.perf_counter()
            made = rows.collate(list(range(step * batch, (step + 1) * batch)))
            parts = [Side(lambda part: model.features(**part), s["parts"], s["places"]) for s in made["sides"]]
            value = grad_cache.backward(parts, loss_of(info_nce))
            optimizer.step()
            optimizer.zero_grad()
            found.append((value, time.perf_counter() - start))
    return found


def loss_of(info_nce: Any) -> Any:
    from warmstart.contrastive.pair_loss import CHUNK

    def loss(queries: torch.Tensor, candidates: torch.Tensor) -> tuple[torch.Tensor, float]:
        value = info_nce(queries, candidates, scale=20.0, chunk=CHUNK).loss
        return value, float(value.detach())

    return loss


def theirs(batch: int, steps: int, dropout: bool) -> list[tuple[float, float]]:
    """Loss and seconds of each step."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    from warmstart.backbones.resolve import resolve
    from warmstart.contrastive.settings import set_dropout

    model = SentenceTransformer(str(resolve(MODEL).path), device="cpu").train()
    model.max_seq_length = 256
    if not dropout:
        set_dropout(model, 0.0)
    loss = CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=PART)
    columns = texts(batch * steps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    found = []
    torch.manual_seed(0)
    for step in range(steps):
        start = time.perf_counter()
        rows = slice(step * batch, (step + 1) * batch)
        features = [model.preprocess(column[rows]) for column in columns]
        value = loss(features, torch.zeros(0))
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append((float(value.detach()), time.perf_counter() - start))
    return found


def measured(side: str, batch: int, steps: int, dropout: bool) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", side, str(batch), str(steps), str(int(dropout))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def speed(side: str, batch: int) -> contract.Cell:
    def measure(args: argparse.Namespace) -> dict[str, Any]:
        found = measured(side, batch, STEPS[batch], True)
        timed = found["seconds"][1:] or found["seconds"]
        return {**found, "pairs_per_second": batch / statistics.median(timed)}

    return measure


def curve(args: argparse.Namespace) -> dict[str, Any]:
    """Losses of the same batches, dropout off."""
    found = {side: measured(side, 128, 4, False)["losses"] for side in ("ours", "theirs")}
    apart = max(abs(a - b) for a, b in zip(found["ours"], found["theirs"], strict=True))
    return {"losses": found, "largest_difference": apart}


def report(found: dict[str, dict[str, Any]]) -> str:
    rows = []
    for batch in STEPS:
        runs = {side: [found[name] for name in names(side, batch) if name in found] for side in ("ours", "theirs")}
        if all(runs.values()):
            cells = [str(batch)]
            for measure, spec in (("pairs_per_second", ".1f"), ("peak_mb", ".0f")):
                first, second = (statistics.median(run[measure] for run in runs[side]) for side in ("ours", "theirs"))
                cells += [f"{first:{spec}}", f"{second:{spec}}", f"{first / second:.2f}"]
            rows.append(cells)
    head = ["batch", "pairs/s", "theirs", "ratio (≥ 1.3)", "peak MiB", "theirs", "ratio (≤ 1.0)"]
    text = contract.table(head, rows)
    if "curve" in found:
        text += f"\n\nLosses of the same batches differ by at most {found['curve']['largest_difference']:.1e} nats."
    return text


def names(side: str, batch: int) -> list[str]:
    return [f"batch-{batch}-{side}-{repeat}" for repeat in range(REPEATS[batch])]


def main(arguments: list[str]) -> None:
    side, batch, steps, dropout = arguments
    found = {"ours": ours, "theirs": theirs}[side](int(batch), int(steps), dropout == "1")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    values = {"losses": [loss for loss, _ in found], "seconds": [seconds for _, seconds in found], "peak_mb": peak}
    print(json.dumps(values))


CELLS: dict[str, contract.Cell] = {"curve": curve}
for _batch in STEPS:
    for _repeat in range(REPEATS[_batch]):
        for _side in ("ours", "theirs") if _repeat % 2 == 0 else ("theirs", "ours"):
            CELLS[names(_side, _batch)[_repeat]] = speed(_side, _batch)

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    if sys.argv[1:2] == ["--measure"]:
        main(sys.argv[2:])
    else:
        contract.run("contrast_speed", CELLS, report, __doc__)
