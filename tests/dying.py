"""A process that dies at a given file operation: from then on nothing that it tries reaches the disk.

Every operation that changes a folder is seen through Python's audit events, so that none can be forgotten in a list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"})


class Killed(BaseException):
    """No `except Exception` gets hold of it."""


class _Watch:
    def __init__(self) -> None:
        self.folder, self.left, self.seen, self.on = "", 0, 0, False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or not (event in _CHANGES or (event == "open" and self._writes(arguments))):
            return
        if not str(arguments[0]).startswith(self.folder) and event != "os.rmdir" and event != "os.remove":
            return  # rmdir and remove name files relative to an open folder
        self.seen += 1
        if self.seen > self.left:
            raise Killed(event)

    @staticmethod
    def _writes(arguments: tuple[Any, ...]) -> bool:
        mode = arguments[1]
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        return (isinstance(mode, str) and any(sign in mode for sign in "wax+")) or bool(flags & 3)


_watch = _Watch()
_installed: list[bool] = []


def die_after(operations: int, folder: str, call: Callable[[], Any]) -> bool:
    """Run a call whose changes below a folder reach the disk only up to some number of them; whether it died."""
    if not _installed:
        sys.addaudithook(_watch)
        _installed.append(True)
    _watch.folder, _watch.left, _watch.seen, _watch.on = folder, operations, 0, True
    try:
        call()
    except Killed:
        return True
    finally:
        _watch.on = False
    return False
