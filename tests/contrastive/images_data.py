"""Folders of small pictures: shapes of one colour on another, each picture told from the others by both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def pattern(number: int, side: int = 40) -> Image.Image:
    """Stripes for even numbers, discs for odd ones, in colours, widths and places of their own."""
    draw = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side]
    if number % 2 == 0:
        where = np.sin((x * draw.normal() + y * draw.normal()) * draw.uniform(0.3, 0.9)) > 0
    else:
        where = (x - draw.uniform(8, 32)) ** 2 + (y - draw.uniform(8, 32)) ** 2 < draw.uniform(40, 250)
    front, ground = draw.integers(0, 256, 3), draw.integers(0, 256, 3)
    return Image.fromarray(np.where(where[..., None], front, ground).astype(np.uint8))


def write_images(folder: Path, count: int = 60) -> Path:
    """`folder/stripes/…` and `folder/discs/…`."""
    for number in range(count):
        place = folder / ("discs" if number % 2 else "stripes")
        place.mkdir(parents=True, exist_ok=True)
        pattern(number).save(place / f"{number:03d}.png")
    return folder


VIT = {
    "model_type": "vit",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 16,
    "patch_size": 4,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
LITE = {
    "model_type": "efficientnet_lite",
    "image_size": 32,
    "stem_size": 8,
    "block_sizes": [8, 12],
    "depths": [1, 2],
    "kernel_sizes": [3, 3],
    "strides": [2, 2],
    "expand_ratios": [1, 2],
    "hidden_size": 16,
    "drop_connect_rate": 0.0,
}
