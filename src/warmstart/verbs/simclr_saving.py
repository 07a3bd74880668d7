"""The result of `contrast simclr`: an image encoder in transformers' format with its record, card and report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from warmstart.backbones.load import POOLING_KEY, Backbone
from warmstart.core.contrast import ContrastRecord
from warmstart.core.errors import OutputError
from warmstart.report.contrast import render_image_card
from warmstart.verbs.contrast_saving import finish
from warmstart.verbs.image_check import check_images


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
        check_images(folder, trained, images)
        return finish(folder, record, render_image_card(record, name))
    except OSError as error:
        raise OutputError(f"The result could not be written to {folder}: {error.strerror or error}.") from error
