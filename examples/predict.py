"""Answer the rows of a file, and of a list, with a result of adapt. `python examples/predict.py [FOLDER]`."""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import warmstart
from warmstart.verbs.sample import sample


def main(folder: Path) -> None:
    """Make a quick result, then use it in three ways."""
    result = warmstart.adapt(
        data="sample:reviews",
        drop_invalid=True,
        strategy="linear_probe",  # the quickest that learns from labels
        train_size=150,
        test_size=100,
        output_dir=str(folder / "probe"),
    )
    sample(name="reviews", rows=25, output=str(folder / "more.csv"))

    # A file in, a file out: its columns and order, with `prediction` and `probability`.
    summary = warmstart.predict(
        result=result.output_dir, data=str(folder / "more.csv"), output=str(folder / "answers.csv"), probabilities=True
    )
    print(f"{summary.rows} rows in {summary.output}")
    with Path(summary.output).open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    print(f"Row 2: {first['prediction']} with probability {first['probability']}")

    # The model itself: labels, and the probabilities of all of them.
    model = warmstart.load(result.output_dir)
    print(model.predict(["A warm wool coat for the winter."])[0])
    values = model.probabilities(["A warm wool coat for the winter."])  # (rows, labels)
    print({label: round(float(value), 3) for label, value in zip(model.labels, values[0], strict=True)})


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
