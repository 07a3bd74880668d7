"""Sizes of memory, read and written: 24GB, 16GiB, 512MB; and of models, in words."""

from __future__ import annotations

import re

from warmstart.core.errors import SettingError

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS |= {f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power, _letter: 1000**_power}


def read_bytes(text: str, name: str) -> int:
    """A number with a unit as bytes; GB is a thousand million, GiB is 2**30.

    Args:
        text: such as 24GB, "24 GiB" or 800MB; a bare number is bytes.
        name: of the option, for the message.

    Raises:
        SettingError: when it is not a size above 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))  # Python users may give a number
    unit = None if match is None else _UNITS.get(match.group(2).lower())
    size = 0 if match is None or unit is None else int(float(match.group(1)) * unit)
    if size <= 0:
        raise SettingError(f"{name} is {text!r}; it must be a size above 0 with its unit, such as 24GB or 16GiB.")
    return size


def show_bytes(size: float) -> str:
    """Two or three digits with a decimal unit: 24000000000 → "24.0 GB"."""
    for unit, power in (("TB", 4), ("GB", 3), ("MB", 2), ("kB", 1)):
        if size >= 1000**power:
            value = size / 1000**power
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{size:.0f} B"


def show_parameters(count: float) -> str:
    """In words: 69.5e9 → "69.5 billion parameters"."""
    for word, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if count >= 0.95 * size:
            return f"{count / size:.{0 if count >= 100 * size else 1}f} {word} parameters"
    return f"{count:.0f} parameters"
