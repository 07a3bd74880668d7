"""The result of `contrast clip`: a folder with both towers, what they read with, the record, a card and a report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.text_inputs import TextPreprocessor
from warmstart.backbones.tower_pair import TowerPairModel, pair_towers
from warmstart.backbones.two_tower import put_together
from warmstart.contrastive.clip import TEXT, VISION, Side
from warmstart.contrastive.fitting import ContrastOutcome
from warmstart.core.contrast import ContrastRecord
from warmstart.core.errors import OutputError
from warmstart.data.captions import Captioned
from warmstart.report.contrast import render_clip_card
from warmstart.verbs.contrast_saving import finish
from warmstart.verbs.vector_check import check_vectors, save_vectors

_CHECKED = 8  # images, and texts, that are encoded again in a new process


def save_pair(
    folder: Path,
    name: str,
    whole: PreTrainedModel | None,
    sides: tuple[Side, Side],
    outcome: ContrastOutcome,
    record: ContrastRecord,
    test: Captioned,
) -> ContrastRecord:
    """Write everything into an empty folder and load it in a new process; results.json is written last.

    Args:
        folder: the staging folder.
        name: what the model card calls the model.
        whole: the pair of transformers' own that was gone on with, whose form is kept; None: warmstart's own form.
        sides: image and text tower, for what they read with.
        outcome: with the trained encoders.
        record: what happened; its `files` are filled in here.
        test: a few of these are checked with.

    Raises:
        OutputError: a file cannot be written.
        RoundTripError: the saved model gives other vectors.
    """
    vision, text = outcome.encoders[VISION], outcome.encoders[TEXT]
    texts = cast("TextPreprocessor", sides[1].preprocessor)
    try:
        write_model(folder, whole, vision, text, outcome.scale, texts.prompt)
        sides[0].preprocessor.save(folder)
        texts.save(folder)
        captions, files = list(dict.fromkeys(test.captions))[:_CHECKED], image_files(test, _CHECKED)
        pictures = {"image": test.pictures.select(range(len(files)))["image"]}
        columns = ((text, texts, {"text": captions}), (vision, sides[0].preprocessor, pictures))
        vectors = [
            forward(encoder, read.encode(rows), dtype=torch.float32, device=torch.device("cpu")).features
            for encoder, read, rows in columns
        ]
        save_vectors(folder, vectors[0], vectors[1])
        check_vectors(folder, captions, texts.max_length, files)
        own = whole is None or isinstance(whole, TowerPairModel)
        return finish(folder, record, render_clip_card(record, name, own_form=own))
    except OSError as error:
        raise OutputError(f"The result could not be written to {folder}: {error.strerror or error}.") from error


def write_model(
    folder: Path, whole: PreTrainedModel | None, vision: Classifier, text: Classifier, scale: float, prompt: str
) -> None:
    """Write config.json and model.safetensors of the pair."""
    if whole is None or isinstance(whole, TowerPairModel):
        model: PreTrainedModel = pair_towers(vision, text, math.log(scale), prompt)
    else:
        model = put_together(whole, vision, text, scale)
    for config in (model.config, model.config.vision_config, model.config.text_config):
        config._name_or_path = ""  # a path of this machine says nothing elsewhere
    model.save_pretrained(folder)


def image_files(part: Captioned, count: int) -> list[bytes]:
    """The contents of the first few images' files."""
    import datasets

    raw = part.pictures.cast_column("image", datasets.Image(decode=False))
    items = raw.select(range(min(count, len(raw))))["image"]
    return [item["bytes"] if item["bytes"] is not None else Path(item["path"]).read_bytes() for item in items]
