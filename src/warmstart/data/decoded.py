"""Images decoded once, at a working size, as bytes: in memory, or in a file where there are too many.

Squares: the shorter side is brought to the working size and the middle is kept. What is done with the bytes is left to
other rooms.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from warmstart.core.errors import OutputError

IN_MEMORY = 2 << 30  # bytes; more go to a file
_THREADS = 4
_LARGEST = 256  # pixels of a side, unless views are larger


def working_size(size: int) -> int:
    """Side at which to keep images whose views are `size` pixels wide: twice that, at most 256.

    A crop is brought to its size by interpolating between two pixels, which leaves nothing out down to a half.
    """
    return max(size, min(2 * size, _LARGEST))


class DecodedImages:
    """Images as bytes, decoded when first asked for.

    Args:
        pictures: column "image", undecoded.
        size: side of the squares, in pixels.
        folder: where a file may be made.
        in_memory: bytes that are kept without one.

    Raises:
        OutputError: the file cannot be made.
    """

    def __init__(self, pictures: datasets.Dataset, size: int, folder: Path, in_memory: int = IN_MEMORY) -> None:
        self._pictures, self.size = pictures, size
        self._done = np.zeros(len(pictures), dtype=np.bool_)
        shape = (len(pictures), 3, size, size)
        if np.prod(shape, dtype=np.int64) <= in_memory:
            self._pixels = np.zeros(shape, dtype=np.uint8)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:  # without a name: gone with the process
                self._pixels = np.memmap(file, np.uint8, "w+", shape=shape)
        except OSError as error:
            raise OutputError(f"Decoded images could not be kept in {folder}: {error.strerror}.") from error

    def __len__(self) -> int:
        return len(self._done)

    def rows(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """Some images, (rows, 3, size, size)."""
        missing = [row for row in dict.fromkeys(rows) if not self._done[row]]
        if missing:
            items = self._pictures.select(missing)["image"]
            with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
                warnings.simplefilter("ignore")  # Pillow warns of damaged metadata, which nothing here reads
                for row, pixels in zip(missing, pool.map(self._decode, items), strict=True):
                    self._pixels[row] = pixels
            self._done[missing] = True
        return np.asarray(self._pixels[list(rows)])

    def _decode(self, item: dict[str, Any]) -> NDArray[np.uint8]:
        content = item["bytes"] if item.get("bytes") is not None else Path(item["path"]).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (self.size, self.size))  # a JPEG is decoded at the nearest larger fraction of its size
            upright = ImageOps.exif_transpose(image).convert("RGB")
        square = ImageOps.fit(upright, (self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)
