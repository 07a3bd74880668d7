"""Features per second against `SentenceTransformer.encode`, in float32 and bfloat16, on long and short texts.

Both sides take the same texts, start from raw strings and end with float32 vectors. The peer runs at the batch size
that is its fastest of three; medians of five alternating rounds.
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import contract
import numpy as np
import torch

from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.backbones.resolve import resolve
from warmstart.data.samples import sample_frame

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
ROUNDS = 5


def texts(column: str, count: int) -> list[str]:
    values = sample_frame("reviews")[column].dropna()
    return list(values[values.str.strip() != ""].sample(count, random_state=0))


def measure(column: str, count: int) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    rows = texts(column, count)
    peer = SentenceTransformer(str(resolve(MODEL).path), device="cpu")
    peer_bf16 = copy.deepcopy(peer).to(torch.bfloat16)
    backbone = load_backbone(model=MODEL)

    def ours() -> np.ndarray:
        return forward(backbone.encoder, backbone.preprocessor.encode({"text": rows})).features

    def theirs(model: Any, batch: int) -> np.ndarray:
        found = model.encode(rows, batch_size=batch, convert_to_tensor=True, show_progress_bar=False)
        return found.float().cpu().numpy()

    def seconds(call: Any) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    batches = {}
    for name, model in (("fp32", peer), ("bf16", peer_bf16)):
        batches[name] = min((32, 64, 128), key=lambda size: seconds(lambda: theirs(model, size)))  # noqa: B023
    arms = {
        "warmstart": ours,
        "peer fp32": lambda: theirs(peer, batches["fp32"]),
        "peer bf16": lambda: theirs(peer_bf16, batches["bf16"]),
    }
    taken: dict[str, list[float]] = {name: [] for name in arms}
    vectors: dict[str, np.ndarray] = {}
    for _ in range(ROUNDS):
        for name, call in arms.items():
            start = time.perf_counter()
            vectors[name] = call()
            taken[name].append(time.perf_counter() - start)
    truth = vectors["peer fp32"]

    def cosine(found: np.ndarray) -> np.ndarray:
        return (found * truth).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(truth, axis=1)

    speed = {name: len(rows) / statistics.median(values) for name, values in taken.items()}
    return {
        "texts": len(rows),
        "median_words": float(np.median([len(text.split()) for text in rows])),
        "peer_batch": batches,
        "seconds": taken,
        "texts_per_second": speed,
        "ratio_to_fp32": speed["warmstart"] / speed["peer fp32"],
        "ratio_to_bf16": speed["warmstart"] / speed["peer bf16"],
        "cosine_min": {name: float(cosine(found).min()) for name, found in vectors.items()},
        "cosine_mean": {name: float(cosine(found).mean()) for name, found in vectors.items()},
    }


def report(found: dict[str, dict[str, Any]]) -> str:
    head = ["texts", "warmstart /s", "peer fp32 /s", "peer bf16 /s", "× fp32 (≥ 1.5)", "× bf16 (≥ 1.15)", "min cosine"]
    rows = []
    for name, cell in found.items():
        speed = cell["texts_per_second"]
        rows.append(
            [
                name,
                *(f"{speed[arm]:.0f}" for arm in ("warmstart", "peer fp32", "peer bf16")),
                f"{cell['ratio_to_fp32']:.2f}",
                f"{cell['ratio_to_bf16']:.2f}",
                f"{cell['cosine_min']['warmstart']:.5f}",
            ]
        )
    return contract.table(head, rows)


CELLS: dict[str, contract.Cell] = {
    "reviews": lambda args: measure("Review Text", 1200),
    "titles": lambda args: measure("Title", 3000),
}

if __name__ == "__main__":
    contract.run("embed", CELLS, report, __doc__)
