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
    """

    def __init__(self, encoders: Mapping[str, nn.Module], temperature: Temperature) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.temperature = temperature
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
    """The groups of all encoders, input to output, and a learnt temperature as the head."""
    found: list[Group] = []
    several = len(model.encoders) > 1
    for name, encoder in model.encoders.items():
        head = "head" if isinstance(encoder, Classifier) else "base_model.model.head"
        for group in layer_groups(encoder, head=head):
            if group.name != "head":
                prefix = f"encoders.{name}."
                tower = name if several else group.tower
                modules = tuple(prefix + module for module in group.modules)
                parameters = tuple(prefix + parameter for parameter in group.parameters)
                found.append(replace(group, tower=tower, modules=modules, parameters=parameters))
    own = tuple(f"temperature.{name}" for name, _ in model.temperature.named_parameters())
    if own:
        found.append(Group(JOINT if several else "", "head", len(found), ("temperature",), own))
    return tuple(found)


@torch.no_grad()
def temperature_value(model: Towers) -> float:
    """The scale, 1 / temperature, as it is now."""
    return float(model.temperature())
