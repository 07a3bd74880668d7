"""`groups`: the ordered layer groups of a model, with their sizes and the rates that a decay would give them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from warmstart.backbones.groups import group_rows, layer_groups
from warmstart.backbones.load import load_backbone
from warmstart.core.option import verb
from warmstart.core.options import GroupsOptions
from warmstart.core.records import BackboneCard, GroupRow, Record
from warmstart.train.rates import RatePlan, group_rates


@dataclass(frozen=True)
class GroupTable(Record):
    """The model, and its groups from input to output."""

    backbone: BackboneCard
    rows: tuple[GroupRow, ...]


@verb(GroupsOptions)
def groups(options: GroupsOptions) -> GroupTable:
    """List a model's layer groups, input to output; every parameter is in exactly one.

    Raises:
        ModelError: the model is not found, or a parameter cannot be placed.
    """
    backbone = load_backbone(
        options.model,
        revision=options.revision,
        pooling=options.pooling,
        max_length=options.max_length,
        image_size=options.image_size,
        trust_remote_code=options.trust_remote_code,
    )
    trunk = backbone.whole
    found = layer_groups(trunk)
    plan = RatePlan(learning_rate=options.learning_rate, layer_decay=options.layer_decay)
    trunk.requires_grad_(requires_grad=True)
    rows = group_rows(trunk, found, group_rates(found, plan), plan.weight_decay, plan.unfreezing.fractions(found))
    card = replace(backbone.card, parameters=sum(row.parameters for row in rows))  # of both towers, where there are two
    return GroupTable(card, rows)
