"""One side of a task: a source seen through its roles, and the dataset that comes of it.

Labels and texts are read out once; pictures are opened once and stay where they are. Judging the rows is left to
`checks`, choosing among them to `splits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
from numpy.typing import NDArray

from warmstart.core.errors import DataError
from warmstart.data.cells import Where, cells, label_strings, text_strings
from warmstart.data.columns import Roles, require
from warmstart.data.duplicates import Sameness, same_pictures, same_texts
from warmstart.data.pictures import Probe, picture_column, probe_all
from warmstart.data.sources import Source

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """A source's rows by role; every sequence is as long as the source.

    Attributes:
        source: where they come from.
        roles: which column is what.
        labels: as strings; None where missing, and everywhere when the roles name no label.
        texts: one tuple a row: a text, or two; empty for pictures.
        pictures: the undecoded column "image", for pictures.
        probes: what each picture is, for pictures.
    """

    source: Source
    roles: Roles
    labels: Sequence[str | None]
    texts: Sequence[tuple[str, ...]]
    pictures: datasets.Dataset | None
    probes: Sequence[Probe]

    def where(self, role: str, positions: Positions | None = None) -> Where:
        """The place of a role's column, of all rows or of some."""
        rows = self.source.rows if positions is None else self.source.rows[positions]
        return Where(self.source.name, self.roles.columns.get(role, ""), rows)

    def labels_at(self, positions: Positions) -> list[str]:
        """Labels of rows that have one."""
        found = [self.labels[place] for place in positions.tolist()]
        return [label for label in found if label is not None]

    def digest_of(self, place: int) -> bytes:
        """What a row's input is, without its place on any disk."""
        if self.pictures is not None:
            return self.probes[place].digest.encode()
        return b"\x1f".join(text.encode("utf-8", "surrogatepass") for text in self.texts[place])


def read_side(source: Source, roles: Roles) -> Side:
    """Read labels and inputs out of a source, and open its pictures.

    Raises:
        DataError: when a column is not there, or a cell holds a structure.
    """
    require(roles.columns.values(), source)
    labels: Sequence[str | None] = [None] * len(source.rows)
    if "label" in roles.columns:
        labels = label_strings(role_values(source, roles, "label"), _where(source, roles, "label"))
    if roles.modality == "image":
        pictures = picture_column(source, roles.columns["image"])
        return Side(source, roles, labels, (), pictures, probe_all(pictures))
    columns = [text_strings(role_values(source, roles, role), _where(source, roles, role)) for role in roles.inputs]
    return Side(source, roles, labels, list(zip(*columns, strict=True)), None, ())


def sameness(side: Side, positions: Positions, other: Side | None = None, others: Positions | None = None) -> Sameness:
    """Which rows are the same input: some of one side, followed by some of another."""
    parts = [(side, positions)] + ([(other, others)] if other is not None and others is not None else [])
    if side.pictures is not None:
        return same_pictures([part.probes[place] for part, places in parts for place in places.tolist()])
    return same_texts([part.texts[place] for part, places in parts for place in places.tolist()])


def inputs(side: Side, positions: Positions) -> datasets.Dataset:
    """The inputs of some rows: "text", "text" and "text_pair", or "image" (decoded when it is looked at)."""
    if side.pictures is not None:
        lazily = side.pictures.cast_column("image", datasets.Image())
        return lazily if len(positions) == len(lazily) else lazily.select(positions)
    rows = [side.texts[place] for place in positions.tolist()]
    columns = {role: [row[place] for row in rows] for place, role in enumerate(side.roles.inputs)}
    return datasets.Dataset.from_dict(
        columns, features=datasets.Features({role: datasets.Value("string") for role in columns})
    )


def labelled(side: Side, positions: Positions, names: Sequence[str]) -> datasets.Dataset:
    """Inputs, "label" (the id of the label among `names`) and "row" (its number in the source) of some rows."""
    ids = {name: place for place, name in enumerate(names)}
    if side.pictures is None:
        found = inputs(side, positions)
        found = _with(found, "label", [ids[label] for label in side.labels_at(positions)])
        return _with(found, "row", side.source.rows[positions].tolist())
    # The columns go beside the pictures before rows are selected: the other way round would copy every picture.
    found = side.pictures.cast_column("image", datasets.Image())
    found = _with(found, "label", [-1 if label is None else ids.get(label, -1) for label in side.labels])
    return _with(found, "row", side.source.rows.tolist()).select(positions)


def _with(dataset: datasets.Dataset, name: str, values: list[int]) -> datasets.Dataset:
    return dataset.add_column(name, values, feature=datasets.Value("int64"))


def role_values(source: Source, roles: Roles, role: str) -> list[object]:
    """The cells of a role's column.

    Raises:
        DataError: when it is a column of pictures.
    """
    column = roles.columns[role]
    if column not in source.frame.columns:
        what = f"the column holds images, which cannot be the {role.replace('_', ' ')}"
        raise DataError(what, remedy="Name another column.", file=source.name, column=column)
    return cells(source.frame[column])


def _where(source: Source, roles: Roles, role: str) -> Where:
    return Where(source.name, roles.columns[role], source.rows)
