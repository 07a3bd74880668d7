"""Comma- and tab-separated text to a table of strings, with every row's number.

Only an empty cell is missing: `NA`, `None` and `null` are texts like any other, and `007` stays `007`. Reading and
decoding the file is left to `tables`.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from warmstart.core.errors import DataError

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class _Record(NamedTuple):
    row: int  # as a spreadsheet counts
    line: int  # the record's last line in the file
    fields: list[str]


def read_delimited(text: str, name: str, *, tabs: bool) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Parse a whole table.

    Args:
        text: the decoded file.
        name: the file, for messages.
        tabs: whether cells are separated by tabs. A tab-separated table whose quotes do not pair up is read again with
            quotes as ordinary characters.

    Returns:
        The columns (objects: `str` or None) and the row numbers; the header is row 1 and blank lines count.

    Raises:
        DataError: for NUL bytes, ragged rows, an open quote, a repeated column name, no header, or no rows.
    """
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise DataError(
            f"there is a NUL byte in line {line}: the file is damaged, or no text", remedy="Save it again.", file=name
        )
    delimiter = "\t" if tabs else sniff_delimiter(text)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        return _table(_records(text, name, delimiter, csv.QUOTE_MINIMAL), name)
    except DataError as first:
        if not tabs or '"' not in text:
            raise
        try:
            return _table(_records(text, name, delimiter, csv.QUOTE_NONE), name)
        except DataError:
            raise first from None
    finally:
        csv.field_size_limit(limit)


def sniff_delimiter(text: str) -> str:
    """The delimiter that the header uses: a comma if it has one outside quotes, else `;`, a tab or `|`."""
    header = _QUOTED.sub("", text.lstrip("\r\n").split("\n", 1)[0])
    return next((mark for mark in ",;\t|" if mark in header), ",")


def check_names(columns: list[str], name: str) -> None:
    """Refuse column names that are there twice.

    Raises:
        DataError: naming them.
    """
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(
            f"the column {', '.join(map(repr, twice))} is there more than once",
            remedy="Give every column its own name.",
            file=name,
        )


def _records(text: str, name: str, delimiter: str, quoting: Literal[0, 3]) -> Iterator[_Record]:
    strict = quoting != csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=strict)
    row = 0
    while True:
        row += 1
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = f"the quotes around a cell do not pair up (line {start} of the file: {error})"
            raise DataError(what, remedy='Write a quote inside quotes twice: "".', file=name, row=row) from None
        if fields:
            yield _Record(row, reader.line_num, fields)


def _table(records: Iterator[_Record], name: str) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    header = next(records, None)
    if header is None:
        raise DataError("the file is empty", file=name)
    check_names(header.fields, name)
    width = len(header.fields)
    rows: list[int] = []
    cells: list[list[str]] = []
    for record in records:
        if len(record.fields) != width:
            raise DataError(
                f"{len(record.fields)} cells where the header has {width} (line {record.line} of the file)",
                remedy="Put quotes around cells that hold the delimiter or a line break.",
                file=name,
                row=record.row,
            )
        rows.append(record.row)
        cells.append(record.fields)
    if not rows:
        raise DataError("the file has a header and no rows", file=name)
    columns = {
        column: pd.Series([fields[place] or None for fields in cells], dtype=object)
        for place, column in enumerate(header.fields)
    }
    return pd.DataFrame(columns), np.asarray(rows, dtype=np.int64)
