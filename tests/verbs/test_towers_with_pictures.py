"""Pictures as content of the item tower: read by a frozen encoder, saved with the towers, and known of new items."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from shop import ITEMS, write_shop

import warmstart
from warmstart.cli.main import run
from warmstart.core.errors import DataError, ModelError, SettingError
from warmstart.core.recommend import TowersUpdate, TwoTowerRecord
from warmstart.verbs import contrast_two_tower, item_reading
from warmstart.verbs.two_tower_folder import read_record


def shot(place: float) -> Image.Image:
    """A disc whose hue is the place on the ring of items, 0 to 1."""
    y, x = np.mgrid[:48, :48]
    disc = ((x - 24) ** 2 + (y - 24) ** 2 < 380)[..., None]
    hue = np.array(colorsys.hsv_to_rgb(place, 1, 1)) * 255
    return Image.fromarray(np.where(disc, hue, 255).astype(np.uint8))


def write_shots(folder: Path) -> tuple[Path, Path]:
    """The toy shop with a picture of every item but the new one's, and no other content."""
    events, products = write_shop(folder)
    (folder / "shots").mkdir()
    frame = pd.read_csv(products, dtype=str)[["product"]]
    frame["shot"] = [f"shots/{number}.png" for number in range(ITEMS)] + [None]
    for number in range(ITEMS):
        shot(number / ITEMS).save(folder / "shots" / f"{number}.png")
    frame.to_csv(products, index=False)
    return events, products


