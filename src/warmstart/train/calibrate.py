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

_BATCHES = 4  # of other lengths; each twice, and the first time does not count: kernels are made for a new length


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
    """Forward, backward and AdamW on batches of like length, as training makes them; each twice, the second counts.

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
    places = np.linspace(0, len(order), 2 * _BATCHES + 1)[1::2]  # the middles of equal shares
    batches = [order[max(0, int(place) - batch // 2) :][:batch] for place in places[::-1]]  # long to short
    seconds, kept = 0.0, 0.0
    for step in range(2 * _BATCHES):
        start, rows = time.perf_counter(), batches[step // 2]
        values = {name: value.to(device) for name, value in inputs.batch([int(row) for row in rows]).items()}
        saved = _Saved(clone.parameters())
        watch = torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor)
        if step == 0:  # the longest batch
            watch.__enter__()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = clone(**values).logits.float().logsumexp(-1).mean()
        if step == 0:
            watch.__exit__(None, None, None)
            kept = saved.total / len(rows)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 2:
            seconds += (time.perf_counter() - start) / len(rows)
    return StepCost(seconds / _BATCHES, kept)


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
