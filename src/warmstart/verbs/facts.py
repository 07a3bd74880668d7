"""Versions, the machine in words, and the command that would repeat a run."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import shlex
from typing import Any

import psutil
import torch

_PACKAGES = ("warmstart", "torch", "transformers", "peft", "datasets", "scikit-learn", "numpy")


def versions() -> dict[str, str]:
    """Version of Python and of every package that results depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _PACKAGES}


def machine(device: torch.device, processes: int = 1) -> str:
    """The machine without its name: system, processor kind, cores, memory, accelerator, processes if several."""
    memory = psutil.virtual_memory().total / 2**30
    text = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    if processes > 1:
        text += f", {processes} processes"
    if device.type == "cuda":
        return f"{text}, {torch.cuda.get_device_name(device)}"
    return text if device.type == "cpu" else f"{text}, {device.type}"


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def command_line(verb: str, options: Any) -> str:
    """The command that repeats a call: every option that differs from its default."""
    parts = ["warmstart", verb]
    for spec in dataclasses.fields(options):
        value = getattr(options, spec.name)
        if spec.name in ("resume", "overwrite") or (spec.default is not dataclasses.MISSING and value == spec.default):
            continue
        name = ("--no-" if value is False else "--") + spec.name.replace("_", "-")
        if isinstance(value, bool):
            parts.append(name)
            continue
        for single in value if isinstance(value, tuple) else (value,):
            parts += [name, shlex.quote(f"{single:g}" if isinstance(single, float) else str(single))]
    return " ".join(parts)
