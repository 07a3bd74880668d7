"""Numbers and names as a reader sees them: percentages, seconds, megabytes, counts, strategies.

A missing or non-finite number is an en dash everywhere. Which numbers are shown is left to the modules that show them.
"""

from __future__ import annotations

import datetime
import math
import re
from typing import TypeGuard

from warmstart.core.records import Interval

MISSING = "\u2013"  # en dash

_STRATEGIES = {
    "zero_shot": "Zero-shot",
    "linear_probe": "Linear probe",
    "fine_tune": "Fine-tuning",
    "progressive": "Progressive unfreezing",
    "lora": "LoRA",
    "scratch": "Training from scratch",
    "none": "None of the strategies",
}
_SPLITS = {"labelled": "to learn from", "test": "to judge by"}
_METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "log_loss": "log-loss"}


def finite(value: float | None) -> TypeGuard[float]:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def known(interval: Interval | None) -> TypeGuard[Interval]:
    """Whether there is a score to show; its bounds may still be missing."""
    return interval is not None and finite(interval.value)


def bounded(interval: Interval | None) -> TypeGuard[Interval]:
    """Whether there is a score and both bounds of its interval."""
    return known(interval) and finite(interval.low) and finite(interval.high)


def half_width(interval: Interval) -> float:
    """Half the length of an interval, or not-a-number when a bound is missing."""
    return (interval.high - interval.low) / 2


def bare_percent(fraction: float | None) -> str:
    """0.8617 → "86.2", for columns whose head states the unit."""
    return f"{100 * fraction:.1f}" if finite(fraction) else MISSING


def percent(fraction: float | None) -> str:
    """0.8617 → "86.2 %"."""
    return f"{100 * fraction:.1f} %" if finite(fraction) else MISSING


def span(interval: Interval | None) -> str:
    """The bounds alone, in per cent: "84.0 to 88.2" with an en dash; empty when there are none."""
    return f"{100 * interval.low:.1f}\u2013{100 * interval.high:.1f}" if bounded(interval) else ""


def interval_percent(interval: Interval | None) -> str:
    """A score with its bounds, in per cent: "86.2 [84.0, 88.2]"."""
    if not bounded(interval):
        return bare_percent(interval.value) if interval is not None else MISSING
    return f"{100 * interval.value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def points(difference: float | None) -> str:
    """A difference of two fractions in percentage points, with a sign (a true minus): "+3.4"."""
    if not finite(difference):
        return MISSING
    text = f"{abs(100 * difference):.1f}"
    return text if float(text) == 0 else ("+" if difference > 0 else "\u2212") + text


def number(value: float | None) -> str:
    """Three significant digits: 0.4318 → "0.432", 12345.6 → "12,346", 0.0000312 → "3.12e-05"."""
    if not finite(value):
        return MISSING
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.3g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def count(value: float | None) -> str:
    """22713216 → "22,713,216"."""
    return f"{value:,.0f}" if finite(value) else MISSING


def short_count(value: float | None) -> str:
    """22713216 → "22.7 M", 3462 → "3,462"."""
    if not finite(value):
        return MISSING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scale = 1e3 if unit == "k" else size
            return f"{value / scale:.3g} {unit}"
    return f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A duration with its unit: "0.42 s", "214 s", "12 min 20 s", "1 h 05 min"."""
    if not finite(value):
        return MISSING
    if value < 100:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    whole = round(value)
    if whole < 600:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def megabytes(value: float | None) -> str:
    """A memory size with its unit: "812 MB", "1.24 GB"."""
    if not finite(value):
        return MISSING
    return f"{value:.0f} MB" if value < 1000 else f"{value / 1000:.2f} GB"


def strategy_name(name: str) -> str:
    """The name a reader sees: "fine_tune" → "Fine-tuning"; an unknown name stays as it is."""
    return _STRATEGIES.get(name, name)


def metric_name(name: str) -> str:
    """The metric's name in prose: "macro_f1" → "macro-F1"."""
    return _METRICS.get(name, name)


def split_name(name: str) -> str:
    """What the rows of a split are for: "test" → "to judge by"."""
    return _SPLITS.get(name, f"for {name}")


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters on one line, with an ellipsis where something was cut."""
    line = re.sub(r"\s+", " ", text).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def moment(text: str) -> str:
    """An ISO 8601 time without its seconds: "2025-11-04 14:22 +00:00"; other text stays as it is."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{time:%Y-%m-%d %H:%M} {time.isoformat()[19:].lstrip('.0123456789')}".strip()


def setting(value: object) -> str:
    """A value of a settings dictionary as short text."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else MISSING
    if isinstance(value, dict):
        return ", ".join(f"{key}: {setting(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(setting(item) for item in value)
    return str(value)
