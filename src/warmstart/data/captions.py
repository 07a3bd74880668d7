"""A table of images and captions → captioned images to learn from, to choose by and to judge by.

An image may have several captions; it is one image by its content, wherever its file stands, and it and its near
copies are on one side of every split. Pairs of texts are `pairs`'; what a model makes of images is left to other rooms.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np

from warmstart.core.contrast import PairsCard
from warmstart.core.contrast_options import CaptionDataOptions
from warmstart.core.errors import DataError
from warmstart.data.cells import Where, text_strings
from warmstart.data.columns import Roles, caption_roles
from warmstart.data.duplicates import fold, numbered, same_pictures
from warmstart.data.pairs import Ids, set_aside
from warmstart.data.pictures import Probe, picture_column, probe_all
from warmstart.data.reading import read_one
from warmstart.data.sides import role_values
from warmstart.data.sources import Source
from warmstart.data.splits import as_count

_SHOWN = 4  # rows in a message


@dataclass(frozen=True)
class Captioned:
    """Images with their captions.

    Attributes:
        pictures: each image once, column "image", decoded when it is looked at.
        captions: (rows,).
        images: (rows,), the place of each caption's image among the pictures.
        caption_ids: (rows,), equal for captions that are the same but for case and spaces.
    """

    pictures: datasets.Dataset
    captions: tuple[str, ...]
    images: Ids
    caption_ids: Ids

    def __len__(self) -> int:
        return len(self.captions)

    def known(self) -> dict[int, Ids]:
        """The ids of all captions of each image, by the image's place."""
        found: dict[int, set[int]] = defaultdict(set)
        for image, caption in zip(self.images.tolist(), self.caption_ids.tolist(), strict=True):
            found[image].add(caption)
        return {image: np.array(sorted(ids), dtype=np.int64) for image, ids in found.items()}

    def take(self, places: Ids) -> Captioned:
        """Some of the images, by their places, with all of their captions."""
        renumbered = np.full(len(self.pictures), -1, dtype=np.int64)
        renumbered[places] = np.arange(len(places))
        rows = np.flatnonzero(renumbered[self.images] >= 0)
        return Captioned(
            self.pictures.select(places),
            tuple(self.captions[row] for row in rows.tolist()),
            renumbered[self.images[rows]],
            self.caption_ids[rows],
        )


@dataclass(frozen=True)
class Retrieval:
    """Captioned images as questions both ways: each text once, and what belongs to what.

    Attributes:
        texts: (texts,).
        images_of: the places of each text's images.
        texts_of: the places of each image's texts.
    """

    texts: tuple[str, ...]
    images_of: tuple[frozenset[int], ...]
    texts_of: tuple[frozenset[int], ...]


@dataclass(frozen=True)
class CaptionTask:
    """Captioned images by split, and the card that says what they are."""

    card: PairsCard
    train: Captioned
    validation: Captioned
    test: Captioned


def load_captions(options: CaptionDataOptions) -> CaptionTask:
    """Read, check and split.

    Raises:
        DataError: rows cannot be used, or columns or files are not there.
        SettingError: there are too few images.
    """
    source = _located(read_one(options.captions), options.images)
    roles = caption_roles(source, options.image_column, options.caption_column)
    where = Where(source.name, roles.columns["caption"], source.rows)
    captions = text_strings(role_values(source, roles, "caption"), where)
    column = picture_column(source, roles.columns["image"])
    first, image_of = _distinct(column)
    probes = probe_all(column.select(first))
    kept = _usable(source, roles, captions, column, probes, image_of, options)
    everything, units, digests = _assemble(column, first, image_of, probes, captions, kept)
    places = _split(everything, units, options)
    splits = {name: everything.take(part) for name, part in places.items()}
    card = PairsCard(
        source=source.name,
        columns=roles.columns,
        sizes={name: len(part) for name, part in splits.items()},
        repeated=len(everything) - len(everything.pictures),
        dropped=len(source.rows) - len(kept),
        seed=options.seed,
        fingerprint=_fingerprint(roles.columns, everything, digests, places),
        images={name: len(part.pictures) for name, part in splits.items()},
        guessed=roles.guessed,
    )
    return CaptionTask(card, splits["train"], splits["validation"], splits["test"])


def retrieval(part: Captioned) -> Retrieval:
    """What is asked of a split: which image is a text's, and which texts are an image's."""
    ids = numbered(part.caption_ids.tolist())
    first = np.unique(ids, return_index=True)[1]
    images: list[set[int]] = [set() for _ in range(len(first))]
    texts: list[set[int]] = [set() for _ in range(len(part.pictures))]
    for text, image in zip(ids.tolist(), part.images.tolist(), strict=True):
        images[text].add(image)
        texts[image].add(text)
    return Retrieval(
        tuple(part.captions[row] for row in first.tolist()),
        tuple(map(frozenset, images)),
        tuple(map(frozenset, texts)),
    )


