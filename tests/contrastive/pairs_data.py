"""Pairs that a tiny model can learn: anchor and positive name the same two things, in other fillers."""

from __future__ import annotations

import csv
import itertools
import random
from pathlib import Path

from kinds import FILLER, WORDS


def write_pairs(path: Path, rows: int = 140, seed: int = 0) -> Path:
    """A CSV with the columns question, answer, other and topic; `other` answers another question."""
    draw = random.Random(seed)
    words = [word for group in WORDS.values() for word in group]
    topics = list(itertools.combinations(words, 2))
    draw.shuffle(topics)

    def text(topic: tuple[str, str]) -> str:
        parts = [*draw.choices(FILLER, k=draw.randint(2, 8)), *topic]
        draw.shuffle(parts)
        return " ".join(parts)

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "other", "topic"])
        for place in range(rows):
            topic, other = topics[place % len(topics)], topics[(place + 1) % len(topics)]
            writer.writerow([text(topic), text(topic), text(other), " ".join(topic)])
    return path
