"""Data sets of `advise_regret.py`: so many labelled rows a class and a test side, as files that `advise` reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import discipline_data as sets
import numpy as np
import pandas as pd

from warmstart.data.samples import sample_frame

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
INTENTS = 50


@dataclass(frozen=True)
class Pool:
    """Rows to learn from and rows to judge by, each with the columns `input` and `label`."""

    learn: pd.DataFrame
    test: pd.DataFrame


@dataclass(frozen=True)
class Setup:
    """A data set with its model and the sizes of its grid."""

    load: Callable[[Path], Pool]
    model: str
    modality: str
    sizes: tuple[int, ...]  # labels a class
    image_size: int | None = None


def reviews(folder: Path) -> Pool:
    """Departments from women's clothing reviews, without the smallest, which has too few for the grid."""
    frame = sample_frame("reviews").rename(columns={"Review Text": "input", "Department Name": "label"})
    frame = frame[frame["input"].fillna("").str.strip().ne("") & frame["label"].notna() & frame["label"].ne("Trend")]
    frame = frame.drop_duplicates("input")[["input", "label"]].sample(frac=1, random_state=0)
    return Pool(frame[5000:], frame[:5000])


def news(folder: Path) -> Pool:
    """Topics from the titles and descriptions of AG News' test file."""
    names = [line for line in (folder / "ag_news" / "classes.txt").read_text().splitlines() if line.strip()]
    frame = sets.news(folder).sample(frac=1, random_state=0)
    texts = frame["title"] + ". " + frame["description"]
    frame = pd.DataFrame({"input": texts, "label": frame["label"].map(names.__getitem__)})
    frame = frame.drop_duplicates("input")
    return Pool(frame[5000:], frame[:5000])


def intents(folder: Path) -> Pool:
    """Fifty of the intents of CLINC150, the same for every seed, as published."""
    data = json.loads((folder / "clinc150" / "data_full.json").read_text())
    names = sorted({label for _, label in data["train"]})
    chosen = set(np.random.default_rng(0).choice(names, INTENTS, replace=False).tolist())

    def side(*parts: str) -> pd.DataFrame:
        rows = [row for part in parts for row in data[part] if row[1] in chosen]
        return pd.DataFrame(rows, columns=["input", "label"]).drop_duplicates("input")

    return Pool(side("train"), side("test", "val"))


def emotion(folder: Path) -> Pool:
    """Four emotions of tweets, as published."""
    base = folder / "tweet_emotion"
    names = [line.split("\t")[1].strip() for line in (base / "mapping.txt").read_text().splitlines() if line.strip()]

    def side(part: str) -> pd.DataFrame:
        labels = [int(line) for line in (base / f"{part}_labels.txt").read_text().split()]
        rows = (base / f"{part}_text.txt").read_text().splitlines()[: len(labels)]
        return pd.DataFrame({"input": rows, "label": [names[label] for label in labels]}).drop_duplicates("input")

    return Pool(side("train"), side("test"))


def scenes(folder: Path) -> Pool:
    """Land use from the satellite scenes of RSSCN7."""
    rows = [(str(path.resolve()), path.parent.name) for path in sorted((folder / "rsscn7").glob("*/*.jpg"))]
    frame = pd.DataFrame(rows, columns=["input", "label"]).sample(frac=1, random_state=0)
    return Pool(frame[1400:], frame[:1400])


SETUPS = {
    "reviews": Setup(reviews, MINILM, "text", (4, 16, 64, 256)),
    "news": Setup(news, MINILM, "text", (4, 16, 64, 256)),
    "intents": Setup(intents, MINILM, "text", (4, 16)),
    "emotion": Setup(emotion, MINILM, "text", (4, 16, 64, 256)),
    "scenes": Setup(scenes, "EfficientNet-Lite0", "image", (4, 16, 64), image_size=96),
}


def draw(frame: pd.DataFrame, labels: int, seed: int) -> pd.DataFrame:
    """So many rows of each class, or all where there are fewer."""
    shuffled = frame.sample(frac=1, random_state=seed)
    return shuffled[shuffled.groupby("label").cumcount() < labels]


def write(learn: pd.DataFrame, test: pd.DataFrame, modality: str, place: Path) -> dict[str, str | bool]:
    """Write both sides as CSV files; gives the options that read them."""
    column = "image" if modality == "image" else "text"
    for name, frame in (("learn", learn), ("test", test)):
        frame.rename(columns={"input": column}).to_csv(place / f"{name}.csv", index=False)
    return {
        "data": str(place / "learn.csv"),
        "test_data": str(place / "test.csv"),
        f"{column}_column": column,
        "label_column": "label",
        "drop_invalid": True,
    }
