"""The folder of an unfinished run, and how it becomes a result in one step.

Work happens in `<output_dir>.running`. The result is put together there and renamed to `output_dir` when it is whole,
so a folder called `output_dir` is always a complete result. What a run needs to be resumed is in `run.json`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any, TextIO

from warmstart.core.errors import OutputError
from warmstart.core.files import share, write_text

_STATE = "run.json"
_IGNORED = frozenset({"resume", "overwrite", "output_dir"})


class Workspace:
    """One run's folder.

    Args:
        output_dir: where the result will be.
        overwrite: replace an existing result or an unfinished run.
        resume: go on with an unfinished run.
    """

    def __init__(self, output_dir: str, *, overwrite: bool, resume: bool) -> None:
        self.output = Path(output_dir).expanduser()
        self.folder = self.output.with_name(self.output.name + ".running")
        self.overwrite, self.resume = overwrite, resume
        self._state: dict[str, Any] = {}
        self._lock: TextIO | None = None

    def check(self) -> None:
        """Whether the run may start; changes nothing.

        Raises:
            OutputError: a result, an unfinished run, or a file is in the way.
        """
        if self.overwrite and self.resume:
            raise OutputError("--resume and --overwrite contradict each other; give one of them.")
        if self.output.is_symlink() or (self.output.exists() and not self.output.is_dir()):
            raise OutputError(f"{self.output} is a file or a link; --output-dir must name a folder.")
        if self.output.is_dir() and any(self.output.iterdir()) and not self.overwrite:
            self._refuse_existing()
        if self.overwrite and self.output.is_dir() and any(self.output.iterdir()) and not self._is_result():
            raise OutputError(f"{self.output} holds something that is no warmstart result; it will not be replaced.")
        if self.folder.exists() and not (self.overwrite or self.resume):
            raise OutputError(
                f"An unfinished run is in {self.folder}: --resume goes on with it, --overwrite starts again."
            )
        if self.resume and not (self.folder / _STATE).is_file():
            raise OutputError(f"There is nothing to resume: {self.folder} holds no unfinished run.")
        parent = self._existing_parent()
        if not os.access(parent, os.W_OK):
            raise OutputError(f"{parent} cannot be written to.")

    def _refuse_existing(self) -> None:
        what = "a result" if self._is_result() else "files"
        remedy = "Use --overwrite, or another --output-dir." if self._is_result() else "Use another --output-dir."
        raise OutputError(f"{self.output} already holds {what}. {remedy}")

    def _is_result(self) -> bool:
        return (self.output / "results.json").is_file()

    def _existing_parent(self) -> Path:
        parent = self.output.absolute().parent
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir():
            raise OutputError(f"{parent} is a file; {self.output} cannot be made in it.")
        return parent

    def begin(self, options: dict[str, Any], fingerprints: dict[str, str]) -> None:
        """Make the folder, or take up an unfinished run.

        Raises:
            OutputError: another process is at it, or the unfinished run had other options, data or weights.
        """
        wanted = {
            "options": {name: value for name, value in options.items() if name not in _IGNORED},
            "fingerprints": fingerprints,
        }
        if self.folder.exists() and not self.resume:
            self._take_lock()
            shutil.rmtree(self.folder)
            self._release_lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if self.resume:
                self._state = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
                self._same(wanted)
            else:
                self._state = {**wanted, "spent": 0.0}
                self._write()
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written: {error.strerror or error}.") from error

    def follow(self) -> None:
        """Read what the process that does the writing has kept so far."""
        self._state = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))

    def _same(self, wanted: dict[str, Any]) -> None:
        wanted = json.loads(json.dumps(wanted))
        for part in ("options", "fingerprints"):
            old, new = self._state[part], wanted[part]
            changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            if changed:
                was = ", ".join(
                    f"{name} (was {_short(old.get(name))}, now {_short(new.get(name))})" for name in changed
                )
                raise OutputError(
                    f"The unfinished run in {self.folder} had other {part}: {was}. --overwrite starts again."
                )

    def _take_lock(self) -> None:
        self._lock = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"Another process is working in {self.folder}.") from error

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _write(self) -> None:
        write_text(self.folder / _STATE, json.dumps(self._state, indent=1))

    def remember(self, name: str, value: Any, spent: float) -> None:
        """Keep a JSON value for a resumed run, with the seconds spent so far."""
        self._state[name] = value
        self._state["spent"] = spent
        self._write()

    def recall(self, name: str) -> Any:
        """What an interrupted run kept, or None."""
        return self._state.get(name)

    def spent(self) -> float:
        """Seconds that the interrupted run had taken, by its last whole checkpoint or record."""
        seconds = [float(self._state["spent"])]
        marks = self.folder.glob("**/complete.json")
        seconds.extend(float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) for path in marks)
        return max(seconds)

    def stage(self, name: str) -> Path:
        """A folder for one stage's checkpoints."""
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def clear_checkpoints(self, name: str) -> None:
        """Remove a finished stage's checkpoints; what else is in its folder stays."""
        for path in (self.folder / name).glob("checkpoint-*"):
            shutil.rmtree(path, ignore_errors=True)

    def staging(self) -> Path:
        """An empty folder to put the result together in."""
        path = self.folder / "result"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def abandon(self) -> None:
        """Remove the run's folder: there is nothing in it that is worth resuming."""
        self._release_lock()
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self) -> Path:
        """Rename the staged result to the output folder, and remove the rest."""
        old = self.output.with_name(self.output.name + ".old")
        try:
            if self.output.is_dir() and any(self.output.iterdir()):
                shutil.rmtree(old, ignore_errors=True)
                self.output.rename(old)
            share(self.folder / "result")
            (self.folder / "result").rename(self.output)
        except OSError as error:
            raise OutputError(f"The result could not be moved to {self.output}: {error.strerror or error}.") from error
        shutil.rmtree(old, ignore_errors=True)
        self._release_lock()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.output


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 24 else text[:21] + "…"
