"""`advise`: measure the situation and say which strategy fits, and why. Nothing is trained, nothing is written."""

from __future__ import annotations

from warmstart.core.options import AdviseOptions, verb
from warmstart.core.records import Plan
from warmstart.verbs.planning import plan_only
from warmstart.verbs.situation import prepare


@verb(AdviseOptions)
def advise(options: AdviseOptions) -> Plan:
    """A plan with its reasons, from floors, the probe, zero-shot, and the measured seconds per row.

    Raises:
        UserError: something in the call, the data or the machine must change.
    """
    return plan_only(prepare(options, options), options)
