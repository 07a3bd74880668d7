"""Whole batch = chunked = cached = two processes with unequal numbers of rows, gradients included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import processes
import pytest
import torch
from torch import Tensor

from warmstart.contrastive.gather import gather_rows, gathered, total_sum, world_size


def test_one_process_needs_no_group() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    assert world_size() == 1
    found, start = gathered(rows)
    assert found is rows
    assert start == 0
    assert not gather_rows(rows).requires_grad
    assert total_sum(3, rows.device) == 3


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two gloo processes found."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(Path(processes.__file__)), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [part["world"] for part in found] == [2, 2]
    return [part["found"] for part in found]


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert len(first) == 6
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("direction", processes.DIRECTIONS)
@pytest.mark.parametrize("options", ["plain", "rich"])
def test_whole_chunked_cached_and_two_processes_agree(
    two: list[dict[str, dict[str, Tensor]]], direction: str, options: str
) -> None:
    rich = options == "rich"
    whole = processes.measure(direction, rich, 0, 1, **processes.WAYS["whole"])
    assert all(float(value.abs().sum()) > 0 for value in whole.values())
    for way, settings in processes.WAYS.items():
        assert_same(processes.measure(direction, rich, 0, 1, **settings), whole)
        for part in two:
            assert_same(part[f"{direction}, {options}, {way}"], whole)
