"""Conditions on attributes, and attributes through a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from warmstart.core.errors import ResultError, SettingError
from warmstart.data.attributes import attribute_columns
from warmstart.retrieve.item_table import ItemTable, load_items, save_items

FRAME = pd.DataFrame(
    {
        "genre": ["Drama|War", "Comedy", None, "Drama", "War; Comedy"],
        "year": ["1990", "1995", "", "2001.5", "1980"],
        "release_date": ["01-Jan-1995", "05-Mar-1996", "12-Dec-1990", None, "02-Feb-2001"],
        "title": ["other", "titles", "give", "way", "here"],
        "adult": [True, False, None, False, True],
        "plot": ["long " * 30] * 5,
        "empty": [None] * 5,
        "tags": [["a", "b"], [], None, ["b"], ["c"]],
    }
)


@pytest.fixture(scope="module", params=["fresh", "from a file"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ItemTable:
    made = ItemTable(("i0", "i1", "i2", "i3", "i4"), ("A", "B", "C", "D", "E"), attribute_columns(FRAME))
    if request.param == "fresh":
        return made
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    save_items(path, made)
    found = load_items(path)
    assert (found.ids, found.titles) == (made.ids, made.titles)
    return found


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["genre=Drama"], [0, 3]),
        (["genre=drama"], [0, 3]),
        (["GENRE == Drama | Comedy"], [0, 1, 3, 4]),
        (["genre!=Drama"], [1, 2, 4]),
        (["genre=War", "genre=Comedy"], [4]),
        (["year>=1990"], [0, 1, 3]),
        (["year<1990"], [4]),
        (["year=1990|1995"], [0, 1]),
        (["release_date>=1995-06"], [1, 4]),
        (["release_date=1995-01-01"], [0]),
        (["adult=1", "year>1985"], [0]),
        (["tags=b"], [0, 3]),
        ([], [0, 1, 2, 3, 4]),
    ],
)
def test_items_that_meet_conditions(table: ItemTable, conditions: list[str], expected: list[int]) -> None:
    assert table.matching(conditions).tolist() == expected


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("genre", "is no condition"),
        ("genre=", "is no condition"),
        ("gendre=Drama", "names 'gendre'; items have genre"),
        ("genre=Dramma", "no item has genre=Dramma; there are Comedy, Drama, War"),
        ("genre>Comedy", "genre holds words; < and > go with numbers and dates"),
        ("year>new", "holds numbers, and 'new' is none"),
        ("year>1990|1995", "several values go with = only"),
        ("plot=long", "names 'plot'"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(table: ItemTable, condition: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        table.matching([condition])


def test_without_attributes_the_remedy_is_told() -> None:
    with pytest.raises(SettingError, match="train the towers with --items"):
        ItemTable(("1",), ("A",), {}).matching(["genre=Drama"])


def test_another_file_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1.0]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ResultError, match="no table of items"):
        load_items(tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultError, match="cannot be read"):
        load_items(tmp_path / "broken.parquet")


def test_columns_that_nobody_filters_by_are_left_out() -> None:
    found = attribute_columns(FRAME)
    assert set(found) == {"genre", "year", "release_date", "title", "adult", "tags"}
    assert np.isnan(found["year"][2])
