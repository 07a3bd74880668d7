"""A small separable task: sentences that name two fruits, tools or animals."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = {
    "fruit": ["apple", "pear", "plum", "cherry", "melon", "grape"],
    "tool": ["hammer", "saw", "drill", "wrench", "pliers", "chisel"],
    "animal": ["cat", "dog", "horse", "cow", "sheep", "goat"],
}
FILLER = ["the", "a", "my", "old", "new", "was", "is", "very", "nice", "here", "and", "with"]


def sentence(kind: str, draw: random.Random) -> str:
    """A few fillers around two words of one kind."""
    words = draw.choices(FILLER, k=draw.randint(3, 9)) + draw.sample(WORDS[kind], 2)
    draw.shuffle(words)
    return " ".join(words)


def write_rows(path: Path, rows: int, seed: int = 0, kinds: tuple[str, ...] = ("fruit", "tool", "animal")) -> Path:
    """A CSV with the columns id, text and kind."""
    draw = random.Random(seed)
    lines = ["id,text,kind"]
    seen: set[str] = set()
    while len(lines) <= rows:
        kind = kinds[len(lines) % len(kinds)]
        text = sentence(kind, draw)
        if text not in seen:
            seen.add(text)
            lines.append(f"{len(lines):04d},{text},{kind}")
    path.write_text("\n".join(lines) + "\n")
    return path
