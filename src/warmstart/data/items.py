"""A table of items, or a folder of images, to encode: ids, what an encoder reads, titles, and a digest of each row.

The readers and checks are those of every other table; only what makes a row an item is here: an id of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.core.encode_options import IndexEncodeOptions
from warmstart.core.option import handed_over
from warmstart.core.records import Finding
from warmstart.data import checks, folders
from warmstart.data.cells import Where, cells, label_strings, text_strings
from warmstart.data.checks import Problem
from warmstart.data.columns import input_roles, require
from warmstart.data.event_files import read_events
from warmstart.data.hub import from_dataset, is_saved
from warmstart.data.pictures import names_of
from warmstart.data.reading import read_one
from warmstart.data.role_names import guess_role, id_column
from warmstart.data.screening import settle
from warmstart.data.sides import Side, inputs, read_side
from warmstart.data.sources import Source

_DIGEST = 16  # bytes


@dataclass(frozen=True)
class ItemRows:
    """Items that can be encoded.

    Attributes:
        ids: (items,), each once.
        titles: (items,), or None where no column says what to call them.
        lengths: (items,), characters; zeros for images.
        columns: role → column.
        guessed: the roles whose columns were guessed.
        modality: text, pair or image.
        findings: what is odd, and what was left out.
        dropped: rows that were left out.
        source: what was read.
    """

    ids: list[str]
    titles: list[str] | None
    lengths: np.ndarray
    columns: dict[str, str]
    guessed: tuple[str, ...]
    modality: str
    findings: tuple[Finding, ...]
    dropped: int
    source: str
    _side: Side
    _positions: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: np.ndarray) -> Mapping[str, Sequence[Any]]:
        """What an encoder reads of some items: "text", with "text_pair" where there are two, or "image"."""
        found = inputs(self._side, self._positions[rows])
        return {name: found[name] if name == "image" else list(found[name]) for name in found.column_names}

    def digests(self, salt: bytes) -> list[bytes]:
        """A digest of each item's input, different for every salt."""
        begun = hashlib.blake2b(salt, digest_size=_DIGEST)
        out = []
        for place in self._positions.tolist():
            own = begun.copy()
            own.update(self._side.digest_of(place))
            out.append(own.digest())
        return out


def load_items(options: IndexEncodeOptions) -> ItemRows:
    """Read and check.

    Raises:
        DataError: a file or column is not there, or rows cannot be used.
        SettingError: columns are named twice.
    """
    assert options.data is not None
    source = _read(options.data)
    ids_in = _id_column(source, options)
    named = {role: getattr(options, f"{role}_column") for role in ("text", "text_pair", "image")}
    roles = input_roles(source, named, ids_in)
    title = options.title_column or guess_role(source, "title", {ids_in}, needed=False)
    require([] if title is None else [title], source)
    side = read_side(source, roles)
    ids = label_strings(cells(source.frame[ids_in]), Where(source.name, ids_in, source.rows))
    problems = _problems(side, ids, ids_in)
    offenders = [problem.offenders for problem in problems]
    removed = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *offenders]))
    findings = settle(problems, len(removed), drop_invalid=options.drop_invalid)
    kept = np.setdiff1d(np.arange(len(ids)), removed)
    if not len(kept):
        findings = settle([_none_left(source)], 0, drop_invalid=False)
    guessed = (*(("id",) if options.id_column is None else ()), *roles.guessed)
    guessed += ("title",) if title is not None and options.title_column is None else ()
    lengths = np.array([sum(map(len, texts)) for texts in side.texts] or np.zeros(len(ids)), dtype=np.int64)
    return ItemRows(
        ids=[str(ids[place]) for place in kept.tolist()],
        titles=None if title is None else _titles(source, title, kept),
        lengths=lengths[kept],
        columns={"id": ids_in, **roles.columns, **({} if title is None else {"title": title})},
        guessed=guessed,
        modality=roles.modality,
        findings=(*source.notes, *findings),
        dropped=len(removed),
        source=options.data,
        _side=side,
        _positions=kept,
    )


def load_queries(data: str, text_column: str | None, image_column: str | None) -> Mapping[str, Sequence[Any]]:
    """Rows that are compared with items: "text" or "image" of each.

    Raises:
        DataError: a file or column is not there, or a row is empty or broken.
        SettingError: both columns are named.
    """
    source = _read(data)
    roles = input_roles(source, {"text": text_column, "image": image_column}, "")
    side = read_side(source, roles)
    problems = _unreadable(side)
    settle([replace(problem, droppable=False) for problem in problems], 0, drop_invalid=False)
    found = inputs(side, np.arange(len(source.rows)))
    role = roles.inputs[0]
    return {role: found[role] if role == "image" else list(found[role])}


def _read(data: str) -> Source:
    given = handed_over(data)
    if given is not None:
        return from_dataset(given, data).main
    path = Path(data).expanduser()
    if data.startswith("sample:"):
        return read_events(data, "--data")
    if path.is_dir() and not is_saved(path):
        return folders.read_flat(path, data)
    return read_one(data)


def _id_column(source: Source, options: IndexEncodeOptions) -> str:
    if options.id_column is not None:
        require([options.id_column], source)
        return options.id_column
    if source.columns == [folders.IMAGE]:
        return folders.IMAGE  # a folder of images: the path in it
    return id_column(source, "item", "--id-column")


def _titles(source: Source, column: str, kept: np.ndarray) -> list[str]:
    found = text_strings(cells(source.frame[column]), Where(source.name, column, source.rows))
    return [found[place] for place in kept.tolist()]


def _problems(side: Side, ids: Sequence[str | None], column: str) -> list[Problem]:
    where = Where(side.source.name, column, side.source.rows)
    found = checks.missing_ids(ids, where) + checks.repeated_ids(ids, where)
    return found + _unreadable(side)


def _unreadable(side: Side) -> list[Problem]:
    found = []
    if side.pictures is not None:
        wrong = [probe.problem for probe in side.probes]
        found += checks.broken_images(wrong, names_of(side.pictures, np.flatnonzero(wrong)), side.where("image"))
    for place, role in enumerate(side.roles.inputs if side.pictures is None else ()):
        found += checks.empty_texts([row[place] for row in side.texts], side.where(role))
    return found


def _none_left(source: Source) -> Problem:
    return Problem(Finding("no_items", "stop", "no usable row is left", file=source.name), np.zeros(0, dtype=np.int64))
