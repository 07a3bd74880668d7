"""Run by test_fit.py in processes of its own: a training that is killed, and one over two processes.

python interrupted.py kill FOLDER: writes checkpoint-4 and checkpoint-8, and dies while it writes checkpoint-12.
torchrun … interrupted.py distributed FOLDER: trains, and writes what each process saw and ended with.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "backbones")]

import torch  # noqa: E402
import toy  # noqa: E402

from warmstart.train.fit import Trained, fit  # noqa: E402
from warmstart.train.rates import RatePlan  # noqa: E402
from warmstart.train.trainer import WarmstartTrainer  # noqa: E402

OPENS = (0.6, 0.45, 0.3, 0.15, 0.0)


def train(folder: Path, **changes: Any) -> tuple[toy.Classifier, Trained]:
    """Progressive, dropout on, rows of unequal length: 32 rows in batches of 8, a checkpoint an epoch."""
    task = toy.task("bert", 32, 12)
    model = task.classifier()
    job = toy.job(task, model, RatePlan(2e-3, 0.8, 5e-3, unfreezing=toy.given(model, OPENS)))
    return model, fit(model, toy.arguments(folder, 32, epochs=5, **changes), job)


def kill(folder: Path) -> None:
    original = WarmstartTrainer._save_optimizer_and_scheduler

    def die(self: WarmstartTrainer, path: str) -> None:
        if self.state.global_step == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, path)

    WarmstartTrainer._save_optimizer_and_scheduler = die
    train(folder)


def distributed(folder: Path) -> None:
    seen: list[list[int]] = []
    writers: list[str] = []
    original = toy.Rows.collate
    marked = sys.modules["warmstart.train.trainer"].mark_complete

    def collate(self: toy.Rows, rows: list[int]) -> dict[str, torch.Tensor]:
        seen.append([self.epoch, *rows])
        return original(self, rows)

    def mark(path: Path, *args: Any, **changes: Any) -> None:
        writers.append(path.name)
        marked(path, *args, **changes)

    toy.Rows.collate = collate
    sys.modules["warmstart.train.trainer"].mark_complete = mark
    model, found = train(folder / "run")
    rank = int(os.environ["RANK"])
    torch.save(toy.weights(model), folder / f"weights-{rank}.pt")
    report = {
        "world": torch.distributed.get_world_size(),
        "seen": seen,
        "steps": found.steps,
        "score": found.best_score,
        "writers": writers,
    }
    (folder / f"report-{rank}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    {"kill": kill, "distributed": distributed}[sys.argv[1]](Path(sys.argv[2]))
