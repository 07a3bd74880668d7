"""A task: labelled rows, rows to judge by, and the card that says what they are.

`load_task` reads, assigns the columns, screens and splits, each by its own module. Rows without labels are left to
`prediction`, everything about models to other rooms.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import datasets
import numpy as np
from numpy.typing import NDArray

from warmstart.core.errors import DataError, SettingError
from warmstart.core.options import DataOptions
from warmstart.core.records import Finding, TaskCard
from warmstart.data import checks, hub
from warmstart.data.cells import Where, label_strings, sorted_labels
from warmstart.data.columns import Roles, assign_roles
from warmstart.data.duplicates import joined, numbered
from warmstart.data.fingerprint import fingerprint
from warmstart.data.prediction import inputs_for_prediction
from warmstart.data.reading import read_one, read_sources
from warmstart.data.screening import Screened, screen
from warmstart.data.sides import Positions, Side, labelled, read_side, role_values
from warmstart.data.sources import Source
from warmstart.data.splits import as_count, choose, subsample
from warmstart.data.writing import write_table

__all__ = ["Task", "inputs_for_prediction", "load_task", "write_table"]  # what other rooms need of this one

_SHORT = 0.1  # share by which a split may miss its size without a word
_WHY_NONE = "rows of one group, and rows with the same input, stay together, and every class keeps a row to learn from."


@dataclass(frozen=True)
class Task:
    """Rows to learn from and rows to judge by.

    Attributes:
        card: what they are.
        labelled: inputs ("text", "text" and "text_pair", or "image"), "label" (id into `card.labels`) and "row" (its
            number in the source).
        test: the same columns.
        groups: the group of each labelled row, when a group column was named.
        units: labelled rows with equal numbers stay on one side of a split: their group's, and those with the same
            input.
    """

    card: TaskCard
    labelled: datasets.Dataset
    test: datasets.Dataset
    groups: NDArray[np.int64] | None
    units: NDArray[np.int64]

    @property
    def together(self) -> NDArray[np.int64] | None:
        """The unit of each labelled row, for cross-validation to hold out whole; None where no row shares its own."""
        different = len(np.unique(self.units))
        alone = different == len(self.units) or (different < 2 and self.groups is None)
        return None if alone else self.units

    def split(self, validation_size: float, seed: int) -> tuple[datasets.Dataset, datasets.Dataset]:
        """Split the labelled rows into those to fit and those to choose settings by.

        Stratified, whole units at a time, the same for the same seed. Every class keeps a row to fit.

        Args:
            validation_size: a count, or a fraction below 1.
            seed: of the draw.

        Raises:
            SettingError: when there are not enough rows.
        """
        labels = np.asarray(self.labelled["label"], dtype=np.int64)
        count = as_count(validation_size, len(labels), "--validation-size")
        chosen = choose(labels, self.units, count, seed, "validation")
        if not len(chosen):
            raise SettingError(f"none of {len(labels)} labelled rows can be spared for --validation-size: {_WHY_NONE}")
        rest = np.setdiff1d(np.arange(len(labels)), chosen)
        return self.labelled.select(rest), self.labelled.select(chosen)


def load_task(options: DataOptions, dataset: datasets.Dataset | datasets.DatasetDict | None = None) -> Task:
    """Read the data, assign the columns, check every row, and split.

    Args:
        options: where the rows are, what the columns mean, how to split.
        dataset: rows that are in memory already; `options.data` then only names them.

    Raises:
        DataError: when the data cannot be read, a column cannot be told, or a check stops the run.
        SettingError: when a size asks for more rows than there are, or options contradict each other.
    """
    sources = read_sources(options.data) if dataset is None else hub.from_dataset(dataset, options.data or "dataset")
    judge = sources.test if options.test_data is None else read_one(options.test_data)
    roles = assign_roles(sources.main, options, sources.defaults)
    side = read_side(sources.main, roles)
    test = None if judge is None else read_side(judge, _without_group(roles))
    screened = screen(side, test, drop_invalid=options.drop_invalid)
    groups = _groups(side.source, roles)
    units, unit_findings = _units(side, screened, groups)
    if test is None or screened.test is None:
        learn, judged, said = _set_aside(side, screened.labelled, units, options)
        test = side
    else:
        learn, judged, said = screened.labelled, screened.test, ()
    learn = _shorten(side, learn, options)
    parts = {"labelled": (side, learn), "test": (test, judged)}
    card = _card(options, roles, parts, (*screened.findings, *unit_findings, *said), screened.dropped)
    of_row = np.full(len(side.source.rows), -1, dtype=np.int64)
    of_row[screened.labelled] = units
    return Task(
        card=card,
        labelled=labelled(side, learn, card.labels),
        test=labelled(test, judged, card.labels),
        groups=None if groups is None else groups[learn],
        units=of_row[learn],
    )


def _without_group(roles: Roles) -> Roles:
    columns = {role: column for role, column in roles.columns.items() if role != "group"}
    return Roles(roles.modality, columns, roles.guessed)


def _groups(source: Source, roles: Roles) -> NDArray[np.int64] | None:
    """The group of each row of the source; a row without one is a group of its own."""
    if "group" not in roles.columns:
        return None
    where = Where(source.name, roles.columns["group"], source.rows)
    values = label_strings(role_values(source, roles, "group"), where)
    return numbered([("", place) if value is None else ("group", value) for place, value in enumerate(values)])


def _units(
    side: Side, screened: Screened, groups: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], tuple[Finding, ...]]:
    """What stays together among the screened rows, and what there is to say about it."""
    same, where = screened.same, side.where(side.roles.inputs[0], screened.labelled)
    alone = np.arange(len(screened.labelled))
    units = joined(same, alone if groups is None else groups[screened.labelled])
    said = checks.straddling_inputs(same.near, units, where) or checks.repeated_inputs(same.near, where)
    return units, tuple(problem.finding for problem in said)


def _set_aside(
    side: Side, positions: Positions, units: NDArray[np.int64], options: DataOptions
) -> tuple[Positions, Positions, tuple[Finding, ...]]:
    """Choose the rows to judge by. Neither --train-size nor anything else but the seed and --test-size moves them."""
    labels = side.labels_at(positions)
    count = as_count(options.test_size, len(positions), "--test-size")
    chosen = choose(numbered(labels), units, count, options.seed, "test")
    if not len(chosen):
        raise DataError(
            f"none of {len(positions)} rows can be set aside to judge by: {_WHY_NONE}",
            remedy="Give rows to judge by with --test-data.",
            file=side.source.name,
        )
    rest = np.setdiff1d(np.arange(len(positions)), chosen)
    where = side.where("label", positions)
    judged = [labels[place] for place in chosen.tolist()]
    said = [problem.finding for problem in checks.untested_classes(labels, judged, where)]
    if abs(len(chosen) - count) > max(1.0, _SHORT * count):
        message = f"{len(chosen)} rows to judge by where --test-size asks for {count}, because units stay whole"
        said.append(Finding("split_size", "warn", message, file=side.source.name))
    return positions[rest], positions[chosen], tuple(said)


def _shorten(side: Side, positions: Positions, options: DataOptions) -> Positions:
    """Keep as many rows to learn from as --train-size asks for."""
    if options.train_size is None:
        return positions
    count = as_count(options.train_size, len(positions), "--train-size")
    return positions[subsample(numbered(side.labels_at(positions)), count, options.seed)]


def _card(
    options: DataOptions,
    roles: Roles,
    parts: dict[str, tuple[Side, Positions]],
    findings: tuple[Finding, ...],
    dropped: int,
) -> TaskCard:
    split_labels = {name: side.labels_at(positions) for name, (side, positions) in parts.items()}
    names = sorted_labels(label for labels in split_labels.values() for label in labels)
    counts = {name: Counter(labels) for name, labels in split_labels.items()}
    return TaskCard(
        source=options.data,
        modality=roles.modality,
        columns=roles.columns,
        guessed=roles.guessed,
        labels=names,
        sizes={name: len(labels) for name, labels in split_labels.items()},
        counts={split: {name: counted[name] for name in names} for split, counted in counts.items()},
        findings=findings,
        dropped=dropped,
        seed=options.seed,
        fingerprint=fingerprint(roles, names, parts),
    )
