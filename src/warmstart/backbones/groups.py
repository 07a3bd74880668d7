"""The ordered, complete partition of a model into groups, input to output, per tower. Only this module knows depth.

Blocks come from the module structure (lists of like blocks, stages expanded), their order and the place of everything
around them from one traced forward pass (`trace.py`) or, where none can be run, from the order of registration. No
model or class is known by name. A group's learning rate, when it opens and what is cached of it are for `train/`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from torch import nn

from warmstart.backbones.blocks import (
    ADAPTER_MARK,
    Stack,
    above,
    children_as_blocks,
    choose,
    common,
    find_stacks,
    join,
    under,
)
from warmstart.backbones.trace import Place, Trace, find_towers, places, trace_forward, trace_towers
from warmstart.core.errors import ModelError
from warmstart.core.records import GroupRow

JOINT = "joint"
"""The tower of what belongs to no tower."""

_ADAPTER_DROPOUT = f"{ADAPTER_MARK}dropout"
_PEFT_PREFIX = "base_model.model"


@dataclass(frozen=True)
class Group:
    """Parameters that stand at one depth of one tower.

    Attributes:
        tower: "" for a single-tower model, else "text", "vision", …; "joint" for what belongs to no tower.
        name: "embeddings" or "stem", the block's shortened path such as "layer.0", "final", or "head".
        depth: 0 next to the input, counted within the tower.
        modules: dotted names of the largest subtrees that belong wholly to the group, dropouts included.
        parameters: dotted names as `named_parameters()` gives them.
    """

    tower: str
    name: str
    depth: int
    modules: tuple[str, ...]
    parameters: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name that tells the group from every other one of the model: "layer.3", or "vision/layer.3"."""
        return f"{self.tower}/{self.name}" if self.tower else self.name


class _Item(NamedTuple):
    """A parameter, or a leaf module without parameters (a dropout, an activation)."""

    name: str
    order: int  # of registration
    paths: tuple[str, ...]  # every name it goes by; more than one for a tied weight
    is_parameter: bool


class _Part(NamedTuple):
    """A group in the making."""

    tower: str
    name: str
    items: list[_Item]


def layer_groups(model: nn.Module, *, head: str | Sequence[str] = ()) -> tuple[Group, ...]:
    """Partition a model into groups from input to output, tower after tower.

    Args:
        model: any torch model: one of transformers, a wrapper around one, peft-wrapped or not, or a plain network. It
            is run once on a made-up input and left as it was. On the meta device too.
        head: dotted name of a submodule that becomes the last group, or of several that do together.

    Returns:
        The groups; every parameter of the model is in exactly one of them, tied ones where they are first used.

    Raises:
        ModelError: `head` is no submodule, the towers cannot be told apart, or (a defect) a parameter was not placed.
    """
    heads = (head,) if isinstance(head, str) else tuple(head)
    items, head_items = _split_head(model, heads)
    stacks = find_stacks(model, heads)
    towers = find_towers(model)
    if towers is None:
        holding = {path for item in items if item.is_parameter for path in above(item.name)}
        blocks = choose(stacks) or children_as_blocks(model, holding)
        trace = trace_forward(model, common(block.rpartition(".")[0] for block in blocks), blocks)
        parts = [*_parts("", model, items, blocks, trace), _Part("", "head", head_items)]
    else:
        parts = [*_tower_parts(model, items, stacks, *towers), _Part(JOINT, "head", head_items)]
    groups = _finish(model, [part for part in parts if any(item.is_parameter for item in part.items)])
    _check(model, groups)
    return groups


def group_rows(
    model: nn.Module,
    groups: Sequence[Group],
    learning_rates: Sequence[float],
    weight_decay: float,
    opens_at: Sequence[float],
) -> tuple[GroupRow, ...]:
    """The parameter → group → rate table, counted from the model as it stands.

    Args:
        model: the model that the groups were made from.
        groups: its groups.
        learning_rates: one peak rate for each group.
        weight_decay: the decay of those parameters that have one.
        opens_at: one fraction of training for each group.
    """
    named = dict(model.named_parameters())
    rows = []
    for group, rate, opens in zip(groups, learning_rates, opens_at, strict=True):
        own = [named[name] for name in group.parameters]
        total, trainable = sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad)
        rows.append(
            GroupRow(
                group.tower, group.name, group.depth, total, trainable, rate, weight_decay, opens, group.parameters
            )
        )
    return tuple(rows)


