"""Gradient caching (arXiv 2101.06983): batches far larger than memory, with the gradients of the whole batch.

The batch is encoded in parts without graphs; the loss of all vectors gives a gradient for each; then every part is
encoded again, with its graph, the same random state and that gradient. One engine for all trainers. What the loss is,
is `info_nce.py`'s; how a batch is cut into parts is the trainer's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")


@dataclass(frozen=True)
class Side:
    """One side of a batch (its queries, its candidates), cut into parts.

    Args:
        encode: a part → its vectors, (rows of the part, width). Called twice for a part, in the same random state.
        parts: what `encode` takes, in any order.
        places: (rows,), the row of the batch that each encoded row is, parts one after the other; None when they are
            in order. So parts may hold rows of like length, with little padding.
    """

    encode: Callable[[Any], Tensor]
    parts: Sequence[Any]
    places: Tensor | None = None

    def in_order(self, parts: Sequence[Tensor]) -> Tensor:
        """The vectors of the whole side in the order of the batch, (rows, width)."""
        whole = torch.cat(list(parts))
        return whole if self.places is None else whole[self.places.argsort().to(whole.device)]


class RandomState:
    """The state of the generators that dropout draws from, here and on the accelerator in use."""

    def __init__(self) -> None:
        self._host = torch.get_rng_state()
        self._devices: list[int] = []
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self._devices = [torch.cuda.current_device()]
            self._states = [torch.cuda.get_rng_state(device) for device in self._devices]

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """The kept state within; afterwards, the one that was there before."""
        with torch.random.fork_rng(devices=self._devices):
            torch.set_rng_state(self._host)
            for device, state in zip(self._devices, self._states if self._devices else [], strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def backward(sides: Sequence[Side], loss: Callable[..., tuple[Tensor, R]], *, keep: int = 1) -> R:
    """Compute a loss over whole sides and add its gradients to those of the parameters.

    The gradients are those of `loss(encode(side) …).backward()` with every part encoded once, in the order of the
    sides and their parts. Memory is that of the vectors and of `keep` parts with their graphs.

    Args:
        sides: what to encode.
        loss: the vectors of each side, (rows, width) each → a scalar, and whatever else is to be returned. Parameters
            of the loss itself (a learnt temperature) get their gradients, too.
        keep: how many of the last parts keep the graph of their first encoding, so that they are not encoded again.

    Returns:
        The second value of `loss`.
    """
    jobs = [(side, part) for side in sides for part in side.parts]
    first_kept = len(jobs) - keep
    states, graphs, leaves = [], [], []
    for place, (side, part) in enumerate(jobs):
        states.append(RandomState())
        with torch.set_grad_enabled(place >= first_kept):
            found = side.encode(part)
        graphs.append(found if place >= first_kept else None)
        leaves.append(found.detach().requires_grad_())
    ends = torch.tensor([len(side.parts) for side in sides]).cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    wholes = [side.in_order(leaves[a:b]) for side, a, b in zip(sides, starts, ends, strict=True)]
    value, result = loss(*wholes)
    torch.autograd.backward(value)
    # What autocast keeps of weights cast without a graph must not be used where a graph is wanted.
    torch.clear_autocast_cache()
    for place in reversed(range(len(jobs))):
        gradient, graph = leaves[place].grad, graphs[place]
        if gradient is None:
            continue
        if graph is None:
            side, part = jobs[place]
            with states[place].restored():
                graph = side.encode(part)
        if graph.requires_grad:  # a side that nothing learns in has none
            torch.autograd.backward(graph, gradient.to(graph.dtype))
        graphs[place] = leaves[place] = states[place] = None  # type: ignore[call-overload]
    return result
