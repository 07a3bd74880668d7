"""Adapt a sentence encoder to the sample reviews; small and short on purpose. `python examples/adapt.py [FOLDER]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import warmstart


def main(folder: Path) -> None:
    """Adapt, say what was chosen and why, and use the model."""
    result = warmstart.adapt(
        data="sample:reviews",  # or a CSV, TSV, JSONL or Parquet file, an image folder, a dataset of the Hub
        drop_invalid=True,  # the sample has rows without a label and rows without a text
        train_size=150,
        test_size=100,
        max_steps=4,  # a taste of training; leave it out, and give time_budget=300, for a real run
        output_dir=str(folder / "adapted"),
    )
    record = result.record
    for run in record.runs:
        print(f"{run.strategy:14} {run.test.accuracy if run.test else run.note}")
    print(f"Chosen: {record.chosen}")
    print("Because:", *(record.plan.reasons if record.plan else ()))
    for line in record.advice:
        print(f"- {line}")

    model = warmstart.load(result.output_dir)
    for text in ("The dress fits like a glove.", "These jeans are too long for me."):
        print(f"{text} → {model.predict([text])[0].label}")
    print(f"Report: {result.report}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
