"""Where the verbs say what they are doing. The command line puts its own reporter here; Python callers get the log."""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Callable, Iterator

_log = logging.getLogger("warmstart")


class Reporter:
    """Receives lines and progress; this one writes lines to the log `warmstart` and ignores progress."""

    def say(self, text: str) -> None:
        """One line about what is being done or was found."""
        _log.info(text)

    def warn(self, text: str) -> None:
        """One line that the user should not miss."""
        _log.warning(text)

    @contextlib.contextmanager
    def bar(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """A progress bar: call what it yields with (done, in all, note)."""
        _log.info(title)
        yield lambda done, total, note: None


_current: contextvars.ContextVar[Reporter] = contextvars.ContextVar("reporter")


def reporter() -> Reporter:
    """The reporter in force."""
    found = _current.get(None)
    return Reporter() if found is None else found


def use_reporter(new: Reporter) -> None:
    """Put a reporter in force for this context."""
    _current.set(new)
