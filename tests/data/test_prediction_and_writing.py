"""Rows to predict keep their columns; tables are written whole or not at all."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from making import load, save_picture

from warmstart.core.errors import DataError, OutputError
from warmstart.data.task import inputs_for_prediction, write_table


@pytest.fixture
def text_card(reviews):
    return load(reviews()).card


def test_the_files_own_columns_stay(write, text_card, tmp_path):
    original = 'id,note,text\n007,NA,hello\n8,,\n1e5,null,"a, b"\n'
    frame, inputs = inputs_for_prediction(write("new.csv", original), text_card)
    assert list(frame.columns) == ["id", "note", "text"]
    assert list(inputs["text"]) == ["hello", "", "a, b"]
    assert inputs.column_names == ["text"]
    write_table(frame, str(tmp_path / "out.csv"), overwrite=False)
    assert (tmp_path / "out.csv").read_text() == original


def test_large_integers_stay_exact(write, text_card, tmp_path):
    line = '{"id": 12345678901234567890123, "text": "x", "n": null}\n'
    frame, _ = inputs_for_prediction(write("new.jsonl", line), text_card)
    write_table(frame, str(tmp_path / "out.jsonl"), overwrite=False)
    assert (tmp_path / "out.jsonl").read_text() == line
    pd.DataFrame({"text": ["x", "y"], "id": pd.array([2**60 + 1, None], dtype="Int64")}).to_parquet(
        tmp_path / "a.parquet"
    )
    frame, _ = inputs_for_prediction(str(tmp_path / "a.parquet"), text_card)
    frame["prediction"] = ["good", "bad"]
    write_table(frame, str(tmp_path / "b.parquet"), overwrite=False)
    again = pd.read_parquet(tmp_path / "b.parquet", dtype_backend="pyarrow")
    assert again["id"].tolist()[0] == 2**60 + 1
    write_table(frame, str(tmp_path / "b.csv"), overwrite=False)
    assert (tmp_path / "b.csv").read_text() == f"text,id,prediction\nx,{2**60 + 1},good\ny,,bad\n"


def test_missing_columns_are_named(write, text_card):
    with pytest.raises(DataError, match=r"no column 'text'.*Columns there: 'body', 'id'"):
        inputs_for_prediction(write("new.csv", "body,id\nx,1\n"), text_card)


def test_images_to_predict(pictures, tmp_path, text_card):
    root = pictures(each=6)
    card = load(str(root)).card
    for seed, name in enumerate(("b.png", "a.png", "sub/c.png")):
        save_picture(tmp_path / "new" / name, seed)
    frame, inputs = inputs_for_prediction(str(tmp_path / "new"), card)
    assert frame["image"].tolist() == ["a.png", "b.png", "sub/c.png"]
    assert inputs[2]["image"].size == (45, 45)
    (tmp_path / "new" / "bad.png").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"new, row 3, column 'image': the image cannot be used \(bad\.png: not an image"
    ):
        inputs_for_prediction(str(tmp_path / "new"), card)
    with pytest.raises(DataError, match="the model reads texts"):
        inputs_for_prediction(str(root), text_card)


@pytest.mark.parametrize(
    ("name", "says"),
    [("out.xlsx", "not a kind of file"), ("none/out.csv", "there is no folder"), ("folder.csv", "is a folder")],
)
def test_places_that_cannot_be_written(tmp_path, name, says):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match=says):
        write_table(pd.DataFrame({"a": [1]}), str(tmp_path / name), overwrite=True)


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(OutputError, match="--overwrite replaces it"):
        write_table(pd.DataFrame({"a": [1]}), str(path), overwrite=False)
    assert path.read_text() == "old"
    write_table(pd.DataFrame({"a": [1]}), str(path), overwrite=True)
    assert path.read_text() == "a\n1\n"


def test_a_failure_leaves_no_trace(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(OutputError, match="No space left"):
        write_table(pd.DataFrame({"a": [1]}), str(path), overwrite=True)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]
