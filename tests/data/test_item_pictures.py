"""Pictures of items: found, looked at once, refused or left out when broken, none where a cell is empty."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contrastive"))
from images_data import pattern

from warmstart.core.errors import DataError, SettingError
from warmstart.data.catalogue import Catalogue, Columns, load_catalogue, read_item_table
from warmstart.data.features import given_rows
from warmstart.data.ids import IdMap
from warmstart.data.item_pictures import item_pictures


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four items: three with a picture beside the table, one without."""
    (tmp_path / "shots").mkdir()
    for number in range(3):
        pattern(number).save(tmp_path / "shots" / f"{number}.png")
    frame = pd.DataFrame(
        {
            "item": ["a", "b", "c", "d"],
            "title": ["a red hat", "a blue hat", "two shoes", "no shoes"],
            "shot": ["shots/0.png", "shots/1.png", "shots/2.png", None],
            "link": ["https://x/0.png", "https://x/1.png", "https://x/2.png", "https://x/3.png"],
        }
    )
    frame.to_csv(tmp_path / "items.csv", index=False)
    return tmp_path / "items.csv"


def load(table: Path, named: Columns | None = None, *, drop_invalid: bool = False) -> Catalogue:
    ids = IdMap("item", ["gone", "c", "a"])
    named = Columns() if named is None else named
    return load_catalogue(str(table), "--items", ids, named, "item", add=True, drop_invalid=drop_invalid)


def test_a_column_of_paths_is_guessed_and_addresses_are_not(table: Path) -> None:
    found = load(table)
    assert found.plan.image == "shot"
    assert found.columns["image"] == "shot"
    assert (found.plan.texts, found.plan.categories) == (("title",), ())
    assert found.counts["with_picture"] == 3
    assert "shot" not in found.attributes
    pictures = found.features.pictures
    files = [table.parent / "shots" / f"{number}.png" for number in (2, 0, 1)]
    told = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert found.ids.ids == ("gone", "c", "a", "b", "d")
    assert pictures.digests == ("", *told, "")
    seen = pictures.decoded(np.array([1, 3]))
    assert [np.asarray(image).tolist() for image in seen] == [np.asarray(pattern(n)).tolist() for n in (2, 1)]


def test_named_columns_leave_pictures_out_unless_one_is_named(table: Path) -> None:
    assert load(table, Columns(texts=("title",))).plan.image == ""
    assert load(table, Columns(image="")).plan.image == ""
    found = load(table, Columns(texts=("title",), image="shot"))
    assert (found.plan.image, found.plan.texts) == ("shot", ("title",))
    with pytest.raises(SettingError, match="two things"):
        load(table, Columns(texts=("shot",), image="shot"))
    with pytest.raises(DataError, match="'photo'"):
        load(table, Columns(image="photo"))


def test_two_columns_of_pictures_must_be_chosen_from(table: Path) -> None:
    frame = pd.read_csv(table)
    frame.assign(back=frame["shot"]).to_csv(table, index=False)
    with pytest.raises(DataError, match=r"'shot', 'back'.*--image-column"):
        load(table)


def test_a_broken_picture_is_named_or_counts_as_none(table: Path) -> None:
    (table.parent / "shots" / "1.png").write_bytes(b"no picture")
    (table.parent / "shots" / "2.png").unlink()
    with pytest.raises(
        DataError, match=r"items\.csv, row 3, column 'shot': 2 of 3 pictures.*1\.png: .*2\.png: "
    ) as told:
        load(table)
    assert "--drop-invalid" in str(told.value)
    assert f"paths start in {table.parent}" in str(told.value)
    found = load(table, drop_invalid=True)
    assert found.counts["broken_pictures"] == 2
    assert [bool(digest) for digest in found.features.pictures.digests] == [False, False, True, False, False]


def test_addresses_are_not_fetched_and_nothing_but_broken_pictures_is_an_error(table: Path) -> None:
    with pytest.raises(DataError, match=r"https://x/0\.png: addresses of the web are not fetched"):
        load(table, Columns(image="link"))
    with pytest.raises(DataError, match="4 of 4 pictures cannot be used"):
        load(table, Columns(image="link"), drop_invalid=True)


def test_the_same_plan_reads_a_later_table(table: Path) -> None:
    plan = load(table).plan
    frame = pd.read_csv(table)
    frame.iloc[::-1].to_csv(table, index=False)
    found = read_item_table(str(table), "--items", "item", "title", plan)
    assert found.ids == ("d", "c", "b", "a")
    assert found.features.texts[0] == "no shoes"
    assert [bool(digest) for digest in found.features.pictures.digests] == [False, True, True, True]
    frame.drop(columns=["shot"]).to_csv(table, index=False)
    with pytest.raises(DataError, match="'shot'"):
        read_item_table(str(table), "--items", "item", "title", plan)


def test_pictures_may_be_bytes_paths_or_images(tmp_path: Path) -> None:
    pattern(4).save(tmp_path / "four.png")
    content = (tmp_path / "four.png").read_bytes()
    made = [pattern(4), np.asarray(pattern(4))]
    values = [str(tmp_path / "four.png"), "four.png", content, {"bytes": content, "path": None}, *made, None, " "]
    found, broken = item_pictures(values, given_rows(len(values)), tmp_path)
    assert broken == 0
    assert len({*found.digests[:4]}) == 1
    assert found.digests[6:] == ("", "")
    for image in found.decoded(np.arange(6)):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(pattern(4)))
    with pytest.raises(DataError, match=r"row 1: a picture is a path, .* not float"):
        item_pictures([0.5], given_rows(1), None)
