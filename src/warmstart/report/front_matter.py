"""The small part of YAML that a model card's head needs, written without a YAML package.

Strings are always quoted, so that no label can be read as something else. What goes into the head is left to `card`.
"""

from __future__ import annotations

import json
import math
import re

Value = str | int | float | bool | list["Value"] | dict[str, "Value"]

_UNPRINTED = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


def front_matter(head: dict[str, Value]) -> str:
    """The head of a model card: YAML between two lines of dashes.

    Raises:
        ValueError: for a number that is not finite, which YAML readers disagree about.
    """
    return "\n".join(["---", *_mapping(head), "---"]) + "\n"


def _mapping(values: dict[str, Value]) -> list[str]:
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, (dict, list)) and value:
            lines.append(f"{key}:")
            lines += [f"  {line}" for line in _block(value)]
        else:
            lines.append(f"{key}: {_scalar(value)}")
    return lines


def _block(value: dict[str, Value] | list[Value]) -> list[str]:
    if isinstance(value, dict):
        return _mapping(value)
    lines: list[str] = []
    for item in value:
        inner = _block(item) if isinstance(item, (dict, list)) and item else [_scalar(item)]
        lines += [f"{'- ' if place == 0 else '  '}{line}" for place, line in enumerate(inner)]
    return lines


def _scalar(value: Value) -> str:
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)
        return _UNPRINTED.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in a model card")
        text = repr(value)
        return text if "e" not in text else f"{value:.20f}".rstrip("0")  # YAML 1.1 reads 1e-05 as text
    return json.dumps(value)
