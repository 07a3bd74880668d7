"""Rows of all processes in every process, gradients included; batches may be of unequal size.

Each process computes the loss of its own rows against the rows of all. The gradient of a row is the sum of what every
process's loss says about it, so the mean over processes of the parameters' gradients is that of one process with all
rows, provided that each loss is scaled as `info_nce` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world_size() -> int:
    """Processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def _sizes(count: int, device: torch.device) -> list[int]:
    """How many rows each process has."""
    found = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(world_size())]
    dist.all_gather(found, torch.tensor([count], device=device))
    return [int(size) for size in found]


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes one after the other, (all rows, …), without gradients."""
    if world_size() == 1:
        return rows.detach()
    return _all_rows(rows.detach(), _sizes(len(rows), rows.device))


def _all_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    """Gather unequal numbers of rows: padded to the largest, cut again."""
    flags = rows.dtype == torch.bool
    values = rows.to(torch.uint8) if flags else rows
    padded = values.new_zeros((max(sizes), *values.shape[1:]))
    padded[: len(values)] = values
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded)
    whole = torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])
    return whole.bool() if flags else whole


class _Gather(torch.autograd.Function):
    """All rows forward; backward, the sum over processes of the gradients of this process's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """Gather."""
        sizes = _sizes(len(rows), rows.device)
        ctx.start = sum(sizes[: _rank()])
        ctx.count = len(rows)
        return _all_rows(rows, sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Sum over processes, then this process's rows."""
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return whole[ctx.start : ctx.start + ctx.count]


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, (all rows, width), with gradients, and the place of this process's first row."""
    if world_size() == 1:
        return rows, 0
    start = sum(_sizes(len(rows), rows.device)[: _rank()])
    whole: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return whole, start


def total_sum(value: float, device: torch.device) -> float:
    """The sum of a number over all processes."""
    if world_size() == 1:
        return value
    total = torch.tensor(float(value), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes; one that a process lacks counts as zero there.

    Gradient caching goes through a model several times per step, which `DistributedDataParallel` does not expect: its
    own averaging is left out, and done here once.
    """
    if world_size() == 1:
        return
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= world_size()
