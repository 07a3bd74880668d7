"""`index rollback`: an earlier version of a bundle serves again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmstart.core.option import verb
from warmstart.core.records import Record
from warmstart.core.serving_options import IndexRollbackOptions
from warmstart.retrieve.versions import Serving
from warmstart.verbs.index_publish import try_bundle


@dataclass(frozen=True)
class RollbackResult(Record):
    """What serves now."""

    serving: str
    version: str
    was: str
    before: tuple[str, ...]  # versions to go back to, the latest first


@verb(IndexRollbackOptions)
def index_rollback(options: IndexRollbackOptions) -> RollbackResult:
    """Make the version that was current before the current one again, or a given version.

    Raises:
        UserError: there is none, or it is not whole; what is current stays so.
    """
    serving = Serving(Path(options.serving).expanduser())
    was = serving.pointer().current
    with serving.lock():
        now = serving.rollback(options.to_version, try_bundle)
    return RollbackResult(str(serving.folder), now.current, was, now.before)
