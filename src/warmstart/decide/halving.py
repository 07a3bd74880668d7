"""Successive halving: short trainings for all contenders, more for the better half, inside a number of seconds.

Jamieson and Talwalkar 2016 (arXiv 1502.07943). The trainings themselves are handed in as a function; what their results
mean is left to whoever ranks them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from warmstart.core.decision import PilotRun

RUNGS = 3  # after which four contenders and fewer are decided

Run = Callable[[str, int, float], PilotRun | None]  # strategy, rung, seconds → what came of it; None: too few seconds
Rank = Callable[[Sequence[PilotRun]], Mapping[str, float]]  # all pilots so far → an expectation by strategy


def rungs_of(contenders: int, at_most: int) -> int:
    """Rungs after which one of so many contenders is left: more would leave seconds idle."""
    return min(at_most, max(1, math.ceil(math.log2(max(1, contenders)))))


def successive_halving(
    contenders: Sequence[str],
    seconds: float,
    run: Run,
    rank: Rank,
    *,
    rungs: int = RUNGS,
    now: Callable[[], float] = time.perf_counter,
) -> tuple[PilotRun, ...]:
    """Run pilots rung by rung; each rung has an equal share of the seconds, split evenly among those that are left.

    Seconds that a rung leaves over go to the next. A strategy that cannot run in its share is out.

    Args:
        contenders: strategies, the likeliest first.
        seconds: for everything.
        run: one pilot; it keeps to its seconds as well as it can.
        rank: after each rung, what every strategy is expected to reach; the better half (rounded up) stays, and a tie
            goes to the first.
        rungs: how many, at most; fewer where fewer halvings leave one strategy, which has nobody left to beat.
        now: a clock, in seconds.
    """
    start, left, found = now(), list(contenders), []
    rungs = rungs_of(len(left), rungs)
    for rung in range(rungs):
        remaining = seconds - (now() - start)
        if (rung and len(left) < 2) or not left or remaining <= 0:
            break
        share = remaining / (rungs - rung) / len(left)
        staying = []
        for number, name in enumerate(left):
            if seconds - (now() - start) < share / 2:
                staying += left[number:]
                break
            pilot = run(name, rung, min(share, seconds - (now() - start)))
            if pilot is not None:
                found.append(pilot)
                staying.append(name)
        if not staying:
            break
        expected = rank(found)
        order = sorted(staying, key=lambda name: -expected[name])
        left = order[: -(-len(order) // 2)]
    return tuple(found)
