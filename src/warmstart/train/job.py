"""What one training is given: its rows, its loss, and the rest of the job. The training itself is `trainer.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from warmstart.backbones.groups import Group
from warmstart.backbones.text_inputs import Inputs
from warmstart.core.clock import Clock
from warmstart.train.rates import RatePlan


class Rows(Dataset[int]):
    """Row numbers as a dataset; `collate` makes the batch, so that texts are padded together.

    Args:
        inputs: encoded rows.
        labels: (rows,).
        augment: whether training batches are augmented.
        seed: seed of the augmentation; with the epoch and the batch's first row it fixes every draw.
    """

    def __init__(self, inputs: Inputs, labels: np.ndarray, augment: bool = False, seed: int = 0) -> None:
        self.inputs, self.labels, self.augment, self.seed, self.epoch = inputs, labels, augment, seed, 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> int:
        return int(row)

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of an epoch."""
        self.epoch = epoch

    def collate(self, rows: list[int]) -> dict[str, Tensor]:
        """The model's inputs, with the `rows` that they are of and their `labels`, both (rows,)."""
        draw = None
        if self.augment:
            draw = int(np.random.SeedSequence((self.seed, self.epoch, rows[0])).generate_state(1)[0])
        batch = self.inputs.batch(rows, draw)
        batch["rows"] = torch.tensor(rows)
        batch["labels"] = torch.from_numpy(self.labels[rows].astype(np.int64))
        return batch


class Lengths:
    """What `Rows` asks of inputs where `collate` makes the whole batch: a length of each row, (rows,)."""

    def __init__(self, lengths: np.ndarray) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Sequence[int], augment_seed: int | None = None) -> dict[str, Tensor]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class LossPlan:
    """Cross-entropy with optional class weights, (classes,) averaging 1 over the training rows, and smoothing."""

    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the batch, a scalar; weights are not re-normalised within a batch, so batches stay comparable."""
        losses = nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none"
        )  # (batch,)
        if self.class_weights:
            losses = losses * torch.tensor(self.class_weights, device=losses.device)[labels]
        return losses.mean()


@dataclass
class TrainJob:
    """What one training needs beyond the model: data, groups, rates, loss, time, and whom to tell."""

    train: Rows
    validation: Rows
    groups: tuple[Group, ...]
    rates: RatePlan
    loss: LossPlan
    metric: str
    clock: Clock
    reserve: float = 0.0  # seconds to keep for what follows training
    progress: Callable[[int, int, str], None] | None = None
    stopped_early: str = ""
    fixed_statistics: bool = False  # batch norms use the pretrained statistics; see docs/strategies.md
    cache_bytes: int = 0  # disk that activations of closed lower groups may take; 0: they are not kept
    ema_decay: float = 0.0  # of an average of the weights that is judged and kept in their place; 0: none
    lean_late: bool = False  # of two checkpoints within a standard error, take the later: its rates have come down
