"""When each group starts to learn: a schedule that is data.

Three kinds: equal stages from last to first (Howard and Ruder 2018, arXiv 1801.06146, sec. 3.3), the same order but
each stage only when the validation score has stopped rising, and fractions of training that a user gives. What a
group's rate is once it is open is `rates.py`; freezing the parameters is the trainer's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

from warmstart.backbones.groups import JOINT, Group
from warmstart.core.errors import SettingError
from warmstart.core.records import Record

OPENING_SHARE = 0.6  # of training, within which the last group to open opens, where stages are equal


@dataclass(frozen=True)
class Unfreezing(Record):
    """Which groups are open when.

    Args:
        kind: "all" from the start; "stages", equally spaced; "plateau", each stage when the last has stopped helping;
            "given", by `opens_at`.
        share: of training, within which equal stages open.
        patience: evaluations without a better score after which a plateau opens the next stage.
        opens_at: group → fraction of training, for "given". A group that is not named stays frozen.
    """

    kind: Literal["all", "stages", "plateau", "given"] = "all"
    share: float = OPENING_SHARE
    patience: int = 1
    opens_at: dict[str, float] = field(default_factory=dict)

    def fractions(self, groups: Sequence[Group]) -> tuple[float, ...]:
        """The fraction of training at which each group opens; 1 for never, not-a-number where a plateau decides."""
        order = stages(groups)
        last = max(order, default=0)
        if self.kind == "given":
            given = named_groups(groups, self.opens_at, "--unfreeze")
            return tuple(given.get(group.label, 1.0) for group in groups)
        if self.kind == "stages":
            return tuple(self.share * stage / last if last else 0.0 for stage in order)
        if self.kind == "plateau":
            return tuple(math.nan if stage else 0.0 for stage in order)
        return (0.0,) * len(groups)

    def never(self, groups: Sequence[Group]) -> tuple[bool, ...]:
        """Which groups stay frozen throughout."""
        return tuple(fraction >= 1 for fraction in self.fractions(groups))

    def first_steps(
        self, groups: Sequence[Group], total: int, evaluations: Iterable[tuple[int, float]]
    ) -> tuple[int | None, ...]:
        """The step at which each group opens, as far as that is known; None for a group that is closed.

        The answer follows from what is recorded of the training alone, so a resumed run finds the same.

        Args:
            groups: the groups.
            total: optimizer steps in all.
            evaluations: step and validation score (higher is better) of every evaluation so far, in order.
        """
        if self.kind != "plateau":
            return tuple(None if f >= 1 else opening_step(total, f) for f in self.fractions(groups))
        opened = plateau_steps(max(stages(groups), default=0), evaluations, self.patience)
        return tuple(opened[stage] if stage < len(opened) else None for stage in stages(groups))

    def closed_prefixes(
        self, groups: Sequence[Group], total: int, step: int, evaluations: Iterable[tuple[int, float]]
    ) -> tuple[int, ...]:
        """How many of the leading groups are closed at a step, and how many will be at each later opening.

        Args:
            groups: the groups.
            total: optimizer steps in all.
            step: optimizer steps already done.
            evaluations: as for `first_steps`.

        Returns:
            Falling counts, the one in force first; empty when no leading group is closed any more.
        """
        if self.kind == "plateau":
            order: tuple[float, ...] = stages(groups)
            last = int(max(order, default=0))
            now = len(plateau_steps(last, evaluations, self.patience)) - 1
            moments: list[float] = list(range(now, last + 1))
        else:
            known = self.first_steps(groups, total, ())
            order = tuple(math.inf if first is None else first for first in known)
            moments = [step, *sorted({first for first in order if step < first < math.inf})]
        counts = [sum(1 for _ in takewhile(lambda opens, at=at: opens > at, order)) for at in moments]  # type: ignore[misc]
        return tuple(count for count in dict.fromkeys(counts) if count)


ALL_OPEN = Unfreezing()
"""Every group learns from the start."""


def stages(groups: Sequence[Group]) -> tuple[int, ...]:
    """The stage of each group: 0 for the head, then level by level from the output, in all towers at once.

    A model without a head starts with its last groups.
    """
    top: dict[str, int] = {}
    for group in groups:
        top[group.tower] = max(top.get(group.tower, 0), group.depth if group.name != "head" else -1)
    has_head = any(group.name == "head" for group in groups)
    own = [top[group.tower] - group.depth for group in groups]
    shared = max((1 + n for n, group in zip(own, groups, strict=True) if _is_joint(group)), default=0)
    found = []
    for group, below in zip(groups, own, strict=True):
        if group.name == "head":
            found.append(0)
        else:
            found.append(below + int(has_head) + (0 if _is_joint(group) else shared))
    return tuple(found)


def _is_joint(group: Group) -> bool:
    return group.tower == JOINT and group.name != "head"


def plateau_steps(stages_after_first: int, evaluations: Iterable[tuple[int, float]], patience: int) -> list[int]:
    """The step at which each stage opened so far; the first is open from step 0.

    A stage opens after `patience` evaluations that brought no better score than the best before them; the count
    starts anew with each opening.
    """
    opened, best, waited = [0], -math.inf, 0
    for step, score in evaluations:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited >= patience and len(opened) <= stages_after_first:
            opened.append(step)
            waited = 0
    return opened


def opening_step(total: int, opens: float) -> int:
    """The first step at which a group learns that opens at a fraction of training."""
    return math.ceil(opens * total - 1e-9)


def named_groups(groups: Sequence[Group], values: Mapping[str, float], option: str) -> dict[str, float]:
    """Values by group label.

    Raises:
        SettingError: a name is that of no group.
    """
    known = {group.label for group in groups}
    for name in values:
        if name not in known:
            raise SettingError(f"{option}: the model has no group {name!r}; its groups are {', '.join(sorted(known))}.")
    return dict(values)


def parse_unfreezing(text: str, patience: int) -> Unfreezing:
    """From `--unfreeze`: "stages", "plateau", or "head=0,layer.5=0.2,…".

    Raises:
        SettingError: it is none of these.
    """
    if text in ("stages", "plateau"):
        return Unfreezing(text, patience=patience)  # type: ignore[arg-type]
    opens_at = parse_values(text, "--unfreeze", "stages, plateau, or group=fraction pairs such as head=0,layer.5=0.2")
    for name, value in opens_at.items():
        if not 0 <= value < 1:
            raise SettingError(f"--unfreeze: {name} opens at {value:g}; it must be at least 0 and below 1.")
    if min(opens_at.values()) > 0:
        raise SettingError("--unfreeze: no group is open at the start; give one of them 0.")
    return Unfreezing("given", opens_at=opens_at)


def parse_group_rates(text: str | None) -> dict[str, float]:
    """From `--group-rates`: "layer.0=1e-5,head=1e-3".

    Raises:
        SettingError: it is not of that form, or a rate is out of range.
    """
    rates = {} if text is None else parse_values(text, "--group-rates", "group=rate pairs such as layer.0=1e-5")
    for name, rate in rates.items():
        if not 0 < rate <= 10:
            raise SettingError(f"--group-rates: {name} has the rate {rate:g}; it must be above 0 and at most 10.")
    return rates


def parse_values(text: str, option: str, form: str) -> dict[str, float]:
    """From "name=number,name=number" to a dictionary.

    Raises:
        SettingError: it is not of that form.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals or not name or not math.isfinite(value):
            raise SettingError(f"{option} is {text!r}; it must be {form}.")
        if name in found:
            raise SettingError(f"{option}: {name} is given twice.")
        found[name] = value
    return found
