"""Writing files whole, and their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from warmstart.core.errors import ResultError


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the whole new one."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def share(folder: Path) -> None:
    """Give every file in a folder and below the mode of a new file; some libraries leave theirs to the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)


def digests(folder: Path, apart_from: str) -> dict[str, str]:
    """The digest of every file in a folder and below, by its path in the folder, but for one."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / apart_from)
    return {str(path.relative_to(folder)): digest(path) for path in files}


def check_digests(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare the files of a folder with the digests that were noted when they were written.

    Raises:
        ResultError: one is missing or altered.
    """
    for name, noted in expected.items():
        if not (folder / name).is_file():
            raise ResultError(f"{folder} is not whole: {name} is missing. Make it again.")
        if digest(folder / name) != noted:
            raise ResultError(f"{folder / name} was altered after it was written. Make it again.")


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
