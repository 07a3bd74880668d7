"""Seconds spent and seconds left, over interruptions."""

from __future__ import annotations

import time


class Clock:
    """Counts seconds from its making, plus what an interrupted run had already spent.

    Args:
        budget: seconds for the whole run; None for no limit.
        spent: seconds that earlier, interrupted runs took.
    """

    def __init__(self, budget: float | None = None, spent: float = 0.0) -> None:
        self.budget, self._spent, self._start = budget, spent, time.perf_counter()

    def spent(self) -> float:
        """Seconds so far."""
        return self._spent + time.perf_counter() - self._start

    def left(self) -> float:
        """Seconds left; infinite without a budget, never below zero."""
        return float("inf") if self.budget is None else max(0.0, self.budget - self.spent())

    def add(self, seconds: float) -> None:
        """Count seconds that an interrupted run had already spent."""
        self._spent += seconds
