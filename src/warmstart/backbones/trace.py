"""In what order a model uses its parameters: one forward pass on a tiny made-up input, watched.

Holds the watching (which parameter enters a torch operation first, when each module's first call begins and ends), the
made-up inputs, the guard that leaves training flags and random state as they were, and the place in that order of what
was not used. What the order *means* — blocks, groups, depth — is for `groups.py`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from warmstart.backbones.blocks import above

log = logging.getLogger(__name__)

FEATURE_METHODS = {"text": "get_text_features", "vision": "get_image_features", "audio": "get_audio_features"}
"""Tower → the method by which two-tower models of transformers encode that tower alone."""

Place = tuple[float, float]
"""A place in the order: (clock of the trace, order of registration)."""

_TOKENS = 4
_IMAGE_SIZE = 224  # where the config names no size, any will do for the model


@dataclass
class Trace:
    """When things happened in one forward pass, on one clock that counts up from 1.

    Attributes:
        first: dotted parameter name → when it first entered an operation.
        calls: dotted module name → when its first call began and ended.
    """

    first: dict[str, int] = field(default_factory=dict)
    calls: dict[str, tuple[int, int]] = field(default_factory=dict)

    def clock(self, name: str) -> int | None:
        """When a parameter was first used or a module first called; None when it never was."""
        if name in self.first:
            return self.first[name]
        return self.calls[name][0] if name in self.calls else None


class _Watch(TorchFunctionMode):
    """Notes the first operation that takes each parameter and gives a tensor; `weight.dtype` is no use of a weight."""

    def __init__(self, names: Mapping[int, str], trace: Trace, tick: Callable[[], int]) -> None:
        super().__init__()
        self._names, self._trace, self._tick = names, trace, tick

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs) if kwargs is not None else {}
        result = func(*args, **given)
        if any(True for _ in _tensors(result)):
            for tensor in _tensors([*args, *given.values()]):
                name = self._names.get(id(tensor))
                if name is not None and name not in self._trace.first:
                    self._trace.first[name] = self._tick()
        return result


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def record(model: nn.Module, call: Callable[[], object]) -> Trace:
    """Watch what `call` does with the parameters and modules of `model`.

    The call runs in evaluation mode, without gradients and on a copy of the random state; training flags are put back
    and hooks removed even when it raises.
    """
    trace, clock = Trace(), iter(range(1, 1 << 62))
    tick = clock.__next__
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hooks = []
    began: dict[str, int] = {}
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(_entering(began, name, tick)))
        hooks.append(module.register_forward_hook(_leaving(began, trace, name, tick)))
    try:
        with _undisturbed(model), _Watch(names, trace, tick):
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def _entering(began: dict[str, int], name: str, tick: Callable[[], int]) -> Callable[[nn.Module, object], None]:
    def hook(module: nn.Module, args: object) -> None:
        began.setdefault(name, tick())

    return hook


def _leaving(
    began: dict[str, int], trace: Trace, name: str, tick: Callable[[], int]
) -> Callable[[nn.Module, object, object], None]:
    def hook(module: nn.Module, args: object, output: object) -> None:
        if name not in trace.calls:
            trace.calls[name] = (began[name], tick())

    return hook


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, forked random state; afterwards everything as before."""
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted(
        {p.device.index for p in model.parameters() if p.device.type == "cuda" and p.device.index is not None}
    )
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def trace_forward(model: nn.Module, path: str, blocks: Sequence[str]) -> Trace | None:
    """Trace the model's forward pass, or that of the outermost submodule on the way to its blocks that can be run.

    Args:
        model: any model.
        path: dotted name of the smallest module that holds all blocks; it and its ancestors are tried, outermost first.
        blocks: dotted names of the blocks; a pass that visits none of them says nothing.

    Returns:
        The trace, or None when no input could be made or no forward pass ran.
    """
    chain = [model.get_submodule(name) for name in ([*above(path), path] if path else [path])]
    chain = [module for module in chain if not isinstance(module, (nn.ModuleList, nn.ModuleDict))]
    failures = []
    for target in chain:
        for inputs in _inputs_for(chain, model):
            try:
                trace = record(model, lambda target=target, inputs=inputs: target(**inputs))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - any model, any reason: the next way in, or registration order
                failures.append(f"{type(target).__name__} on {', '.join(inputs)}: {error}")
                continue
            if any(block in trace.calls for block in blocks):
                return trace
    if failures:
        log.warning("No made-up input ran: groups are in the order of registration. Tried %s", "; ".join(failures))
    return None


