"""`advise --scorecard`: how far the forecasts of past runs were off."""

from __future__ import annotations

from warmstart.core.ledger import Scorecard
from warmstart.decide.scorecard import make_scorecard
from warmstart.verbs.ledger import ledger_path, read_ledger


def scorecard(*, cache_dir: str | None = None) -> Scorecard:
    """Forecasts against outcomes of every `adapt` and `compare` that was run with this cache.

    Args:
        cache_dir: where the ledger is; $WARMSTART_CACHE or ~/.cache/warmstart by default.
    """
    entries, broken = read_ledger(cache_dir)
    notes = []
    if not entries:
        notes.append("The ledger is empty: adapt and compare write it.")
    if broken:
        notes.append(f"{broken} lines of the ledger could not be read and were left out.")
    return make_scorecard(entries, str(ledger_path(cache_dir)), notes)
