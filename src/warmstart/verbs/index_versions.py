"""`index versions`: what was published, and which of it serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmstart.core.errors import ResultError
from warmstart.core.option import verb
from warmstart.core.records import Record
from warmstart.core.serving_options import IndexVersionsOptions
from warmstart.retrieve.bundle import read_manifest
from warmstart.retrieve.versions import Serving


@dataclass(frozen=True)
class VersionRow(Record):
    """One version; without figures where its manifest cannot be read."""

    version: str
    is_current: bool
    created: str
    vectors: int
    ranker: bool
    recall: float
    note: str


@dataclass(frozen=True)
class VersionList(Record):
    """Every version, the oldest first."""

    serving: str
    versions: tuple[VersionRow, ...]


@verb(IndexVersionsOptions)
def index_versions(options: IndexVersionsOptions) -> VersionList:
    """List the versions of a folder that serves; their files are not checked.

    Raises:
        ResultError: nothing was published there.
    """
    serving = Serving(Path(options.serving).expanduser())
    pointer = serving.pointer()
    rows = []
    for name in serving.names():
        current = name == pointer.current
        try:
            found = read_manifest(serving.place(name))
        except ResultError as error:
            rows.append(VersionRow(name, current, "", 0, False, float("nan"), str(error)))
            continue
        note = "current" if current else "can be gone back to" if name in pointer.before else "rolled back"
        rows.append(VersionRow(name, current, found.created, found.vectors, found.ranker, found.recall, note))
    return VersionList(str(serving.folder), tuple(rows))
