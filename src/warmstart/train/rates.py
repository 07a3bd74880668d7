"""Groups × plan → the rate of every parameter at every step.

`RatePlan` is data; `group_rates` gives each group's peak rate, `rate_factor` its course over training, and
`optimizer_groups` what the optimizer is given. When a group opens is `unfreezing.py`'s; which group is which is
`backbones/groups.py`'s alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from warmstart.backbones.groups import Group
from warmstart.core.records import Record
from warmstart.train.unfreezing import ALL_OPEN, Unfreezing, named_groups


@dataclass(frozen=True)
class RatePlan(Record):
    """How fast each group learns, and from when.

    Args:
        learning_rate: peak rate of the last group below the head.
        layer_decay: each group's peak is this times that of the group above it (ULMFiT, arXiv 1801.06146; ELECTRA).
        head_learning_rate: peak rate of the head.
        weight_decay: decoupled weight decay; none on biases and norms (any parameter with one dimension).
        l2_sp: pull of the groups below the head to their pretrained weights (`anchor.py`), in place of their decay.
        warmup: warm-up of each group: a fraction of its own open time below 1, or a count of steps.
        unfreezing: when each group starts to learn.
        group_rates: peak rates of some groups by name, instead of what follows from the above.
    """

    learning_rate: float
    layer_decay: float = 1.0
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    l2_sp: float = 0.0
    unfreezing: Unfreezing = ALL_OPEN
    group_rates: dict[str, float] = field(default_factory=dict)


def group_rates(groups: Sequence[Group], plan: RatePlan) -> tuple[float, ...]:
    """Peak rate of each group: the one it is given, or `learning_rate · layer_decay^(levels below its tower's top)`.

    Raises:
        SettingError: a rate is given for a group that the model does not have.
    """
    given = named_groups(groups, plan.group_rates, "--group-rates")
    top: dict[str, int] = {}
    for group in groups:
        if group.name != "head":
            top[group.tower] = max(top.get(group.tower, 0), group.depth)
    rates = []
    for group in groups:
        if group.label in given:
            rates.append(given[group.label])
        elif group.name == "head":
            rates.append(plan.head_learning_rate)
        else:
            rates.append(plan.learning_rate * plan.layer_decay ** (top[group.tower] - group.depth))
    return tuple(rates)


def rate_factor(step: int, total: int, first: int | None, warmup: float) -> float:
    """What a group's peak rate is multiplied by at a step.

    Every group follows the same linear decay to zero at the end of training; a group that opens late starts its own
    warm-up when it opens.

    Args:
        step: optimizer steps already done.
        total: optimizer steps in all.
        first: the step at which the group opens; None while it is closed.
        warmup: fraction (below 1) of the group's open steps, or a count.
    """
    if first is None or step < first or total <= 0:
        return 0.0
    length = math.ceil(warmup * (total - first) - 1e-9) if warmup < 1 else int(warmup)
    rise = min(1.0, (step - first + 1) / (length + 1))
    return rise * max(0.0, (total - step) / total)


def optimizer_groups(model: nn.Module, groups: Sequence[Group], plan: RatePlan) -> list[dict[str, Any]]:
    """One optimizer group per layer group and kind of parameter, with its name, peak rate and place among the groups.

    Parameters that are frozen when this is called (a base under LoRA), and groups that never open, are left out.
    """
    named = dict(model.named_parameters())
    never = plan.unfreezing.never(groups)
    out: list[dict[str, Any]] = []
    for place, (group, rate) in enumerate(zip(groups, group_rates(groups, plan), strict=True)):
        if never[place]:
            continue
        decay = plan.weight_decay if plan.l2_sp == 0 or group.name == "head" else 0.0
        params = [named[name] for name in group.parameters if named[name].requires_grad]
        for decays in (True, False):
            chosen = [parameter for parameter in params if (parameter.ndim > 1) is decays]
            if chosen:
                out.append(
                    {
                        "params": chosen,
                        "lr": rate,
                        "weight_decay": decay if decays else 0.0,
                        "group": group.label,
                        "place": place,
                    }
                )
    return out
