"""The result of `contrast sentences`: a sentence-transformers folder with its record, card and report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from warmstart.backbones import sentence_folder
from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.sentence_folder import Stated
from warmstart.backbones.text_inputs import TextPreprocessor
from warmstart.core.contrast import ContrastRecord
from warmstart.core.errors import OutputError
from warmstart.core.files import digests, write_text
from warmstart.report.contrast import render_contrast, render_contrast_card
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.vector_check import check_vectors, save_vectors


def save_encoder(folder: Path, encoder: Classifier, preprocessor: TextPreprocessor) -> None:
    """Write the encoder as a sentence-transformers folder, trunk and tokenizer at the top."""
    config = encoder.config
    encoder.backbone.config._name_or_path = ""  # a path of this machine says nothing elsewhere
    encoder.backbone.save_pretrained(folder)
    preprocessor.save(folder)
    sentence_folder.write(
        folder,
        Stated(
            pooling=config.pooling,
            normalize=config.normalize,
            max_length=preprocessor.max_length,
            prompt=preprocessor.prompt,
            projections=config.projections,
            weights=dict(encoder.projections.state_dict()),
        ),
    )


def save_sentences(
    folder: Path,
    name: str,
    encoder: Classifier,
    preprocessor: TextPreprocessor,
    record: ContrastRecord,
    texts: list[str],
) -> ContrastRecord:
    """Write everything into an empty folder and load it in a new process; results.json is written last.

    Args:
        folder: the staging folder.
        name: what the model card calls the model.
        encoder: trained.
        preprocessor: its tokenizer.
        record: what happened; its `files` are filled in here.
        texts: a few to check with.

    Raises:
        OutputError: a file cannot be written.
        RoundTripError: the saved model gives other vectors.
    """
    try:
        save_encoder(folder, encoder, preprocessor)
        inputs = preprocessor.encode({"text": texts})
        save_vectors(folder, forward(encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features)
        check_vectors(folder, texts, preprocessor.max_length)
        return finish(folder, record, render_contrast_card(record, name))
    except OSError as error:
        raise OutputError(f"The result could not be written to {folder}: {error.strerror or error}.") from error


def finish(folder: Path, record: ContrastRecord, card: str) -> ContrastRecord:
    """Write card, report, and last of all the record with the digests of all files."""
    write_text(folder / "README.md", card)
    write_text(folder / "report.html", render_contrast(ContrastRecord.from_json(record.to_json())))
    whole = dataclasses.replace(record, files=digests(folder, apart_from="README.md"))
    write_text(folder / RESULTS, whole.to_json())
    return whole