def places(names: Sequence[str], trace: Trace | None) -> dict[str, Place]:
    """The place of every parameter or module: its first use, or its order of registration without a trace.

    What was never used stands just after its nearest neighbour in the module tree that was and is registered before it,
    or else just before the nearest one registered after it.

    Args:
        names: dotted names in order of registration.
        trace: of the whole model.
    """
    if trace is None:
        return {name: (order, order) for order, name in enumerate(names)}
    extents: dict[str, tuple[int, int]] = {}  # dotted name → when its first use begins and the last one below it ends
    for name, (start, end) in [*trace.calls.items(), *((name, (clock, clock)) for name, clock in trace.first.items())]:
        for path in (name, *above(name)):
            low, high = extents.get(path, (start, end))
            extents[path] = (min(low, start), max(high, end))
    family: defaultdict[str, dict[str, None]] = defaultdict(dict)  # module → its children, in order of registration
    for name in names:
        for parent, child in pairwise((*above(name), name)):
            family[parent][child] = None
    found: dict[str, Place] = {}
    for order, name in enumerate(names):
        clock = trace.clock(name)
        found[name] = (_beside(name, family, extents) if clock is None else clock, order)
    return found


def _beside(name: str, family: Mapping[str, dict[str, None]], extents: Mapping[str, tuple[int, int]]) -> float:
    for parent, path in reversed(list(pairwise((*above(name), name)))):
        siblings = list(family[parent])
        place = siblings.index(path)
        before = [sibling for sibling in siblings[:place] if sibling in extents]
        after = [sibling for sibling in siblings[place + 1 :] if sibling in extents]
        if before:
            return extents[before[-1]][1] + 0.5
        if after:
            return extents[after[0]][0] - 0.5
    return 0.0


def find_towers(model: nn.Module) -> tuple[str, dict[str, str]] | None:
    """The submodule that encodes more than one tower separately: its dotted name, and tower → method; or None."""
    for name, module in model.named_modules():
        methods = {
            tower: method for tower, method in FEATURE_METHODS.items() if callable(getattr(type(module), method, None))
        }
        if len(methods) > 1:
            return name, methods
    return None


def trace_towers(model: nn.Module, core: str, methods: Mapping[str, str]) -> dict[str, Trace]:
    """Trace each tower by itself.

    Args:
        model: the whole model, whose names the traces use.
        core: dotted name of the submodule that `find_towers` found.
        methods: tower → method.

    Raises:
        RuntimeError: a tower cannot be run on a made-up input.
    """
    module = model.get_submodule(core)
    traces = {}
    for tower, method in methods.items():
        config = getattr(module.config, f"{tower}_config", None)
        inputs = _text(config, model) if tower == "text" else _images(config, model)
        traces[tower] = _first_that_runs(model, getattr(module, method), inputs)
    return traces


def _first_that_runs(model: nn.Module, method: Callable[..., object], inputs: Sequence[dict[str, Tensor]]) -> Trace:
    failures = []
    for one in inputs:
        try:
            return record(model, lambda one=one: method(**one))  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - any model, any reason: it is told below
            failures.append(str(error))
    name = getattr(method, "__name__", "encoding")
    raise RuntimeError(f"{name} does not run on a made-up input ({'; '.join(failures) or 'no input could be made'})")


def _inputs_for(chain: Sequence[nn.Module], model: nn.Module) -> list[dict[str, Tensor]]:
    """Made-up inputs to try, by the innermost config that tells how; of both kinds, the innermost main input first."""
    configs = [module.config for module in reversed(chain) if hasattr(module, "config")]
    text = next((inputs for inputs in (_text(config, model) for config in configs) if inputs), [])
    images = next((inputs for inputs in (_images(config, model) for config in configs) if inputs), [])
    main = next(
        (module.main_input_name for module in reversed(chain) if hasattr(module, "main_input_name")), "input_ids"
    )
    return images + text if main == "pixel_values" else text + images


def _text(config: object, model: nn.Module) -> list[dict[str, Tensor]]:
    """Token ids and masks of shape (1, tokens)."""
    vocabulary = getattr(config, "vocab_size", None)
    if not isinstance(vocabulary, int) or vocabulary < 1:
        return []
    ids = (torch.arange(_TOKENS, device=_device(model)) % vocabulary)[None]  # (1, tokens)
    masked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return [masked, {"input_ids": ids}, {**masked, "decoder_input_ids": ids}]


def _images(config: object, model: nn.Module) -> list[dict[str, Tensor]]:
    """One image of shape (1, channels, height, width), in the model's own precision."""
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    if channels is None and size is None:
        return []
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    shape = (
        1,
        3 if channels is None else int(channels),
        _IMAGE_SIZE if height is None else int(height),
        _IMAGE_SIZE if width is None else int(width),
    )
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return [{"pixel_values": torch.zeros(shape, dtype=dtype, device=_device(model))}]


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
