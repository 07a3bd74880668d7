"""Do saved towers give the same vectors in a process that never saw them? `python -m … FOLDER` asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from warmstart.verbs.round_trip import VERIFICATION, in_new_process
from warmstart.verbs.two_tower_folder import TwoTowers, read_folder

TOLERANCE = 1e-4  # of vectors of unit length, float32; other machines sum in another order
_USERS = 16


def save_queries(folder: Path, towers: TwoTowers) -> None:
    """Keep the queries of a few users."""
    save_file({"queries": torch.from_numpy(_queries(towers))}, folder / VERIFICATION)


def check_towers(folder: Path) -> float:
    """Load the folder in a new process and compare item vectors and queries.

    Returns:
        The largest difference.

    Raises:
        RoundTripError: it does not load, or differs by more than `TOLERANCE`.
    """
    words = ("vectors", "content")
    return in_new_process("warmstart.verbs.two_tower_check", folder, None, words, TOLERANCE)


def _queries(towers: TwoTowers) -> np.ndarray:
    chosen = [user for user, history in enumerate(towers.histories) if len(history)][:_USERS]
    found = towers.model.encode(towers.vectors, [towers.histories[user] for user in chosen], np.array(chosen))
    return np.ascontiguousarray(found.numpy())


def main(arguments: list[str]) -> None:
    """Print the difference as JSON."""
    folder = Path(arguments[0])
    kept = load_file(folder / VERIFICATION)["queries"].numpy()
    towers = read_folder(folder)
    items = float((towers.model.catalogue() - towers.vectors).abs().max())
    difference = max(items, float(np.abs(_queries(towers) - kept).max()))
    sys.stdout.write(json.dumps({"difference": difference}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
