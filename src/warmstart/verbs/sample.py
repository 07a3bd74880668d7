"""`sample`: a sample data set out of a published package into a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmstart.core.errors import SettingError
from warmstart.core.option import verb
from warmstart.core.options import SampleOptions
from warmstart.core.records import Record
from warmstart.data.samples import sample_frame
from warmstart.data.task import write_table
from warmstart.data.writing import check_table_path


@dataclass(frozen=True)
class SampleSummary(Record):
    """What was written."""

    output: str
    rows: int
    columns: tuple[str, ...]


@verb(SampleOptions)
def sample(options: SampleOptions) -> SampleSummary:
    """Write a sample to a file.

    Raises:
        SettingError: there is no such sample, or it has fewer rows.
        OutputError: the file exists.
    """
    target = Path(options.output).expanduser()
    check_table_path(str(target), options.overwrite)
    frame = sample_frame(options.name)
    if options.rows is not None:
        if options.rows > len(frame):
            raise SettingError(f"--rows is {options.rows}, but the sample has {len(frame)} rows.")
        frame = frame.sample(options.rows, random_state=options.seed).sort_index()
    write_table(frame, str(target), options.overwrite)
    return SampleSummary(str(target), len(frame), tuple(str(column) for column in frame.columns))
