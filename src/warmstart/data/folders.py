"""Image folders: `folder/<class>/…/picture.jpg`, or the same below `train/` and `test/`.

Gives a table of relative paths and class names; whether the pictures can be read is left to `pictures`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from warmstart.core.errors import DataError
from warmstart.core.records import Finding
from warmstart.data.sources import Source, Sources

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
IMAGE, LABEL = "image", "label"  # the columns that a folder has
_JUDGES = ("test", "validation", "valid", "val")


def read_folder(folder: Path, name: str) -> Sources:
    """Read a folder with one folder per class.

    `train/` beside `test/` (else `validation/`, `valid/`, `val/`) are the two sides of a split, when both hold class
    folders.

    Raises:
        DataError: when there are no images, or none inside a class folder.
    """
    if (folder / "train").is_dir() and _class_folders(folder / "train"):
        for other in _JUDGES:
            if (folder / other).is_dir() and _class_folders(folder / other):
                return Sources(
                    _read_classes(folder / "train", str(Path(name) / "train")),
                    _read_classes(folder / other, str(Path(name) / other)),
                )
    return Sources(_read_classes(folder, name))


def read_flat(folder: Path, name: str) -> Source:
    """Read every image of a folder, whatever folder it lies in: for rows without labels.

    Raises:
        DataError: when there are none.
    """
    images = _images(folder)
    if not images:
        raise _no_images(name)
    frame = pd.DataFrame({IMAGE: pd.Series(images, dtype=object)})
    return Source(frame, np.arange(1, len(images) + 1, dtype=np.int64), name, folder=folder)


def _read_classes(folder: Path, name: str) -> Source:
    found = _images(folder)
    if not found:
        raise _no_images(name)
    images = [image for image in found if "/" in image]
    if not images:
        raise DataError(
            f"{len(found)} images and no class folders",
            remedy="Put the images of each class into a folder of its own: folder/<class>/picture.jpg.",
            file=name,
        )
    labels = [image.split("/", 1)[0] for image in images]
    frame = pd.DataFrame({IMAGE: pd.Series(images, dtype=object), LABEL: pd.Series(labels, dtype=object)})
    notes = _notes(found, images, folder, name)
    return Source(frame, np.arange(1, len(images) + 1, dtype=np.int64), name, folder=folder, notes=notes)


def _notes(found: list[str], images: list[str], folder: Path, name: str) -> tuple[Finding, ...]:
    notes = []
    stray = len(found) - len(images)
    if stray:
        first = next(image for image in found if "/" not in image)
        message = f"{stray} images beside the class folders are not used (the first: {first})"
        notes.append(Finding("stray_images", "warn", message, file=name, column=IMAGE, count=stray))
    used = {image.split("/", 1)[0] for image in images}
    empty = sorted(entry.name for entry in folder.iterdir() if _is_class(entry) and entry.name not in used)
    if empty:
        message = f"class folders without images: {', '.join(empty[:10])}"
        notes.append(Finding("empty_class_folders", "warn", message, file=name, column=LABEL, count=len(empty)))
    return tuple(notes)


def _images(folder: Path) -> list[str]:
    """Relative paths with forward slashes, sorted, hidden files and folders left out."""
    images: list[str] = []
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [file for file in files if not file.startswith(".") and file.lower().endswith(ENDINGS)]
        images += [(Path(base) / file).relative_to(folder).as_posix() for file in names]
    return sorted(images)


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _class_folders(folder: Path) -> bool:
    return any(_is_class(entry) for entry in folder.iterdir()) and any("/" in image for image in _images(folder))


def _no_images(name: str) -> DataError:
    return DataError(f"no images in this folder (looked for {', '.join(ENDINGS)})", file=name)
