"""Groups × plan → the rate of every parameter at every step.

`RatePlan` is data; `group_rates` gives each group's peak rate, `rate_factor` its course over training, and
`optimizer_groups` what the optimizer is given. Which group is which is `backbones/groups.py`'s alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from warmstart.backbones.groups import Group
from warmstart.core.errors import SettingError
from warmstart.core.records import Record


@dataclass(frozen=True)
class RatePlan(Record):
    """How fast each group learns, and from when.

    Args:
        learning_rate: peak rate of the last group below the head.
        layer_decay: each group's peak is this times that of the group above it (ULMFiT, arXiv 1801.06146; ELECTRA).
        head_learning_rate: peak rate of the head.
        weight_decay: decoupled weight decay; none on biases and norms (any parameter with one dimension).
        warmup: warm-up of each group: a fraction of its own open time below 1, or a count of steps.
        opens_at: per group, the fraction of training at which it starts to learn; empty: all from the start.
            A group with 1 or more never opens.
    """

    learning_rate: float
    layer_decay: float = 1.0
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    opens_at: tuple[float, ...] = ()

    def opening(self, groups: Sequence[Group]) -> tuple[float, ...]:
        """The fraction at which each group opens."""
        if not self.opens_at:
            return (0.0,) * len(groups)
        if len(self.opens_at) != len(groups):
            raise SettingError(f"The plan opens {len(self.opens_at)} groups, but the model has {len(groups)}.")
        return self.opens_at


def group_rates(groups: Sequence[Group], plan: RatePlan) -> tuple[float, ...]:
    """Peak rate of each group: `learning_rate · layer_decay^(levels below the top of its tower)`."""
    top: dict[str, int] = {}
    for group in groups:
        if group.name != "head":
            top[group.tower] = max(top.get(group.tower, 0), group.depth)
    rates = []
    for group in groups:
        if group.name == "head":
            rates.append(plan.head_learning_rate)
        else:
            rates.append(plan.learning_rate * plan.layer_decay ** (top[group.tower] - group.depth))
    return tuple(rates)


def rate_factor(step: int, total: int, opens: float, warmup: float) -> float:
    """What a group's peak rate is multiplied by at a step.

    Every group follows the same linear decay to zero at the end of training; a group that opens late starts its own
    warm-up when it opens.

    Args:
        step: optimizer steps already done.
        total: optimizer steps in all.
        opens: fraction of training at which the group opens.
        warmup: fraction (below 1) of the group's open steps, or a count.
    """
    first = opening_step(total, opens)
    if step < first or total <= 0:
        return 0.0
    length = math.ceil(warmup * (total - first) - 1e-9) if warmup < 1 else int(warmup)
    rise = min(1.0, (step - first + 1) / (length + 1))
    return rise * max(0.0, (total - step) / total)


def opening_step(total: int, opens: float) -> int:
    """The first step at which a group learns."""
    return math.ceil(opens * total - 1e-9)


def optimizer_groups(model: nn.Module, groups: Sequence[Group], plan: RatePlan) -> list[dict[str, Any]]:
    """One optimizer group per layer group and kind of parameter, with its name, peak rate and opening.

    Parameters that are frozen when this is called (a base under LoRA) are left out.
    """
    named = dict(model.named_parameters())
    out: list[dict[str, Any]] = []
    for group, rate, opens in zip(groups, group_rates(groups, plan), plan.opening(groups), strict=True):
        if opens >= 1:
            continue
        params = [named[name] for name in group.parameters if named[name].requires_grad]
        for decays in (True, False):
            chosen = [parameter for parameter in params if (parameter.ndim > 1) is decays]
            if chosen:
                out.append(
                    {
                        "params": chosen,
                        "lr": rate,
                        "weight_decay": plan.weight_decay if decays else 0.0,
                        "group": group.label,
                        "opens_at": opens,
                    }
                )
    return out
