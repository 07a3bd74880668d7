"""Run by test_gather.py with torchrun: the same batch in one process and in two, gradients included.

torchrun --nproc_per_node 2 processes.py FOLDER writes what each process found.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE)]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from warmstart.contrastive import grad_cache  # noqa: E402
from warmstart.contrastive.gather import average_gradients, gather_rows  # noqa: E402
from warmstart.contrastive.grad_cache import Side  # noqa: E402
from warmstart.contrastive.info_nce import info_nce  # noqa: E402
from warmstart.contrastive.masks import same  # noqa: E402
from warmstart.contrastive.problem import Negatives  # noqa: E402
from warmstart.contrastive.temperature import Temperature  # noqa: E402

ROWS, WIDTH, FIRST = 11, 6, 7  # the first of two processes has seven rows, the second the other four
DIRECTIONS = ("forward", "backward", "symmetric", "two_view")
WAYS: dict[str, dict[str, Any]] = {
    "whole": {"size": ROWS, "chunk": None},
    "chunked": {"size": ROWS, "chunk": 2},
    "cached": {"size": 3, "chunk": None},
    "cached and chunked": {"size": 2, "chunk": 3},
}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.queries, self.candidates = nn.Linear(WIDTH, 5), nn.Linear(WIDTH, 5)
        self.temperature = Temperature(0.3, learnable=True)


def data() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows of both sides, ids with repeats, log-Q, and shared negatives (an even number)."""
    draw = torch.Generator().manual_seed(1)
    sides = [torch.randn(ROWS, WIDTH, generator=draw) for _ in range(2)]
    ids = torch.randint(0, 6, (ROWS,), generator=draw)
    return sides[0], sides[1], ids, torch.randn(ROWS, generator=draw), torch.randn(4, 5, generator=draw)


def measure(direction: Any, rich: bool, rank: int, world: int, size: int, chunk: int | None) -> dict[str, Tensor]:
    """Loss and gradients; `rich` adds masks, log-Q and shared negatives."""
    model = Model()
    mine = slice(None) if world == 1 else (slice(0, FIRST) if rank == 0 else slice(FIRST, ROWS))
    queries, candidates, ids, log_q, extra = data()
    extra = extra if world == 1 else extra[2 * rank : 2 * rank + 2]

    def loss(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        options: dict[str, Any] = {}
        if rich:
            options["exclude"] = same(ids[mine], gather_rows(ids[mine]))
            if direction != "backward":
                options |= {"log_q": log_q[mine], "negatives": [Negatives(extra)]}
            if direction in ("backward", "symmetric"):
                options["query_log_q"] = log_q[mine]
        found = info_nce(
            left, right, scale=model.temperature(), direction=direction, chunk=chunk, gather=True, **options
        )
        return found.loss, found.loss.detach()

    sides = [
        Side(encode, rows[mine].split(size))
        for encode, rows in ((model.queries, queries), (model.candidates, candidates))
    ]
    value = grad_cache.backward(sides, loss)
    average_gradients(model.parameters())
    if world > 1:
        dist.all_reduce(value)
        value /= world
    out = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": value, **out}


def everything(rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    return {
        f"{direction}, {'rich' if rich else 'plain'}, {way}": measure(direction, rich, rank, world, **settings)
        for direction in DIRECTIONS
        for rich in (False, True)
        for way, settings in WAYS.items()
    }


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.save({"world": world, "found": everything(rank, world)}, Path(sys.argv[1]) / f"{rank}.pt")
    dist.destroy_process_group()
