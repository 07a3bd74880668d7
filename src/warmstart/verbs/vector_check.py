"""Does a saved encoder give the same vectors in a process that never saw it? `python -m … FOLDER` asks.

Texts come on standard input; images, as bytes, are kept beside the vectors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.verbs.round_trip import VERIFICATION, in_new_process

TOLERANCE = 1e-4  # of the largest value, float32; other machines sum in another order


def save_vectors(vectors: np.ndarray, folder: Path, images: np.ndarray | None = None) -> None:
    """Keep the vectors of a few texts or images, (rows, width), and the images, (rows, 3, height, width), as bytes."""
    kept = {"vectors": vectors} if images is None else {"vectors": vectors, "images": images}
    save_file(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in kept.items()}, folder / VERIFICATION
    )


def as_pictures(images: np.ndarray) -> list[Image.Image]:
    """From bytes, (rows, 3, height, width), to what an image processor reads."""
    return [Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images]


def check_vectors(folder: Path, texts: list[str] | None = None, max_length: int | None = None) -> float:
    """Load the folder in a new process, by name as a user would, and compare.

    Args:
        folder: with the model and `save_vectors`' file.
        texts: what the vectors are of, where they are of texts.
        max_length: longest text, in tokens.

    Returns:
        The largest difference, as a share of the largest value.

    Raises:
        RoundTripError: it does not load, or differs by more than `TOLERANCE`.
    """
    module = "warmstart.verbs.vector_check"
    arguments = () if max_length is None else (str(max_length),)
    reader = "tokenizer" if texts is not None else "image processor"
    return in_new_process(module, folder, arguments, texts, ("vectors", reader), TOLERANCE)


def main(arguments: list[str]) -> None:
    """Print the difference as JSON; texts come as JSON on standard input."""
    folder = Path(arguments[0])
    found = load_file(folder / VERIFICATION)
    kept = found["vectors"].numpy()
    backbone = load_backbone(str(folder.absolute()), max_length=int(arguments[1]) if len(arguments) > 1 else None)
    texts = json.loads(sys.stdin.read())
    rows = {"image": as_pictures(found["images"].numpy())} if texts is None else {"text": texts}
    inputs = backbone.preprocessor.encode(rows)
    vectors = forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features
    difference = float(np.abs(vectors - kept).max() / np.abs(kept).max())
    sys.stdout.write(json.dumps({"difference": difference}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
