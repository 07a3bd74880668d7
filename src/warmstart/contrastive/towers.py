"""What is trained: one or more encoders and the temperature; and their layer groups.

The encoders are `Classifier`s (trunk, pooling, dense layers; their head is not used), plain or wrapped by peft.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.groups import JOINT, Group, layer_groups
from warmstart.contrastive.temperature import Temperature


class Towers(nn.Module):
    """Encoders by name.

    Args:
        encoders: name → encoder. With several, the names are those of the groups' towers.
        temperature: of the loss.
        kept: how many of an encoder's dense layers were pretrained; those after them are its new head, a group of its
            own. An encoder that is not named has no new head.
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], temperature: Temperature, kept: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.temperature = temperature
        self.kept = {} if kept is None else dict(kept)
        for name in self.encoders:
            self.encoder(name).head.requires_grad_(requires_grad=False)

    def encoder(self, name: str) -> Classifier:
        """The classifier of an encoder, out of its wrapper."""
        found = self.encoders[name]
        return cast("Classifier", found.get_base_model() if hasattr(found, "get_base_model") else found)  # type: ignore[operator]

    def encode(self, name: str, batch: dict[str, Tensor]) -> Tensor:
        """Vectors as the loss sees them, (batch, width), in float32."""
        return self.encoder(name).features(**dict(batch)).float()

    def forward(self, name: str, **batch: Tensor) -> Tensor:
        """`encode`."""
        return self.encode(name, batch)


def tower_groups(model: Towers) -> tuple[Group, ...]:
    """The groups of all encoders, input to output, with their new heads, and a learnt temperature as a head too."""
    found: list[Group] = []
    several = len(model.encoders) > 1
    for name, encoder in model.encoders.items():
        inner = "" if isinstance(encoder, Classifier) else "base_model.model."
        groups = [group for group in layer_groups(encoder, head=f"{inner}head") if group.name != "head"]
        if name in model.kept:
            dense = [f"{inner}projections.{place}" for place in range(len(model.encoder(name).projections))]
            groups = _with_head(groups, dense, model.kept[name])
        for group in groups:
            prefix = f"encoders.{name}."
            tower = name if several else group.tower
            modules = tuple(prefix + module for module in group.modules)
            parameters = tuple(prefix + parameter for parameter in group.parameters)
            found.append(replace(group, tower=tower, modules=modules, parameters=parameters))
    own = tuple(f"temperature.{name}" for name, _ in model.temperature.named_parameters())
    if own:
        depth = 0 if several else len(found)
        found.append(Group(JOINT if several else "", "head", depth, ("temperature",), own))
    return tuple(found)


def _with_head(groups: list[Group], dense: list[str], kept: int) -> list[Group]:
    """The groups of one encoder with the dense layers from `kept` on as a head of their own.

    Args:
        groups: the encoder's, in order.
        dense: dotted names of its dense layers.
        kept: how many of these stay where they are.
    """
    above = dense[0].rpartition(".")[0]
    new, old = tuple(dense[kept:]), tuple(dense[:kept])
    found: list[Group] = []
    head: list[str] = []
    for group in groups:
        mine = [name for name in group.parameters if name.startswith(tuple(f"{path}." for path in new))]
        head += mine
        modules = [path for path in group.modules if path != above and not path.startswith(f"{above}.")]
        modules += [path for path in old if any(name.startswith(f"{path}.") for name in group.parameters)]
        rest = tuple(name for name in group.parameters if name not in set(mine))
        if rest:
            found.append(replace(group, modules=tuple(modules), parameters=rest))
        elif found:  # what it has besides the head follows the group below
            found[-1] = replace(found[-1], modules=(*found[-1].modules, *modules))
    return [*found, Group(groups[-1].tower, "head", len(found), new, tuple(head))]


@torch.no_grad()
def temperature_value(model: Towers) -> float:
    """The scale, 1 / temperature, as it is now."""
    return float(model.temperature())
