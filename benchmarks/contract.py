"""What every benchmark here shares: cells written as they finish, a lock that timings have to themselves, and a table.

A benchmark is a list of named cells, each of at most about ten minutes. A finished cell is one JSON file under
`results/<benchmark>/`; a restart skips what is there. Timings refuse to start beside other load;
scores do not depend on it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
_BUSY = 20.0  # per cent of all cores, above which a timing would not be worth keeping
Cell = Callable[[argparse.Namespace], dict[str, Any]]


def machine() -> dict[str, Any]:
    """The machine and the versions, without its name."""
    import importlib.metadata

    names = ("torch", "transformers", "sentence-transformers", "scikit-learn", "peft", "numpy")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def wait_for_quiet(patience: float) -> None:
    """Return when other load is low; exit when it stays high for `patience` seconds."""
    deadline = time.monotonic() + patience
    while (busy := psutil.cpu_percent(interval=3.0)) > _BUSY:
        if time.monotonic() > deadline:
            sys.exit(f"Other work keeps the machine {busy:.0f} % busy: timings would not be worth keeping.")


def run(
    name: str,
    cells: dict[str, Cell],
    report: Callable[[dict[str, dict[str, Any]]], str],
    text: str,
    *,
    timed: bool = True,
) -> None:
    """Parse the arguments, run the cells that are missing, print the report.

    Args:
        name: the benchmark's.
        cells: what to measure, by name.
        report: from the results of all cells to a table.
        text: what the benchmark is about.
        timed: whether seconds are among the results; if so, other load stops a cell from being begun.
    """
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=text)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the larger data sets")
    parser.add_argument("--cell", choices=sorted(cells), help="only this cell, and again if it is there already")
    parser.add_argument("--report", action="store_true", help="only print the report of what is there")
    parser.add_argument("--rows", type=int, help="only so many rows, to see that a cell works; nothing is kept")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine")
    args = parser.parse_args()
    folder = RESULTS / name if args.rows is None else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    timed = timed and args.rows is None
    if not args.report:
        with (RESULTS / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if timed else fcntl.LOCK_SH)
            for cell, measure in cells.items():
                _run_cell(folder, cell, measure, args, timed=timed)
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    print(report(found))


def _run_cell(folder: Path, cell: str, measure: Cell, args: argparse.Namespace, *, timed: bool) -> None:
    path = folder / f"{cell}.json"
    if args.cell not in (None, cell) or (args.cell is None and path.is_file()):
        return
    if timed:
        wait_for_quiet(args.patience)
    print(f"{cell} …", flush=True)
    start = time.perf_counter()
    values = {**measure(args), "cell_seconds": round(time.perf_counter() - start, 1), "machine": machine()}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=1) + "\n")
    part.replace(path)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
