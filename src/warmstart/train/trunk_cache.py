"""The frozen-trunk caches of one training: whether they can be used, and one each for training and validation rows.

How the lower groups are skipped is `frozen_trunk.py`'s.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from warmstart.backbones.embed import device_of
from warmstart.train.frozen_trunk import FOLDER, Cuts, FrozenTrunk, NotCacheableError
from warmstart.train.job import TrainJob

_TRIAL_ROWS = 4


class TrunkCaches:
    """What a trainer keeps of the closed lower groups, when that is asked for and possible.

    Args:
        job: the training.
        model: its classifier, where it will run.
        folder: the run's folder; the activations go into a folder of their own in it.
        rank: number of this process; each keeps the rows that it sees.
        recomputes: whether gradient checkpointing is on.
    """

    def __init__(self, job: TrainJob, model: nn.Module, folder: Path, rank: int, *, recomputes: bool) -> None:
        self._job, self._recomputes = job, recomputes
        self._folder, self._rank = folder / f"{FOLDER}-{rank}", rank
        self._cuts: Cuts | None = None
        self._trunks: dict[str, FrozenTrunk] = {}
        self._refused = ""
        if self._asked_for():
            self._refused = self._obstacle()
            if not self._refused:
                self._cuts = self._find_cuts(model)

    def begin(self, notes: Path | None) -> None:
        """Start with nothing, or with what a checkpoint's notes say."""
        if self._cuts is None:
            return
        if notes is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        sides = {"train": self._job.train.inputs, "validation": self._job.validation.inputs}
        lengths = sum(int(inputs.lengths.sum()) for inputs in sides.values())
        for name, inputs in sides.items():
            limit = self._job.cache_bytes * int(inputs.lengths.sum()) // lengths  # what they need is in this proportion
            self._trunks[name] = FrozenTrunk(self._folder, f"{name}{self._rank}", inputs, self._cuts, limit, notes)

    def enter_stage(self, closed: Sequence[int]) -> None:
        """Say how many leading groups are closed now, and will be at each later opening."""
        for trunk in self._trunks.values():
            trunk.enter_stage([count - 1 for count in closed])

    def around(
        self, name: str, model: nn.Module, rows: Sequence[int], batch: dict[str, Tensor]
    ) -> contextlib.AbstractContextManager[None]:
        """The context to run a batch of "train" or "validation" rows in."""
        trunk = self._trunks.get(name)
        return contextlib.nullcontext() if trunk is None else trunk.around(model, rows, batch)

    def save(self, checkpoint: Path) -> None:
        """Write down in a checkpoint what is kept."""
        for trunk in self._trunks.values():
            trunk.save(checkpoint)

    def tidy(self) -> None:
        """Remove what nothing will read again."""
        for trunk in self._trunks.values():
            trunk.tidy()

    def end(self) -> None:
        """Remove everything."""
        self._trunks = {}
        shutil.rmtree(self._folder, ignore_errors=True)

    def describe(self) -> str:
        """Whether it was used, or why not, in a few words."""
        if not self._asked_for():
            return ""
        refused = self._refused or next((trunk.refused for trunk in self._trunks.values()), "")  # of the training rows
        if refused:
            return f"not used: {refused}"
        return f"used, {sum(trunk.most_bytes for trunk in self._trunks.values()) / 2**30:.2g} GB"

    def _asked_for(self) -> bool:
        return self._job.cache_bytes > 0 and self._job.rates.unfreezing.kind != "all"

    def _obstacle(self) -> str:
        if self._job.train.augment:
            return "training images are augmented (--augment false would let it be used)"
        if self._recomputes:
            return "gradient checkpointing computes layers a second time"
        return ""

    def _find_cuts(self, model: nn.Module) -> Cuts | None:
        unfreezing, groups = self._job.rates.unfreezing, self._job.groups
        closed = unfreezing.closed_prefixes(groups, 1000, 0, ())
        if not closed:
            self._refused = "no lower group is ever closed"
            return None
        inputs = self._job.train.inputs
        batch = inputs.batch(list(range(min(_TRIAL_ROWS, len(inputs)))))
        try:
            return Cuts(
                model, groups, [count - 1 for count in closed], {k: v.to(device_of(model)) for k, v in batch.items()}
            )
        except NotCacheableError as error:
            self._refused = str(error)
            return None
