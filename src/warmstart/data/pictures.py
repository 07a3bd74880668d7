"""Pictures: a lazy column of them, and one pass that opens each to see that it can be read and what it looks like.

A probe keeps the digest of the bytes and an 8-by-9 grey thumbnail; which pictures are the same is left to
`duplicates`, and what to do about those that cannot be read to `checks`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from warmstart.core.progress import reporter
from warmstart.data.cells import cells
from warmstart.data.sources import Source

THUMB_ROWS, THUMB_COLUMNS = 8, 9  # differences along a row of 9 make 8 bits, 64 in all
_THREADS = 4
_BATCH = 256
_MANY = 2000  # pictures that are worth a progress bar


@dataclass(frozen=True)
class Probe:
    """What one picture is.

    Attributes:
        digest: sha256 of its bytes, in hex; empty when there are none.
        thumbnail: grey levels, flattened, (72,) uint8.
        problem: why it cannot be used; empty when it can.
    """

    digest: str
    thumbnail: NDArray[np.uint8]
    problem: str


def picture_column(source: Source, column: str) -> datasets.Dataset:
    """One column "image", undecoded, row for row beside the source: `{"path": …, "bytes": …}` or None."""
    if source.pictures is not None and column in source.pictures.column_names:
        return source.pictures.select_columns([column]).rename_columns({} if column == "image" else {column: "image"})
    return undecoded([picture_reference(value, source.folder) for value in cells(source.frame[column])])


def undecoded(references: Sequence[dict[str, Any] | None]) -> datasets.Dataset:
    """One column "image" of pictures that are opened when it is cast."""
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"image": list(references)}, features=features)


def as_jpeg(image: Image.Image, side: int | None = None) -> str:
    """A picture as the data URI of a JPEG file, for a page; no side longer than so many pixels."""
    small = image.convert("RGB")
    if side is not None:
        small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def names_of(pictures: datasets.Dataset, positions: NDArray[np.int64]) -> list[str]:
    """File names of some pictures, for messages; empty for pictures that came without one."""
    found = pictures.select(positions)["image"] if len(positions) else []
    return [Path(item["path"]).name if item and item.get("path") else "" for item in found]


def probe_all(pictures: datasets.Dataset) -> list[Probe]:
    """Open every picture once (in a few threads; decoding releases the interpreter)."""
    probes: list[Probe] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata, which nothing here reads
        with reporter().bar("Checking images") if len(pictures) > _MANY else contextlib.nullcontext() as advance:
            for start in range(0, len(pictures), _BATCH):
                probes.extend(pool.map(probe, pictures[start : start + _BATCH]["image"]))
                if advance is not None:
                    advance(len(probes), len(pictures), "")
    return probes


def probe(item: dict[str, Any] | None) -> Probe:
    """Open one picture, decode it whole, and say what is wrong with it."""
    content, problem = _bytes(item)
    if problem:
        return Probe("", _blank(), problem)
    digest = hashlib.sha256(content).hexdigest()
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.draft("L", (8 * THUMB_COLUMNS, 8 * THUMB_ROWS))  # a JPEG is decoded at a fraction of its size
            grey = image.convert("L").resize((THUMB_COLUMNS, THUMB_ROWS), Image.Resampling.BOX)
        return Probe(digest, np.asarray(grey, dtype=np.uint8).ravel(), "")
    except UnidentifiedImageError:
        return Probe(digest, _blank(), "not an image that Pillow reads, or one without pixels")
    except Image.DecompressionBombError:
        return Probe(digest, _blank(), "far too many pixels")
    except Exception as error:  # noqa: BLE001 - decoders raise what they like on damaged bytes
        return Probe(digest, _blank(), f"damaged ({str(error).strip() or type(error).__name__})")


def picture_reference(value: Any, folder: Path | None) -> dict[str, Any] | None:
    """Where one picture is: `{"path": …, "bytes": …}`; None where there is none. Relative paths start in the folder."""
    if isinstance(value, bytes):
        return {"path": None, "bytes": value}
    if isinstance(value, dict):
        return {"path": value.get("path"), "bytes": value.get("bytes")}
    if value is None or not str(value).strip():
        return None
    return {"path": str(Path(folder or ".") / str(value)), "bytes": None}


def _bytes(item: dict[str, Any] | None) -> tuple[bytes, str]:
    if item is None or (item.get("bytes") is None and not item.get("path")):
        return b"", "no image is given"
    content = item.get("bytes")
    if content is None:
        try:
            content = Path(item["path"]).read_bytes()
        except FileNotFoundError:
            return b"", "there is no such file"
        except (OSError, ValueError) as error:
            return b"", f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return (content, "") if content else (b"", "the file is empty (0 bytes)")


def _blank() -> NDArray[np.uint8]:
    return np.zeros(THUMB_ROWS * THUMB_COLUMNS, dtype=np.uint8)