def set_module_modes(model: nn.Module, groups: Sequence[Group], *, fixed_statistics: bool = False) -> None:
    """Put what is frozen into evaluation mode: dropout off, batch-norm statistics fixed. Call it after `model.train()`.

    A group is frozen when none of its own parameters trains; adapters inside it may, and their dropout stays on.
    Modules that span several groups, all of them frozen, follow: some call dropout as a function of their own flag.

    Args:
        model: the model that the groups were made from.
        groups: its groups, made after any adapters were put in (they rename what they wrap).
        fixed_statistics: whether batch norms of learning groups keep their statistics as well; their scales learn.
    """
    own = {name: p.requires_grad for name, p in model.named_parameters() if ADAPTER_MARK not in name}
    for group in groups:
        if not any(own[name] for name in group.parameters if ADAPTER_MARK not in name):
            for path in group.modules:
                _evaluate(model.get_submodule(path), path)
    learning = {path for name, trains in own.items() if trains for path in above(name)}
    spanning = {path for group in groups for module in group.modules for path in above(module)}
    for path in spanning - learning:
        model.get_submodule(path).training = False
    if fixed_statistics:
        for norm in batch_norms(model):
            norm.eval()


def called_modules(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A module that has a forward pass, with its dotted name; of lists, which are never called, their members."""
    if type(module).forward is not nn.Module.forward:
        yield path, module
        return
    for name, child in module.named_children():
        yield from called_modules(f"{path}.{name}", child)


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Every batch norm of a model."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _evaluate(module: nn.Module, path: str) -> None:
    dropouts = [child for name, child in module.named_modules() if _ADAPTER_DROPOUT in f"{path}.{name}"]
    kept = [child for child in dropouts if child.training]
    module.eval()
    for child in kept:
        child.train()


def _split_head(model: nn.Module, heads: Sequence[str]) -> tuple[list[_Item], list[_Item]]:
    """All items of the model outside and inside the modules of the head."""
    items = list(_items(model))
    inside: list[_Item] = []
    for head in heads:
        try:
            model.get_submodule(head)
        except AttributeError as error:
            raise ModelError(f"{type(model).__name__} has no submodule {head!r} to use as its head.") from error
        found = [item for item in items if all(under(path, head) for path in item.paths)]
        if not any(item.is_parameter for item in found):
            raise ModelError(f"The head {head!r} of {type(model).__name__} has no parameters of its own.")
        inside += found
    inner = {item.order for item in inside}
    return [item for item in items if item.order not in inner], inside


def _items(model: nn.Module) -> Iterator[_Item]:
    """Parameters and parameterless leaf modules, in order of registration."""
    paths: defaultdict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        paths[id(parameter)].append(name)
    seen: set[int] = set()
    order = 0
    for prefix, module in model.named_modules():
        own = module.named_parameters(recurse=False)
        found = [(join(prefix, name), tuple(paths[id(p)]), True) for name, p in own if id(p) not in seen]
        seen.update(id(p) for p in module.parameters(recurse=False))
        if not found and next(module.parameters(), None) is None and next(module.children(), None) is None:
            found = [(prefix, (prefix,), False)]
        for name, names, is_parameter in found:
            yield _Item(name, order, names, is_parameter)
            order += 1


def _tower_parts(
    model: nn.Module, items: Sequence[_Item], stacks: Sequence[Stack], core: str, methods: Mapping[str, str]
) -> list[_Part]:
    """Tower after tower in order of registration, then what belongs to none."""
    try:
        traces = trace_towers(model, core, methods)
    except RuntimeError as error:
        raise ModelError(f"The towers of {type(model).__name__} cannot be told apart: {error}.") from error
    homes = _homes(items, traces, core)
    joint = _Part(JOINT, "final", homes.pop(JOINT))
    parts = []
    for tower, members in sorted(homes.items(), key=lambda home: min((item.order for item in home[1]), default=0)):
        paths = {path for item in members for path in above(item.name)}
        blocks = choose([stack for stack in stacks if stack.blocks[0] in paths])
        parts += _parts(tower, model, members, blocks, traces[tower])
    return [*parts, joint]


def _homes(items: Sequence[_Item], traces: Mapping[str, Trace], core: str) -> dict[str, list[_Item]]:
    """Tower → its items: those that only its own trace uses, and unused ones beside them."""
    used: defaultdict[str, set[str]] = defaultdict(set)  # dotted name, of an item or of a module above some → towers
    for item in items:
        for tower, trace in traces.items():
            if trace.clock(item.name) is not None:
                for path in (item.name, *above(item.name)):
                    used[path].add(tower)
    homes: dict[str, list[_Item]] = {tower: [] for tower in (*traces, JOINT)}
    for item in items:
        inside = [path for path in above(item.name) if under(path, core) and path != core]
        towers = next((used[path] for path in (item.name, *reversed(inside)) if used[path]), set())
        homes[next(iter(towers)) if len(towers) == 1 else JOINT].append(item)
    return homes


def _parts(
    tower: str, model: nn.Module, items: Sequence[_Item], blocks: Sequence[str], trace: Trace | None
) -> list[_Part]:
    """One tower in order: what comes before its blocks, each block with what leads into it, what comes after."""
    keys = places([item.name for item in items], trace)
    spans = sorted((*_span(block, items, keys, trace), block) for block in blocks)
    ranks = {block: rank for rank, (_, _, block) in enumerate(spans, 1)}
    slots: defaultdict[int, list[_Item]] = defaultdict(list)
    for item in items:
        inside = [ranks[path] for name in item.paths for path in (*above(name), name) if path in ranks]
        outside = len(inside) < len(item.paths)
        slots[min([*inside, _slot(keys[item.name], spans)] if outside else inside)].append(item)
    filled = sorted(slot for slot, members in slots.items() if any(item.is_parameter for item in members))
    if not filled:
        return []
    merged: defaultdict[int, list[_Item]] = defaultdict(list)
    for slot, members in slots.items():
        merged[next((other for other in filled if other >= slot), filled[-1])] += members
    names = {0: _input_name(model, merged[0]), len(spans) + 1: "final"}
    names |= {rank: _short(block, blocks) for block, rank in ranks.items()}
    return [_Part(tower, names[slot], merged[slot]) for slot in filled]


def _slot(key: Place, spans: Sequence[tuple[Place, Place, str]]) -> int:
    """0 before the first block; a block's number inside it or on the way to it; one more after the last."""
    begun = bisect_right([start for start, _, _ in spans], key)
    return begun if begun == 0 or key <= spans[begun - 1][1] else begun + 1


def _span(block: str, items: Sequence[_Item], keys: Mapping[str, Place], trace: Trace | None) -> tuple[Place, Place]:
    """When a block's first call begins and ends."""
    if trace is not None and block in trace.calls:
        start, end = trace.calls[block]
        return (start, -inf), (end, inf)
    own = [keys[item.name] for item in items if under(item.name, block)]
    return (min(own), max(own)) if own else ((inf, inf), (inf, inf))


def _input_name(model: nn.Module, items: Sequence[_Item]) -> str:
    owners = {item.name.rpartition(".")[0] for item in items if item.is_parameter}
    embeds = any("embed" in path.lower() or isinstance(model.get_submodule(path), nn.Embedding) for path in owners)
    return "embeddings" if embeds else "stem"


def _short(block: str, blocks: Sequence[str]) -> str:
    """A block's path below what all blocks share, with the name of the list that it is numbered in."""
    shared = common(path.rpartition(".")[0] for path in blocks)
    name = block[len(shared) + 1 :] if shared else block
    if not shared or shared == _PEFT_PREFIX or not name[0].isdigit():
        return name
    return join(shared.rpartition(".")[2], name)


def _finish(model: nn.Module, parts: Sequence[_Part]) -> tuple[Group, ...]:
    """Number the parts within their towers and give each the largest subtrees that are wholly its own."""
    owners: defaultdict[str, set[int]] = defaultdict(set)  # dotted name of a module → the parts that it has items of
    for number, part in enumerate(parts):
        for item in part.items:
            for name in item.paths:
                for path in above(name) if item.is_parameter else (*above(name), name):
                    owners[path].add(number)
    modules: defaultdict[int, list[str]] = defaultdict(list)
    for path, _ in model.named_modules():
        if len(owners[path]) == 1 and not (path and len(owners[path.rpartition(".")[0]]) == 1):
            modules[next(iter(owners[path]))].append(path)
    depths: defaultdict[str, int] = defaultdict(int)
    groups = []
    for number, part in enumerate(parts):
        names = tuple(item.name for item in part.items if item.is_parameter)
        groups.append(Group(part.tower, part.name, depths[part.tower], tuple(modules[number]), names))
        depths[part.tower] += 1
    return tuple(groups)


def _check(model: nn.Module, groups: Sequence[Group]) -> None:
    """Every parameter in exactly one group, whatever the model."""
    counts = {name: 0 for name, _ in model.named_parameters()}
    for group in groups:
        for name in group.parameters:
            counts[name] = counts.get(name, 0) + 1
    for name, count in counts.items():
        if count != 1:
            raise ModelError(
                f"Parameter {name} of {type(model).__name__} is in {count} groups; it must be in exactly one."
            )
