"""Does a saved image encoder give the same vectors in a process that never saw it? `python -m … FOLDER` asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from warmstart.backbones.embed import forward
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.verbs.round_trip import VERIFICATION, in_new_process
from warmstart.verbs.vector_check import TOLERANCE


def check_images(folder: Path, trained: Backbone, images: np.ndarray) -> float:
    """Keep a few images and their vectors in a folder, load it in a new process by name as a user would, and compare.

    Args:
        folder: with the model.
        trained: what was saved.
        images: (images, 3, height, width), bytes.

    Returns:
        The largest difference, as a share of the largest value.

    Raises:
        RoundTripError: it does not load, or differs by more than `TOLERANCE`.
    """
    kept = {"vectors": _vectors(trained, images), "images": images}
    save_file(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in kept.items()}, folder / VERIFICATION
    )
    words = ("vectors", "image processor")
    return in_new_process("warmstart.verbs.image_check", folder, (), None, words, TOLERANCE)


def _vectors(backbone: Backbone, images: np.ndarray) -> np.ndarray:
    pictures = [Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images]
    inputs = backbone.preprocessor.encode({"image": pictures})
    return forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features


def main(arguments: list[str]) -> None:
    """Print the difference as JSON."""
    folder = Path(arguments[0])
    found = {name: tensor.numpy() for name, tensor in load_file(folder / VERIFICATION).items()}
    vectors = _vectors(load_backbone(str(folder.absolute())), found["images"])
    difference = float(np.abs(vectors - found["vectors"]).max() / np.abs(found["vectors"]).max())
    sys.stdout.write(json.dumps({"difference": difference}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
