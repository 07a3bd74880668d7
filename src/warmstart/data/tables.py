"""Files of rows: CSV, TSV, JSONL and Parquet, plain or (but for Parquet) gzipped.

Values are kept as they stand: integers of any size stay exact beside missing cells, and nothing but an empty cell or a
null is missing. What the columns mean is left to `columns`, what is wrong with the rows to `checks`.
"""

from __future__ import annotations

import difflib
import gzip
import io
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from warmstart.core.errors import DataError
from warmstart.data.delimited import check_names, read_delimited
from warmstart.data.sources import Source

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_HINTS = {
    ".json": "One JSON object per line is .jsonl.",
    ".xlsx": "Save the sheet as CSV (UTF-8).",
    ".xls": "Save the sheet as CSV (UTF-8).",
    ".txt": "Name it .tsv or .csv if its columns are separated by tabs or commas.",
    ".zip": "Unpack it first.",
}


def read_table(path: Path, name: str) -> Source:
    """Read one file by its ending.

    Args:
        path: the file; it exists.
        name: what messages call it.

    Raises:
        DataError: for a kind of file that is not known, and for everything that keeps it from being read whole.
    """
    inner, zipped = (path.with_suffix(""), True) if path.suffix.lower() == ".gz" else (path, False)
    ending = inner.suffix.lower()
    if ending not in ENDINGS or (zipped and ending == ".parquet"):
        raise DataError(
            f"not a kind of file that warmstart reads ({', '.join(ENDINGS)}; .csv.gz, .tsv.gz, .jsonl.gz)",
            remedy=_HINTS.get(ending, ""),
            file=name,
        )
    content = _content(path, name, zipped=zipped)
    if not content.strip():
        raise DataError("the file is empty", file=name)
    if ending == ".parquet":
        return read_parquet(content, path, name)
    text = decode(content, name)
    if ending in (".jsonl", ".ndjson"):
        return _read_lines(text, path, name)
    frame, rows = read_delimited(text, name, tabs=ending == ".tsv")
    return Source(frame, rows, name, folder=path.parent)


def read_parquet(content: bytes, path: Path, name: str) -> Source:
    """Read a Parquet file; the index that pandas writes beside the columns is no column."""
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"not a whole Parquet file ({_first_line(error)})", remedy="Write it again, or copy it again.", file=name
        ) from None
    if table.num_rows == 0:
        raise DataError("the file has columns and no rows", file=name)
    frame = arrow_frame(table, name)
    return Source(frame, np.arange(2, len(frame) + 2, dtype=np.int64), name, folder=path.parent)


def arrow_frame(table: pa.Table, name: str) -> pd.DataFrame:
    """An Arrow table as a frame that keeps Arrow's types (integers beside nulls stay exact)."""
    check_names(list(table.column_names), name)
    kept = [column for column in table.column_names if not re.fullmatch(r"__index_level_\d+__", column)]
    frame: pd.DataFrame = table.select(kept).to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    return frame


def decode(content: bytes, name: str) -> str:
    """UTF-8, with or without a byte-order mark, or UTF-16 with one.

    Raises:
        DataError: naming the first byte that is neither, its offset and its line.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        # The decoder counts from behind the byte-order mark.
        start = error.start + (3 if encoding == "utf-8-sig" and content.startswith(b"\xef\xbb\xbf") else 0)
        line = content[:start].count(b"\n") + 1
        expected = encoding.upper().removesuffix("-SIG")
        raise DataError(
            f"byte 0x{content[start]:02x} at offset {start} (line {line}) is not {expected}",
            remedy="Save the file as UTF-8; from Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEWFILE.",
            file=name,
        ) from None


def not_found(path: Path, name: str) -> DataError:
    """The error for a file or folder that is not there, with those nearby that have a similar name."""
    folder = path.parent
    if not folder.is_dir():
        return DataError(f"there is no folder {str(folder)!r}", file=name)
    close = close_names(path)
    remedy = f"Did you mean {' or '.join(close)}?" if close else ""
    return DataError("there is no such file or folder", remedy=remedy, file=name)


def close_names(path: Path) -> list[str]:
    """Paths in the same folder that have a similar name."""
    if not path.parent.is_dir():
        return []
    there = [entry.name for entry in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, there, n=3)
    return [str(path.parent / other) for other in close]


def _content(path: Path, name: str, *, zipped: bool) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if zipped and content else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"not a whole gzip file ({_first_line(error)})", file=name) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file=name) from None


def _read_lines(text: str, path: Path, name: str) -> Source:
    rows: list[int] = []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(number)
            records.append(_parse_line(line, name, number))
    columns = list(dict.fromkeys(key for record in records for key in record))
    if not columns:
        raise DataError("the objects have no keys", file=name)
    frame = pd.DataFrame({c: pd.Series([record.get(c) for record in records], dtype=object) for c in columns})
    return Source(frame, np.asarray(rows, dtype=np.int64), name, folder=path.parent)


def _parse_line(line: str, name: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if "\\u" in line:
            json.dumps(record, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        what = f"not JSON: {error.msg} at character {error.pos + 1}"
        raise DataError(what, remedy="Each line holds one JSON object.", file=name, row=number) from None
    except UnicodeEncodeError:
        what = "half of a surrogate pair (\\ud800 to \\udfff) is not text"
        raise DataError(what, file=name, row=number) from None
    except RecursionError:
        raise DataError("nested too deeply", file=name, row=number) from None
    if not isinstance(record, dict):
        what = f"a JSON {type(record).__name__} where an object was expected"
        raise DataError(
            what, remedy='Each line holds one object, such as {"text": "…", "label": "…"}.', file=name, row=number
        )
    return record


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
