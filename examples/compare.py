"""Three strategies on two paired seeds, and what their difference is worth. `python examples/compare.py [FOLDER]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import warmstart


def main(folder: Path) -> None:
    """Compare, and print a line per run and per pair of strategies."""
    result = warmstart.compare(
        data="sample:reviews",
        drop_invalid=True,
        train_size=150,
        test_size=100,
        strategies="zero_shot,linear_probe,fine_tune",  # or "all"
        seeds=2,
        max_steps=3,  # for a real comparison leave it out, and give time_budget=600, the seconds of each strategy
        learning_rate=3e-4,  # given, so that nothing is tuned; leave it out to have three rates tried
        output_dir=str(folder / "comparison"),
    )
    for run in result.record.runs:
        print(f"{run.strategy:14} seed {run.seed}  {run.test.accuracy if run.test else run.note}")
    print(f"Best by the validation rows: {result.record.chosen}")
    for pair in result.record.differences:
        print(f"{pair.strategy} minus {pair.baseline}: {pair.difference}")
    print(f"Report: {result.report}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