def options(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "interactions": str(folder / "events.csv"),
        "items": str(folder / "products.csv"),
        "dim": 16,
        "layers": 1,
        "max_history": 8,
        "num_train_epochs": 30,
        "learning_rate": 1e-2,
        "id_dropout": 0.5,
        "evaluations": 1,
        "no_floors": True,
        "output_dir": str(out),
    }
    return {**values, **changes}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers that see pictures through the packaged EfficientNet-Lite0; tests must not change them."""
    folder = tmp_path_factory.mktemp("pictures")
    write_shots(folder)
    warmstart.contrast_two_tower(**options(folder, folder / "towers"))  # saved, and loaded again in a new process
    return folder


@pytest.mark.real
def test_the_record_and_the_report_say_who_saw_the_pictures(shop: Path) -> None:
    record = read_record(shop / "towers")
    assert record.data.item_columns["image"] == "shot"
    assert record.data.item_counts["with_picture"] == ITEMS
    assert record.image_model["name"] == "EfficientNet-Lite0"
    assert record.text_model == {}
    assert "Pictures were read by EfficientNet-Lite0" in (shop / "towers" / "report.html").read_text()


@pytest.mark.real
def test_a_new_item_is_known_by_its_picture_alone(shop: Path) -> None:
    towers = warmstart.load_two_tower(shop / "towers")
    places = np.arange(ITEMS)
    vectors = towers.item_vectors([{"shot": shot((place + 0.5) / ITEMS)} for place in places])  # between two items
    ring = towers.vectors[towers.items.numbers([f"p{place}" for place in places])].numpy()
    near = np.argsort(-vectors @ ring.T, axis=1)[:, :4]
    found = [len({place, (place + 1) % ITEMS} & set(row)) for place, row in zip(places, near, strict=True)]
    assert np.mean(found) > 1.5  # of 2; by chance a third
    file = str(shop / "shots" / "5.png")
    by_path, by_image = towers.item_vectors([{"shot": file}, {"shot": shot(5 / ITEMS)}])
    np.testing.assert_allclose(by_path, by_image, atol=1e-5)


@pytest.mark.real
def test_the_vector_is_the_projection_of_the_encoders_features(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_reading, "fast_dtype", lambda device: torch.float32)
    towers = warmstart.load_two_tower(shop / "towers")
    model = warmstart.load_backbone("EfficientNet-Lite0")
    pixels = model.preprocessor.encode({"image": [shot(0.3)]}).batch([0])
    with torch.no_grad():
        seen = torch.nn.functional.normalize(model.encoder.features(**pixels).float(), dim=-1)
        content = towers.model.items.content
        assert content is not None
        assert content.text is not None
        expected = torch.nn.functional.normalize(seen @ content.text.weight.T, dim=-1)
    found = towers.item_vectors([{"shot": shot(0.3)}])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


@pytest.mark.real
def test_new_and_changed_pictures_reach_the_towers_without_training(shop: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(shop / "products.csv", dtype=str)
    frame["shot"] = [str(shop / name) if isinstance(name, str) else None for name in frame["shot"]]
    shot(7.5 / ITEMS).save(tmp_path / "new.png")
    shot(20 / ITEMS).save(tmp_path / "other.png")
    frame.loc[frame["product"] == "p3", "shot"] = "other.png"
    frame.loc[len(frame)] = ["x", "new.png"]
    frame.to_csv(tmp_path / "products.csv", index=False)
    update = warmstart.index_encode(
        towers=str(shop / "towers"), items=str(tmp_path / "products.csv"), output_dir=str(tmp_path / "out")
    ).record
    assert isinstance(update, TowersUpdate)
    assert (update.new, update.changed, update.kept) == (1, 1, ITEMS)
    before, after = warmstart.load_two_tower(shop / "towers"), warmstart.load_two_tower(tmp_path / "out")
    same = [number for number in range(len(before.items)) if number != before.items.number("p3")]
    assert torch.equal(after.vectors[same], before.vectors[same])
    expected = before.item_vectors([{"shot": shot(7.5 / ITEMS)}])[0]
    np.testing.assert_allclose(after.vectors[after.items.number("x")].numpy(), expected, atol=1e-5)


@pytest.mark.real
def test_texts_and_pictures_stand_beside_each_other(
    shop: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrast_two_tower, "check_towers", lambda folder: 0.0)  # a new process takes seconds
    frame = pd.read_csv(shop / "products.csv", dtype=str)
    frame["shot"] = [str(shop / name) if isinstance(name, str) else None for name in frame["shot"]]
    frame["title"] = [f"thing number {number}" for number in range(len(frame))]
    frame.to_csv(tmp_path / "products.csv", index=False)
    both = options(shop, tmp_path / "both", items=str(tmp_path / "products.csv"), model=str(tiny_model), max_steps=2)
    towers = warmstart.load_two_tower(warmstart.contrast_two_tower(**both).output_dir)
    content = towers.model.item_content
    assert content is not None
    assert content.shape == (32 + 1280, 0, 0)
    new = towers.items.number("p-new")
    assert bool(content.inputs[new, :32].any())
    assert not bool(content.inputs[new, 32:].any())  # which has no picture
    bare = {**both, "image_model": "none", "output_dir": str(tmp_path / "bare")}
    towers = warmstart.load_two_tower(warmstart.contrast_two_tower(**bare).output_dir)
    assert towers.model.item_content is not None
    assert towers.model.item_content.shape == (32, 0, 0)
    assert towers.plan.image == ""


def test_wrong_calls_are_told_and_write_nothing(tmp_path: Path, tiny_model: Path, capsys: Any) -> None:
    write_shots(tmp_path)
    out = tmp_path / "out"
    with pytest.raises(SettingError, match=r"--image-column.*--image-model none"):
        warmstart.contrast_two_tower(**options(tmp_path, out, image_model="none", image_column="shot"))
    with pytest.raises(ModelError, match=r"reads texts, but items have pictures\. Choose another --image-model"):
        warmstart.contrast_two_tower(**options(tmp_path, out, image_model=str(tiny_model)))
    (tmp_path / "shots" / "4.png").write_bytes(b"")
    command = ["contrast", "two-tower", "--interactions", str(tmp_path / "events.csv")]
    command += ["--items", str(tmp_path / "products.csv"), "--output-dir", str(out)]
    with pytest.raises(SystemExit) as stopped:
        run(command)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "products.csv, row 6, column 'shot': 1 of 24 pictures cannot be used (shots/4.png: the file is empty" in told
    assert "Traceback" not in told
    assert not out.exists()


@pytest.mark.real
def test_a_broken_picture_of_a_new_item_is_told(shop: Path, tmp_path: Path) -> None:
    towers = warmstart.load_two_tower(shop / "towers")
    with pytest.raises(DataError, match=r"the given rows, row 2, column 'shot': .*there is no such file") as told:
        towers.item_vectors([{"shot": shot(0)}, {"shot": str(tmp_path / "gone.png")}])
    assert "--" not in str(told.value)
    with pytest.raises(SettingError, match=r"Row 1 has 'shots', which is not read. Did you mean 'shot'\?"):
        towers.item_vectors([{"shots": shot(0)}])
    assert towers.item_vectors([]).shape == (0, 16)
    with pytest.raises(SettingError, match="holds nothing that is known: shot"):
        towers.item_vectors([{"shot": None}])
    assert TwoTowerRecord.from_json((shop / "towers" / "results.json").read_text()).image_model
