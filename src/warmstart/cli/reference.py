"""docs/cli.md, made from the commands and the option classes: `python -m warmstart.cli.reference docs/cli.md`.

`make check` runs it with `--check`, which only compares, so that the page cannot fall behind the code. What the
commands do is told by the other pages of docs/.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from warmstart.cli.main import app
from warmstart.core import (
    contrast_options,
    encode_options,
    index_options,
    options,
    ranker_options,
    serving_options,
    two_tower_options,
)
from warmstart.core.option import flag

_INTRODUCTION = """\
# Command line

<!-- Made by `python -m warmstart.cli.reference docs/cli.md`; edits by hand are lost. -->

Every command below is also a Python function, such as `warmstart.adapt` and `warmstart.contrast_sentences`; its keyword
arguments are the options, with underscores for dashes.

- Sizes (`--train-size`, `--test-size`, `--validation-size`) are counts from 1 on, and fractions below 1.
- Results go to standard output, progress and warnings to standard error.
- Exit codes: 0 done; 1 failed; 2 something in the call, the data or the machine must change; 130 interrupted.
- `warmstart --version` shows the version, `warmstart COMMAND --help` a command's options.
"""
_TYPES = {str: "text", int: "whole number", float: "number", bool: "flag"}
_ROOMS = (options, contrast_options, encode_options, index_options, serving_options, ranker_options, two_tower_options)
_HEADINGS = {
    "DataOptions": "Data",
    "PairDataOptions": "Data",
    "CaptionDataOptions": "Data",
    "PairModelOptions": "Model",
    "ImageDataOptions": "Data",
    "ViewOptions": "Views",
    "ContrastCoreOptions": "Training",
    "InteractionOptions": "Data",
    "TwoTowerTrainOptions": "Towers and training",
    "ContrastTrainOptions": "Training",
    "MiningOptions": "Hard negatives",
    "RankerTrainOptions": "Ranker and training",
    "VectorOptions": "Vectors",
    "EffortOptions": "Effort",
    "ModelOptions": "Model",
    "LoadOptions": "Model",
    "ZeroShotOptions": "Zero-shot",
    "LoraOptions": "LoRA",
    "TrainOptions": "Training",
    "ReferenceOptions": "Forgetting",
    "OutputOptions": "Output",
}


def render() -> str:
    """The whole page, as Markdown."""
    commands = dict(all_commands())
    parts = [_INTRODUCTION, _contents(list(commands)), *(_command(*item) for item in commands.items())]
    return "\n".join(parts)


def all_commands() -> Iterator[tuple[str, Any]]:
    """Every command by its full name; of a group, its members."""
    top: Any = typer.main.get_command(app)
    for name, command in top.commands.items():
        members = getattr(command, "commands", None)
        if members is None:
            yield name, command
        else:
            yield from ((f"{name} {member}", found) for member, found in members.items())


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it; 1 when it is out of date."""
    paths = [argument for argument in arguments if argument != "--check"]
    if len(paths) != 1:
        sys.stderr.write("Usage: python -m warmstart.cli.reference FILE [--check]\n")
        return 2
    path, text = Path(paths[0]), render()
    if "--check" not in arguments:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{path} is out of date: python -m warmstart.cli.reference {path}\n")
    return 1


def _contents(names: list[str]) -> str:
    return "\n".join(f"- [`warmstart {name}`](#warmstart-{name.replace(' ', '-')})" for name in names) + "\n"


def _command(name: str, command: Any) -> str:
    """One command: what it does, how it is called, and its options by theme."""
    title = f"{name.title().replace(' ', '').replace('-', '')}Options"
    kind = next(getattr(room, title) for room in _ROOMS if hasattr(room, title))
    fields = dataclasses.fields(kind)
    needed = [spec for spec in fields if spec.default is dataclasses.MISSING]
    arguments = [spec.name.upper() for spec in needed if spec.metadata.get("argument")]
    flags = [f"{flag(spec.name)} …" for spec in needed if not spec.metadata.get("argument")]
    usage = " ".join(["warmstart", name, *arguments, *flags, "[OPTIONS]"])
    lines = [f"## `warmstart {name}`", "", str(command.help), "", "```text", usage, "```", ""]
    for heading, members in _themes(kind, fields):
        lines += [f"**{heading}**", "", *_table(_row(spec, typing.get_type_hints(kind)[spec.name]) for spec in members)]
    known = {spec.name for spec in fields}
    shared = [parameter for parameter in command.params if parameter.name not in known]
    rows = (
        f"| {', '.join(f'`{flag}`' for flag in item.opts)} | flag | off | {_escaped(item.help)} |" for item in shared
    )
    return "\n".join([*lines, "**What is shown**", "", *_table(rows)])


def _themes(
    kind: type[Any], fields: tuple[dataclasses.Field[Any], ...]
) -> list[tuple[str, list[dataclasses.Field[Any]]]]:
    """The command's own options first, then those that it shares with others, each group under its class's name."""
    homes = {spec.name: next(c for c in kind.__mro__ if spec.name in inspect.get_annotations(c)) for spec in fields}
    order = [kind, *reversed(kind.__mro__[1:])]
    found: dict[str, list[dataclasses.Field[Any]]] = {}
    for home in order:
        members = [spec for spec in fields if homes[spec.name] is home]
        heading = _HEADINGS.get(home.__name__, "This command")
        if members:
            found[heading] = members + found.get(heading, [])  # a class before the one that it is made from
    return list(found.items())


def _table(rows: Iterator[str]) -> list[str]:
    return ["| Option | Type | Default | Meaning |", "|---|---|---|---|", *rows, ""]


def _row(spec: dataclasses.Field[Any], hint: Any) -> str:
    is_argument = bool(spec.metadata.get("argument"))
    name = spec.name.upper() if is_argument else flag(spec.name)
    if spec.default is True:
        name = f"{name}`, `--no-{name.removeprefix('--')}"
    return f"| `{name}` | {_type(spec, hint)} | {_default(spec)} | {_escaped(spec.metadata['help'])} |"


def _type(spec: dataclasses.Field[Any], hint: Any) -> str:
    choices = spec.metadata.get("choices", ())
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    words = "".join(f" or `{word}`" for word in spec.metadata.get("words", ()))
    return _TYPES[hint] + words + (", repeatable" if spec.metadata.get("many") else "")


def _default(spec: dataclasses.Field[Any]) -> str:
    if spec.default is dataclasses.MISSING:
        return "required"
    if spec.default is None or spec.default == ():
        return "–"
    if isinstance(spec.default, bool):
        return "on" if spec.default else "off"
    return f"`{spec.default:g}`" if isinstance(spec.default, float) else f"`{spec.default}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
