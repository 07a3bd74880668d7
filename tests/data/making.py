"""Rows, pictures and tasks that several tests here make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from warmstart.core.options import DataOptions
from warmstart.data.task import Task, load_task

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "ledge")


def sentence(number: int) -> str:
    """A text of its own for every number."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, size=6)) + f" number {number}"


def save_picture(path: Path, seed: int) -> Path:
    """Smooth noise: no two seeds look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((45, 45), Image.Resampling.BICUBIC).save(path)
    return path


def load(data: str, **more: object) -> Task:
    return load_task(DataOptions(data=data, **more))
