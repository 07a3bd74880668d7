"""Does a saved encoder give the same vectors in a process that never saw it? `python -m … FOLDER` asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.verbs.round_trip import VERIFICATION, in_new_process

TOLERANCE = 1e-4  # of the largest value, float32; other machines sum in another order


def save_vectors(vectors: np.ndarray, folder: Path) -> None:
    """Keep the vectors of a few texts, (texts, width)."""
    save_file({"vectors": torch.from_numpy(np.ascontiguousarray(vectors))}, folder / VERIFICATION)


def check_vectors(folder: Path, texts: list[str], max_length: int) -> float:
    """Load the folder in a new process, by name as a user would, and compare.

    Args:
        folder: with the model and `save_vectors`' file.
        texts: what the vectors are of.
        max_length: longest text, in tokens.

    Returns:
        The largest difference, as a share of the largest value.

    Raises:
        RoundTripError: it does not load, or differs by more than `TOLERANCE`.
    """
    module = "warmstart.verbs.vector_check"
    return in_new_process(module, folder, (str(max_length),), texts, ("vectors", "tokenizer"), TOLERANCE)


def main(arguments: list[str]) -> None:
    """Print the difference as JSON; texts come as JSON on standard input."""
    folder = Path(arguments[0])
    kept = load_file(folder / VERIFICATION)["vectors"].numpy()
    backbone = load_backbone(str(folder.absolute()), max_length=int(arguments[1]))
    inputs = backbone.preprocessor.encode({"text": json.loads(sys.stdin.read())})
    vectors = forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features
    difference = float(np.abs(vectors - kept).max() / np.abs(kept).max())
    sys.stdout.write(json.dumps({"difference": difference}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
