"""What the user named, and the reader for it: a file, an image folder, a saved or published dataset, a sample.

Each kind is read by its own module: `tables`, `folders`, `hub`, `samples`.
"""

from __future__ import annotations

import re
from pathlib import Path

from warmstart.core.errors import DataError
from warmstart.data import folders, hub, samples, tables
from warmstart.data.sources import Source, Sources


def read_sources(data: str) -> Sources:
    """Read a file, an image folder, a saved or published dataset, or a sample.

    Raises:
        DataError: when there is nothing by that name, or it cannot be read; the message says where it stopped.
    """
    if not data.strip():
        raise DataError("--data is empty", remedy="Name a file, an image folder or a dataset.")
    if data.startswith("sample:"):
        return _sample(data)
    path = Path(data).expanduser()
    if path.is_file():
        return Sources(tables.read_table(path, data))
    if path.is_dir():
        return hub.read_saved(path, data) if hub.is_saved(path) else folders.read_folder(path, data)
    if path.exists():
        raise DataError("this is neither a file nor a folder", file=data)
    if _could_be_published(data):
        return hub.read_published(data)
    raise tables.not_found(path, data)


def read_one(data: str) -> Source:
    """Read rows that are one set: those to judge by, or those to predict.

    A dataset with several splits gives its test split, else its validation split, else the only one.
    """
    found = read_sources(data)
    return found.main if found.test is None else found.test


def _sample(data: str) -> Sources:
    sample = samples.sample(data.removeprefix("sample:"))
    if not sample.columns:
        raise DataError(f"{data} is not a table of labelled rows", remedy="sample:reviews is.")
    table = tables.read_table(samples.fetch_sample(sample.name), data)
    return Sources(table, defaults=sample.columns)


def _could_be_published(data: str) -> bool:
    """A Hub name is `name` or `user/name`, perhaps with `:configuration`; a known file ending makes it a file."""
    if Path(data).suffix.lower() in {*tables.ENDINGS, ".gz", ".json", ".txt", ".xlsx", ".zip"}:
        return False
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.-]+)?", data) is not None
