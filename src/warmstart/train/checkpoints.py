"""Which checkpoints are whole. Trainer writes them in place; a marker, written last, says that one is complete."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_MARKER = "complete.json"


@dataclass(frozen=True)
class Whole:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        seconds: seconds of the run that led to it.
        finished: whether training ended with it.
        note: why it ended there, when something cut it short.
    """

    path: Path
    seconds: float
    finished: bool
    note: str


def mark_complete(folder: Path, seconds: float, *, finished: bool = False, note: str = "") -> None:
    """Say that a checkpoint is whole; the arguments are those of `Whole`."""
    part = folder / f"{_MARKER}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump({"seconds": seconds, "finished": finished, "note": note}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / _MARKER)


def last_complete(folder: Path) -> Whole | None:
    """The newest whole checkpoint in a folder."""
    found = [(step, path) for step, path in _checkpoints(folder) if (path / _MARKER).is_file()]
    if not found:
        return None
    path = max(found)[1]
    values = json.loads((path / _MARKER).read_text(encoding="utf-8"))
    return Whole(path, float(values["seconds"]), bool(values.get("finished", False)), str(values.get("note", "")))


def keep_only(folder: Path, names: Collection[str]) -> None:
    """Remove all checkpoints but some; each loses its marker first, so that a half removed one is not taken for whole.

    Args:
        folder: the run's folder.
        names: names of the checkpoints that stay.
    """
    for _, path in _checkpoints(folder):
        if path.name not in names:
            (path / _MARKER).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


def drop_broken(folder: Path) -> None:
    """Remove checkpoints that a killed process left half written, so that nothing can mistake them for whole ones."""
    keep_only(folder, [path.name for _, path in _checkpoints(folder) if (path / _MARKER).is_file()])


def _checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """Step and folder of every checkpoint."""
    for path in sorted(folder.glob("checkpoint-*")):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and path.is_dir():
            yield int(match.group(1)), path
