"""Rows without labels: a file's own columns, and the inputs that a task's model expects.

Writing the result is left to `writing`; empty texts are predicted like any other.
"""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from warmstart.core.errors import DataError
from warmstart.core.records import TaskCard
from warmstart.data import folders, hub
from warmstart.data.columns import roles_of
from warmstart.data.pictures import names_of
from warmstart.data.reading import read_one
from warmstart.data.sides import inputs, read_side
from warmstart.data.sources import Source


def inputs_for_prediction(data: str, card: TaskCard) -> tuple[pd.DataFrame, datasets.Dataset]:
    """Read rows to predict.

    Args:
        data: what `adapt` takes; of an image folder, every image, whatever folder it lies in.
        card: the task that the model learned.

    Returns:
        The columns as they stand in the file (of an image folder: "image", the relative paths), and the inputs ("text",
        "text" and "text_pair", or "image"), row for row.

    Raises:
        DataError: when the rows cannot be read, a column that the model needs is not there, or an image is unreadable.
    """
    roles = roles_of(card, labelled=False)
    source = _source(data, card)
    if roles.modality == "image" and _is_image_folder(data):
        roles = type(roles)("image", {"image": folders.IMAGE})
    side = read_side(source, roles)
    for place, probe in enumerate(side.probes):
        if probe.problem:
            name = names_of(side.pictures, np.asarray([place]))[0] if side.pictures is not None else ""
            what = f"the image cannot be used ({f'{name}: ' if name else ''}{probe.problem})"
            raise DataError(
                what,
                remedy="Mend it or take the row out.",
                file=source.name,
                row=int(source.rows[place]),
                column=roles.columns["image"],
            )
    return source.frame, inputs(side, np.arange(len(source.rows)))


def _source(data: str, card: TaskCard) -> Source:
    if _is_image_folder(data):
        if card.modality != "image":
            raise DataError(
                "this is a folder of images, and the model reads texts",
                remedy="Give a CSV, TSV, JSONL or Parquet file.",
                file=data,
            )
        return folders.read_flat(Path(data).expanduser(), data)
    return read_one(data)


def _is_image_folder(data: str) -> bool:
    path = Path(data).expanduser()
    return path.is_dir() and not hub.is_saved(path)
