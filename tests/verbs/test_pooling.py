"""The pooling of an encoder: what either way gives, and when the wider one is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import write_rows

import warmstart
from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.core.options import DataOptions, ModelOptions
from warmstart.data.task import Task, load_task
from warmstart.verbs import pooling, situation
from warmstart.verbs.pooling import WIDER, better_pooling
from warmstart.verbs.situation import load_for


@pytest.fixture
def task(tmp_path: Path) -> Task:
    data = write_rows(tmp_path / "rows.csv", 600)
    return load_task(DataOptions(data=str(data), text_column="text", label_column="kind", test_size=60))


def make_wider_better(monkeypatch: pytest.MonkeyPatch, task: Task, gain: float) -> None:
    """Features of noise; beside the mean stands the label, as far as `gain` goes."""

    def both(task: Task, backbone: object, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = np.random.default_rng(0).normal(size=(len(rows), 8)).astype(np.float32)
        first = np.random.default_rng(1).normal(size=(len(rows), 8)).astype(np.float32)
        first[np.arange(len(rows)), np.asarray(task.labelled["label"])[rows]] += gain
        return own, np.concatenate([first, own], axis=1)

    monkeypatch.setattr(pooling, "_both", both)


@pytest.mark.parametrize("normalize", [False, True])
def test_either_way_gives_what_a_model_pooled_so_gives(task: Task, tiny_model: Path, normalize: bool) -> None:
    backbone, wider = (load_backbone(str(tiny_model), pooling=name) for name in ("mean", WIDER))
    backbone.config.normalize = backbone.encoder.config.normalize = wider.encoder.config.normalize = normalize
    rows = np.array([3, 5, 400])
    found = pooling._both(task, backbone, rows)
    texts = [task.labelled["text"][int(row)] for row in rows]
    for features, made in zip(found, (backbone, wider), strict=True):
        want = forward(made.encoder, made.preprocessor.encode({"text": texts})).features
        assert features.shape == want.shape
        np.testing.assert_allclose(features, want, atol=2e-2 if torch.cuda.is_available() else 5e-3)
    assert found[1].shape[1] == 2 * found[0].shape[1]
    assert backbone.config.pooling == backbone.encoder.config.pooling == "mean"


def test_the_wider_one_is_taken_where_it_is_clearly_better(
    task: Task, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ModelOptions(model=str(tiny_model))
    make_wider_better(monkeypatch, task, gain=2.0)
    assert load_for(task, options.model, options, seed=0).config.pooling == WIDER
    assert load_for(task, options.model, options).config.pooling == "mean"  # nobody asked
    named = ModelOptions(model=str(tiny_model), pooling="mean")
    assert load_for(task, named.model, named, seed=0).config.pooling == "mean"
    make_wider_better(monkeypatch, task, gain=0.0)
    assert load_for(task, options.model, options, seed=0).config.pooling == "mean"


def test_few_rows_and_other_poolings_are_left_alone(
    task: Task, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ModelOptions(model=str(tiny_model))
    make_wider_better(monkeypatch, task, gain=2.0)
    backbone = load_backbone(str(tiny_model))
    assert better_pooling(task, backbone, options, 0).pooling == WIDER
    few = write_rows(tmp_path / "few.csv", 300)
    small = load_task(DataOptions(data=str(few), text_column="text", label_column="kind", test_size=60))
    assert better_pooling(small, backbone, options, 0).pooling is None
    for other in ("cls", "max"):
        left = better_pooling(task, load_backbone(str(tiny_model), pooling=other), options, 0)
        assert (left.pooling, left.features) == (None, None)


def test_no_row_is_embedded_twice(
    task: Task, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ModelOptions(model=str(tiny_model), cache_dir=str(tmp_path / "cache"))
    backbone = load_for(task, options.model, options, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(situation, "_time_forward", lambda *given: 0.001)
        patch.setattr(situation, "forward", lambda *given, **more: pytest.fail("the rows were embedded again"))
        found = situation.encode_task(task, backbone, options, "labelled").labelled.features
    texts = list(task.labelled["text"])
    want = forward(backbone.encoder, backbone.preprocessor.encode({"text": texts})).features
    np.testing.assert_allclose(found, want, atol=2e-2 if torch.cuda.is_available() else 5e-3)


def test_features_of_some_rows_are_not_kept(task: Task, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ModelOptions(model=str(tiny_model))
    for gain in (0.0, 2.0):
        make_wider_better(monkeypatch, task, gain=gain)
        found = better_pooling(task, load_backbone(str(tiny_model)), options, 0).features
        assert found is not None
        assert len(found) == len(task.labelled)
        with monkeypatch.context() as patch:
            patch.setattr(pooling, "_MOST", 420)
            assert better_pooling(task, load_backbone(str(tiny_model)), options, 0).features is None


def test_a_result_with_two_poolings_reloads(reviews: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = warmstart.adapt(
        data=str(reviews),
        text_column="text",
        label_column="kind",
        model=str(tiny_model),
        strategy="fine_tune",
        pooling=WIDER,
        max_steps=3,
        reference_data="none",
        output_dir=str(tmp_path / "out"),
        cache_dir=str(tmp_path / "cache"),
    )
    assert done.record.backbone.pooling == WIDER
    assert done.record.backbone.features == 64
    assert load_backbone(done.output_dir).card.pooling == WIDER
