"""What is trained: one or more encoders and the temperature; and their layer groups.

The encoders are `Classifier`s (trunk, pooling, dense layers; their head is not used), plain or wrapped by peft.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from warmstart.backbones.blocks import under
from warmstart.backbones.classifier import Classifier
from warmstart.backbones.groups import JOINT, Group, layer_groups
from warmstart.contrastive.temperature import Temperature


class Towers(nn.Module):
    """Encoders by name.

    Args:
        encoders: name → encoder. With several, the names are those of the groups' towers.
        temperature: of the loss.
        new: dotted names of the layers of an encoder that were not pretrained: its new head, a group of its own. An
            encoder that is not named has none.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        temperature: Temperature,
        new: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.temperature = temperature
        self.new = {} if new is None else dict(new)
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
        unused = f"{inner}head"  # the classifier's
        heads = (*(inner + path for path in model.new.get(name, ())), unused)
        for group in layer_groups(encoder, head=heads):
            prefix = f"encoders.{name}."
            tower = name if several else group.tower
            modules = tuple(prefix + module for module in group.modules if not under(module, unused))
            parameters = tuple(prefix + path for path in group.parameters if not under(path, unused))
            if parameters:
                found.append(replace(group, tower=tower, modules=modules, parameters=parameters))
    own = tuple(f"temperature.{name}" for name, _ in model.temperature.named_parameters())
    if own:
        depth = 0 if several else len(found)
        found.append(Group(JOINT if several else "", "head", depth, ("temperature",), own))
    return tuple(found)


@torch.no_grad()
def temperature_value(model: Towers) -> float:
    """The scale, 1 / temperature, as it is now."""
    return float(model.temperature())
