"""Captioned images: what is read, what is one image, what stays together, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from making import save_picture, sentence

from warmstart.core.contrast_options import CaptionDataOptions
from warmstart.core.errors import DataError, SettingError
from warmstart.data.captions import CaptionTask, load_captions, retrieval

ROWS = [(f"{place:02d}.png", f"{sentence(place)} {word}") for place in range(20) for word in ("one", "two", "three")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in range(20):
        save_picture(tmp_path / "images" / f"{place:02d}.png", place)
    return tmp_path


def write(folder: Path, rows: list[tuple[str, str]], names: tuple[str, str] = ("image", "caption")) -> str:
    path = folder / "captions.tsv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([names, *rows])
    return str(path)


def load(folder: Path, rows: list[tuple[str, str]] = ROWS, **changes: object) -> CaptionTask:
    values = {"captions": write(folder, rows), "images": str(folder / "images"), **changes}
    return load_captions(CaptionDataOptions(**values))


def test_every_image_with_its_captions_is_on_one_side(folder: Path) -> None:
    task = load(folder, test_size=5, validation_size=3, seed=1)
    assert task.card.images == {"train": 12, "validation": 3, "test": 5}
    assert task.card.sizes == {"train": 36, "validation": 9, "test": 15}
    assert task.card.columns == {"image": "image", "caption": "caption"}
    assert task.card.guessed == ("image", "caption")
    seen = {}
    wanted = dict.fromkeys(name for name, _ in ROWS)
    for part in (task.train, task.validation, task.test):
        for image, caption in zip(part.images.tolist(), part.captions, strict=True):
            seen.setdefault(Path(part.pictures[image]["image"].filename).name, []).append(caption)
    assert sorted(seen) == list(wanted)
    assert {(name, caption) for name, captions in seen.items() for caption in captions} == set(ROWS)
    assert load(folder, test_size=5, validation_size=3, seed=1).card == task.card
    assert load(folder, test_size=5, validation_size=3, seed=2).card.fingerprint != task.card.fingerprint


def test_a_copy_of_an_image_is_the_image_and_a_row_counts_once(folder: Path) -> None:
    shutil.copy(folder / "images" / "00.png", folder / "images" / "copy.png")
    task = load(folder, [*ROWS, ("copy.png", "a caption of the copy"), ROWS[3]])
    assert sum(task.card.images.values()) == 20
    assert sum(task.card.sizes.values()) == 61
    part = next(part for part in (task.train, task.validation, task.test) if "a caption of the copy" in part.captions)
    own = part.images[part.captions.index("a caption of the copy")]
    found = {caption for image, caption in zip(part.images, part.captions, strict=True) if image == own}
    assert found == {"a caption of the copy", *(caption for name, caption in ROWS if name == "00.png")}


def test_questions_know_every_answer_of_a_shared_caption(folder: Path) -> None:
    rows = [(name, "the same  Words" if place % 3 == 0 else caption) for place, (name, caption) in enumerate(ROWS)]
    task = load(folder, rows, test_size=4)
    asked = retrieval(task.test)
    assert len(asked.texts) == 1 + 4 * 2
    shared = asked.texts.index("the same  Words")
    assert asked.images_of[shared] == frozenset(range(4))
    assert all(len(texts) == 3 and shared in texts for texts in asked.texts_of)
    known = task.test.known()
    assert [len(known[image]) for image in range(4)] == [3, 3, 3, 3]


def test_other_files_and_columns(folder: Path) -> None:
    lines = [json.dumps({"file": name, "words": caption, "n": 1}) for name, caption in ROWS]
    (folder / "images" / "c.jsonl").write_text("\n".join(lines))
    task = load_captions(CaptionDataOptions(captions=str(folder / "images" / "c.jsonl"), test_size=4))
    assert task.card.columns == {"image": "file", "caption": "words"}
    named = load(folder, caption_column="caption", image_column="image")
    assert named.card.guessed == ()


def test_what_cannot_be_used_is_named_or_left_out(folder: Path) -> None:
    (folder / "images" / "01.png").write_bytes(b"no picture")
    (folder / "images" / "02.png").unlink()
    rows = [(name, " " if place == 30 else caption) for place, (name, caption) in enumerate(ROWS)]
    with pytest.raises(DataError, match=r"6 rows have no image .*row 5, 01.png: not an image.*--drop-invalid") as found:
        load(folder, rows)
    assert "captions.tsv" in str(found.value)
    task = load(folder, rows, drop_invalid=True)
    assert task.card.dropped == 7
    assert sum(task.card.images.values()) == 18
    with pytest.raises(DataError, match=r"1 rows have an empty caption \(rows 26\)"):
        load(folder, [row for row in rows if row[0] not in ("01.png", "02.png")])


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"images": "nowhere"}, DataError, "there is no such folder"),
        ({"images": None}, DataError, "--images names the folder"),
        ({"captions": "absent.tsv"}, DataError, "absent.tsv"),
        ({"image_column": "picture"}, DataError, "'picture'"),
        ({"caption_column": "captoin"}, DataError, "Did you mean 'caption'"),
        ({"caption_column": "image", "image_column": "image"}, SettingError, "both name 'image'"),
        ({"test_size": 19}, SettingError, "20 different images cannot be split"),
        ({"test_size": 30}, SettingError, "20 rows"),
        ({"train_size": 2}, SettingError, "images cannot be split"),
    ],
)
def test_wrong_calls(folder: Path, changes: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load(folder, **changes)


def test_no_column_of_images(folder: Path) -> None:
    with pytest.raises(DataError, match="no column holds image files"):
        load_captions(CaptionDataOptions(captions=write(folder, [("a", "b c d"), ("e", "f g h")])))
