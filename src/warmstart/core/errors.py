"""The exception tree.

Everything warmstart raises on purpose is a `WarmstartError`. A `UserError` is something the caller can mend; the
command line prints its one line and exits with code 2. Anything else that escapes is a defect of ours.
"""

from __future__ import annotations


class WarmstartError(Exception):
    """Base of everything warmstart raises on purpose."""

    exit_code = 1


class UserError(WarmstartError):
    """Something in the call, the data or the machine must change; nothing was written."""

    exit_code = 2


class SettingError(UserError):
    """An option is unknown, out of range, or contradicts another one."""


class OutputError(UserError):
    """The output folder exists, holds an unfinished run, or cannot be written."""


class ModelError(UserError):
    """A model cannot be found, or part of it would be left at random."""


class ResultError(UserError):
    """A result folder is incomplete, altered, or not one of ours."""


class MissingPackageError(UserError):
    """A package that this call needs is not installed."""


class RoundTripError(WarmstartError):
    """A saved model did not give the same logits when it was loaded again."""


class DataError(UserError):
    """Something is wrong with the data, at a place that the message names.

    Args:
        what: what is wrong, without a full stop.
        remedy: what to do about it.
        file: the file it is in.
        row: the row, counted as a spreadsheet shows it (the header of a table is row 1).
        column: the column's name.
    """

    def __init__(
        self, what: str, *, remedy: str = "", file: str | None = None, row: int | None = None, column: str | None = None
    ) -> None:
        place = [
            part for part in (file, f"row {row}" if row else None, f"column {column!r}" if column else None) if part
        ]
        message = (": ".join([", ".join(place), what]) if place else what).rstrip(".") + "."
        super().__init__(f"{message} {remedy}".strip())
        self.what, self.remedy, self.file, self.row, self.column = what, remedy, file, row, column


class StrategyNotPossibleError(UserError):
    """A strategy cannot work with this model or data; `compare` skips it and says why."""


class GoalNotMetError(UserError):
    """No index reaches the recall within the latency that was asked for; nothing was written."""


class UnfinishedError(UserError):
    """The time budget ran out before the work was done; what was done is kept for --resume."""


class ContrastError(WarmstartError):
    """No contrastive loss can be made of a batch: not finite, nothing to tell apart, or nothing to find."""