def _located(source: Source, folder: str | None) -> Source:
    """The source with image names that start from a folder, where one is given."""
    if folder is None:
        return source
    path = Path(folder).expanduser()
    if not path.is_dir():
        what = "this is no folder" if path.exists() else "there is no such folder"
        raise DataError(what, remedy="--images names the folder that the images are in.", file=folder)
    return replace(source, folder=path)


def _distinct(column: datasets.Dataset) -> tuple[Ids, Ids]:
    """The first row of each image, by its file or bytes, and for every row the place of its image among these."""
    keys: list[object] = []
    for row, item in enumerate(column["image"]):
        given = None if item is None else item.get("bytes") or item.get("path")
        keys.append(row if given is None else given)
    places = numbered(keys)
    return np.unique(places, return_index=True)[1], places


def _usable(
    source: Source,
    roles: Roles,
    captions: Sequence[str],
    column: datasets.Dataset,
    probes: Sequence[Probe],
    image_of: Ids,
    options: CaptionDataOptions,
) -> list[int]:
    """Places of the rows with a caption and an image that can be read.

    Raises:
        DataError: some have not, and they are not to be left out; or too many.
    """
    broken = [place for place, image in enumerate(image_of.tolist()) if probes[image].problem]
    empty = [place for place, caption in enumerate(captions) if not caption.strip()]
    if len(broken) == len(captions):
        first = probes[int(image_of[0])].problem
        hint = "--images names the folder that they are in." if options.images is None else "Is --images their folder?"
        raise DataError(
            f"no image can be used ({_name(column, 0)}: {first})",
            remedy=hint,
            file=source.name,
            column=roles.columns["image"],
        )
    if broken and not options.drop_invalid:
        shown = "; ".join(
            f"row {int(source.rows[place])}, {_name(column, place)}: {probes[int(image_of[place])].problem}"
            for place in broken[:_SHOWN]
        )
        raise _refused(
            f"{len(broken)} rows have no image that can be used ({shown}{_more(broken)})", source, roles, "image"
        )
    if empty and not options.drop_invalid:
        shown = ", ".join(str(int(source.rows[place])) for place in empty[:_SHOWN])
        raise _refused(
            f"{len(empty)} rows have an empty caption (rows {shown}{_more(empty)})", source, roles, "caption"
        )
    kept = sorted(set(range(len(captions))) - set(broken) - set(empty))
    if not kept:
        raise DataError("no row has both an image and a caption", file=source.name)
    return kept


def _refused(what: str, source: Source, roles: Roles, role: str) -> DataError:
    remedy = "--drop-invalid leaves them out."
    return DataError(what, remedy=remedy, file=source.name, column=roles.columns[role])


def _more(places: list[int]) -> str:
    return f"; and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""


def _name(column: datasets.Dataset, place: int) -> str:
    item = column[place]["image"]
    return Path(item["path"]).name if item and item.get("path") else "no name"


def _assemble(
    column: datasets.Dataset,
    first: Ids,
    image_of: Ids,
    probes: Sequence[Probe],
    captions: Sequence[str],
    kept: list[int],
) -> tuple[Captioned, Ids, list[str]]:
    """The usable rows, each pair once; which images stay together; and their digests."""
    used = np.unique(image_of[kept])
    same = same_pictures([probes[image] for image in used.tolist()])
    own = np.unique(same.exact, return_index=True)[1]  # of copies of one image, the first
    place_of = dict(zip(used.tolist(), same.exact.tolist(), strict=True))
    pairs = list(dict.fromkeys((place_of[int(image_of[row])], captions[row]) for row in kept))
    chosen = used[own]
    everything = Captioned(
        pictures=column.select(first[chosen]).cast_column("image", datasets.Image()),
        captions=tuple(caption for _, caption in pairs),
        images=np.array([image for image, _ in pairs], dtype=np.int64),
        caption_ids=numbered(fold(caption) for _, caption in pairs),
    )
    return everything, same.near[own], [probes[image].digest for image in chosen.tolist()]


def _split(everything: Captioned, units: Ids, options: CaptionDataOptions) -> dict[str, Ids]:
    """Places of the images of each split."""
    test = set_aside(units, options.test_size, options.seed, "test", "images", "near copies")
    rest = np.setdiff1d(np.arange(len(units)), test)
    if options.train_size is not None:
        count = as_count(options.train_size, len(rest), "--train-size")
        rest = np.sort(np.random.default_rng([options.seed, 7]).permutation(rest)[:count])
    held = rest[set_aside(units[rest], options.validation_size, options.seed, "validation", "images", "near copies")]
    return {"train": np.setdiff1d(rest, held), "validation": held, "test": test}


def _fingerprint(columns: dict[str, str], everything: Captioned, digests: list[str], places: dict[str, Ids]) -> str:
    digest = hashlib.sha256(repr(sorted(columns.items())).encode())
    for name, part in places.items():
        digest.update(f"{name} {[digests[place] for place in part.tolist()]}".encode())
    for image, caption in zip(everything.images.tolist(), everything.captions, strict=True):
        digest.update(f"{digests[image]} {len(caption)} ".encode() + caption.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
