"""Which items a text names: titles with commas, ids, namesakes, and what is close."""

from __future__ import annotations

import itertools

import pytest

from warmstart.core.errors import DataError, SettingError
from warmstart.retrieve.item_names import ItemNames

IDS = ["1", "2", "3", "4", "5", "6", "1900", "8", "9"]
TITLES = [
    "Toy Story (1995)",
    "Good, The Bad and The Ugly, The (1966)",
    "Usual Suspects, The (1995)",
    "Aladdin (1992)",
    "A",
    "A, B",
    "Novecento",
    "B, C",
    "Aladdin (2019)",
]


@pytest.fixture(scope="module")
def names() -> ItemNames:
    return ItemNames(IDS, TITLES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Toy Story (1995),Aladdin (1992)", [0, 3]),
        ("Toy Story (1995) , 4", [0, 3]),
        ("Good, The Bad and The Ugly, The (1966), Toy Story (1995)", [1, 0]),
        ("toy  STORY (1995)", [0]),
        ("toy story", [0]),
        ("The Usual Suspects, usual suspects, the", [2, 2]),
        ("A, B, C", [4, 7]),  # the longest first would leave C over
        ("A, B", [5]),  # as few parts as possible
        ("1900", [6]),
        ("title:Novecento, id:1", [6, 0]),
        ("1,1,", [0, 0]),
    ],
)
def test_texts_are_divided_so_that_all_is_known(names: ItemNames, text: str, expected: list[int]) -> None:
    assert names.read(text, "--history") == expected


def test_every_sequence_of_whole_titles_is_read_back(names: ItemNames) -> None:
    clear = [0, 1, 2, 3, 6, 8]
    for items in itertools.permutations(clear, 3):
        assert names.read(", ".join(TITLES[item] for item in items), "--history") == list(items)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Toy Stori (1995)", "no item 'Toy Stori (1995)'.*Did you mean 'Toy Story (1995)'"),
        ("Toy Story (1995), Aladin", "no item 'Aladin'.*'Aladdin (1992)', 'Aladdin (2019)'"),
        ("aladdin", "'aladdin' may be 2 items.*id:4 is 'Aladdin (1992)'; id:9 is 'Aladdin (2019)'"),
        ("zzzz", r"no item 'zzzz' among the 9\."),
        ("Usual", "Did you mean 'Usual Suspects, The"),
        ("id:77", "no item 'id:77'"),
    ],
)
def test_what_is_not_clear_is_refused_with_what_is_close(names: ItemNames, text: str, words: str) -> None:
    pattern = words.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(DataError, match=pattern):
        names.read(text, "--history")


def test_nothing_is_refused(names: ItemNames) -> None:
    for text in ("", " , "):
        with pytest.raises(SettingError, match="--only is empty"):
            names.read(text, "--only")


def test_ids_count_without_case_and_close_ones_are_told() -> None:
    names = ItemNames(["SKU0001", "SKU0002", "sku0003"], ["Lamp", "Chair", "Table"])
    assert names.read("sku0001,SKU0003", "--history") == [0, 2]
    with pytest.raises(DataError, match=r"no item 'SKV0001' among the 3.*Did you mean 'SKU0001'"):
        names.read("SKV0001", "--history")


def test_an_id_that_is_also_a_title_needs_a_word() -> None:
    names = ItemNames(["7", "8"], ["Seven", "7"])
    with pytest.raises(DataError, match=r"'7' may be 2 items. Give the id: id:7 is 'Seven'; id:8 is '7'"):
        names.read("7", "--history")
    assert names.read("id:7, title:7", "--history") == [0, 1]
    assert names.one("title:7", "history") == 1
