"""The ledger: one line of JSON for each strategy of each `adapt` and `compare`, appended to a file in the cache.

It stays on this machine. Texts and labels are not in it; the task is named by its fingerprint. A ledger that cannot be
written never fails a run.
"""

from __future__ import annotations

import fcntl
import json
import math
from pathlib import Path

from warmstart.backbones.resolve import cache_root
from warmstart.core.decision import Plan
from warmstart.core.errors import DataError
from warmstart.core.ledger import LedgerEntry
from warmstart.core.progress import reporter
from warmstart.core.records import RunRecord, StrategyRun

_FILE = "ledger.jsonl"
_SAME_EPOCHS = 0.01


def ledger_path(cache_dir: str | None) -> Path:
    """Where the ledger is."""
    return cache_root(cache_dir) / _FILE


def keep_score(record: RunRecord, cache_dir: str | None) -> None:
    """Append what was forecast and what came of it; a file that cannot be written is only told.

    Args:
        record: of a finished run.
        cache_dir: the user's, if one was named.
    """
    entries = entries_of(record)
    path = ledger_path(cache_dir)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
            file.write("".join(json.dumps(entry.to_dict(), ensure_ascii=False) + "\n" for entry in entries))
    except OSError as error:
        reporter().warn(f"The forecasts were not noted down: {path}: {error.strerror or error}.")


def read_ledger(cache_dir: str | None) -> tuple[list[LedgerEntry], int]:
    """All entries, and how many lines are not entries (cut off, or of another version).

    Raises:
        DataError: when there is a ledger, and it cannot be read.
    """
    path = ledger_path(cache_dir)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        what = f"the ledger cannot be read: {error.strerror or error}"
        raise DataError(what, remedy="Name the cache's folder with --cache-dir.", file=str(path)) from error
    found, broken = [], 0
    for line in lines:
        try:
            found.append(LedgerEntry.from_dict(json.loads(line)))
        except (ValueError, TypeError, AttributeError, KeyError):
            broken += 1
    return found, broken


def entries_of(record: RunRecord) -> list[LedgerEntry]:
    """The entries of a run: every strategy that was judged, with the forecast that the plan had made of it."""
    plan = record.plan
    if plan is None:
        return []
    found, highest = [], 0.0
    for run in record.runs:
        held = run.peak_memory_mb if run.peak_memory_mb > highest else math.nan  # a process's peak never falls
        highest = max(highest, run.peak_memory_mb)
        if run.status != "skipped" and run.test is not None:
            found.append(_entry(record, plan, run, held))
    return found


def _entry(record: RunRecord, plan: Plan, run: StrategyRun, memory_mb: float) -> LedgerEntry:
    forecast = plan.forecast_of(run.strategy)
    evidence = plan.evidence
    assert run.test is not None
    return LedgerEntry(
        created=record.created,
        verb=record.verb,
        data=record.task.fingerprint,
        model=record.backbone.name,
        machine=record.machine,
        effort=evidence.effort,
        strategy=run.strategy,
        seed=run.seed,
        planned=run.strategy == plan.strategy,
        chosen=run.strategy == record.chosen,
        labels_a_class=evidence.per_class_median,
        classes=evidence.classes,
        test_rows=run.test.rows,
        forecast_score=None if forecast is None else forecast.score,
        score=run.test.accuracy.value,
        forecast_seconds=math.nan
        if forecast is None or not _same_length(run, forecast.epochs)
        else forecast.learning_seconds,
        seconds=run.seconds - float(run.settings.get("tuning_seconds", 0.0)),
        forecast_memory_mb=math.nan if forecast is None else forecast.peak_memory_mb,
        memory_mb=memory_mb,
    )


def _same_length(run: StrategyRun, epochs: float) -> bool:
    """Whether a run was as long as its forecast: as many epochs, no search for a rate, and not cut short."""
    if run.status != "done" or run.rate_search is not None:
        return False
    if run.settings.get("max_steps") is not None:
        return False
    done = run.settings.get("num_train_epochs")
    return done is None or abs(float(done) - epochs) <= _SAME_EPOCHS
