"""Tables out: CSV, TSV, JSONL or Parquet by the file's ending, whole or not at all.

What stands in the table is left to the caller.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

from warmstart.core.errors import OutputError
from warmstart.data.cells import cells

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


def check_table_path(path: str, overwrite: bool) -> None:
    """Refuse, before any work is done, a table that could not be written.

    Raises:
        OutputError: for an ending that is not known, a folder that is not there, or a file that already is.
    """
    target = Path(path).expanduser()
    if target.suffix.lower() not in ENDINGS:
        raise OutputError(f"{path}: not a kind of file that warmstart writes; end it in {', '.join(ENDINGS)}.")
    if target.is_dir():
        raise OutputError(f"{path} is a folder; name a file.")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {str(target.parent)!r}; create it first.")
    if target.exists() and not overwrite:
        raise OutputError(f"{path} exists; --overwrite replaces it.")


def write_table(frame: pd.DataFrame, path: str, overwrite: bool) -> None:
    """Write a table into a temporary file beside `path`, then move it there in one step.

    Raises:
        OutputError: as `check_table_path`, and when the disk or the values refuse; `path` is then as it was.
    """
    check_table_path(path, overwrite)
    target = Path(path).expanduser()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from error
    part = Path(name)
    try:
        _write(frame, part, target.suffix.lower())
        _settle(part, target, overwrite)
    except (OSError, pa.ArrowException, UnicodeEncodeError) as error:
        raise OutputError(f"{path}: cannot be written ({error}).") from error
    finally:
        part.unlink(missing_ok=True)


def _settle(part: Path, target: Path, overwrite: bool) -> None:
    with part.open("rb") as written:
        os.fsync(written.fileno())
    mask = os.umask(0)
    os.umask(mask)
    part.chmod(0o666 & ~mask)  # mkstemp's own 0600 would surprise
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; --overwrite replaces it.")
    part.replace(target)


def _write(frame: pd.DataFrame, part: Path, ending: str) -> None:
    if ending == ".parquet":
        frame.to_parquet(part, index=False)
    elif ending == ".jsonl":
        _write_lines(frame, part)
    else:
        # Python's writer leaves a lone carriage return unquoted, which a reader then takes for the end of the row.
        texts = frame.select_dtypes(include=["object", "string"])
        risky = any(isinstance(value, str) and "\r" in value for name in texts for value in cells(texts[name]))
        quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if risky else csv.QUOTE_MINIMAL
        separator = "\t" if ending == ".tsv" else ","
        frame.to_csv(part, index=False, sep=separator, quoting=quoting, lineterminator="\n", encoding="utf-8")


def _write_lines(frame: pd.DataFrame, part: Path) -> None:
    columns = [cells(frame.iloc[:, place]) for place in range(frame.shape[1])]
    names = [str(name) for name in frame.columns]
    with part.open("w", encoding="utf-8", newline="\n") as file:
        for values in zip(*columns, strict=True):
            record = dict(zip(names, values, strict=True))
            file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
