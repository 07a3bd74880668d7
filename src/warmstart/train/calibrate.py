"""What a training step costs on this machine: seconds and kept activations a row, from a few real steps on a copy."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.text_inputs import Inputs
from warmstart.train import recompute
from warmstart.train.cpu import quick_steps

_BATCHES = 3  # of other lengths, at most
_TIMES = 2  # that each is stepped with, once more if there is one; the first makes its kernels and does not count
_ROWS_A_LENGTH = 256  # rows for each of them, so that measuring stays a small part of the training that it forecasts


@dataclass(frozen=True)
class StepCost:
    """Of one row.

    Attributes:
        seconds: forward, backward and the optimizer's share, on average over lengths.
        activation_bytes: kept between forward and backward, for a row of the longest batch; weights are not counted.
    """

    seconds: float
    activation_bytes: float


def cost_of_a_row(
    model: Classifier,
    inputs: Inputs,
    batch: int,
    *,
    bf16: bool,
    device: torch.device,
    seed: int,
    gradient_checkpointing: bool = False,
) -> StepCost:
    """Forward, backward and AdamW on batches of like length, as training makes them; the first of each does not count.

    One length for every 256 rows, three at most: the mean lengths of equal shares of the rows by length. Activations
    are those of the longest rows.

    Args:
        model: the classifier; a copy is trained.
        inputs: encoded rows.
        batch: rows per step.
        bf16: autocast to bfloat16.
        device: where to run.
        seed: of the dropout; the global random state stays as it is.
        gradient_checkpointing: as in training.

    Raises:
        SettingError: when gradient checkpointing is asked for and the model cannot do it.
    """
    if gradient_checkpointing:
        recompute.check_supported(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clone = copy.deepcopy(model)
        if gradient_checkpointing:
            recompute.start(clone)
        with quick_steps(clone, device):
            return _measure(clone, inputs, batch, bf16, device)


def _measure(clone: Classifier, inputs: Inputs, batch: int, bf16: bool, device: torch.device) -> StepCost:
    clone.to(device).train().requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(clone.parameters(), lr=0.0)
    order = np.argsort(inputs.lengths, kind="stable")
    count = min(_BATCHES, max(1, len(order) // _ROWS_A_LENGTH))
    lengths = np.asarray(inputs.lengths)[order]
    shares = np.array_split(lengths, count)
    middles = np.searchsorted(lengths, [share.mean() for share in shares]) if lengths[0] < lengths[-1] else [0]
    batches = [order[max(0, min(int(m) - batch // 2, len(order) - batch)) :][:batch] for m in middles]

    def loss_of(rows: np.ndarray) -> torch.Tensor:
        values = {name: value.to(device) for name, value in inputs.batch([int(row) for row in rows]).items()}
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss: torch.Tensor = clone(**values).logits.float().logsumexp(-1).mean()
        return loss

    saved, longest = _Saved(clone.parameters()), order[-batch:]
    with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor):
        loss_of(longest)
    seconds = 0.0
    times = _TIMES + (len(batches) == 1)
    for rows in batches:
        for repeat in range(times):
            start = time.perf_counter()
            torch.autograd.backward(loss_of(rows))
            optimizer.step()
            optimizer.zero_grad()
            if repeat:
                seconds += (time.perf_counter() - start) / len(rows)
    return StepCost(seconds / len(batches) / (times - 1), saved.total / len(longest))


class _Saved:
    """Counts the bytes that autograd keeps, every storage once, and none that holds a parameter."""

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        self._seen = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        self.total = 0.0

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count a tensor that is saved, and hand it on."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor
