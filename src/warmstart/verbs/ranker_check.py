"""Does a saved ranker give the same scores in a process that never saw it? `python -m … FOLDER` asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from warmstart.retrieve.candidates import Candidates
from warmstart.verbs.ranker_folder import LoadedRanker, read_ranker
from warmstart.verbs.round_trip import VERIFICATION, in_new_process

TOLERANCE = 1e-3  # of scores, which are logits, float32; other machines sum in another order
_LISTS = 8


def save_answers(folder: Path, ranker: LoadedRanker, candidates: Candidates) -> None:
    """Keep a few lists and their scores."""
    kept: dict[str, np.ndarray] = {}
    for row in range(min(_LISTS, len(candidates))):
        there = candidates.items[row] >= 0
        items, retrieved = candidates.items[row][there], candidates.scores[row][there]
        if not len(items):
            continue
        kept |= {
            f"{row}.history": candidates.histories[row].astype(np.int64),
            f"{row}.candidates": items,
            f"{row}.retrieved": retrieved,
            f"{row}.scores": ranker.scores(candidates.histories[row].tolist(), items, retrieved),
        }
    arrays = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in kept.items()}
    save_file(arrays, folder / VERIFICATION)


def check_ranker(folder: Path) -> float:
    """Load the folder in a new process and compare scores.

    Returns:
        The largest difference.

    Raises:
        RoundTripError: it does not load, or differs by more than `TOLERANCE`.
    """
    return in_new_process("warmstart.verbs.ranker_check", folder, None, ("scores", "counts"), TOLERANCE)


def main(arguments: list[str]) -> None:
    """Print the difference as JSON."""
    folder = Path(arguments[0])
    kept = {name: value.numpy() for name, value in load_file(folder / VERIFICATION).items()}
    ranker = read_ranker(folder, {})
    difference = 0.0
    for row in sorted({name.split(".")[0] for name in kept}):
        history, items, retrieved, scores = (
            kept[f"{row}.{part}"] for part in ("history", "candidates", "retrieved", "scores")
        )
        again = ranker.scores(history.tolist(), items, retrieved)
        difference = max(difference, float(np.abs(again - scores).max()))
    sys.stdout.write(json.dumps({"difference": difference}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
