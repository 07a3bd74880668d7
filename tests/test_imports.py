"""Importing warmstart and asking for help stay light, and every option says what it is for."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

import warmstart
from warmstart.cli.main import app
from warmstart.cli.reference import all_commands

HEAVY = ("torch", "transformers", "pandas", "datasets", "sklearn", "scipy", "peft", "matplotlib", "pyarrow")
COMMANDS: dict[str, Any] = dict(all_commands())


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are there after some code ran, without an error, in a new process."""
    ending = "import sys, json; sys.stderr.write(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr))


@pytest.mark.parametrize("code", ["import warmstart", "import warmstart; dir(warmstart)", "import warmstart.cli.main"])
def test_import_is_light(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


def test_help_is_light() -> None:
    code = "from typer.testing import CliRunner; from warmstart.cli.main import app\n"
    code += "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
    code += "assert CliRunner().invoke(app, ['adapt', '--help']).exit_code == 0"
    assert not loaded_by(code) & set(HEAVY)


def test_public_names_stay_what_they_are() -> None:
    """Also once the modules behind them are imported: the room `warmstart.strategies` must not hide the verb."""
    code = "import warmstart as w\n"
    code += "first = {name: getattr(w, name) for name in w.__all__}\n"
    code += "changed = [name for name, value in first.items() if getattr(w, name) is not value]\n"
    code += "assert not changed, changed\n"
    code += "assert all(callable(value) for name, value in first.items() if name != '__version__')\n"
    code += "import warmstart.strategies.table\nassert w.adapt is first['adapt']\n"
    code += "import warmstart.contrastive.sentences\nassert w.contrast_sentences is first['contrast_sentences']"
    loaded_by(code)


def test_public_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = warmstart.nothing  # type: ignore[attr-defined]


def test_help_lists_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "warmstart", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    for name in ("adapt", "compare", "advise", "predict", "push", "groups", "sample", "contrast", "index"):
        assert f"  {name} " in done.stdout
    assert "Exit codes: 0 done" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name}"
        assert parameter.help.endswith("."), f"{name} {parameter.name}: {parameter.help}"
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    for parameter in command.params:
        for flag in parameter.opts:
            assert flag in shown.output or flag.upper() in shown.output


def test_nothing_is_replaced_unasked() -> None:
    for name in (
        "adapt",
        "compare",
        "contrast sentences",
        "index build",
        "index tune",
        "index search",
        "predict",
        "sample",
    ):
        overwrite = next(parameter for parameter in COMMANDS[name].params if parameter.name == "overwrite")
        assert overwrite.default is False
