"""From logits to what a record holds: scores, the choice between strategies, temperature, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.core.metrics import fit_temperature, row_losses, softmax
from warmstart.core.records import Mistake
from warmstart.data.pictures import as_jpeg
from warmstart.strategies.protocol import Rows

_MISTAKES = 12
_THUMBNAIL = 96  # pixels


def frozen_logits(model: Classifier, features: np.ndarray) -> np.ndarray:
    """Logits, (rows, labels), of a classifier whose trunk is the pretrained one, from its kept features."""
    with torch.inference_mode():
        found = torch.from_numpy(np.asarray(features, dtype=np.float32))
        if model.config.normalize:
            found = torch.nn.functional.normalize(found, dim=-1)
        return np.asarray(model.head(found * model.config.feature_scale).numpy())


def logits_of(model: Classifier, rows: Rows, *, frozen: bool) -> np.ndarray:
    """Logits, (rows, labels); from the features alone when only the head was adapted."""
    return frozen_logits(model, rows.features) if frozen else forward(model, rows.inputs).logits


def keeps_plan(planned: np.ndarray, probe: np.ndarray, labels: np.ndarray) -> bool:
    """Whether the planned strategy stands against the probe on the validation rows.

    It does when it is right more often; or when it is behind by no more than half a standard error of the paired
    difference and its log-loss, each at its own best temperature, is lower. A tie goes to the probe, the cheaper one.

    Args:
        planned: validation logits of the planned strategy, (rows, labels).
        probe: those of the probe.
        labels: (rows,).
    """
    difference = (planned.argmax(1) == labels).astype(float) - (probe.argmax(1) == labels).astype(float)
    if difference.mean() > 0:
        return True
    error = difference.std() / max(1.0, len(labels)) ** 0.5
    losses = [float(row_losses(logits / fit_temperature(logits, labels), labels).mean()) for logits in (planned, probe)]
    return bool(difference.mean() >= -0.5 * error and losses[0] < losses[1])


def confident_mistakes(
    logits: np.ndarray, labels: np.ndarray, names: Sequence[str], rows: datasets.Dataset, temperature: float
) -> tuple[Mistake, ...]:
    """The wrong answers given with the highest probability, most confident first."""
    probabilities = softmax(logits / temperature)
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:_MISTAKES]
    found = []
    for place in worst:
        row = rows[int(place)]
        found.append(
            Mistake(
                row=int(row["row"]),
                text=_text(row),
                thumbnail=as_jpeg(row["image"], _THUMBNAIL) if "image" in row else "",
                label=names[int(labels[place])],
                prediction=names[int(predicted[place])],
                probability=float(probabilities[place, predicted[place]]),
            )
        )
    return tuple(found)


def _text(row: dict[str, Any]) -> str:
    if "image" in row:
        return str(getattr(row["image"], "filename", "") or f"image {row['row']}").rpartition("/")[2]
    return f"{row['text']} ⏐ {row['text_pair']}" if "text_pair" in row else str(row["text"])
