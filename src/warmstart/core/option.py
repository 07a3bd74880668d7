"""What options are made of: fields with their help texts, checks of their values, and functions that take them.

The options themselves are in `options.py` and in the modules named `…_options.py`. Checks that need data or a
model live with what they check.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from warmstart.core.errors import SettingError

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741 - the options
R = TypeVar("R")


def option(
    default: Any,
    text: str,
    *,
    short: str = "",
    choices: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    many: bool = False,
) -> Any:
    """A field with its help text, an optional one-letter flag and the values it may take.

    `words` are what a field may hold that is otherwise a number; `many` is for what may be given more than once.
    """
    metadata = {"help": text, "short": short, "choices": choices, "words": words, "many": many}
    return field(default=default, metadata=metadata)


def required(text: str, *, argument: bool = False) -> Any:
    """A field without a default; on the command line an option, or a bare argument."""
    return field(metadata={"help": text, "short": "", "choices": (), "argument": argument})


def verb(options: Callable[P, O]) -> Callable[[Callable[[O], R]], Callable[P, R]]:
    """Make a function of an options object callable with the options themselves as keyword arguments.

    Raises:
        SettingError: for an unknown or missing option.
    """

    def decorate(function: Callable[[O], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if args:
                raise SettingError(f"{function.__name__} takes keyword arguments only, such as data=… and model=…")
            known = inspect.signature(options).parameters
            for name in kwargs:
                if name not in known:
                    raise SettingError(f"{function.__name__} has no option {name!r}{_nearest(name, known)}")
            missing = [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in kwargs]
            if missing:
                raise SettingError(f"{function.__name__} needs {', '.join(missing)}")
            if not isinstance(kwargs.get("data"), (str, Path, types.NoneType)):
                kwargs["data"] = _hand_over(kwargs["data"])
            return function(options(*args, **kwargs))

        given = inspect.signature(function, eval_str=False).return_annotation
        call.__signature__ = inspect.signature(options).replace(return_annotation=given)  # type: ignore[attr-defined]
        call.__doc__ = _with_arguments(function.__doc__, options)
        return call

    return decorate


def _with_arguments(text: str | None, options: Any) -> str | None:
    """A docstring with every option and its help text, before what it says it raises."""
    if text is None or not dataclasses.is_dataclass(options):
        return text
    lines = [
        f"    {spec.name}: {spec.metadata['help']}" for spec in dataclasses.fields(options) if "help" in spec.metadata
    ]
    head, mark, rest = inspect.cleandoc(text).partition("Raises:")
    return "\n".join([head.rstrip(), "", "Args:", *lines, *(["", f"{mark}{rest}"] if mark else [])])


_handed: dict[str, object] = {}  # rows that a Python caller gave as an object, by the name that options carry


def _hand_over(rows: object) -> str:
    name = f"memory:{type(rows).__name__}"
    _handed[name] = rows
    return name


def handed_over(name: str) -> Any:
    """The object that was given as `data`, or None when it was a name."""
    return _handed.get(name)


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


_RANGES: dict[str, tuple[float, float, str]] = {
    "test_size": (0, float("inf"), "above 0: a count, or a fraction below 1"),
    "train_size": (0, float("inf"), "above 0: a count, or a fraction below 1"),
    "validation_size": (0, float("inf"), "above 0: a count, or a fraction below 1"),
    "learning_rate": (0, 10, "above 0 and at most 10"),
    "head_learning_rate": (0, 10, "above 0 and at most 10"),
    "layer_decay": (0, 1, "above 0 and at most 1"),
    "num_train_epochs": (0, float("inf"), "above 0"),
    "time_budget": (0, float("inf"), "above 0 seconds"),
    "max_steps": (0, float("inf"), "above 0"),
    "max_length": (1, float("inf"), "at least 2 tokens"),
    "image_size": (15, 4096, "between 16 and 4096 pixels"),
    "per_device_train_batch_size": (0, float("inf"), "at least 1"),
    "gradient_accumulation_steps": (0, float("inf"), "at least 1"),
    "early_stopping_patience": (0, float("inf"), "at least 1"),
    "unfreeze_patience": (0, float("inf"), "at least 1"),
    "r": (0, float("inf"), "at least 1"),
    "lora_alpha": (0, float("inf"), "above 0"),
    "mini_batch_size": (0, float("inf"), "at least 1"),
    "temperature": (0, 100, "above 0 and at most 100"),
    "evaluations": (0, float("inf"), "at least 1"),
    "range_max": (0, float("inf"), "at least 1"),
    "projection_dim": (1, 65536, "between 2 and 65536"),
    "batch_size": (0, float("inf"), "at least 1"),
    "shard_rows": (0, float("inf"), "at least 1"),
    "rows": (0, float("inf"), "at least 1"),
    "dim": (0, 4096, "between 1 and 4096"),
    "layers": (0, 64, "between 1 and 64"),
    "heads": (0, 64, "between 1 and 64"),
    "max_history": (0, 10_000, "between 1 and 10,000"),
    "width": (0, 4096, "between 1 and 4096"),
    "candidates": (1, 10_000, "between 2 and 10,000"),
    "seeds": (0, 100, "between 1 and 100"),
    "crop_scale": (0, 1, "above 0 and at most 1"),
    "pilot_share": (0, 1, "above 0 and at most 1"),
    "k": (0, float("inf"), "at least 1"),
    "at": (0, float("inf"), "at least 1"),
    "recall": (0, 1, "above 0 and at most 1"),
    "p99_ms": (0, float("inf"), "above 0"),
    "holdout": (0, float("inf"), "at least 1"),
    "nlist": (0, float("inf"), "at least 1"),
    "m": (1, 512, "between 2 and 512"),
    "ef_construction": (0, float("inf"), "at least 1"),
    "nprobe": (0, float("inf"), "at least 1"),
    "ef_search": (0, float("inf"), "at least 1"),
    "k_factor": (0.999999, float("inf"), "at least 1"),
    "retrieve": (0, float("inf"), "at least 1"),
    "keep": (1, float("inf"), "at least 2: one to go back to"),
    "min_score": (-1.0000001, 1, "from -1 to 1"),
}
_FROM_ZERO: dict[str, tuple[float, str]] = {
    "weight_decay": (float("inf"), "0 or more"),
    "num_negatives": (float("inf"), "0 or more"),
    "range_min": (float("inf"), "0 or more"),
    "absolute_margin": (2.0, "at least 0 and below 2"),
    "relative_margin": (1.0, "at least 0 and below 1"),
    "color_jitter": (1.2500001, "from 0 to 1.25"),
    "grayscale": (1.0000001, "from 0 to 1"),
    "blur": (1.0000001, "from 0 to 1"),
    "l2_sp": (float("inf"), "0 or more"),
    "ema_decay": (1.0, "at least 0 and below 1"),
    "wise_alpha": (1.0000001, "from 0 to 1"),
    "max_forgetting": (1.0, "at least 0 and below 1"),
    "cache_gb": (float("inf"), "0 or more gigabytes"),
    "warmup_steps": (float("inf"), "0 or more: a count, or a fraction below 1"),
    "label_smoothing_factor": (1.0, "at least 0 and below 1"),
    "lora_dropout": (1.0, "at least 0 and below 1"),
    "dropout": (1.0, "at least 0 and below 1"),
    "id_dropout": (1.0, "at least 0 and below 1"),
    "diversity": (1.0000001, "from 0 to 1"),
    "seed": (2**32, "at least 0 and below 2**32"),
}


def flag(name: str) -> str:
    """The command line's spelling of an option: `time_budget` → `--time-budget`."""
    return "--" + name.replace("_", "-")


