"""Data sets of `lr_discipline.py`: rows to fit, validate and test by, the same rows under a shift, and reference rows.

Every seed draws its own rows. Reference rows are none of the task's: news for texts, photographs for scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter

from warmstart.data.samples import sample_frame

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Side:
    """Rows with their labels."""

    rows: Columns
    labels: np.ndarray  # (rows,)


@dataclass(frozen=True)
class Data:
    """One seed of a data set."""

    labels: tuple[str, ...]
    fit: Side
    validation: Side
    test: Side
    shifts: dict[str, Side]
    reference: Columns


def texts(frame: pd.DataFrame) -> Side:
    """A side from columns `text` and `label`."""
    return Side({"text": frame["text"].tolist()}, frame["label"].to_numpy(np.int64))


def news(folder: Path) -> pd.DataFrame:
    """AG News' test file."""
    frame = pd.read_csv(folder / "ag_news" / "test.csv", names=["class", "title", "description"])
    return frame.assign(label=frame["class"] - 1)


def news_reference(folder: Path) -> Columns:
    """300 descriptions of news, the same for every seed."""
    return {"text": news(folder)["description"].sample(300, random_state=0).tolist()}


def reviews(folder: Path, seed: int) -> Data:
    """Departments from reviews; the shift is to products and an age group that training has not seen."""
    frame = sample_frame("reviews").rename(columns={"Review Text": "text", "Department Name": "department"})
    frame = frame[frame["text"].fillna("").str.strip().ne("") & frame["department"].notna()]
    names = sorted(set(frame["department"]) - {"Trend"})
    frame = frame[frame["department"].isin(names)].assign(label=lambda f: f["department"].map(names.index))
    products = np.random.default_rng(seed).permutation(frame["Clothing ID"].unique())
    unseen = frame["Clothing ID"].isin(products[: len(products) // 2])
    own = frame[~unseen & (frame["Age"] < 50)].sample(frac=1, random_state=seed)
    other = frame[unseen & (frame["Age"] >= 50)].sample(800, random_state=seed)
    return Data(
        tuple(names),
        texts(own[:300]),
        texts(own[300:600]),
        texts(own[600:1400]),
        {"other products and ages": texts(other)},
        news_reference(folder),
    )


def emotion(folder: Path, seed: int) -> Data:
    """Four emotions of tweets, as published; no shift."""
    base = folder / "tweet_emotion"
    names = [line.split("\t")[1].strip() for line in (base / "mapping.txt").read_text().splitlines() if line.strip()]

    def side(part: str) -> pd.DataFrame:
        rows = (base / f"{part}_text.txt").read_text().splitlines()
        labels = [int(line) for line in (base / f"{part}_labels.txt").read_text().split()]
        return pd.DataFrame({"text": rows[: len(labels)], "label": labels})

    fit = side("train").sample(300, random_state=seed)
    return Data(tuple(names), texts(fit), texts(side("val")), texts(side("test")), {}, news_reference(folder))


def headlines(folder: Path, seed: int) -> Data:
    """Topics from titles; the shift is to descriptions of other news."""
    frame = news(folder).sample(frac=1, random_state=seed)
    titles = frame.assign(text=frame["title"])
    names = tuple(line for line in (folder / "ag_news" / "classes.txt").read_text().splitlines() if line.strip())
    reference = {"text": sample_frame("reviews")["Review Text"].dropna().sample(300, random_state=0).tolist()}
    return Data(
        names,
        texts(titles[:300]),
        texts(titles[300:600]),
        texts(titles[600:1600]),
        {"descriptions": texts(frame[1600:2600].assign(text=lambda f: f["description"]))},
        reference,
    )


def scenes(folder: Path, seed: int) -> Data:
    """Land use from satellite scenes at 96 pixels; the shifts are corruptions of the test scenes."""
    draw = np.random.default_rng(seed)
    names = sorted(path.name for path in (folder / "rsscn7").iterdir() if path.is_dir())
    sides: list[list[tuple[Path, int]]] = [[], [], []]
    for label, name in enumerate(names):
        files = draw.permutation(sorted((folder / "rsscn7" / name).glob("*.jpg")))
        for side, (start, stop) in zip(sides, ((0, 64), (64, 104), (104, 224)), strict=True):
            side += [(path, label) for path in files[start:stop]]
    fit, validation, test = (_pictures(side) for side in sides)
    shifts = {name: Side({"image": [change(i) for i in test.rows["image"]]}, test.labels) for name, change in CORRUPT}
    photographs = sorted((folder / "flickr8k" / "images").glob("*.jpg"))
    chosen = np.random.default_rng(0).choice(len(photographs), 300, replace=False)
    return Data(tuple(names), fit, validation, test, shifts, {"image": [_open(photographs[n]) for n in chosen]})


def _pictures(side: Sequence[tuple[Path, int]]) -> Side:
    return Side({"image": [_open(path) for path, _ in side]}, np.array([label for _, label in side], dtype=np.int64))


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _noise(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    draw = np.random.default_rng(int(pixels.sum()) % 2**32)
    return Image.fromarray((pixels + draw.normal(0, 20, pixels.shape)).clip(0, 255).astype(np.uint8))


CORRUPT: tuple[tuple[str, Callable[[Image.Image], Image.Image]], ...] = (
    ("blur", lambda image: image.filter(ImageFilter.GaussianBlur(1.5))),
    ("noise", _noise),
    ("brightness", lambda image: ImageEnhance.Brightness(image).enhance(1.6)),
    ("rotation", lambda image: image.rotate(45, resample=Image.Resampling.BILINEAR)),
)
