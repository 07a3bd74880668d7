"""Images without labels → those to learn from, to choose by and to judge by; and the same images decoded, as bytes.

Images that look the same stay on one side of every split. Labelled images are `task`'s; views of images, and what a
model makes of them, are left to other rooms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import datasets
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from warmstart.core.contrast import PairsCard
from warmstart.core.contrast_options import ImageDataOptions
from warmstart.core.errors import DataError, SettingError
from warmstart.core.records import Finding
from warmstart.data import checks, folders, hub
from warmstart.data.cells import Where, label_strings, sorted_labels
from warmstart.data.columns import Roles, guess_image, require
from warmstart.data.duplicates import joined, same_pictures
from warmstart.data.pictures import Probe, names_of, picture_column, probe_all
from warmstart.data.reading import read_sources
from warmstart.data.screening import settle
from warmstart.data.sides import role_values
from warmstart.data.sources import Source
from warmstart.data.splits import as_count, choose

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """Some images.

    Attributes:
        pictures: column "image", undecoded.
        ids: (images,), equal for those that look the same.
        labels: (images,), class ids, for what is measured with labels; None where none are asked for.
    """

    pictures: datasets.Dataset
    ids: Ids
    labels: Ids | None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Ids) -> Images:
        """The images at some places."""
        labels = None if self.labels is None else self.labels[places]
        return Images(self.pictures.select(places), self.ids[places], labels)


@dataclass(frozen=True)
class ImageTask:
    """Images by split, the names of their classes, and the card that says what they are."""

    card: PairsCard
    train: Images
    validation: Images
    test: Images
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]


def load_images(options: ImageDataOptions) -> ImageTask:
    """Read, open every image once, and split.

    Raises:
        DataError: there are no images, or some cannot be used.
        SettingError: there are too few for the sizes that are asked for.
    """
    source, column = _read(options)
    pictures = picture_column(source, column)
    probes = probe_all(pictures)
    kept, findings = _usable(source, column, pictures, probes, drop=options.drop_invalid)
    labels, classes = _labels(source, kept, options)
    same = same_pictures([probes[place] for place in kept.tolist()])
    units = joined(same, np.arange(len(kept)))
    everything = Images(pictures.select(kept), units, labels)
    places = _split(units, options)
    digests = [probes[place].digest for place in kept.tolist()]
    card = PairsCard(
        source=source.name,
        columns={"image": column} | ({"label": options.label_column} if options.label_column else {}),
        sizes={name: len(rows) for name, rows in places.items()},
        repeated=len(units) - len(np.unique(units)),
        dropped=len(source.rows) - len(kept),
        seed=options.seed,
        fingerprint=_fingerprint([[digests[place] for place in rows.tolist()] for rows in places.values()]),
    )
    parts = {name: everything.take(rows) for name, rows in places.items()}
    return ImageTask(card, parts["train"], parts["validation"], parts["test"], classes, findings)


def _read(options: ImageDataOptions) -> tuple[Source, str]:
    """Where the images are, and which column names them."""
    name = options.images
    if not name.strip():
        raise DataError("--images is empty", remedy="Name a folder of images, a list or a table.")
    path = Path(name).expanduser()
    if path.is_dir() and not hub.is_saved(path):
        if options.image_column not in (None, folders.IMAGE) or options.label_column is not None:
            raise SettingError("--image-column and --label-column name columns, but --images is a folder.")
        return folders.read_flat(path, name), folders.IMAGE
    if path.is_file() and path.suffix.lower() == ".txt":
        return _listed(path, name), folders.IMAGE
    source = read_sources(name).main
    if options.image_column is None:
        return source, guess_image(source)
    require([options.image_column], source)
    return source, options.image_column


def _listed(path: Path, name: str) -> Source:
    """A text file with the path of one image a line, from the folder of the file on."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", file=name) from error
    rows = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError("the file is empty", file=name)
    frame = pd.DataFrame({folders.IMAGE: pd.Series([line for _, line in rows], dtype=object)})
    return Source(frame, np.array([number for number, _ in rows], dtype=np.int64), name, folder=path.parent)


def _usable(
    source: Source, column: str, pictures: datasets.Dataset, probes: Sequence[Probe], *, drop: bool
) -> tuple[Ids, tuple[Finding, ...]]:
    """Places of the images that open."""
    wrong = [probe.problem for probe in probes]
    broken = np.flatnonzero(wrong)
    problems = checks.broken_images(wrong, names_of(pictures, broken), Where(source.name, column, source.rows))
    findings = settle(problems, len(broken), drop_invalid=drop)
    kept = np.setdiff1d(np.arange(len(wrong)), broken)
    if not len(kept):
        raise DataError("no image can be used", file=source.name, column=column)
    return kept, findings


def _labels(source: Source, kept: Ids, options: ImageDataOptions) -> tuple[Ids | None, tuple[str, ...]]:
    """The class of each image, where classes are asked for: a column's, or the folder that the image lies in."""
    if options.label_column is not None:
        require([options.label_column], source)
        roles = Roles("image", {"label": options.label_column})
        where = Where(source.name, options.label_column, source.rows)
        found = label_strings(role_values(source, roles, "label"), where)
    elif options.labels:
        if folders.IMAGE not in source.frame.columns:
            raise SettingError("--labels takes the folders of the images; of a table, name the --label-column.")
        found = [PurePosixPath(str(path)).parent.name or None for path in source.frame[folders.IMAGE]]
    else:
        return None, ()
    names = [found[place] for place in kept.tolist()]
    missing = [place for place, label in zip(kept.tolist(), names, strict=True) if label is None]
    if missing:
        what = f"{len(missing)} images have no label" if options.label_column else "images lie in no class folder"
        raise DataError(
            what, remedy="Leave out --labels and --label-column.", file=source.name, row=int(source.rows[missing[0]])
        )
    classes = sorted_labels(label for label in names if label is not None)
    if len(classes) < 2:
        raise DataError(f"every image has the label {classes[0]!r}", remedy="Leave out --labels.", file=source.name)
    number = {label: place for place, label in enumerate(classes)}
    return np.array([number[label] for label in names if label is not None], dtype=np.int64), classes


def _split(units: Ids, options: ImageDataOptions) -> dict[str, Ids]:
    """Places of the images of each split."""
    everything = np.arange(len(units))
    test = _aside(units, options.test_size, options.seed, "test")
    rest = np.setdiff1d(everything, test)
    if options.train_size is not None:
        count = as_count(options.train_size, len(rest), "--train-size")
        rest = np.sort(np.random.default_rng([options.seed, 7]).permutation(rest)[:count])
    held = rest[_aside(units[rest], options.validation_size, options.seed, "validation")]
    return {"train": np.setdiff1d(rest, held), "validation": held, "test": test}


def _aside(units: Ids, size: float, seed: int, name: str) -> Ids:
    count = as_count(size, len(units), f"--{name}-size")
    if 2 <= count <= len(units) - 2:
        chosen = choose(np.zeros(len(units), dtype=np.int64), units, count, seed, name)
        if len(np.unique(units[chosen])) > 1 and len(np.unique(np.delete(units, chosen))) > 1:
            return chosen
    raise SettingError(
        f"{len(units)} images cannot be split by --{name}-size {size:g}: images that look the same stay together, and "
        "two that differ must be on either side. Use more images."
    )


def _fingerprint(splits: Sequence[Sequence[str]]) -> str:
    digest = hashlib.sha256()
    for part in splits:
        digest.update(str(len(part)).encode())
        for one in part:
            digest.update(one.encode())
    return digest.hexdigest()
