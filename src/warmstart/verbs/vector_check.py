"""Does a saved encoder give the same vectors in a process that never saw it? `python -m … FOLDER` asks."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from warmstart.backbones.embed import forward
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.verbs.round_trip import VERIFICATION, in_new_process

TOLERANCE = 1e-4  # of the largest value, float32; other machines sum in another order


def save_vectors(folder: Path, texts: np.ndarray | None = None, images: np.ndarray | None = None) -> None:
    """Keep the vectors of a few texts, (texts, width), of a few images, (images, width), or of both."""
    kept = {name: values for name, values in (("vectors", texts), ("images", images)) if values is not None}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in kept.items()}
    save_file(tensors, folder / VERIFICATION)


def check_vectors(
    folder: Path, texts: Sequence[str] = (), max_length: int | None = None, images: Sequence[bytes] = ()
) -> float:
    """Load the folder in a new process, by name as a user would, and compare.

    Args:
        folder: with the model and `save_vectors`' file.
        texts: what the vectors are of.
        max_length: longest text, in tokens; None for what the model states.
        images: files of the images that vectors are kept of.

    Returns:
        The largest difference, as a share of the largest value.

    Raises:
        RoundTripError: it does not load, or differs by more than `TOLERANCE`.
    """
    given = {
        "texts": list(texts),
        "max_length": max_length,
        "images": [base64.b64encode(content).decode() for content in images],
    }
    read_by = [name for name, kept in (("tokenizer", texts), ("image processor", images)) if kept]
    words = ("vectors", " or ".join(read_by))
    return in_new_process("warmstart.verbs.vector_check", folder, given, words, TOLERANCE)


def text_side(backbone: Backbone) -> Backbone:
    """What encodes texts: the model itself, or its text tower."""
    return backbone if backbone.text_tower is None else backbone.text_tower


def main(arguments: list[str]) -> None:
    """Print the difference as JSON; texts and images come as JSON on standard input."""
    folder = Path(arguments[0])
    kept = {name: tensor.numpy() for name, tensor in load_file(folder / VERIFICATION).items()}
    given = json.loads(sys.stdin.read())
    backbone = load_backbone(str(folder.absolute()), max_length=given["max_length"])
    rows: list[tuple[str, Backbone, dict[str, Any]]] = []
    if given["texts"]:
        rows.append(("vectors", text_side(backbone), {"text": given["texts"]}))
    if given["images"]:
        files = [io.BytesIO(base64.b64decode(content)) for content in given["images"]]
        rows.append(("images", backbone, {"image": [Image.open(file) for file in files]}))
    differences = [
        np.abs(vectors_of(model, columns) - kept[name]).max() / np.abs(kept[name]).max()
        for name, model, columns in rows
    ]
    sys.stdout.write(json.dumps({"difference": float(max(differences))}) + "\n")


def vectors_of(backbone: Backbone, columns: dict[str, Any]) -> np.ndarray:
    """Vectors of raw rows as they are compared: in float32, on the processor."""
    inputs = backbone.preprocessor.encode(columns)
    return forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features


if __name__ == "__main__":
    main(sys.argv[1:])
