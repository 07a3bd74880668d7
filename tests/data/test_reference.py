"""Reference rows: read like the task's, without needing labels, or out of a package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from warmstart.core.errors import DataError
from warmstart.core.records import TaskCard
from warmstart.data import reference
from warmstart.data.reference import read_reference, sample_reference


def card(modality: str = "text", **columns: str) -> TaskCard:
    return TaskCard("task.csv", modality, columns, (), ("a", "b"), {}, {}, (), 0, 0, "")


def table(folder: Path, **columns: list[object]) -> str:
    pd.DataFrame(columns).to_csv(folder / "other.csv", index=False)
    return str(folder / "other.csv")


def lines(rows: int, word: str = "row") -> list[str]:
    return [f"{word} number {row} of them" for row in range(rows)]


def pictures(folder: Path, names: list[str]) -> str:
    for place, name in enumerate(names):
        path = folder / "pics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (place * 7 % 256, place, 90)).save(path)
    return str(folder / "pics")


def test_texts_without_labels(tmp_path: Path) -> None:
    found = read_reference(table(tmp_path, words=lines(50), number=list(range(50))), card(text="text"), 30, 1)
    assert len(found) == 30
    assert (found.labels, found.names) == ((), ())
    assert len(set(found.columns["text"])) == 30
    fewer = read_reference(str(tmp_path / "other.csv"), card(text="text"), 20, 1)
    assert fewer.columns["text"] == found.columns["text"][:20]
    again = read_reference(str(tmp_path / "other.csv"), card(text="text"), 30, 1)
    assert again == found
    other = read_reference(str(tmp_path / "other.csv"), card(text="text"), 30, 2)
    assert other.columns != found.columns


def test_the_tasks_columns_come_first_and_labels_are_kept(tmp_path: Path) -> None:
    data = table(tmp_path, note=lines(40, "a very long note"), body=lines(40), kind=["x", "y"] * 20)
    found = read_reference(data, card(text="body", label="kind"), 256, 0)
    assert sorted(found.columns["text"]) == sorted(lines(40))
    numbers = [int(text.split()[2]) for text in found.columns["text"]]
    assert found.labels == tuple("xy"[number % 2] for number in numbers)
    assert found.names == ("x", "y")
    assert read_reference(data, card(text="note", label="none"), 256, 0).labels == ()
    named = table(tmp_path, body=lines(40), target=[None, *["y", "x"] * 19, "x"])
    again = read_reference(named, card(text="text", label="kind"), 256, 0)
    assert dict(zip(again.columns["text"], again.labels, strict=True))["row number 0 of them"] is None
    assert again.labels.count(None) == 1


def test_repeated_and_empty_texts_are_left_out(tmp_path: Path) -> None:
    data = table(tmp_path, text=[*lines(30), *lines(30), *[" "] * 30])
    assert sorted(read_reference(data, card(text="text"), 256, 0).columns["text"]) == sorted(lines(30))


def test_pairs_where_both_columns_are_there(tmp_path: Path) -> None:
    data = table(tmp_path, question=lines(25), answer=lines(25, "an answer"))
    pairs = card("pair", text="question", text_pair="answer")
    found = read_reference(data, pairs, 256, 0).columns
    assert sorted(zip(found["text"], found["text_pair"], strict=True)) == sorted(
        zip(lines(25), lines(25, "an answer"), strict=True)
    )
    single = table(tmp_path, body=lines(25))
    assert set(read_reference(single, pairs, 256, 0).columns) == {"text"}


def test_images_of_class_folders_of_one_folder_and_of_a_table(tmp_path: Path) -> None:
    images = card("image", image="image", label="label")
    folder = pictures(tmp_path / "classes", [f"{kind}/{row}.png" for kind in "ab" for row in range(15)])
    found = read_reference(folder, images, 24, 0)
    assert len(found) == 24
    assert set(found.labels) == {"a", "b"} == set(found.names)
    assert found.columns["image"][0].size == (8, 8)
    flat = pictures(tmp_path / "flat", [f"{row}.png" for row in range(22)])
    (Path(flat) / "broken.png").write_bytes(b"not an image")
    assert len(read_reference(flat, images, 256, 0)) == 22
    listed = table(Path(flat), file=[f"{row}.png" for row in range(22)], words=lines(22))
    assert len(read_reference(listed, images, 256, 0)) == 22


@pytest.mark.parametrize(
    ("make", "task", "words"),
    [
        (lambda d: str(d / "absent.csv"), card(text="text"), ["absent.csv"]),
        (lambda d: " ", card(text="text"), ["--reference-data is empty", "none"]),
        (lambda d: table(d, text=lines(9)), card(text="text"), ["other.csv", "9 usable rows", "20"]),
        (lambda d: table(d, one=lines(40), two=lines(40)), card(text="body"), ["'one', 'two'", "'body'"]),
        (lambda d: table(d, number=list(range(40))), card(text="body"), ["other.csv", "'body'"]),
        (lambda d: table(d, text=lines(40)), card("image", image="image"), ["holds images", "'image'"]),
        (lambda d: pictures(d, ["a.png"]), card(text="text"), ["pics", "the task has texts"]),
        (lambda d: pictures(d, ["a.png"]), card("image", image="image"), ["1 usable rows"]),
        (lambda d: "sample:nothing", card(text="text"), ["sample"]),
    ],
)
def test_what_cannot_be_used_is_told(make, task: TaskCard, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_reference(make(tmp_path), task, 256, 0)
    for word in words:
        assert word in str(error.value)


def test_samples_are_reviews_or_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = {
        "reviews": pd.DataFrame({"Title": ["no"] * 300, "Review Text": [None, "same", "same", *lines(297)]}),
        "movielens-items": pd.DataFrame({"movie_id": [1, 2], "movie_title": ["Toy Story (1995)", "Heat (1995)"]}),
    }
    asked = []

    def frame(name: str, *, quick: bool) -> pd.DataFrame:
        asked.append((name, quick))
        return frames[name]

    monkeypatch.setattr(reference, "sample_frame", frame)
    found = sample_reference("text", {"something else"}, 256, 0)
    assert (len(found), "reviews" in found.name) == (256, True)
    assert len(set(found.columns["text"])) == 256
    own = sample_reference("pair", {"row number 3 of them"}, 256, 0)
    assert sorted(own.columns["text"]) == ["Heat (1995)", "Toy Story (1995)"]
    assert "MovieLens" in own.name
    assert set(asked) == {("reviews", True), ("movielens-items", True)}


def test_patches_of_photographs_are_the_same_every_time_and_differ() -> None:
    found = sample_reference("image", (), 40, 3)
    again = sample_reference("image", (), 40, 3)
    pixels = [np.asarray(image) for image in found.columns["image"]]
    assert all(np.array_equal(one, np.asarray(two)) for one, two in zip(pixels, again.columns["image"], strict=True))
    assert len({image.tobytes() for image in pixels}) == 40
    assert all(64 <= image.shape[0] == image.shape[1] <= 256 and image.shape[2] == 3 for image in pixels)


@pytest.mark.real
@pytest.mark.parametrize("name", [reference._REVIEWS, reference._TITLES])
def test_the_real_samples_have_enough_texts(name: tuple[str, str, str]) -> None:
    try:
        found = reference._sample_texts(*name[:2])
    except DataError as error:
        pytest.skip(f"the sample is neither cached nor to be fetched: {error}")
    assert len(found) > 1000
    assert sum(map(len, found)) / len(found) > 10
