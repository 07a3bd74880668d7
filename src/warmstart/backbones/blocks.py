"""Where a model's repeated blocks are, read from its module structure alone.

Holds the search for lists of like blocks, the expansion of stages down to their blocks, and arithmetic on dotted names.
The order in which blocks run is for `trace.py`; what belongs to which group, and depth, is for `groups.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from torch import nn

ADAPTER_MARK = "lora_"
"""What names of adapter parameters and modules contain: they are no part of the structure."""

_LISTS = (nn.ModuleList, nn.Sequential)
_SIDE = 0.1  # a further list of other blocks counts from this share of the largest one's parameters


class Stack(NamedTuple):
    """One list of blocks.

    Attributes:
        blocks: dotted names of its blocks, stages expanded.
        kinds: their classes.
        size: parameters in them.
    """

    blocks: tuple[str, ...]
    kinds: frozenset[type]
    size: int


def join(*parts: str) -> str:
    """A dotted name from its parts, of which some may be empty."""
    return ".".join(part for part in parts if part)


def under(name: str, path: str) -> bool:
    """Whether a dotted name is `path` or stands below it; everything stands below ""."""
    return not path or name == path or name.startswith(f"{path}.")


def above(name: str) -> list[str]:
    """The dotted names above `name`, outermost ("") first."""
    parts = name.split(".")
    return [".".join(parts[:size]) for size in range(len(parts))] if name else []


def common(paths: Iterable[str]) -> str:
    """The longest dotted name that all paths stand at or below."""
    split = [path.split(".") if path else [] for path in paths]
    shared = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def find_stacks(model: nn.Module, heads: Sequence[str]) -> list[Stack]:
    """Every outermost list of blocks in the model, in order of registration.

    A block holds at least two weight matrices. A list of blocks holds at least two of one class, or nothing but one.
    """
    seen: set[int] = set()

    def visit(path: str, module: nn.Module) -> Iterator[Stack]:
        if path in heads or id(module) in seen:
            return
        seen.add(id(module))
        if _holds_blocks(module):
            blocks = tuple(_expand(path, module))
            members = [model.get_submodule(block) for block in blocks]
            yield Stack(blocks, frozenset(map(type, members)), sum(map(_size, members)))
            if len(blocks) > 1:
                return
        for name, child in module.named_children():
            yield from visit(join(path, name), child)

    return list(visit("", model))


def choose(stacks: Sequence[Stack]) -> tuple[str, ...]:
    """The blocks that make up the depth of one tower, in order of registration.

    Lists of one block count only beside longer lists of the same class, or where there are no longer ones.
    """
    long = [stack for stack in stacks if len(stack.blocks) > 1]
    if not long:
        single = {stack.blocks[0] for stack in stacks}
        inner = [s for s in stacks if not any(path != s.blocks[0] and under(path, s.blocks[0]) for path in single)]
        return max(inner, key=lambda stack: stack.size).blocks if inner else ()
    largest = max(stack.size for stack in long)
    main = [stack for stack in long if stack.size >= _SIDE * largest]
    kinds = frozenset[type]().union(*(stack.kinds for stack in main)) - set(_LISTS)
    chosen = [stack for stack in stacks if stack in main or stack.kinds & kinds]
    return tuple(dict.fromkeys(block for stack in chosen for block in stack.blocks))


def children_as_blocks(model: nn.Module, holding: set[str]) -> tuple[str, ...]:
    """The children of a model without blocks: the first level that has more than one, lists opened in place.

    Args:
        model: the model.
        holding: dotted names of the modules that hold parameters and are not the head.
    """
    path, module = "", model
    while True:
        names = [join(path, name) for name, _ in module.named_children() if join(path, name) in holding]
        if len(names) != 1 or next(module.parameters(recurse=False), None) is not None:
            break
        path, module = names[0], model.get_submodule(names[0])
    return tuple(block for name in names or [path] if name for block in _opened(model, name, holding))


def _opened(model: nn.Module, path: str, holding: set[str]) -> Iterator[str]:
    module = model.get_submodule(path)
    if not isinstance(module, _LISTS):
        yield path
        return
    for name, _ in module.named_children():
        if join(path, name) in holding:
            yield from _opened(model, join(path, name), holding)


def _expand(path: str, module: nn.Module) -> Iterator[str]:
    """The blocks that a list, a stage or a block consists of."""
    if _holds_blocks(module):
        for name, child in module.named_children():
            if _is_block(child):
                yield from _expand(join(path, name), child)
        return
    inner = [(name, child) for name, child in module.named_children() if _holds_blocks(child)]
    if inner and 2 * sum(_size(child) for _, child in inner) >= _size(module):
        for name, child in inner:
            yield from _expand(join(path, name), child)
    else:
        yield path


def _holds_blocks(module: nn.Module) -> bool:
    if not isinstance(module, _LISTS):
        return False
    members = [child for child in module.children() if _size(child)]
    kinds = Counter(type(child) for child in members if _is_block(child))
    if len(members) == 1:
        return bool(kinds)
    return 2 * kinds.total() >= len(members) and any(count > 1 for count in kinds.values())


def _is_block(module: nn.Module) -> bool:
    matrices = sum(sum(size > 1 for size in p.shape) > 1 for n, p in module.named_parameters() if ADAPTER_MARK not in n)
    return matrices > 1


def _size(module: nn.Module) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if ADAPTER_MARK not in name)
