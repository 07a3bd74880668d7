"""Captioned images that tiny towers can learn: the colour above is a fruit, the colour below is a tool."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
from kinds import FILLER, WORDS
from PIL import Image

COLOURS = ((230, 40, 40), (40, 200, 60), (50, 60, 220), (235, 220, 60), (200, 60, 200), (60, 210, 210))


def write_captions(folder: Path, images: int = 72, captions: int = 2, seed: int = 0) -> Path:
    """`images` pictures of 32 pixels in `folder`/images, and captions.tsv with the columns image and caption."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / "captions.tsv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["image", "caption"])
        for place in range(images):
            above, below = place % 6, (place // 6) % 6
            pixels = np.empty((32, 32, 3))
            pixels[:16], pixels[16:] = COLOURS[above], COLOURS[below]
            pixels += np.kron(noise.normal(0, 22, (8, 8, 3)), np.ones((4, 4, 1)))
            name = f"{place:03d}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / "images" / name)
            for _ in range(captions):
                words = [*draw.choices(FILLER, k=draw.randint(1, 5)), WORDS["fruit"][above]]
                draw.shuffle(words)
                writer.writerow([name, f"{' '.join(words)} with {WORDS['tool'][below]} number {place}"])
    return path