def _is_number(annotation: str) -> bool:
    """Whether an option is a number and nothing else, by its annotation."""
    return set(annotation.replace(" ", "").split("|")) <= {"int", "float", "None"}


def _plain(value: Any, annotation: str, choices: tuple[str, ...]) -> Any:
    """What a Python caller may write in another way, as the command line has it.

    A path is its text, a list a tuple; several things in place of a text are that text, comma-separated; True is the
    choice "true".
    """
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool) and "true" in choices:
        return str(value).lower()
    if isinstance(value, (list, tuple)) and annotation in ("str", "str | None"):
        return ",".join(map(str, value))
    return tuple(value) if isinstance(value, list) else value


def check_options(options: Any) -> None:
    """Check every value on its own.

    Raises:
        SettingError: naming the option, its value and what it may be.
    """
    for spec in dataclasses.fields(options):
        value = getattr(options, spec.name)
        choices, words = spec.metadata.get("choices", ()), spec.metadata.get("words", ())
        plain = _plain(value, str(spec.type), choices)
        if plain is not value:
            object.__setattr__(options, spec.name, plain)
            value = plain
        if value is not None and choices and value not in choices:
            raise SettingError(f"{flag(spec.name)} is {value!r}; it must be one of: {', '.join(choices)}.")
        if isinstance(value, str) and not words and _is_number(str(spec.type)):
            raise SettingError(f"{flag(spec.name)} is {value!r}; it must be a number.")
        low, high, text = _RANGES.get(spec.name, (-float("inf"), float("inf"), ""))
        if isinstance(value, str) and words and value not in words:
            raise SettingError(f"{flag(spec.name)} is {value!r}; it must be a number {text}, or {', '.join(words)}.")
        if value is None or isinstance(value, (str, bool, tuple)):
            continue
        bad = not low < value <= high
        if spec.name in _FROM_ZERO:
            high, text = _FROM_ZERO[spec.name]
            bad = not 0 <= value < high
        if isinstance(value, float) and math.isinf(value):
            bad, text = True, f"a finite number, {text}".removesuffix(", ")
        if bad:
            raise SettingError(f"{flag(spec.name)} is {value}; it must be {text}.")
