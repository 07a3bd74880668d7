"""Commands made from option classes, so that the command line and the Python functions cannot drift apart."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON on standard output, nothing else.")]
VerboseFlag = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show more; of a training the parameter → group → rate table.")
]


def command(options: type[Any], run: Callable[[dict[str, Any], bool, bool], None], text: str) -> Callable[..., None]:
    """A function whose parameters are the option class's fields, with `--json` and `--verbose` added.

    Args:
        options: a dataclass of options.
        run: called with the values by name, json, verbose.
        text: help text.
    """
    hints = typing.get_type_hints(options)
    own = inspect.get_annotations(options)
    specs = sorted(dataclasses.fields(options), key=lambda spec: spec.name not in own)  # what others share comes after
    parameters = [_parameter(spec, hints[spec.name]) for spec in specs]
    parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)

    def call(**values: Any) -> None:
        as_json, verbose = values.pop("json_"), values.pop("verbose")
        plain = {name: _plain(value) for name, value in values.items()}
        options(**plain)  # its checks come before anything slow is imported
        run(plain, as_json, verbose)

    parameters.append(_flag("json_", JsonFlag))
    parameters.append(_flag("verbose", VerboseFlag))
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = text
    return call


def _flag(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _parameter(spec: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
    is_required = spec.default is dataclasses.MISSING
    text, choices = spec.metadata["help"], spec.metadata["choices"]
    if choices:
        hint = str if spec.default is not None else str | None
    words = spec.metadata.get("words", ())
    if words:
        hint = str | None if spec.default is None else str
    many = spec.metadata.get("many", False)
    if many:
        hint = list[str]
    if spec.metadata.get("argument"):
        info: Any = typer.Argument(help=text)
    elif choices:
        info = typer.Option(help=text, parser=_one_of(choices), metavar=f"[{'|'.join(choices)}]")
    elif words:
        info = typer.Option(help=text, parser=_number_or_word, metavar="|".join(("FLOAT", *words)))
    elif hint is bool:
        name = spec.name.replace("_", "-")
        info = typer.Option(f"--{name}/--no-{name}" if spec.default is True else f"--{name}", help=text)
    else:
        info = typer.Option(help=text, metavar="TEXT …" if many else _metavar(hint))
    default = inspect.Parameter.empty if is_required else _several(spec.default) if many else spec.default
    annotation = Annotated[hint, info]
    return inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(hint: Any) -> str:
    kind = next((part for part in typing.get_args(hint) if part is not type(None)), hint)
    return {int: "INTEGER", float: "FLOAT"}.get(kind, "TEXT")


def _several(default: Any) -> list[Any]:
    return list(default) if isinstance(default, tuple) else [default]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return value


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    """A reader of one of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(choices)}.")
        return text

    return read


def _number_or_word(text: str) -> float | str:
    """A number where the text is one. Whether a word is one of the option's is checked with all other values."""
    try:
        return float(text)
    except ValueError:
        return text
