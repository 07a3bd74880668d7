"""Rows to measure forgetting on: the user's, or those that a package carries, which are not the task's own.

A few hundred of them, drawn with a seed. Labels are kept where there are any. What is measured is left to other rooms.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from warmstart.core.errors import DataError
from warmstart.core.records import Modality, TaskCard
from warmstart.data import folders, hub
from warmstart.data.cells import Where, label_strings, sorted_labels
from warmstart.data.columns import Roles, roles_of_reference
from warmstart.data.reading import read_sources
from warmstart.data.samples import sample_frame
from warmstart.data.sides import inputs, read_side, role_values
from warmstart.data.sources import Source

FEWEST = 20  # rows that are worth measuring on
_PATCH = (64, 256)  # pixels: shortest and longest side of a patch
_REVIEWS = ("reviews", "review", "reviews of women's clothing")  # sample, a word of its column's name, in words
_TITLES = ("movielens-items", "title", "film titles of MovieLens-100k")


@dataclass(frozen=True)
class ReferenceRows:
    """Rows that have nothing to do with the task, in the order in which they were drawn.

    Attributes:
        name: what they are, in words.
        columns: "text" (and "text_pair") or "image", each (rows,).
        labels: of each row; empty when there are none.
        names: every label of the data, in order.
    """

    name: str
    columns: dict[str, Sequence[Any]]
    labels: tuple[str | None, ...] = ()
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_reference(data: str, card: TaskCard, limit: int, seed: int) -> ReferenceRows:
    """Rows out of what the user names, of the kind that the task has; empty, repeated and unreadable ones are left out.

    Args:
        data: as `DataOptions.data`; of an image folder without class folders, every image.
        card: the task.
        limit: how many, at most.
        seed: of the draw.

    Raises:
        DataError: when they cannot be read, no column stands out, or fewer than `FEWEST` are left.
    """
    source, defaults = _read(data, card.modality)
    try:
        roles = roles_of_reference(source, card, defaults)
    except DataError as error:
        wanted = "image" if card.modality == "image" else "text"
        remedy = f"Give the column the name that it has in --data ({card.columns.get(wanted, wanted)!r})."
        raise DataError(error.what, remedy=remedy, file=source.name) from error
    labels = _labels(source, roles)
    order = np.random.default_rng(seed).permutation(len(source.rows))
    chosen = (
        _pictures(source, roles, order[:limit]) if roles.modality == "image" else _texts(source, roles, order, limit)
    )
    places, columns = chosen
    if len(places) < FEWEST:
        what = f"{len(places)} usable rows; at least {FEWEST} are needed as a reference"
        raise DataError(what, remedy="Give more rows with --reference-data.", file=data)
    if not labels:
        return ReferenceRows(data, columns)
    names = sorted_labels(label for label in labels if label is not None)
    return ReferenceRows(data, columns, tuple(labels[place] for place in places), names)


def sample_reference(modality: Modality, own: Collection[str], limit: int, seed: int) -> ReferenceRows:
    """Rows that packages carry: reviews, or film titles where reviews are the task's own texts; patches of photographs.

    Args:
        modality: of the task; pairs are measured on single texts.
        own: the task's texts.
        limit: how many, at most.
        seed: of the draw.

    Raises:
        DataError: when the package is neither cached nor to be fetched.
    """
    if modality == "image":
        return ReferenceRows("patches of two photographs of scikit-learn", {"image": _patches(limit, seed)})
    found, name = _sample_texts(*_REVIEWS[:2]), _REVIEWS[2]
    if not set(own).isdisjoint(found):
        found, name = _sample_texts(*_TITLES[:2]), _TITLES[2]
    order = np.random.default_rng(seed).permutation(len(found))[:limit]
    return ReferenceRows(name, {"text": [found[place] for place in order.tolist()]})


def _read(data: str, modality: Modality) -> tuple[Source, dict[str, str]]:
    if not data.strip():
        raise DataError("--reference-data is empty", remedy="Name a file, an image folder or a dataset; or say none.")
    path = Path(data).expanduser()
    if not path.is_dir() or hub.is_saved(path):
        found = read_sources(data)
        return (found.main if found.test is None else found.test), found.defaults
    if modality != "image":
        what = "this is a folder of images, and the task has texts"
        raise DataError(what, remedy="Give a CSV, TSV, JSONL or Parquet file.", file=data)
    try:
        return folders.read_folder(path, data).main, {}
    except DataError:
        return folders.read_flat(path, data), {}


def _labels(source: Source, roles: Roles) -> list[str | None]:
    if "label" not in roles.columns:
        return []
    where = Where(source.name, roles.columns["label"], source.rows)
    return label_strings(role_values(source, roles, "label"), where)


def _texts(
    source: Source, roles: Roles, order: NDArray[np.int64], limit: int
) -> tuple[list[int], dict[str, Sequence[Any]]]:
    """The first distinct texts in an order, and their places."""
    side = read_side(source, _unlabelled(roles))
    chosen: dict[tuple[str, ...], int] = {}
    for place in order.tolist():
        row = side.texts[place]
        if row[0].strip() and row not in chosen:
            chosen[row] = place
            if len(chosen) == limit:
                break
    places = list(chosen.values())
    names = side.roles.inputs
    return places, {role: [side.texts[place][at] for place in places] for at, role in enumerate(names)}


def _pictures(source: Source, roles: Roles, drawn: NDArray[np.int64]) -> tuple[list[int], dict[str, Sequence[Any]]]:
    """Those of the drawn pictures that can be read; no other is opened."""
    pictures = None if source.pictures is None else source.pictures.select(drawn)
    frame = source.frame.iloc[drawn].reset_index(drop=True)
    some = Source(frame, source.rows[drawn], source.name, folder=source.folder, pictures=pictures)
    side = read_side(some, _unlabelled(roles))
    usable = np.array([place for place, probe in enumerate(side.probes) if not probe.problem], dtype=np.int64)
    return drawn[usable].tolist(), {"image": inputs(side, usable)["image"] if len(usable) else []}


def _unlabelled(roles: Roles) -> Roles:
    return Roles(roles.modality, {role: name for role, name in roles.columns.items() if role != "label"})


def _sample_texts(name: str, word: str) -> list[str]:
    """The distinct texts of a sample's column, in the order of the file."""
    frame = sample_frame(name, quick=True)
    column = next(column for column in frame.columns if word in str(column).lower())
    texts = (str(value).strip() for value in frame[column].dropna())
    return [text for text in dict.fromkeys(texts) if text]


def _patches(count: int, seed: int) -> list[Image.Image]:
    """Squares of random size and place, out of the two photographs in turn."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images  # each (height, width, 3) bytes
    draw = np.random.default_rng(seed)
    patches = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        side = int(draw.integers(_PATCH[0], _PATCH[1] + 1))
        top, left = (int(draw.integers(0, length - side + 1)) for length in photograph.shape[:2])
        patches.append(Image.fromarray(photograph[top : top + side, left : left + side]))
    return patches
