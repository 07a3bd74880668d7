"""A folder that serves: versions of a bundle, and which of them is the current one.

    SERVING/versions/0001/ …   whole bundles; what is not whole yet, or no longer, has another name
    SERVING/current.json       the current version and those that were current before it
    SERVING/.lock              held while something is changed

A version gets its name by one rename after it was written, synced and checked, and becomes the current one by one more.
So whenever the process is killed or the power fails, the current version is a whole one: the old, or the new.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from warmstart.core.errors import OutputError, ResultError, SettingError
from warmstart.core.files import exclusive, settle, share, sync, write_text
from warmstart.core.record import Record

CURRENT, VERSIONS = "current.json", "versions"
_LOCK = ".lock"
_NAME = re.compile(r"\d{4,}")
_HALF, _GONE = ".part", ".gone"


@dataclass(frozen=True)
class Pointer(Record):
    """The current version, and those that were current before it and may be again, the latest first."""

    current: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Serving:
    """Versions in a folder.

    Attributes:
        folder: of all versions.
    """

    folder: Path

    def is_one(self) -> bool:
        """Whether something was published here."""
        return (self.folder / CURRENT).is_file()

    def is_unfinished(self) -> bool:
        """Whether a first publishing was broken off here, and nothing else is here."""
        return {path.name for path in self.folder.iterdir()} <= {VERSIONS, _LOCK, CURRENT + ".part"}

    def pointer(self) -> Pointer:
        """The current version.

        Raises:
            ResultError: nothing was published here, or the file is damaged.
        """
        path = self.folder / CURRENT
        if not path.is_file():
            raise ResultError(f"Nothing was published to {self.folder}: there is no {CURRENT}.")
        try:
            return Pointer.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ResultError(f'{path} is damaged; it holds {{"current": VERSION}}.') from error

    def place(self, version: str) -> Path:
        """Where a version is."""
        return self.folder / VERSIONS / version

    def names(self) -> list[str]:
        """Every whole version, the oldest first."""
        folder = self.folder / VERSIONS
        found = [path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
        return sorted(found, key=int)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all others from changing anything meanwhile.

        Raises:
            OutputError: another process is changing it, or it cannot be written.
        """
        try:
            (self.folder / VERSIONS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written: {error.strerror or error}.") from error
        with exclusive(self.folder / _LOCK, "publishing to"):
            try:
                yield
            finally:
                self._withdraw()

    def publish(self, fill: Callable[[Path], None], check: Callable[[Path], None], keep: int) -> str:
        """Add a version and make it the current one; call it with the lock held.

        Args:
            fill: writes the bundle into an empty folder.
            check: raises when it cannot be used.
            keep: how many versions stay: the current one, and those that were current before it.

        Returns:
            The new version.

        Raises:
            OutputError: it cannot be written; what was current still is.
        """
        before = self.pointer() if self.is_one() else None
        self._sweep()
        taken = [int(name) for name in self.names()]
        version = f"{max(taken, default=0) + 1:04d}"
        half = self.place(version + _HALF)
        try:
            half.mkdir()
            fill(half)
            share(half)
            check(half)
            settle(half)
            half.rename(self.place(version))
            sync(self.folder / VERSIONS)
        except OSError as error:
            raise OutputError(f"{half} cannot be written: {error.strerror or error}.") from error
        finally:
            shutil.rmtree(half, ignore_errors=True)
        self._point(Pointer(version, () if before is None else (before.current, *before.before)))
        self._prune(keep)
        return version

    def rollback(self, version: str | None, check: Callable[[Path], None]) -> Pointer:
        """Make an earlier version the current one; call it with the lock held.

        Args:
            version: which; None for the one that was current before.
            check: raises when it cannot be used.

        Raises:
            SettingError: there is no such version, or none before.
        """
        now = self.pointer()
        there = self.names()
        earlier = [name for name in now.before if name in there]
        if version is None:
            if not earlier:
                raise SettingError(f"{self.folder} has no version before {now.current} to go back to.")
            version = earlier[0]
        elif version.isdecimal() and f"{int(version):04d}" in there:
            version = f"{int(version):04d}"
        else:
            raise SettingError(f"{self.folder} has no version {version}; there are {', '.join(there)}.")
        if version == now.current:
            raise SettingError(f"{version} is the current version of {self.folder} already.")
        check(self.place(version))
        rest = earlier[earlier.index(version) + 1 :] if version in earlier else [now.current, *earlier]
        self._point(Pointer(version, tuple(rest)))
        return self.pointer()

    def _withdraw(self) -> None:
        """Leave nothing where a first publishing was refused."""
        if not self.is_one():
            with contextlib.suppress(OSError):
                (self.folder / VERSIONS).rmdir()
                (self.folder / _LOCK).unlink()
                self.folder.rmdir()

    def _point(self, pointer: Pointer) -> None:
        try:
            write_text(self.folder / CURRENT, json.dumps(pointer.to_dict()) + "\n")
            sync(self.folder)
        except OSError as error:
            raise OutputError(f"{self.folder / CURRENT} cannot be written: {error.strerror or error}.") from error

    def _prune(self, keep: int) -> None:
        """Remove versions that are neither current nor among the last that were; and note only those that are left."""
        pointer = self.pointer()
        there = self.names()
        stay = [pointer.current, *[name for name in pointer.before if name in there][: keep - 1]]
        if tuple(stay[1:]) != pointer.before:
            self._point(Pointer(pointer.current, tuple(stay[1:])))
        for name in there:
            if name not in stay:
                self.place(name).rename(self.place(name + _GONE))
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed process left behind."""
        for path in (self.folder / VERSIONS).iterdir():
            if path.name.endswith((_HALF, _GONE)):
                shutil.rmtree(path, ignore_errors=True)
