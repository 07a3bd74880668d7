"""Readers keep what stands in the file, and say where a file is broken."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.core.errors import DataError
from warmstart.data.cells import cells
from warmstart.data.delimited import read_delimited, sniff_delimiter
from warmstart.data.reading import read_sources
from warmstart.data.writing import write_table


def columns(data):
    source = read_sources(data).main
    return {name: cells(source.frame[name]) for name in source.columns}, source.rows.tolist()


def test_csv_keeps_cells_as_they_stand(write):
    data = write("a.csv", 'id,text,label\n007,"one, ""two""",NA\n8,,None\n99999999999999999999,"a\nb",null\n')
    found, rows = columns(data)
    assert found == {
        "id": ["007", "8", "99999999999999999999"],
        "text": ['one, "two"', None, "a\nb"],
        "label": ["NA", "None", "null"],
    }
    assert rows == [2, 3, 4]  # a cell with a line break is one row of a spreadsheet


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbftext;label\ngut, sehr;a\n", "text;label\ngut, sehr;a\n".encode("utf-16")]
)
def test_semicolons_and_byte_order_marks(write, content):
    found, _ = columns(write("a.csv", content))
    assert found == {"text": ["gut, sehr"], "label": ["a"]}


@pytest.mark.parametrize(
    ("header", "mark"), [("a,b", ","), ("a;b", ";"), ("a\tb", "\t"), ("a|b", "|"), ('"a,b";c', ";"), ("a", ",")]
)
def test_sniffing(header, mark):
    assert sniff_delimiter(header + "\nx,y;z\n") == mark


def test_blank_lines_are_no_rows_but_count(write):
    found, rows = columns(write("a.csv", "text,label\n\nx,a\n\n\ny,b\n"))
    assert found["text"] == ["x", "y"]
    assert rows == [3, 6]


def test_tsv_with_stray_quotes(write):
    found, _ = columns(write("a.tsv", 'text\tlabel\n"half a quote\ta\n5" nails\tb\n'))
    assert found["text"] == ['"half a quote', '5" nails']


def test_long_cells(write):
    found, _ = columns(write("a.csv", "text,label\n" + "x" * 200_000 + ",a\n"))
    assert len(found["text"][0]) == 200_000


def test_gzip(write):
    found, _ = columns(write("a.csv.gz", gzip.compress(b"text,label\nx,a\n")))
    assert found["label"] == ["a"]


def test_jsonl_keeps_types_and_numbers_lines(write):
    data = write("a.jsonl", '{"text": "x", "id": 123456789012345678901}\n\n{"text": null, "label": true}\r\n')
    found, rows = columns(data)
    assert found == {"text": ["x", None], "id": [123456789012345678901, None], "label": [None, True]}
    assert rows == [1, 3]


def test_parquet_keeps_integers_beside_gaps(tmp_path: Path):
    table = pa.table({"id": pa.array([2**62 + 1, None]), "text": ["x", None], "__index_level_0__": [0, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    found, rows = columns(str(tmp_path / "a.parquet"))
    assert found == {"id": [2**62 + 1, None], "text": ["x", None]}
    assert rows == [2, 3]


WRONG = {
    "nothing": ("a.csv", b"", "is empty"),
    "blank": ("a.csv", b" \n\n", "is empty"),
    "header only": ("a.csv", b"text,label\n", "a header and no rows"),
    "ragged": ("a.csv", b'text,label\n"x\ny",a\nx,b,c\n', "row 3: 3 cells where the header has 2 (line 4 of the file)"),
    "short": ("a.csv", b"text,label\nx\n", "row 2: 1 cells where the header has 2"),
    "open quote": ("a.csv", b'text,label\nx,a\n"y,b\nz,c\n', "row 3: the quotes around a cell do not pair up (line 3"),
    "NUL bytes": ("a.csv", b"text,label\nx,a\n\x00\x00,b\n", "NUL byte in line 3"),
    "twice": ("a.csv", b"text,label,text\nx,a,y\n", "the column 'text' is there more than once"),
    "latin": ("a.csv", b"text,label\nx,a\ncaf\xe9,b\n", "byte 0xe9 at offset 18 (line 3) is not UTF-8"),
    "latin behind a mark": ("a.csv", b"\xef\xbb\xbftext\n\xe9", "byte 0xe9 at offset 8 (line 2) is not UTF-8"),
    "no gzip": ("a.csv.gz", b"text,label\n", "not a whole gzip file"),
    "cut gzip": ("a.csv.gz", gzip.compress(b"text,label\nx,a\n")[:-9], "not a whole gzip file"),
    "broken line": ("a.jsonl", b'{"text": "x"}\n{"text": \n', "row 2: not JSON"),
    "no object": ("a.jsonl", b'{"text": "x"}\n["x"]\n', "row 2: a JSON list where an object was expected"),
    "no keys": ("a.jsonl", b"{}\n", "no keys"),
    "surrogate": ("a.jsonl", b'{"text": "\\ud800"}\n', "row 1: half of a surrogate pair"),
    "no parquet": ("a.parquet", b"text,label\nx,a\n", "not a whole Parquet file"),
    "sheet": ("a.xlsx", b"PK", "Save the sheet as CSV"),
    "json": ("a.json", b"[]", "One JSON object per line is .jsonl"),
    "no ending": ("table", b"x", "not a kind of file that warmstart reads"),
}


@pytest.mark.parametrize(("name", "content", "says"), WRONG.values(), ids=WRONG.keys())
def test_broken_files(write, name, content, says):
    data = write(name, content)
    with pytest.raises(DataError) as caught:
        read_sources(data)
    assert says in str(caught.value)
    assert data in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cut_parquet(tmp_path: Path):
    pd.DataFrame({"text": ["x"] * 100}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        read_sources(str(tmp_path / "b.parquet"))


def test_a_missing_file_names_its_neighbours(write, tmp_path: Path):
    write("reviews.csv", "text,label\nx,a\n")
    with pytest.raises(DataError, match=r"no such file or folder.*Did you mean .*reviews\.csv"):
        read_sources(str(tmp_path / "review.csv"))
    with pytest.raises(DataError, match="there is no folder"):
        read_sources(str(tmp_path / "nowhere" / "review.csv"))


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5),
    ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
)
def test_what_is_written_is_read_again(tmp_path_factory, rows, ending):
    frame = pd.DataFrame({"text": [row[0] for row in rows], "label": [row[1] for row in rows]}, dtype=object)
    path = tmp_path_factory.mktemp("rows") / f"a{ending}"
    write_table(frame, str(path), overwrite=False)
    empty = {"": None} if ending in (".csv", ".tsv") else {}
    found, _ = columns(str(path))
    assert found == {name: [empty.get(value, value) for value in frame[name]] for name in frame}


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_table_or_a_clear_error(text):
    try:
        frame, rows = read_delimited("text,label\n" + text, "a.csv", tabs=False)
    except DataError:
        return
    assert len(frame) == len(rows) > 0
    assert list(frame) == ["text", "label"]
