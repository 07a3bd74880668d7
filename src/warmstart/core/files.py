"""Writing files whole, their digests, and manifests that state their own."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from warmstart.core.errors import OutputError, ResultError


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


def check_digests(folder: Path, expected: Mapping[str, str], remedy: str = "Make it again.") -> None:
    """Compare the files of a folder with the digests that were noted when they were written.

    Args:
        folder: the folder.
        expected: path in it → sha256.
        remedy: what to do where they differ, for messages.

    Raises:
        ResultError: one is missing or altered.
    """
    for name, noted in expected.items():
        if not (folder / name).is_file():
            raise ResultError(f"{folder} is not whole: {name} is missing. {remedy}")
        if digest(folder / name) != noted:
            raise ResultError(f"{folder / name} was altered after it was written. {remedy}")


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a manifest as JSON together with the digest of what it says."""
    write_text(path, json.dumps({**values, "digest": _seal(values)}, indent=1, ensure_ascii=False) + "\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without the digest.

    Raises:
        ResultError: it is damaged, or says something else than when it was written.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        seal = values.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ResultError(f"{path} is damaged or was altered.") from error
    if seal != _seal(values):
        raise ResultError(f"{path} was altered: its digest is not the one that it states.")
    return values


def settle(folder: Path) -> None:
    """Bring a folder, its files and all below to the disk, so that a power cut after this loses nothing of it."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def exclusive(path: Path, doing: str = "working in") -> Iterator[None]:
    """Hold a lock file, so that no other process changes its folder meanwhile.

    Args:
        path: of the lock file.
        doing: what another process that holds it is told to be doing to the folder.

    Raises:
        OutputError: another process holds it, or it cannot be written.
    """
    try:
        handle = path.open("w")
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be written: {error.strerror or error}.") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"Another process is {doing} {path.parent}; try again when it is done.") from error
        yield


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
