"""What the command line shows while it works, on standard error, and how it ends on an error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from warmstart.core.progress import Reporter

_QUIET_SECONDS = 15.0  # between lines of progress when there is no terminal

errors = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 140)


class ConsoleReporter(Reporter):
    """Lines and progress bars on standard error; without a terminal, a line now and then."""

    def say(self, text: str) -> None:
        """Print a line."""
        errors.print(escape(text))

    def warn(self, text: str) -> None:
        """Print a line in yellow."""
        errors.print(f"[yellow]{escape(text)}[/yellow]")

    @contextlib.contextmanager
    def bar(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """A bar on a terminal; elsewhere at most a line every fifteen seconds."""
        if not errors.is_terminal:
            yield _Lines(title)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=errors, transient=True) as progress:
            task = progress.add_task(escape(title), total=None, note="")
            yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)


class _Lines:
    def __init__(self, title: str) -> None:
        self.title, self._last = title, time.monotonic()

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if now - self._last >= _QUIET_SECONDS:
            self._last = now
            errors.print(escape(f"{self.title}: {done} of {total} {note}".rstrip()))
