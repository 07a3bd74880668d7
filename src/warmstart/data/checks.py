"""What can be wrong with labelled rows; each check is a function of the rows alone.

Which findings stop a run and which only warn (`--drop-invalid` leaves out the rows of those marked *):

| check | severity | when |
|---|---|---|
| missing_labels | stop * | an empty label |
| empty_texts | stop * | a text without a visible character |
| missing_ids | stop * | an empty id, where rows are items |
| repeated_ids | stop * | an id that an earlier row has, where rows are items |
| broken_images | stop * | an image that is not there, empty, damaged, without pixels, or no image |
| tiny_classes | stop * | fewer than 2 rows to learn a label from |
| unknown_labels | stop * | rows to judge by whose label no row to learn from has |
| leaks | stop * | a row to learn from with the very input of one to judge by, where both sides were given |
| one_class | stop | fewer than two labels |
| id_labels | stop | more than 20 labels, and more labels than half the rows |
| regression_target | stop | fractional numbers as labels, more than 20 of them or more than half the rows |
| near_leaks | warn | the same for inputs that are nearly the same (see `duplicates`) |
| repeated_inputs | warn | inputs that are there more than once, nearly; each set is kept on one side of every split |
| straddling_inputs | warn | such sets where keeping each on one side would tie more than a tenth of all rows together |
| conflicting_labels | warn | the very same input under different labels |
| case_twins | warn | labels that differ in capitals only |
| imbalance | warn | the largest class has 20 times the rows of the smallest, or more |
| untested_classes | warn | a label without a row to judge by |

Besides, `folders` warns of stray_images and empty_class_folders, and `task` of a split_size that whole groups missed by
more than a tenth.

When they run is left to `screening`, what happens then to `verdict`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from warmstart.core.records import Finding, Severity
from warmstart.data.cells import NUMBER, Where

_LISTED = 20  # rows that a finding lists
_DROP = "--drop-invalid leaves them out."
MANY_LABELS = 20
IMBALANCE = 20.0


@dataclass(frozen=True)
class Problem:
    """A finding, the positions of all rows it is about, and whether leaving those out mends it."""

    finding: Finding
    offenders: NDArray[np.int64]
    droppable: bool = False


def missing_labels(labels: Sequence[str | None], where: Where) -> list[Problem]:
    """Rows without a label."""
    missing = [place for place, label in enumerate(labels) if label is None]
    return _droppable("missing_labels", "the label is missing", missing, where)


def empty_texts(texts: Sequence[str], where: Where) -> list[Problem]:
    """Rows whose text shows nothing."""
    empty = [place for place, text in enumerate(texts) if not text.strip()]
    return _droppable("empty_texts", "the text is empty", empty, where)


def missing_ids(ids: Sequence[str | None], where: Where) -> list[Problem]:
    """Rows without an id."""
    return _droppable("missing_ids", "the id is missing", [p for p, name in enumerate(ids) if name is None], where)


def repeated_ids(ids: Sequence[str | None], where: Where) -> list[Problem]:
    """Rows whose id an earlier row has."""
    seen: set[str] = set()
    again = []
    for place, name in enumerate(ids):
        if name is not None and name in seen:
            again.append(place)
        elif name is not None:
            seen.add(name)
    named = _list([str(ids[place]) for place in again])
    return _droppable("repeated_ids", f"an earlier row has the id {named}", again, where)


def broken_images(problems: Sequence[str], names: Sequence[str], where: Where) -> list[Problem]:
    """Rows whose image cannot be used.

    Args:
        problems: what is wrong with each image; empty for a good one.
        names: the file of each image that has a problem.
        where: the place of the images.
    """
    broken = [place for place, problem in enumerate(problems) if problem]
    examples = [
        f"{name}: {problems[place]}" if name else problems[place] for place, name in zip(broken, names, strict=True)
    ]
    shown = "; ".join(examples[:3]) + ("; …" if len(examples) > 3 else "")
    return _droppable("broken_images", f"the image cannot be used ({shown})", broken, where)


def tiny_classes(labels: Sequence[str], where: Where) -> list[Problem]:
    """Rows whose label is there once only: nothing to split."""
    counts = Counter(labels)
    alone = [place for place, label in enumerate(labels) if counts[label] < 2]
    named = _list([labels[place] for place in alone])
    return _droppable("tiny_classes", f"only one row has the label {named}; a class needs 2", alone, where)


def unknown_labels(labels: Sequence[str], known: Sequence[str], where: Where) -> list[Problem]:
    """Rows to judge by whose label cannot be learned."""
    there = set(known)
    strange = [place for place, label in enumerate(labels) if label not in there]
    named = _list(sorted({labels[place] for place in strange}))
    return _droppable("unknown_labels", f"no row to learn from has the label {named}", strange, where)


def one_class(labels: Sequence[str], where: Where) -> list[Problem]:
    """Nothing to tell apart."""
    there = sorted(set(labels))
    if len(there) > 1:
        return []
    what = f"every row has the label {there[0]!r}" if there else "no usable row is left"
    return [_problem("one_class", "stop", what, [], where, "A classifier needs two labels or more.")]


def id_labels(labels: Sequence[str], where: Where) -> list[Problem]:
    """Labels that name the row rather than a class."""
    distinct = len(set(labels))
    if distinct <= MANY_LABELS or distinct <= len(labels) / 2:
        return []
    what = f"{distinct} different labels in {len(labels)} rows look like ids, not classes"
    return [_problem("id_labels", "stop", what, [], where, "Name another column with --label-column.")]


def regression_target(labels: Sequence[str], where: Where) -> list[Problem]:
    """Labels that measure rather than name."""
    distinct = set(labels)
    if not distinct or not all(NUMBER.fullmatch(label) for label in distinct):
        return []
    fractional = any(not float(label).is_integer() for label in distinct)
    if not fractional or not (len(distinct) > MANY_LABELS or len(distinct) > max(2, len(labels) / 2)):
        return []
    what = f"{len(distinct)} different fractional numbers look like a regression target, not classes"
    remedy = "warmstart learns classes: sort the numbers into a few ranges, or name another column with --label-column."
    return [_problem("regression_target", "stop", what, [], where, remedy)]


def leaks(
    learned: NDArray[np.int64], judged: NDArray[np.int64], where: Where, judge: Where, *, exact: bool
) -> list[Problem]:
    """Rows to learn from that also stand among those to judge by, where the user gave both sides.

    Args:
        learned: number of the input of each row to learn from; equal inputs have equal numbers.
        judged: the same for the rows to judge by.
        where: the place of the rows to learn from.
        judge: the place of the rows to judge by.
        exact: whether equal numbers mean the very same input, or nearly the same.
    """
    both = np.flatnonzero(np.isin(learned, judged)).tolist()
    if not both:
        return []
    first = int(judge.rows[np.flatnonzero(judged == learned[both[0]])[0]])
    example = f"row {int(where.rows[both[0]])} is row {first} there"
    if exact:
        what = f"the same input stands in {judge.file}, which is to judge by ({example})"
        return [
            _problem("leaks", "stop", what, both, where, "--drop-invalid leaves them out of training.", droppable=True)
        ]
    what = f"nearly the same input stands in {judge.file}, which is to judge by ({example})"
    return [_problem("near_leaks", "warn", what, both, where, "The scores may be too good.")]


def repeated_inputs(near: NDArray[np.int64], where: Where) -> list[Problem]:
    """Inputs that are there more than once, nearly."""
    counts = np.bincount(near) if len(near) else np.zeros(0, dtype=np.int64)
    repeated = np.flatnonzero(counts[near] > 1).tolist()
    what = f"inputs that are the same, or nearly ({int((counts > 1).sum())} sets)"
    return _warning("repeated_inputs", what, repeated, where, "Each set is kept on one side of a split.")


def straddling_inputs(near: NDArray[np.int64], units: NDArray[np.int64], where: Where) -> list[Problem]:
    """The same input in several units of a split."""
    homes: defaultdict[int, set[int]] = defaultdict(set)
    for key, unit in zip(near.tolist(), units.tolist(), strict=True):
        homes[key].add(unit)
    both = [place for place, key in enumerate(near.tolist()) if len(homes[key]) > 1]
    what = "inputs that are the same, or nearly, may stand on both sides of a split: together they link too many rows"
    return _warning("straddling_inputs", what, both, where, "The scores may be too good.")


def conflicting_labels(exact: NDArray[np.int64], labels: Sequence[str], where: Where) -> list[Problem]:
    """The very same input under different labels."""
    given: defaultdict[int, set[str]] = defaultdict(set)
    for key, label in zip(exact.tolist(), labels, strict=True):
        given[key].add(label)
    torn = [place for place, key in enumerate(exact.tolist()) if len(given[key]) > 1]
    what = "the same input has different labels"
    return _warning("conflicting_labels", what, torn, where, "No model can be right about all of them.")


def case_twins(labels: Sequence[str], where: Where) -> list[Problem]:
    """Labels that differ in capitals only."""
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    for label in labels:
        spellings[label.casefold()].add(label)
    twins = {label for group in spellings.values() if len(group) > 1 for label in group}
    places = [place for place, label in enumerate(labels) if label in twins]
    what = f"labels that differ in capitals only: {_list(sorted(twins))}"
    return _warning("case_twins", what, places, where, "If they mean the same, write them the same.")


def imbalance(labels: Sequence[str], where: Where) -> list[Problem]:
    """A class that is far larger than another."""
    counts = Counter(labels).most_common()
    if not counts or counts[0][1] < IMBALANCE * counts[-1][1]:
        return []
    (large, most), (small, least) = counts[0], counts[-1]
    what = f"{large!r} has {most} rows and {small!r} {least}"
    remedy = "Consider --class-weights balanced, and look at macro-F1."
    return [_problem("imbalance", "warn", what, [], where, remedy)]


def untested_classes(learned: Sequence[str], judged: Sequence[str], where: Where) -> list[Problem]:
    """Labels that are learned and never judged."""
    missing = sorted(set(learned) - set(judged))
    if not missing:
        return []
    what = f"no row to judge by has the label {_list(missing)}"
    return [_problem("untested_classes", "warn", what, [], where, "Nothing will be known about them.")]


def describe(finding: Finding) -> str:
    """One line: where, what, how many."""
    rows = ""
    if finding.rows:
        shown = ", ".join(map(str, finding.rows[:5]))
        more = f", … ({finding.count} in all)" if finding.count > 5 else ""
        rows = f"row{'s' if finding.count > 1 else ''} {shown}{more}"
    column = f"column {finding.column!r}" if finding.column else ""
    place = ", ".join(part for part in (finding.file, column, rows) if part)
    return f"{place}: {finding.message}" if place else finding.message


def _droppable(check: str, what: str, places: list[int], where: Where) -> list[Problem]:
    return [_problem(check, "stop", what, places, where, _DROP, droppable=True)] if places else []


def _warning(check: str, what: str, places: list[int], where: Where, remedy: str) -> list[Problem]:
    return [_problem(check, "warn", what, places, where, remedy)] if places else []


def _problem(
    check: str,
    severity: Severity,
    what: str,
    places: list[int],
    where: Where,
    remedy: str,
    *,
    droppable: bool = False,
) -> Problem:
    offenders = np.asarray(places, dtype=np.int64)
    rows = tuple(int(row) for row in where.rows[offenders[:_LISTED]])
    finding = Finding(check, severity, what, remedy, where.file, where.column, rows, len(places))
    return Problem(finding, offenders, droppable)


def _list(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
