"""The reference: rows of the user's or of a package, seen once by the original before anything is trained."""

from __future__ import annotations

import numpy as np

from warmstart.backbones.text_inputs import Subset
from warmstart.core.errors import DataError
from warmstart.core.progress import reporter
from warmstart.data.reference import ReferenceRows, sample_reference
from warmstart.data.task import Task
from warmstart.train.forgetting import take_reference
from warmstart.verbs.situation import REFERENCE_OFF, REFERENCE_ROWS, Situation

_FEW_ROWS = 64  # which are measured whatever the budget
_BUDGET_SHARE = 0.1  # of a time budget, at most, unless there would be too few rows
_PASSES = 2 * 2  # the original and the adapted model; in float32, which takes about twice as long as the fast type


def add_reference(situation: Situation, reference_data: str | None, budget: float | None, seed: int) -> None:
    """Put the reference into the situation, measured on the original; a sample that is not to be had is only told.

    Args:
        situation: what it is put into; it holds the user's rows, if there are any.
        reference_data: what the user said.
        budget: seconds of the whole run.
        seed: of the draw.
    """
    if reference_data == REFERENCE_OFF:
        return
    limit = _rows(situation, budget)
    try:
        rows = situation.reference_rows
        rows = sample_rows(situation.task, limit, seed) if rows is None else rows
    except DataError as error:
        reporter().warn(f"Forgetting is not measured: {error} Or name rows of your own with --reference-data.")
        return
    inputs = situation.backbone.preprocessor.encode(rows.columns)
    count = min(limit, len(rows))
    with reporter().bar(f"The original on {count} reference rows: {rows.name}") as bar:
        situation.reference = take_reference(
            situation.backbone,
            Subset(inputs, np.arange(count)),
            rows.name,
            labels=rows.labels[:count],
            names=rows.names,
            seed=seed,
            device=situation.device,
            progress=lambda done, total: bar(done, total, ""),
        )
    for note in situation.reference.notes:
        reporter().warn(note)


def expected_seconds(situation: Situation, reference_data: str | None, budget: float | None) -> float:
    """Seconds that measuring the original and one adapted model will take, before either was."""
    if reference_data == REFERENCE_OFF:
        return 0.0
    return _PASSES * situation.seconds_forward * _rows(situation, budget)


def _rows(situation: Situation, budget: float | None) -> int:
    """How many rows to measure on: fewer where the time is short."""
    if budget is None:
        return REFERENCE_ROWS
    fitting = _BUDGET_SHARE * budget / (_PASSES * situation.seconds_forward)
    return int(min(REFERENCE_ROWS, max(_FEW_ROWS, fitting)))


def sample_rows(task: Task, limit: int, seed: int) -> ReferenceRows:
    """Rows of a sample package that are not the task's own.

    Raises:
        DataError: when the package is neither cached nor to be fetched.
    """
    own = {
        text
        for rows in (task.labelled, task.test)
        for column in ("text", "text_pair")
        if column in rows.column_names
        for text in rows[column]
    }
    return sample_reference(task.card.modality, own, limit, seed)
