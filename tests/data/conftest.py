"""Small tables and images on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from making import save_picture, sentence


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    def put(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return put


@pytest.fixture
def reviews(write: Callable[[str, str], str]) -> Callable[..., str]:
    """A CSV with `text` and `label`: 20 rows a class, plus whatever lines are given."""

    def make(*more: str, classes: tuple[str, ...] = ("bad", "good"), each: int = 20, name: str = "reviews.csv") -> str:
        lines = [f"{sentence(each * place + i)},{label}" for place, label in enumerate(classes) for i in range(each)]
        return write(name, "\n".join(["text,label", *lines, *more]) + "\n")

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """An image folder of noise: no two alike."""

    def make(root: str = "shapes", classes: tuple[str, ...] = ("cats", "dogs"), each: int = 6, first: int = 0) -> Path:
        for place, label in enumerate(classes):
            for i in range(each):
                save_picture(tmp_path / root / label / f"{i:03}.png", first + place * each + i)
        return tmp_path / root

    return make
