"""`contrast sentences` end to end: the folder, sentence-transformers, adapting further, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pairs_data import write_pairs

import warmstart
from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.cli.main import run
from warmstart.core.contrast import ContrastRecord
from warmstart.core.errors import OutputError, ResultError, RoundTripError, SettingError
from warmstart.core.files import digest
from warmstart.report.contrast import render_contrast
from warmstart.verbs import contrast_saving

TEXTS = ["the apple and a saw", "very nice", "my old horse was here with the plum"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.csv")


def arguments(pairs: Path, model: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "data": str(pairs),
        "anchor_column": "question",
        "positive_column": "answer",
        "model": str(model),
        "learning_rate": 1e-3,
        "num_train_epochs": 4,
        "per_device_train_batch_size": 32,
        "mini_batch_size": 8,
        "bf16": "false",
        "output_dir": str(out),
    }
    return {**values, **changes}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_model: Path) -> Path:
    """A finished training with shorter vectors; tests must not change it."""
    out = tmp_path_factory.mktemp("contrast") / "out"
    warmstart.contrast_sentences(**arguments(data, tiny_model, out, matryoshka_dims="8,16"))
    return out


def vectors(folder: Path) -> np.ndarray:
    backbone = load_backbone(str(folder))
    inputs = backbone.preprocessor.encode({"text": TEXTS})
    return forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features


def test_the_folder_is_whole_and_says_what_happened(result: Path) -> None:
    record = ContrastRecord.from_json((result / "results.json").read_text())
    assert record.verb == "contrast sentences"
    assert record.after.reciprocal_rank.value > record.before.reciprocal_rank.value
    assert list(record.by_dimension) == list(record.before_by_dimension) == ["16", "8"]
    assert record.before_by_dimension["8"].queries == record.before.queries
    assert record.before_by_dimension["8"] != record.by_dimension["8"]
    judged = {p.step: p.validation_score for p in record.history if p.validation_score is not None}
    assert judged[record.kept_step] == max(judged.values())
    assert record.files
    assert all(digest(result / name) == found for name, found in record.files.items())
    assert {"model.safetensors", "modules.json", "1_Pooling/config.json", "report.html"} <= set(record.files)
    assert not result.with_name("out.running").exists()
    assert ContrastRecord.from_json(record.to_json()) == record
    assert str(result.parent) not in (result / "config.json").read_text()


def test_the_report_is_redrawn_from_the_record_alone(result: Path) -> None:
    record = ContrastRecord.from_json((result / "results.json").read_text())
    page = render_contrast(record)
    assert "Recall@10" in page
    assert page.count("<svg") == 2
    for word in ("alignment", "uniformity", "effective rank", "log N", "after, 8 dimensions"):
        assert word in page
    assert "<script" not in page
    assert "src=" not in page
    hostile = ContrastRecord.from_json(record.to_json().replace("question", "<script>alert(1)</script>"))
    assert "<script" not in render_contrast(hostile)


def test_sentence_transformers_loads_it_and_gives_the_same_vectors(result: Path) -> None:
    st = pytest.importorskip("sentence_transformers")
    model = st.SentenceTransformer(str(result), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), vectors(result), atol=1e-5)
    assert model.similarity_fn_name == "cosine"
    short = st.SentenceTransformer(str(result), device="cpu", truncate_dim=8).encode(TEXTS)
    np.testing.assert_allclose(short, vectors(result)[:, :8], atol=1e-5)


def test_the_result_adapts_further(result: Path, reviews: Path, tmp_path: Path) -> None:
    found = warmstart.adapt(
        data=str(reviews),
        text_column="text",
        label_column="kind",
        model=str(result),
        strategy="linear_probe",
        reference_data="none",
        cache_dir=str(tmp_path / "cache"),
        output_dir=str(tmp_path / "adapted"),
    )
    assert found.record.backbone.name == str(result)
    assert found.record.run_of("linear_probe").test is not None


def test_predict_says_that_it_is_no_classifier(result: Path, reviews: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ResultError, match="contrast sentences"):
        warmstart.load(result)
    with pytest.raises(SystemExit) as stop:
        run(["predict", str(result), "--data", str(reviews)])
    assert stop.value.code == 2
    assert "contrast sentences" in capsys.readouterr().err


def test_groups_and_a_learnt_temperature(tmp_path: Path, data: Path, tiny_model: Path) -> None:
    found = warmstart.contrast_sentences(
        **arguments(
            data,
            tiny_model,
            tmp_path / "out",
            anchor_column="question",
            positive_column=None,
            label_column="topic",
            learn_temperature=True,
            drop_invalid=True,
            test_size=0.3,
            max_steps=3,
        )
        | {"data": str(write_pairs(tmp_path / "more.csv", 400))}
    ).record
    scales = [point.scale for point in found.history if point.scale is not None]
    assert len(set(scales)) > 1
    assert found.data.columns == {"anchor": "question", "label": "topic"}


def test_mined_negatives(tmp_path: Path, data: Path, tiny_model: Path, result: Path) -> None:
    changes = {"num_negatives": 1, "range_min": 2, "relative_margin": 0.0, "absolute_margin": 0.02, "max_steps": 2}
    found = warmstart.contrast_sentences(**arguments(data, tiny_model, tmp_path / "out", **changes)).record
    assert found.steps == 2
    assert all(point.bound is None for point in found.history)
    whole = ContrastRecord.from_json((result / "results.json").read_text()).data.sizes["train"]
    assert 0 < found.data.without_negatives == whole - found.data.sizes["train"]
    assert f"trained by contrast on {found.data.sizes['train']} pairs" in (tmp_path / "out" / "README.md").read_text()


def test_a_saved_model_that_differs_leaves_no_result(
    tmp_path: Path, data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = contrast_saving.save_encoder

    def spoil(folder: Path, encoder: Any, preprocessor: Any) -> None:
        original(folder, encoder, preprocessor)
        config = json.loads((folder / "1_Pooling" / "config.json").read_text())
        config.update(pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))

    monkeypatch.setattr(contrast_saving, "save_encoder", spoil)
    with pytest.raises(RoundTripError, match="differ"):
        warmstart.contrast_sentences(**arguments(data, tiny_model, tmp_path / "out", max_steps=1))
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_a_run_can_be_resumed(tmp_path: Path, data: Path, tiny_model: Path) -> None:
    values = arguments(data, tiny_model, tmp_path / "out", max_steps=2)
    warmstart.contrast_sentences(**values)
    with pytest.raises(OutputError, match="--overwrite"):
        warmstart.contrast_sentences(**values)
    assert warmstart.contrast_sentences(**values, overwrite=True).record.steps == 2
    with pytest.raises(OutputError, match="nothing to resume"):
        warmstart.contrast_sentences(**{**values, "output_dir": str(tmp_path / "other")}, resume=True)


@pytest.mark.slow
def test_two_processes_say_so_and_write_one_result(tmp_path: Path, data: Path, tiny_model: Path) -> None:
    """One warmstart under torchrun; the second process neither writes nor talks."""
    flags = []
    for name, value in arguments(data, tiny_model, tmp_path / "out", per_device_train_batch_size=16).items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "-m", "warmstart", "contrast", "sentences", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("Trained on 2 processes.") == 1
    assert done.stdout.count("Result: ") == 1
    record = ContrastRecord.from_json((tmp_path / "out" / "results.json").read_text())
    assert record.processes == 2
    assert record.after.reciprocal_rank.value > record.before.reciprocal_rank.value


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such column": ({"positive_column": "reply"}, "'reply'"),
    "no columns": ({"anchor_column": None, "positive_column": None}, "--anchor-column"),
    "no such file": ({"data": "absent.csv"}, "absent.csv"),
    "temperature": ({"temperature": 0}, "--temperature"),
    "dimensions": ({"matryoshka_dims": "4096"}, "--matryoshka-dims"),
    "pooler": ({"pooling": "pooler"}, "--pooling"),
    "rates of no group": ({"group_rates": "layer.99=1e-4"}, "layer.99"),
    "part of nothing": ({"mini_batch_size": 0}, "--mini-batch-size"),
    "batch of one": ({"per_device_train_batch_size": 1}, "--per-device-train-batch-size"),
    "filters": ({"num_negatives": 1, "range_min": 5, "range_max": 5}, "--range-max 5"),
    "filters that leave nothing": ({"num_negatives": 1, "absolute_margin": 1.9}, "--num-negatives"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    name: str, tmp_path: Path, data: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, word = BAD[name]
    flags = []
    for option, value in arguments(data, tiny_model, tmp_path / "out", **changes).items():
        if value is not None:
            flags += [f"--{option.replace('_', '-')}", str(value)]
    with pytest.raises(SystemExit) as stop:
        run(["contrast", "sentences", *flags])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert word in said
    assert said.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_unknown_options_fail() -> None:
    with pytest.raises(SettingError, match="did you mean 'temperature'"):
        warmstart.contrast_sentences(data="x", output_dir="y", temperatur=1)
