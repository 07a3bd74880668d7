"""Files of events: the tables that `tables` reads, samples, and bare `user item [time]` lines without a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from warmstart.core.errors import DataError
from warmstart.data import samples, tables
from warmstart.data.sources import Source

_BARE = ("user", "item", "time")


def read_events(data: str, option: str) -> Source:
    """Read a table of events, items or users.

    Args:
        data: a file, or the name of a sample.
        option: what names it on the command line, for messages.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    if not data.strip():
        raise DataError(f"{option} is empty", remedy="Name a file.")
    if data.startswith("sample:"):
        name = data.removeprefix("sample:")
        return tables.read_table(samples.fetch_sample(name), data)
    path = Path(data).expanduser()
    if path.is_dir():
        raise DataError("this is a folder", remedy=f"{option} must name a file.", file=data)
    if not path.is_file():
        raise tables.not_found(path, data)
    if path.suffix.lower() == ".txt":
        return _bare(path, data)
    return tables.read_table(path, data)


def _bare(path: Path, name: str) -> Source:
    """Lines of two or three words: user, item, and perhaps a time; without a time the oldest come first."""
    try:
        text = tables.decode(path.read_bytes(), name)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file=name) from None
    rows, records = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if words:
            rows.append(number)
            records.append(words)
    if not records:
        raise DataError("the file is empty", file=name)
    width = len(records[0])
    if width not in (2, 3):
        raise DataError(
            f"{width} words in a line, where user, item and perhaps a time were expected",
            remedy="Write other tables as .csv or .tsv with a header.",
            file=name,
            row=rows[0],
        )
    for number, words in zip(rows, records, strict=True):
        if len(words) != width:
            raise DataError(f"{len(words)} words where the first line has {width}", file=name, row=number)
    columns = {
        column: pd.Series([words[place] for words in records], dtype=object)
        for place, column in enumerate(_BARE[:width])
    }
    return Source(pd.DataFrame(columns), np.asarray(rows, dtype=np.int64), name, folder=path.parent)
