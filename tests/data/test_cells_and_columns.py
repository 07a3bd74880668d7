"""Labels have one spelling; columns are named, guessed, or asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from warmstart.core.errors import DataError, SettingError
from warmstart.core.options import DataOptions
from warmstart.data.cells import Where, cells, label_strings, sorted_labels, text_strings
from warmstart.data.columns import assign_roles
from warmstart.data.sources import Source


def place(count):
    return Where("a.csv", "label", np.arange(2, count + 2))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["1.0", "2.0", None], ["1", "2", None]),
        (["1", "2.50", "3."], ["1", "2.50", "3"]),
        ([1.0, 2.0, None], ["1", "2", None]),
        ([1, 2**70], ["1", str(2**70)]),
        ([True, False], ["True", "False"]),
        (["1.0", "other"], ["1.0", "other"]),
        (["007", "8"], ["007", "8"]),
        ([" Tops ", "Tops", "  "], ["Tops", "Tops", None]),
        (["NA", "None"], ["NA", "None"]),
    ],
)
def test_label_spelling(values, labels):
    assert label_strings(values, place(len(values))) == labels


def test_a_list_is_no_label():
    with pytest.raises(
        DataError, match=r"a\.csv, row 3, column 'label': the cell holds a list; warmstart learns one label"
    ):
        label_strings(["a", ["b", "c"]], place(2))
    with pytest.raises(DataError, match="holds a dict"):
        text_strings([{"a": 1}], place(1))


def test_gaps_of_every_kind():
    assert cells(pd.Series([None, float("nan"), pd.NA, pd.NaT, ""], dtype=object)) == [None, None, None, None, ""]


def test_labels_in_order():
    assert sorted_labels(["10", "9", "-1", "2.5", "9"]) == ("-1", "2.5", "9", "10")
    assert sorted_labels(["b", "10", "a"]) == ("10", "a", "b")


def source(**columns):
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    return Source(frame, np.arange(2, len(frame) + 2), "a.csv")


def assign(found, **named):
    return assign_roles(found, DataOptions(data="a.csv", **named), {})


LONG = [f"a rather long text about thing number {i}" for i in range(40)]
SHORT = [f"title {i}" for i in range(40)]
KIND = ["x", "y"] * 20


def test_guesses_are_shown():
    roles = assign(source(id=[str(i) for i in range(40)], title=SHORT, body=LONG, kind=KIND))
    assert roles.columns == {"label": "kind", "text": "body"}
    assert roles.guessed == ("label", "text")
    assert roles.modality == "text"


def test_named_columns_are_not_guessed():
    roles = assign(
        source(title=SHORT, body=LONG, kind=KIND), text_column="title", text_pair_column="body", label_column="kind"
    )
    assert (roles.modality, roles.guessed) == ("pair", ())
    assert roles.inputs == ("text", "text_pair")


@pytest.mark.parametrize("name", ["label", "Class", "target", "Class Name"])
def test_a_telling_name_wins(name):
    roles = assign(source(**{"body": LONG, "kind": KIND, name: ["p", "q"] * 20}))
    assert roles.columns["label"] == name


def test_words_before_numbers_for_labels():
    assert assign(source(body=LONG, stars=["1", "2"] * 20, kind=KIND)).columns["label"] == "kind"
    assert assign(source(body=LONG, stars=["1", "2"] * 20)).columns["label"] == "stars"


def test_ids_are_no_text():
    keys = [f"{i:032x}-{i:032x}z" for i in range(40)]
    assert assign(source(key=keys, body=LONG, kind=KIND)).columns["text"] == "body"


def test_image_paths_are_guessed():
    roles = assign(source(file=[f"{i}.jpg" for i in range(40)], kind=KIND))
    assert (roles.modality, roles.columns) == ("image", {"image": "file", "label": "kind"})


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            {"premise": LONG, "hypothesis": LONG[::-1], "kind": KIND},
            "'premise', 'hypothesis'. Choose with --text-column",
        ),
        ({"body": LONG, "kind": KIND, "sort": KIND[::-1]}, "'kind', 'sort'. Choose with --label-column"),
        ({"body": LONG}, "no column looks like a label"),
        ({"kind": KIND, "n": ["1"] * 40}, "no column holds texts"),
        ({"a": ["1.jpg"] * 40, "b": ["2.png"] * 40, "kind": KIND}, "'a', 'b'. Choose with --image-column"),
    ],
)
def test_no_guess_where_two_might_be_meant(columns, says):
    with pytest.raises(DataError) as caught:
        assign(source(**columns))
    assert says in str(caught.value)


def test_named_columns_must_be_there():
    with pytest.raises(DataError, match=r"no column 'bodi'. Did you mean 'body'\? Columns there: 'body', 'kind'"):
        assign(source(body=LONG, kind=KIND), text_column="bodi")


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"text_column": "body", "label_column": "body"}, "--text-column and --label-column both name 'body'"),
        ({"text_column": "body", "image_column": "kind"}, "exclude each other"),
        ({"text_pair_column": "body"}, "needs --text-column"),
    ],
)
def test_roles_that_do_not_go_together(named, says):
    with pytest.raises(SettingError, match=says):
        assign(source(body=LONG, kind=KIND), **named)
