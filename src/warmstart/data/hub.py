"""Datasets of the `datasets` library: objects, folders that `save_to_disk` wrote, and names on the Hub.

Turns them into `Source`s: class ids become class names, image columns stay undecoded. Files that are no dataset are
left to `tables` and `folders`.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import datasets
import numpy as np
import pandas as pd

from warmstart.core.errors import DataError
from warmstart.data.sources import Source, Sources
from warmstart.data.tables import arrow_frame, close_names

_JUDGES = ("test", "validation", "valid", "val", "dev")


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def read_saved(folder: Path, name: str) -> Sources:
    """Read a folder that `save_to_disk` wrote.

    Raises:
        DataError: when it is damaged.
    """
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # whatever the library raises, the folder cannot be read
        raise DataError(f"the saved dataset cannot be read ({_first_line(error)})", file=name) from error
    return from_dataset(found, name)


def read_published(name: str) -> Sources:
    """Read a dataset of the Hub by `name` or `user/name`, perhaps with `:configuration`.

    Raises:
        DataError: when the Hub cannot be reached, or has none by that name.
    """
    repository, _, configuration = name.partition(":")
    if not _hub_resolves() and not _is_cached(repository):
        raise _not_published(name, "the Hub cannot be reached")
    try:
        found = datasets.load_dataset(repository, configuration or None)
    except Exception as error:  # whatever the library raises, the dataset cannot be read
        raise _not_published(name, _first_line(error)) from error
    return from_dataset(found, name)


def from_dataset(found: datasets.Dataset | datasets.DatasetDict, name: str) -> Sources:
    """The sides of a dataset object.

    Of a DatasetDict, `train` is learned from and `test` is what judges, else `validation`; a test split without any
    label (as competitions publish them) does not count. A dictionary with one split is that split.

    Raises:
        DataError: when there is no split to learn from, or an object of another type.
    """
    if isinstance(found, datasets.Dataset):
        return Sources(_source(found, name))
    if not isinstance(found, datasets.DatasetDict) or not found:
        kind = type(found).__name__
        raise DataError(f"a {kind} where a Dataset or a DatasetDict with splits was expected", file=name)
    if len(found) > 1 and "train" not in found:
        raise DataError(f"no split 'train'; there are: {', '.join(map(str, found))}", file=name)
    main = str(next(iter(found))) if len(found) == 1 else "train"
    judges = [split for split in _JUDGES if split in found and split != main and _has_labels(found[split])]
    test = _source(found[judges[0]], f"{name}[{judges[0]}]") if judges else None
    return Sources(_source(found[main], name if test is None else f"{name}[{main}]"), test)


def _source(dataset: datasets.Dataset, name: str) -> Source:
    if len(dataset) == 0:
        raise DataError("the dataset has no rows", file=name)
    images = [column for column, feature in dataset.features.items() if isinstance(feature, datasets.Image)]
    plain = dataset.remove_columns(images)
    if plain.column_names:
        frame = arrow_frame(plain.with_format("arrow")[:], name)
        for column, feature in plain.features.items():
            if isinstance(feature, datasets.ClassLabel):
                frame[column] = _class_names(frame[column], feature)
    else:
        frame = pd.DataFrame(index=pd.RangeIndex(len(dataset)))
    rows = np.arange(1, len(dataset) + 1, dtype=np.int64)
    if not images:
        return Source(frame, rows, name)
    pictures = dataset.with_format(None).select_columns(images)
    for column in images:
        pictures = pictures.cast_column(column, datasets.Image(decode=False))
    return Source(frame, rows, name, pictures=pictures)


def _class_names(ids: pd.Series, feature: datasets.ClassLabel) -> pd.Series:
    """Names for ids; an id that has no name (-1 by custom) is a missing label."""
    names = feature.names
    known = [None if pd.isna(i) or not 0 <= int(i) < len(names) else names[int(i)] for i in ids.tolist()]
    return pd.Series(known, dtype=object)


def _has_labels(dataset: datasets.Dataset) -> bool:
    classes = [column for column, feature in dataset.features.items() if isinstance(feature, datasets.ClassLabel)]
    return not classes or any(value is not None and value >= 0 for column in classes for value in dataset[column])


def _hub_resolves() -> bool:
    """Whether the Hub's address is known here; the library takes half a minute of retries to say no."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def _is_cached(repository: str) -> bool:
    return (Path(datasets.config.HF_DATASETS_CACHE) / repository.replace("/", "___")).is_dir()


def _not_published(name: str, why: str) -> DataError:
    remedy = "Check the spelling and, for a dataset of the Hub, the connection."
    close = close_names(Path(name))
    if close:
        remedy = f"Did you mean {' or '.join(close)}? {remedy}"
    return DataError(f"no file or folder by that name, and no dataset from the Hub ({why})", remedy=remedy, file=name)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
