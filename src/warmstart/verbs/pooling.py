"""How token vectors become one: the model's own way, or its first token beside it where the labels say so.

An encoder's mean says what a text is about; its first token may hold what the mean loses. Which is better depends on
the task, so it is measured: one pass over some labelled rows gives both, and cross-validated probes choose. What
pooling is, is `backbones.classifier`'s.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.load import Backbone
from warmstart.backbones.text_inputs import Subset
from warmstart.core.metrics import row_losses, unit_rows
from warmstart.core.options import LoadOptions
from warmstart.core.progress import reporter
from warmstart.data.task import Task
from warmstart.train.probe_solver import solve_probe

WIDER = "cls+mean"
_LEAST, _MOST = 400, 1000  # labelled rows that are looked at
_ERRORS = 2.0  # standard errors by which the wider one must be better: it is twice as wide for every later row


@dataclass(frozen=True, eq=False)
class Pooled:
    """Which pooling to take, None for the model's own, and what came with the answer.

    Attributes:
        pooling: `cls+mean`, or None.
        features: of all labelled rows under it, (rows, width) float32; None where not all of them were looked at.
    """

    pooling: str | None = None
    features: np.ndarray | None = None


def better_pooling(task: Task, backbone: Backbone, options: LoadOptions, seed: int) -> Pooled:
    """`cls+mean` where its probe is clearly better than that of the model's own mean.

    Nothing is looked at where the user named a pooling, the model has another than the mean or dense layers behind
    it, or fewer than 400 rows are labelled.
    """
    rows = len(task.labelled)
    if options.pooling is not None or backbone.config.pooling != "mean" or backbone.config.projections:
        return Pooled()
    if backbone.kind != "text" or rows < _LEAST:
        return Pooled()
    taken = np.sort(np.random.default_rng(seed).permutation(rows)[:_MOST])
    labels = np.asarray(task.labelled["label"], dtype=np.int64)[taken]
    counts = np.bincount(labels)
    if np.count_nonzero(counts > 1) < 2:
        return Pooled()
    own, wider = _both(task, backbone, taken)
    losses = []
    for features in (own, wider):
        groups = None if task.together is None else task.together[taken]
        found = solve_probe(features, labels, len(task.card.labels), seed=seed, groups=groups)
        losses.append(row_losses(found.cross_validated_logits, labels))
    gain = losses[0] - losses[1]  # (rows,)
    error = float(gain.std(ddof=1)) / len(gain) ** 0.5
    before, after = (float(loss.mean()) for loss in losses)
    if not gain.mean() > _ERRORS * error:
        return Pooled(None, own if len(taken) == rows else None)
    reporter().say(
        f"Pooling: {WIDER}. The probe's cross-validated log-loss is {after:.3f} with the first token beside the mean, "
        f"and {before:.3f} with the mean alone, on {len(labels):,} rows."
    )
    return Pooled(WIDER, wider if len(taken) == rows else None)


def _both(task: Task, backbone: Backbone, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of rows pooled either way, from one pass: (rows, width) and (rows, 2 · width)."""
    columns = {name: task.labelled[name] for name in ("text", "text_pair") if name in task.labelled.column_names}
    inputs = backbone.preprocessor.encode(columns)
    config = copy.deepcopy(backbone.config)
    config.pooling, config.normalize = WIDER, False
    encoder = Classifier(config, trunk=backbone.encoder.backbone).eval()
    with reporter().bar(f"Pooling, {len(rows):,} rows") as bar:
        wider = forward(encoder, Subset(inputs, rows), progress=lambda done, total: bar(done, total, "")).features
    own = wider[:, wider.shape[1] // 2 :]
    if backbone.config.normalize:
        own, wider = (unit_rows(features).astype(np.float32) for features in (own, wider))
    return own, wider
