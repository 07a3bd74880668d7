"""Makes the pairs of the contrastive tests importable, and keeps most checks of saved folders in this process."""

from __future__ import annotations

import contextlib
import importlib
import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from warmstart.verbs import round_trip

FOLDER = Path(__file__).parents[1] / "contrastive"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))


@pytest.fixture(autouse=True)
def checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a check of a saved folder here: a new interpreter takes seconds.

    What fixtures of a module make is checked in a new process as ever: they come before this one.
    """

    def run(command: list[str], *, input: str, **_: object) -> subprocess.CompletedProcess[str]:  # noqa: A002
        module, said = importlib.import_module(command[2]), io.StringIO()
        with monkeypatch.context() as patch, contextlib.redirect_stdout(said):
            patch.setattr(sys, "stdin", io.StringIO(input))
            try:
                module.main(command[3:])
            except Exception as error:  # noqa: BLE001 - a process would end with any
                return subprocess.CompletedProcess(command, 1, "", f"{type(error).__name__}: {error}")
        return subprocess.CompletedProcess(command, 0, said.getvalue(), "")

    monkeypatch.setattr(round_trip, "subprocess", SimpleNamespace(run=run))
