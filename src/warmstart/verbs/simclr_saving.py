"""The result of `contrast simclr`: an image encoder in transformers' format with its record, card and report."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from warmstart.backbones.load import POOLING_KEY, Backbone
from warmstart.core.contrast import ContrastRecord
from warmstart.core.errors import OutputError
from warmstart.report.contrast import render_image_card
from warmstart.verbs.contrast_saving import finish
from warmstart.verbs.vector_check import check_vectors, save_vectors, vectors_of


def save_images(
    folder: Path, name: str, trained: Backbone, record: ContrastRecord, images: np.ndarray
) -> ContrastRecord:
    """Write everything into an empty folder and load it in a new process; results.json is written last.

    Args:
        folder: the staging folder.
        name: what the model card calls the model.
        trained: the trained encoder, with its processor.
        record: what happened; its `files` are filled in here.
        images: a few to check with, (images, 3, height, width), bytes.

    Raises:
        OutputError: a file cannot be written.
        RoundTripError: the saved model gives other vectors.
    """
    trunk = trained.encoder.backbone
    trunk.config._name_or_path = ""  # a path of this machine says nothing elsewhere
    setattr(trunk.config, POOLING_KEY, trained.encoder.config.pooling)
    try:
        trunk.save_pretrained(folder)
        trained.preprocessor.save(folder)
        files = [_png(image) for image in images]
        pictures = [Image.open(io.BytesIO(file)) for file in files]
        save_vectors(folder, images=vectors_of(trained, {"image": pictures}))
        check_vectors(folder, images=files)
        return finish(folder, record, render_image_card(record, name))
    except OSError as error:
        raise OutputError(f"The result could not be written to {folder}: {error.strerror or error}.") from error


def _png(image: np.ndarray) -> bytes:
    """A file of an image, (3, height, width), bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, format="PNG")
    return buffer.getvalue()
