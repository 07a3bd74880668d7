"""Activations of rows in one memory-mapped file: fixed shapes for images, one stretch of tokens a row for texts.

Which activations, and when they are worth keeping, is `frozen_trunk.py`'s.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from warmstart.core.errors import OutputError

_KINDS = {
    "float32": (torch.float32, np.float32),
    "float16": (torch.float16, np.float16),
    "bfloat16": (torch.bfloat16, np.int16),
}


class ActivationFile:
    """One value per row, of a shape that is the same for all rows but for the number of tokens.

    Args:
        path: the file; it is made by `create`.
        lengths: tokens of each row, (rows,).
        like: a batch of values: (batch, tokens, …) or (batch, …).
        by_token: whether the second axis is tokens, padded to the longest row of a batch.
    """

    def __init__(self, path: Path, lengths: np.ndarray, like: Tensor, *, by_token: bool) -> None:
        self._set_up(path, lengths, str(like.dtype).removeprefix("torch."), tuple(like.shape[1 + by_token :]), by_token)

    def _set_up(self, path: Path, lengths: np.ndarray, kind: str, shape: tuple[int, ...], by_token: bool) -> None:
        self._path, self._kind, self._shape, self._by_token = path, kind, shape, by_token
        self._counts = lengths.astype(np.int64) if by_token else np.ones(len(lengths), dtype=np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self._counts)))
        self._filled = np.zeros(len(lengths), dtype=bool)
        self._values: Tensor | None = None

    @classmethod
    def reopen(cls, path: Path, note: Path, lengths: np.ndarray) -> Self | None:
        """Open a file again as it was when `save` wrote its note; None when it is gone."""
        values = json.loads(note.read_text(encoding="utf-8"))
        file = cls.__new__(cls)
        file._set_up(path, lengths, values["kind"], tuple(values["shape"]), values["by_token"])
        if not path.is_file() or path.stat().st_size != file.bytes:
            return None
        file._filled[values["filled"]] = True
        file._open("r+")
        return file

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return int(self._starts[-1]) * math.prod(self._shape) * _KINDS[self._kind][0].itemsize

    def create(self) -> None:
        """Make the file, with nothing in it.

        Raises:
            OutputError: it cannot be made.
        """
        self._open("w+")

    def _open(self, mode: str) -> None:
        shape = (int(self._starts[-1]), *self._shape)
        try:
            mapped = np.memmap(self._path, dtype=_KINDS[self._kind][1], mode=mode, shape=shape)  # type: ignore[call-overload]
        except OSError as error:
            raise OutputError(f"Activations could not be kept in {self._path.parent}: {error.strerror}.") from error
        self._mapped = mapped
        self._values = torch.from_numpy(mapped).view(_KINDS[self._kind][0])  # (positions, …)

    def has(self, rows: Sequence[int]) -> bool:
        """Whether all of some rows are kept."""
        return bool(self._filled[list(rows)].all())

    def write(self, rows: Sequence[int], batch: Tensor) -> None:
        """Keep the values of some rows, (batch, …); what stands beyond a row's own tokens is left out."""
        assert self._values is not None
        batch = batch.to("cpu", self._values.dtype)
        for line, row in enumerate(rows):
            start, count = int(self._starts[row]), int(self._counts[row])
            self._values[start : start + count] = batch[line, :count] if self._by_token else batch[line : line + 1]
        self._filled[list(rows)] = True

    def read(self, rows: Sequence[int], width: int | None) -> Tensor:
        """The values of some rows, (batch, …); tokens are filled up with zeros to `width`."""
        assert self._values is not None
        if not self._by_token:
            return self._values[torch.as_tensor(rows)]  # (batch, …)
        out = self._values.new_zeros((len(rows), int(width or self._counts[list(rows)].max()), *self._shape))
        for line, row in enumerate(rows):
            start, count = int(self._starts[row]), int(self._counts[row])
            out[line, :count] = self._values[start : start + count]
        return out  # (batch, tokens, …)

    def save(self, note: Path) -> None:
        """Bring the values to disk, then write down which rows they are of."""
        self._mapped.flush()
        values = {
            "kind": self._kind,
            "shape": self._shape,
            "by_token": self._by_token,
            "filled": np.flatnonzero(self._filled).tolist(),
        }
        note.write_text(json.dumps(values), encoding="utf-8")

    def remove(self) -> None:
        """Delete the file."""
        self._values = None
        del self._mapped
        self._path.unlink(missing_ok=True)
