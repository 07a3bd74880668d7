"""One picture for each item, where it has one: where it is, what tells it from others, and whether it can be opened."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from warmstart.core.errors import DataError
from warmstart.data.cells import ADDRESS, Where
from warmstart.data.pictures import picture_reference, probe_all, undecoded

_SHOWN = 3  # pictures in a message
_IN_A_TABLE = (
    "Put the files there or empty the cells; --drop-invalid counts them as none, and --image-model none leaves "
    "pictures out."
)


@dataclass(frozen=True)
class ItemPictures:
    """Pictures row for row; of no length where rows have none.

    Attributes:
        references: (rows,), path or bytes of each; None where there is none.
        digests: (rows,), sha256 of its bytes; empty where there is none.
    """

    references: tuple[dict[str, Any] | None, ...] = ()
    digests: tuple[str, ...] = ()

    def placed(self, places: Sequence[int]) -> ItemPictures:
        """Some rows; −1 is one without a picture. Of no length it stays so."""
        if not self.digests:
            return self
        return ItemPictures(
            tuple(None if place < 0 else self.references[place] for place in places),
            tuple("" if place < 0 else self.digests[place] for place in places),
        )

    def decoded(self, rows: np.ndarray) -> Sequence[Image.Image]:
        """The pictures of some rows that have one, opened when they are looked at."""
        found = undecoded([self.references[row] for row in rows.tolist()]).cast_column("image", datasets.Image())
        column: Sequence[Image.Image] = found["image"]
        return column


def item_pictures(
    values: Sequence[object],
    where: Where,
    folder: Path | None,
    *,
    drop_invalid: bool = False,
    remedy: str = _IN_A_TABLE,
) -> tuple[ItemPictures, int]:
    """Look at a column of pictures.

    Args:
        values: paths, bytes, Pillow images, arrays of bytes (height, width, channels), or what Parquet files of the Hub
            hold; None or empty for no picture.
        where: their place, for messages.
        folder: where relative paths start; None for where the program runs.
        drop_invalid: whether a picture that cannot be used counts as none, as long as some can.
        remedy: what to do about them.

    Returns:
        The pictures, and how many could not be used.

    Raises:
        DataError: a picture cannot be used; none of them can.
    """
    references = [picture_reference(_as_file(value, where, place), folder) for place, value in enumerate(values)]
    there = [place for place, reference in enumerate(references) if reference is not None]
    probes = dict(zip(there, probe_all(undecoded([references[place] for place in there])), strict=True))
    broken = [place for place in there if probes[place].problem]
    if broken and (not drop_invalid or len(broken) == len(there)):
        shown = [_told(values[place], probes[place].problem) for place in broken[:_SHOWN]]
        lost = any(isinstance(values[place], (str, Path)) for place in broken[:_SHOWN])
        start = f"; paths start in {folder or Path.cwd()}" if lost else ""
        raise DataError(
            f"{len(broken):,} of {len(there):,} pictures cannot be used ({'; '.join(shown)}"
            f"{'; …' if len(broken) > _SHOWN else ''}{start})",
            remedy=remedy,
            file=where.file,
            row=int(where.rows[broken[0]]),
            column=where.column,
        )
    for place in broken:
        references[place] = None
    digests = ["" if reference is None else probes[place].digest for place, reference in enumerate(references)]
    return ItemPictures(tuple(references), tuple(digests)), len(broken)


def _as_file(value: object, where: Where, place: int) -> object:
    """A Pillow image, or an array of one, as the bytes of a PNG file; paths, bytes and gaps as they are."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        value = Image.fromarray(value)
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        value.convert("RGB").save(buffer, format="PNG")
        return buffer.getvalue()
    if value is None or isinstance(value, (str, Path, bytes, dict)):
        return value
    raise DataError(
        f"a picture is a path, bytes, a Pillow image or an array of bytes, not {type(value).__name__}",
        file=where.file,
        row=int(where.rows[place]),
        column=where.column,
    )


def _told(value: object, problem: str) -> str:
    if not isinstance(value, (str, Path)):
        return problem
    if ADDRESS.match(str(value)):
        return f"{str(value)[:80]}: addresses of the web are not fetched"
    return f"{str(value)[:80]}: {problem}"
