"""Which checkpoints are whole. Trainer writes them in place; a marker, written last, says that one is complete."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

_MARKER = "complete.json"


def mark_complete(folder: Path, seconds: float) -> None:
    """Say that a checkpoint is whole, and how many seconds of training led to it."""
    part = folder / f"{_MARKER}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump({"seconds": seconds}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / _MARKER)


def last_complete(folder: Path) -> tuple[Path, float] | None:
    """The newest whole checkpoint in a folder, and the seconds spent up to it."""
    found = []
    for path in folder.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and (path / _MARKER).is_file():
            found.append((int(match.group(1)), path))
    if not found:
        return None
    path = max(found)[1]
    return path, float(json.loads((path / _MARKER).read_text(encoding="utf-8"))["seconds"])
