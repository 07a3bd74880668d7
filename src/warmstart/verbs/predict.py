"""`load` and `predict`: using a result folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import Progress, forward
from warmstart.backbones.load import load_preprocessor
from warmstart.backbones.text_inputs import Preprocessor
from warmstart.core.errors import DataError, ResultError
from warmstart.core.files import check_digests
from warmstart.core.metrics import softmax
from warmstart.core.option import verb
from warmstart.core.options import PredictOptions
from warmstart.core.progress import reporter
from warmstart.core.records import Record, RunRecord
from warmstart.data.task import inputs_for_prediction, write_table
from warmstart.data.writing import check_table_path

RESULTS = "results.json"


@dataclass(frozen=True)
class Prediction(Record):
    """One row's answer: the label, and its calibrated probability."""

    label: str
    probability: float


@dataclass
class Result:
    """A loaded result folder."""

    folder: Path
    record: RunRecord
    model: Classifier
    preprocessor: Preprocessor

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels by class id."""
        return self.record.task.labels

    def probabilities(
        self,
        inputs: Sequence[Any],
        pairs: Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float64]:
        """Calibrated probabilities, (rows, labels).

        Args:
            inputs: texts, or images (Pillow images or paths).
            pairs: second texts, for models of pairs.
            dtype: type of the trunk's arithmetic; the machine's fast one by default.
            progress: called with rows done and rows in all.
        """
        modality = self.record.task.modality
        if (modality == "pair") != (pairs is not None):
            raise DataError(f"this model reads {'pairs of texts' if modality == 'pair' else f'single {modality}s'}")
        rows: dict[str, Sequence[Any]] = {"image": _Images(inputs)} if modality == "image" else {"text": inputs}
        if pairs is not None:
            rows["text_pair"] = pairs
        found = forward(self.model, self.preprocessor.encode(rows), dtype=dtype, progress=progress)
        return softmax(found.logits / self.record.temperature)

    def predict(self, inputs: Sequence[Any], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """The most probable label of each input."""
        if len(inputs) == 0:
            return []
        values = self.probabilities(inputs, pairs)
        return [Prediction(self.labels[row.argmax()], float(row.max())) for row in values]


class _Images(Sequence[Image.Image]):
    """Opens paths when they are asked for."""

    def __init__(self, images: Sequence[Any]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        found = self._images[index]
        return Image.open(found) if isinstance(found, (str, Path)) else found


def load(result: str | Path) -> Result:
    """Load a result folder, after checking that it is whole.

    Raises:
        ResultError: it is not a result of `adapt`, or a file of it is missing or altered.
    """
    folder = Path(result).expanduser()
    record = read_record(folder)
    if record.verb != "adapt":
        raise ResultError(f"{folder} is a result of `{record.verb}`, which keeps no model; use one of `adapt`.")
    check_digests(folder, record.files)
    model = Classifier.from_pretrained(folder, dtype=torch.float32).eval()
    return Result(folder, record, model, load_preprocessor(folder, model.config))


def read_record(folder: Path) -> RunRecord:
    """The record in a result folder.

    Raises:
        ResultError: it is absent or cannot be read.
    """
    path = folder / RESULTS
    if not folder.is_dir():
        raise ResultError(f"Result folder {folder} does not exist.")
    if not path.is_file():
        raise ResultError(f"{folder} is not a result of warmstart: there is no {RESULTS} in it.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if str(values.get("verb", "")).startswith("contrast"):
            raise ResultError(
                f"{folder} is a result of `{values['verb']}`, which makes vectors and knows no labels: adapt it first, "
                f"with `warmstart adapt --model {folder}`."
            )
        return RunRecord.from_dict(values)
    except (ValueError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise ResultError(f"{path} cannot be read: {error}.") from error


@dataclass(frozen=True)
class PredictSummary(Record):
    """What `predict` wrote."""

    output: str
    rows: int
    counts: dict[str, int]
    mean_probability: float


@verb(PredictOptions)
def predict(options: PredictOptions) -> PredictSummary:
    """Predict every row of a file or folder; the output has its columns and order, and the prediction.

    Raises:
        ResultError: the result folder is not whole.
        DataError: the data do not fit the model, with file, row and column.
        OutputError: the output exists, or cannot be written.
    """
    target = _target(options)
    check_table_path(str(target), options.overwrite)
    found = load(options.result)
    frame, inputs = inputs_for_prediction(options.data, found.record.task)
    added = ["prediction", "probability"]
    if options.probabilities:
        added += [f"probability: {label}" for label in found.labels]
    for name in added:
        if name in frame.columns:
            raise DataError(
                f"there is already a column {name!r}", file=options.data, remedy="Rename it: predict adds its own."
            )
    values = np.zeros((0, len(found.labels)))
    if len(inputs):
        pairs = list(inputs["text_pair"]) if "text_pair" in inputs.column_names else None
        column = inputs["image"] if found.record.task.modality == "image" else list(inputs["text"])
        with reporter().bar("Predicting") as bar:
            values = found.probabilities(column, pairs, progress=lambda done, total: bar(done, total, ""))
    best = values.argmax(1) if len(values) else np.zeros(0, dtype=int)
    frame = frame.assign(
        prediction=[found.labels[index] for index in best],
        probability=np.round(values.max(1), 6) if len(values) else np.zeros(0),
    )
    if options.probabilities:
        frame = frame.assign(**{added[2 + i]: np.round(values[:, i], 6) for i in range(len(found.labels))})
    write_table(frame, str(target), options.overwrite)
    counts = np.bincount(best, minlength=len(found.labels))
    return PredictSummary(
        output=str(target),
        rows=len(frame),
        counts={label: int(count) for label, count in zip(found.labels, counts, strict=True)},
        mean_probability=float(values.max(1).mean()) if len(values) else float("nan"),
    )


def _target(options: PredictOptions) -> Path:
    if options.output is not None:
        return Path(options.output).expanduser()
    source = Path(options.data).expanduser()
    name = source.name.removesuffix(".gz")
    suffix = Path(name).suffix if Path(name).suffix in (".csv", ".tsv", ".jsonl", ".parquet") else ".csv"
    return source.with_name(f"{Path(name).stem}-predictions{suffix}")
