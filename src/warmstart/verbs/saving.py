"""Putting a result folder together: weights, processor, adapter, record, card, report — and proving that it reloads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from warmstart.backbones.text_inputs import Preprocessor
from warmstart.core.clock import Clock
from warmstart.core.errors import OutputError, RoundTripError
from warmstart.core.files import digests, write_text
from warmstart.core.records import RunRecord
from warmstart.report.card import render_card
from warmstart.report.html import render_report
from warmstart.strategies.protocol import Outcome
from warmstart.train.lora import load_adapter, save_adapter
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.round_trip import TOLERANCE, check_round_trip, save_verification
from warmstart.verbs.situation import Situation

_CHECKED_ROWS = 8


def save_result(
    folder: Path,
    name: str,
    situation: Situation,
    outcome: Outcome,
    preprocessor: Preprocessor,
    record: RunRecord,
    clock: Clock,
) -> RunRecord:
    """Write everything into an empty folder and load it in a new process; results.json is written last.

    Args:
        folder: the staging folder.
        name: what the model card calls the model.
        situation: for a few test rows to check with.
        outcome: the chosen strategy's.
        preprocessor: the model's tokenizer or image processor.
        record: what happened; its `files` and `seconds` are filled in here.
        clock: of the whole run.

    Raises:
        OutputError: a file cannot be written.
        RoundTripError: the saved model differs from the one that was tested.
    """
    try:
        outcome.model.config.calibration_temperature = record.temperature
        outcome.model.config.backbone.pop("_name_or_path", None)  # a path of this machine says nothing elsewhere
        outcome.model.save_pretrained(folder)
        preprocessor.save(folder)
        texts = _verify(folder, situation, outcome)
        if outcome.adapter is not None:
            save_adapter(outcome.adapter, folder / "adapter", situation.backbone.card.name)
            _check_adapter(folder / "adapter", situation, outcome)
        check_round_trip(folder, texts)
        record = dataclasses.replace(record, seconds=clock.spent())  # with all but writing two pages
        write_text(folder / "README.md", render_card(record, name))
        write_text(folder / "report.html", render_report(RunRecord.from_json(record.to_json())))  # as from results.json
        files = digests(folder, apart_from="README.md")  # the model card is its owner's to edit
        whole = dataclasses.replace(record, files=files)
        write_text(folder / RESULTS, whole.to_json())
    except OSError as error:
        raise OutputError(f"The result could not be written to {folder}: {error.strerror or error}.") from error
    return whole


def _verify(folder: Path, situation: Situation, outcome: Outcome) -> list[list[str]] | None:
    count = min(_CHECKED_ROWS, len(situation.test.labels))
    save_verification(outcome.model, situation.test.inputs.batch(range(count)), folder)
    rows = situation.task.test
    if situation.task.card.modality == "image":
        return None
    columns = [name for name in ("text", "text_pair") if name in rows.column_names]
    return [[str(text) for text in rows[:count][name]] for name in columns]


def _check_adapter(folder: Path, situation: Situation, outcome: Outcome) -> None:
    """The adapter alone, on a fresh base, must answer as the merged model does."""
    import torch

    fresh = situation.backbone.classifier(situation.labels, situation.task.card.modality)
    reloaded = load_adapter(fresh, folder).eval()
    batch = situation.test.inputs.batch(range(min(_CHECKED_ROWS, len(situation.test.labels))))
    with torch.inference_mode():
        difference = float(np.abs((reloaded(**batch).logits - outcome.model(**batch).logits).numpy()).max())
    if not difference <= TOLERANCE:
        raise RoundTripError(f"The adapter in {folder} differs from the merged model by {difference:.2g} in logits.")
