"""Images without labels: what is read, what is refused, what stays together; and decoded images."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).parents[1] / "contrastive"))
from images_data import pattern, write_images

from warmstart.core.contrast_options import ContrastSimclrOptions
from warmstart.core.errors import DataError, SettingError
from warmstart.data.decoded import DecodedImages, working_size
from warmstart.data.images import ImageTask, load_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), 40)


def load(images: Path | str, **changes: Any) -> ImageTask:
    return load_images(ContrastSimclrOptions(images=str(images), output_dir="unused", **changes))


def names(part: Any) -> set[str]:
    return {Path(item["path"]).name for item in part.pictures["image"]}


def test_a_folder_of_folders_is_split_into_three(folder: Path) -> None:
    found = load(folder, test_size=8, validation_size=6)
    parts = [names(part) for part in (found.train, found.validation, found.test)]
    assert [len(part) for part in parts] == [26, 6, 8]
    assert len(set.union(*parts)) == 40
    assert found.card.sizes == {"train": 26, "validation": 6, "test": 8}
    assert found.card.columns == {"image": "image"}
    assert found.train.labels is None
    assert load(folder, test_size=8, validation_size=6).card.fingerprint == found.card.fingerprint
    other = load(folder, test_size=8, validation_size=6, seed=1)
    assert names(other.test) != parts[2]
    assert other.card.fingerprint != found.card.fingerprint
    fewer = load(folder, test_size=8, validation_size=6, train_size=20)
    assert names(fewer.test) == parts[2]
    assert len(fewer.train) == 14


def test_images_that_look_the_same_stay_together(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "twins")
    for path in sorted((tmp_path / "twins").rglob("*.png"))[:15]:
        with Image.open(path) as image:
            image.convert("RGB").save(path.with_name(f"again-{path.stem}.jpg"), quality=95)
        shutil.copy(path, path.with_name(f"copy-{path.stem}.png"))
    found = load(tmp_path / "twins", test_size=0.3, validation_size=0.2)
    assert 15 <= found.card.repeated <= 30
    homes: dict[str, set[int]] = {}
    for number, part in enumerate((found.train, found.validation, found.test)):
        for name in names(part):
            if not name.startswith("again"):
                homes.setdefault(name.removeprefix("copy-"), set()).add(number)
        assert len(set(part.ids.tolist())) <= len(part)
    assert all(len(places) == 1 for places in homes.values())


def test_a_list_and_a_table_name_images_too(folder: Path, tmp_path: Path) -> None:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    (folder / "list.txt").write_text("\n".join([*paths[:20], "", ""]))
    (folder / "table.csv").write_text(
        "file,kind,number\n" + "\n".join(f"{path},{path.split('/')[0]},{n}" for n, path in enumerate(paths))
    )
    assert load(folder / "list.txt", test_size=4, validation_size=4).card.sizes["train"] == 12
    table = load(folder / "table.csv", label_column="kind")
    assert table.classes == ("discs", "stripes")
    assert table.card.columns == {"image": "file", "label": "kind"}
    assert load(folder / "table.csv", image_column="file").classes == ()


def test_labels_are_the_folders_that_images_lie_in(folder: Path) -> None:
    found = load(folder, labels=True)
    assert found.classes == ("discs", "stripes")
    for part in (found.train, found.validation, found.test):
        assert part.labels is not None
        kinds = [Path(item["path"]).parent.name for item in part.pictures["image"]]
        assert [found.classes[label] for label in part.labels] == kinds


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "0 bytes"), (b"no image", "not an image"), (b"\x89PNG\r\n\x1a\nbroken", "not an image")]
)
def test_images_that_cannot_be_read_stop_unless_they_are_left_out(
    content: bytes, word: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / "discs" / "bad.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.jpg.*--drop-invalid") as caught:
        load(tmp_path / "broken")
    assert word in str(caught.value)
    found = load(tmp_path / "broken", drop_invalid=True)
    assert found.card.dropped == 1
    assert sum(found.card.sizes.values()) == 40


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"images": "absent"}, "absent"),
        ({"images": ""}, "--images"),
        ({"image_column": "file"}, "is a folder"),
        ({"test_size": 39}, "--test-size"),
        ({"validation_size": 0.99}, "--validation-size"),
        ({"train_size": 100}, "--train-size"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], word: str, folder: Path) -> None:
    with pytest.raises((DataError, SettingError), match=word):
        load(**{"images": folder, **changes})


def test_no_images_and_no_labels(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("nothing")
    with pytest.raises(DataError, match="no images in this folder"):
        load(tmp_path)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match="--image-column"):
        load(tmp_path / "table.csv")
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(DataError, match="empty"):
        load(tmp_path / "list.txt")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in folder.rglob("*.png"):
        shutil.copy(path, flat)
    with pytest.raises(DataError, match="no class folder"):
        load(flat, labels=True)
    with pytest.raises(DataError, match="--labels"):
        load(folder / "discs", labels=True)
    shutil.rmtree(flat)


def test_decoded_images_are_the_middle_of_each_in_memory_or_in_a_file(tmp_path: Path) -> None:
    made = []
    for number, (width, height) in enumerate([(40, 40), (60, 40), (30, 50)]):
        image = pattern(number, 40).resize((width, height))
        image.save(tmp_path / f"{number}.png")
        made.append(ImageOps.fit(image, (24, 24), Image.Resampling.BICUBIC))
    turned = pattern(3, 40)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    turned.save(tmp_path / "3.png", exif=exif)
    made.append(ImageOps.fit(turned.rotate(-90), (24, 24), Image.Resampling.BICUBIC))
    pictures = load_pictures(tmp_path)
    memory, file = (DecodedImages(pictures, 24, tmp_path / "work", size) for size in (1 << 20, 0))
    assert list((tmp_path / "work").iterdir()) == []  # the file has no name, and goes with the process
    for images in (memory, file):
        assert len(images) == 4
        for order in ([2, 0], [0, 1, 2, 3], [2, 2]):
            found = images.rows(order)
            assert found.shape == (len(order), 3, 24, 24)
            for row, pixels in zip(order, found, strict=True):
                np.testing.assert_array_equal(pixels.transpose(1, 2, 0), np.asarray(made[row]))


def load_pictures(folder: Path) -> Any:
    from warmstart.data.folders import read_flat
    from warmstart.data.pictures import picture_column

    return picture_column(read_flat(folder, "folder"), "image")


def test_the_working_size_is_twice_that_of_the_views_within_bounds() -> None:
    assert [working_size(size) for size in (16, 96, 128, 224, 384)] == [32, 192, 256, 256, 384]
