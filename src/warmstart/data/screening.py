"""The order in which the checks run, and the verdict: stop with everything at once, or go on with what is left.

Labels and inputs are judged first, each row on its own; checks that compare rows see those that passed. The checks
themselves are in `checks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from warmstart.core.errors import DataError
from warmstart.core.records import Finding
from warmstart.data import checks
from warmstart.data.checks import Problem, describe
from warmstart.data.duplicates import Sameness
from warmstart.data.pictures import names_of
from warmstart.data.sides import Positions, Side, sameness


@dataclass
class _Sieve:
    """The rows of a side that have passed so far, and what was said about the others."""

    side: Side
    alive: Positions
    said: list[Problem] = field(default_factory=list)

    def labels(self) -> list[str]:
        return self.side.labels_at(self.alive)

    def removed(self) -> int:
        return len(self.side.source.rows) - len(self.alive)

    def hear(self, problems: list[Problem]) -> None:
        """Note problems whose offenders are positions among the living; those that can be left out are."""
        self.said += problems
        out = [problem.offenders for problem in problems if problem.droppable]
        if out:
            self.alive = np.delete(self.alive, np.unique(np.concatenate(out)))


@dataclass(frozen=True)
class Screened:
    """What is left: positions on either side, which of the labelled rows are the same input, and the findings."""

    labelled: Positions
    test: Positions | None
    same: Sameness
    findings: tuple[Finding, ...]
    dropped: int


def screen(side: Side, test: Side | None, *, drop_invalid: bool) -> Screened:
    """Run every check that needs no split of ours.

    Args:
        side: the rows to learn from (and, without `test`, to judge by).
        test: the rows to judge by, where the user gave them.
        drop_invalid: whether to leave rows out rather than to stop.

    Raises:
        DataError: listing every finding that stops the run.
    """
    main = _row_by_row(side)
    judge = None if test is None else _row_by_row(test)
    where = side.where("label", main.alive)
    strange = checks.id_labels(main.labels(), where) + checks.regression_target(main.labels(), where)
    main.hear(strange)
    same, compared = _compare(main, judge)
    if not strange:
        _classes(main, judge)
    said = main.said + ([] if judge is None else judge.said)
    removed = main.removed() + (0 if judge is None else judge.removed())
    findings = settle(said, removed, drop_invalid=drop_invalid)
    main_labels = main.labels()
    where = side.where("label", main.alive)
    left = np.isin(compared, main.alive)
    same = Sameness(same.exact[left], same.near[left])
    late = [
        *checks.case_twins(main_labels, where),
        *checks.conflicting_labels(same.exact, main_labels, side.where(side.roles.inputs[0], main.alive)),
        *checks.imbalance(main_labels, where),
    ]
    notes = side.source.notes
    if judge is not None:
        late += checks.untested_classes(main_labels, judge.labels(), judge.side.where("label", judge.alive))
        notes += judge.side.source.notes
    findings = (*notes, *findings, *(problem.finding for problem in late))
    return Screened(main.alive, None if judge is None else judge.alive, same, findings, removed)


def settle(problems: Sequence[Problem], removed: int, *, drop_invalid: bool) -> tuple[Finding, ...]:
    """Turn problems into findings, or stop.

    Args:
        problems: what was found.
        removed: how many rows it takes to mend what can be mended by leaving rows out.
        drop_invalid: whether they are left out.

    Raises:
        DataError: one line with every problem that stops the run and is not left out.
    """
    stops = [p for p in problems if p.finding.severity == "stop" and not (p.droppable and drop_invalid)]
    if not stops:
        return tuple(replace(p.finding, dropped=p.droppable) for p in problems)
    droppable = [problem for problem in stops if problem.droppable]
    remedies = list(dict.fromkeys(problem.finding.remedy for problem in stops if not problem.droppable))
    if droppable:
        them = "that row" if removed == 1 else f"those {removed} rows"
        remedies.append(f"--drop-invalid leaves {them} out and lists them.")
    remedy = " ".join(remedies)
    first = stops[0].finding
    row = first.rows[0] if first.rows else None
    if len(stops) == 1 and first.count <= 1:
        raise DataError(first.message, remedy=remedy, file=first.file, row=row, column=first.column)
    what = "; ".join(describe(problem.finding) for problem in stops)
    error = DataError(what, remedy=remedy)
    error.file, error.row, error.column = first.file, row, first.column
    raise error


def _row_by_row(side: Side) -> _Sieve:
    """Sort out what can be judged from a row alone: its label and its input, each on its own."""
    sieve = _Sieve(side, np.arange(len(side.source.rows)))
    problems = checks.missing_labels(side.labels, side.where("label"))
    if side.pictures is not None:
        wrong = [probe.problem for probe in side.probes]
        names = names_of(side.pictures, np.flatnonzero(wrong))
        problems += checks.broken_images(wrong, names, side.where("image"))
    for place, role in enumerate(side.roles.inputs if side.pictures is None else ()):
        problems += checks.empty_texts([row[place] for row in side.texts], side.where(role))
    sieve.hear(problems)
    return sieve


def _compare(main: _Sieve, judge: _Sieve | None) -> tuple[Sameness, Positions]:
    """Which inputs are the same, and of which rows; what stands on two given sides leaves the one to learn from."""
    here = main.alive
    if not len(here):
        return Sameness(here, here), here
    if judge is None:
        return sameness(main.side, here), here
    same = sameness(main.side, here, judge.side, judge.alive)
    role = main.side.roles.inputs[0]
    where, there = main.side.where(role, here), judge.side.where(role, judge.alive)
    known = len(here)
    exact = checks.leaks(same.exact[:known], same.exact[known:], where, there, exact=True)
    near = same.near.copy()
    if exact:  # what is left out for good needs no second mention
        near[exact[0].offenders] = -1
    said = exact + checks.leaks(near[:known], near[known:], where, there, exact=False)
    main.hear(said)
    return Sameness(same.exact[:known], same.near[:known]), here


def _classes(main: _Sieve, judge: _Sieve | None) -> None:
    """Classes that cannot be split, labels that cannot be known, and whether two classes are left."""
    main.hear(checks.tiny_classes(main.labels(), main.side.where("label", main.alive)))
    if judge is not None:
        where = judge.side.where("label", judge.alive)
        judge.hear(checks.unknown_labels(judge.labels(), main.labels(), where))
        if not len(judge.alive):
            main.hear([_nothing_to_judge(judge)])
    main.hear(checks.one_class(main.labels(), main.side.where("label", main.alive)))


def _nothing_to_judge(judge: _Sieve) -> Problem:
    finding = Finding(
        "no_test_rows", "stop", "no usable row to judge by is left", "Give other rows.", judge.side.source.name
    )
    return Problem(finding, np.zeros(0, dtype=np.int64))
