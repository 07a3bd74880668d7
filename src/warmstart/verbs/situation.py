"""What every verb that learns starts from: the task, the backbone, the features of all rows, and measured times."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import datasets
import numpy as np
import torch

from warmstart.backbones.embed import best_device, fast_dtype, forward, has_fast_bf16
from warmstart.backbones.feature_cache import FeatureCache
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.resolve import cache_root
from warmstart.backbones.text_inputs import Inputs, Subset
from warmstart.core.errors import ModelError
from warmstart.core.option import handed_over
from warmstart.core.options import DataOptions, LoadOptions, ModelOptions
from warmstart.core.progress import reporter
from warmstart.core.records import TaskCard
from warmstart.data.checks import describe
from warmstart.data.reference import ReferenceRows, read_reference
from warmstart.data.task import Task, load_task
from warmstart.strategies.protocol import Rows, Settings
from warmstart.train.calibrate import StepCost, cost_of_a_row
from warmstart.train.forgetting import Reference
from warmstart.verbs.pooling import Pooled, better_pooling

REFERENCE_OFF = "none"
REFERENCE_ROWS = 256  # at most
_TIMED_ROWS = 48


@dataclass
class Situation:
    """The task and the backbone, with every row encoded and embedded."""

    task: Task
    backbone: Backbone
    labelled: Rows
    test: Rows
    seconds_forward: float  # per row
    device: torch.device
    cache: FeatureCache
    reference_rows: ReferenceRows | None = None  # the user's, to measure forgetting on
    reference: Reference | None = None  # the same or a sample's, seen by the original; once something will train

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels by class id."""
        return self.task.card.labels

    @property
    def fast_bf16(self) -> bool:
        """Whether bfloat16 is the faster way to train: for transformers where the hardware has it, not for CNNs."""
        is_cnn = getattr(self.backbone.encoder.backbone.config, "num_attention_heads", None) is None
        return has_fast_bf16(self.device) and not (is_cnn and self.device.type == "cpu")

    def split(self, validation_size: float, seed: int) -> tuple[Rows, Rows]:
        """Fit and validation rows of one seed."""
        fit, validation = self.split_places(validation_size, seed)
        return self.labelled.take(fit), self.labelled.take(validation)

    def split_places(self, validation_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the fit and validation rows of one seed are among the labelled ones."""
        places = {row: place for place, row in enumerate(self.task.labelled["row"])}
        fit, validation = self.task.split(validation_size, seed)
        return (
            np.array([places[row] for row in fit["row"]], dtype=np.int64),
            np.array([places[row] for row in validation["row"]], dtype=np.int64),
        )

    def step_cost(self, settings: Settings, seed: int) -> StepCost:
        """Seconds and kept activations of a training row, from a few real steps of a strategy that trains all."""
        return cost_of_a_row(
            self.backbone.classifier(self.labels, self.task.card.modality),
            self.labelled.inputs,
            settings.per_device_train_batch_size,
            bf16=settings.bf16,
            device=self.device,
            seed=seed,
            gradient_checkpointing=settings.gradient_checkpointing,
        )


def prepare(data: DataOptions, model: ModelOptions, reference_data: str | None = None) -> Situation:
    """Read and check the data, load the model, embed every row (or take the features from the cache).

    Args:
        data: the rows of the task.
        model: where to start from.
        reference_data: rows to measure forgetting on, if the user names any: read and checked here, too.

    Raises:
        DataError: the data cannot be used, with file, row and column.
        ModelError: the model cannot be used, or reads another kind of input.
    """
    task = read_task(data)
    rows = read_reference_rows(data, reference_data, task)
    return encode_task(task, load_for(task, model.model, model, data.seed), model, "all", rows)


def read_task(data: DataOptions) -> Task:
    """The task, read, checked and told."""
    task = load_task(data, handed_over(data.data))
    show_task(task.card)
    return task


def read_reference_rows(data: DataOptions, reference_data: str | None, task: Task) -> ReferenceRows | None:
    """The user's reference rows; None when none were named."""
    given = reference_data is not None and reference_data != REFERENCE_OFF
    return read_reference(str(reference_data), task.card, REFERENCE_ROWS, data.seed) if given else None


def load_for(task: Task, name: str, options: LoadOptions, seed: int | None = None) -> Backbone:
    """A model for a task.

    Args:
        task: what it is for.
        name: the model.
        options: how to read it.
        seed: of the rows by which its pooling may be chosen; None to leave that as the model states it.

    Raises:
        ModelError: when it cannot be used, or reads another kind of input.
    """
    backbone = _load(name, options, options.pooling)
    check_kind(task, name, backbone.kind)
    pooled = Pooled() if seed is None else better_pooling(task, backbone, options, seed)
    if pooled.pooling is not None:
        backbone = _load(name, options, pooled.pooling)
    if pooled.features is not None:  # so that no row is embedded twice
        cache = FeatureCache(cache_root(options.cache_dir))
        cache.put(_rows_key(backbone, cache, best_device(), task.labelled, task.card, "labelled"), pooled.features)
    reporter().say(f"Model: {backbone.card.name}, {backbone.card.parameters:,} parameters, from {backbone.card.source}")
    return backbone


def _load(name: str, options: LoadOptions, pooling: str | None) -> Backbone:
    return load_backbone(
        name,
        revision=options.revision,
        pooling=pooling,
        max_length=options.max_length,
        image_size=options.image_size,
        trust_remote_code=options.trust_remote_code,
    )


def check_kind(task: Task, name: str, kind: str) -> None:
    """Raise ModelError when a model reads another kind of input than the task has."""
    wanted = "image" if task.card.modality == "image" else "text"
    if kind != wanted:
        raise ModelError(f"{name} reads {kind}s, but the data are {wanted}s. Choose another --model.")


def encode_task(
    task: Task,
    backbone: Backbone,
    options: LoadOptions,
    embedded: Literal["all", "labelled", "none"],
    reference_rows: ReferenceRows | None = None,
) -> Situation:
    """Encode a task's rows for a model, and embed them.

    Args:
        task: the rows.
        backbone: the model.
        options: where features are cached.
        embedded: which rows get their features; the others have none, (0, width).
        reference_rows: the user's, if there are any.
    """
    device = best_device()
    cache = FeatureCache(cache_root(options.cache_dir))
    rows, measured = {}, []
    for side in ("labelled", "test"):
        source = task.labelled if side == "labelled" else task.test
        if embedded in ("all", side):
            rows[side], seconds = _embed(backbone, source, task.card, cache, device, side)
            measured += [] if seconds is None else [seconds]
        else:
            inputs, labels = _encode(backbone, source)
            rows[side] = Rows(inputs, labels, np.zeros((0, backbone.card.features), dtype=np.float32))
    seconds_forward = max(measured) if measured else _time_forward(backbone, rows["labelled"].inputs, device)
    labelled = replace(rows["labelled"], groups=task.together)
    return Situation(task, backbone, labelled, rows["test"], seconds_forward, device, cache, reference_rows)


def _encode(backbone: Backbone, rows: datasets.Dataset) -> tuple[Inputs, np.ndarray]:
    columns: dict[str, Any] = {
        column: rows[column] for column in ("text", "text_pair", "image") if column in rows.column_names
    }
    return backbone.preprocessor.encode(columns), np.asarray(rows["label"], dtype=np.int64)


def _embed(
    backbone: Backbone, rows: datasets.Dataset, card: TaskCard, cache: FeatureCache, device: torch.device, name: str
) -> tuple[Rows, float | None]:
    inputs, labels = _encode(backbone, rows)
    dtype = fast_dtype(device)
    key = _rows_key(backbone, cache, device, rows, card, name)
    found = cache.get(key)
    if found is not None and found.shape == (len(labels), backbone.card.features):
        reporter().say(f"Features of {len(labels):,} {name} rows: from the cache")
        return Rows(inputs, labels, found), None
    with reporter().bar(f"Features of {len(labels):,} {name} rows") as bar:
        computed = forward(
            backbone.encoder, inputs, dtype=dtype, device=device, progress=lambda done, total: bar(done, total, "")
        )
    cache.put(key, computed.features)
    per_row = computed.seconds / max(1, len(labels))
    return Rows(inputs, labels, computed.features), per_row if len(labels) >= _TIMED_ROWS else None


def _rows_key(
    backbone: Backbone, cache: FeatureCache, device: torch.device, rows: datasets.Dataset, card: TaskCard, name: str
) -> str:
    """What the features of one side of a task are kept under."""
    places = hashlib.sha256(np.asarray(rows["row"], dtype=np.int64).tobytes()).hexdigest()
    return feature_key(backbone, cache, device, {"data": card.fingerprint, "rows": places, "split": name})


def feature_key(backbone: Backbone, cache: FeatureCache, device: torch.device, rows: dict[str, str]) -> str:
    """What features are kept under: the model, how it reads rows and in which precision, and what tells the rows."""
    return cache.key(
        {
            "weights": backbone.card.digest,
            "preprocessing": backbone.card.preprocessing,
            "pooling": backbone.card.pooling,
            "normalize": backbone.config.normalize,
            "precision": f"{fast_dtype(device)} on {device.type}",
            **rows,
        }
    )


def _time_forward(backbone: Backbone, inputs: Inputs, device: torch.device) -> float:
    rows = np.linspace(0, len(inputs) - 1, min(_TIMED_ROWS, len(inputs))).astype(np.int64)
    found = forward(backbone.encoder, Subset(inputs, rows), device=device)
    return found.seconds / len(rows)


def show_task(card: TaskCard) -> None:
    """Say what was read, which columns were guessed, and what the checks found."""
    roles = ", ".join(
        f"{role} = {column!r}{' (guessed)' if role in card.guessed else ''}" for role, column in card.columns.items()
    )
    sizes = ", ".join(f"{size:,} {name}" for name, size in card.sizes.items())
    reporter().say(f"Data: {card.source} ({card.modality}; {roles}): {sizes} rows, {len(card.labels)} labels")
    for finding in card.findings:
        reporter().warn(
            f"{describe(finding)}: left out." if finding.dropped else f"{describe(finding)}. {finding.remedy}"
        )
