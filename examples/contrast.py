"""Train a sentence encoder so that a title finds its review; a taste. `python examples/contrast.py [FOLDER]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import warmstart


def main(folder: Path) -> None:
    """Train, and say what changed."""
    result = warmstart.contrast_sentences(
        data="sample:reviews",  # or a CSV, TSV, JSONL or Parquet file, a dataset of the Hub
        anchor_column="Title",
        positive_column="Review Text",
        drop_invalid=True,  # some reviews have no title
        train_size=300,
        test_size=200,
        per_device_train_batch_size=64,
        max_steps=4,  # a taste of training; leave it out for a real run
        output_dir=str(folder / "encoder"),
    )
    record = result.record
    print(f"Recall@10 before: {record.before.recall_at_10}")
    print(f"Recall@10 after:  {record.after.recall_at_10}")
    for line in record.advice:
        print(f"- {line}")
    print(f"Model, for sentence-transformers and for `warmstart adapt --model`: {result.output_dir}")
    print(f"Report: {result.report}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
