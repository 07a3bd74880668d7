"""`contrast two-tower` end to end: the folder, recommendations, new items, and what goes wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shop import ITEMS, walks, write_shop

import warmstart
from warmstart.cli.main import run
from warmstart.core.errors import DataError, ResultError, RoundTripError, SettingError, UserError
from warmstart.core.files import digest
from warmstart.core.recommend import TwoTowerRecord
from warmstart.report.two_tower import render_two_tower
from warmstart.verbs import two_tower_check, two_tower_folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_shop(tmp_path_factory.mktemp("shop"))


def arguments(shop: tuple[Path, Path], out: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "interactions": str(shop[0]),
        "items": str(shop[1]),
        "model": "none",
        "dim": 16,
        "layers": 1,
        "max_history": 8,
        "num_train_epochs": 25,
        "learning_rate": 1e-2,
        "evaluations": 3,
        "output_dir": str(out),
    }
    return {**values, **changes}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, shop: tuple[Path, Path]) -> Path:
    """A finished training; tests must not change it."""
    out = tmp_path_factory.mktemp("two-tower") / "out"
    warmstart.contrast_two_tower(**arguments(shop, out))
    return out


def test_the_folder_is_whole_and_beats_popularity(result: Path) -> None:
    record = TwoTowerRecord.from_json((result / "results.json").read_text())
    assert record.verb == "contrast two-tower"
    assert record.data.items == ITEMS + 1
    assert record.data.item_counts["without_events"] == 1
    by_name = {row.name: row.test for row in record.floors}
    assert set(by_name) == {"popularity", "item-kNN", "EASE"}
    assert record.towers.test.ndcg_10.value > by_name["popularity"].ndcg_10.value
    assert record.files
    assert all(digest(result / name) == found for name, found in record.files.items())
    assert TwoTowerRecord.from_json(record.to_json()) == record
    assert not result.with_name("out.running").exists()


def test_the_report_is_redrawn_from_the_record_alone(result: Path) -> None:
    text = (result / "results.json").read_text()
    page = render_two_tower(TwoTowerRecord.from_json(text))
    for word in ("EASE", "HR@10", "thing number", "validation NDCG@10", "Took next"):
        assert word in page
    assert "<script" not in page
    assert "src=" not in page
    assert "<script" not in render_two_tower(
        TwoTowerRecord.from_json(text.replace("thing", "<script>alert(1)</script>"))
    )


def test_recommendations_follow_the_history(result: Path) -> None:
    towers = warmstart.load_two_tower(result)
    history = ["p3", "p4", "p5", "p6"]
    found = towers.recommend(history=history, k=5)
    assert len(found) == 5
    assert not {one.item for one in found} & set(history)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert "p7" in {one.item for one in found}
    blocked = towers.recommend(history=history, k=ITEMS + 1, blocked=["p7"])
    assert len(blocked) == ITEMS + 1 - len(history) - 1
    assert "p7" not in {one.item for one in blocked}
    first = towers.recommend(history=["p9"], k=3)
    assert len(first) == 3
    own = towers.recommend(user="u0", k=3)
    took = [f"p{item}" for item in walks()[0]]
    assert not {one.item for one in own} & set(took)
    same = towers.recommend(user="u0", history=took, k=3)
    assert own == same
    with pytest.raises(DataError, match="no item 'p99'"):
        towers.recommend(history=["p99"])
    with pytest.raises(DataError, match="no user 'nobody'"):
        towers.recommend(user="nobody")
    with pytest.raises(DataError, match="empty"):
        towers.recommend(history=[])
    with pytest.raises(SettingError, match="user, or a history"):
        towers.recommend()


def test_a_new_item_gets_the_vector_of_its_content(result: Path) -> None:
    towers = warmstart.load_two_tower(result)
    row = {"title": "thing number new", "aisle": "aisle2|shop", "angle": "0.55"}
    found = towers.item_vectors([row])
    own = towers.vectors[towers.items.number("p-new")].numpy()
    np.testing.assert_allclose(found[0], own, atol=1e-5)
    unknown = {"angle": None, "aisle": "elsewhere"}
    with pytest.raises(SettingError, match="Row 1 holds nothing"):
        towers.item_vectors([unknown])


def test_saved_vectors_are_those_of_the_towers(result: Path) -> None:
    towers = warmstart.load_two_tower(result)
    torch.testing.assert_close(towers.model.catalogue(), towers.vectors)
    torch.testing.assert_close(towers.vectors.norm(dim=1), torch.ones(ITEMS + 1))
    assert two_tower_check.check_towers(result) < 1e-5


@pytest.mark.parametrize("name", ["model.safetensors", "ids.json", "items.safetensors"])
def test_altered_and_incomplete_folders_are_refused(result: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(result, copy)
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ResultError, match="altered"):
        warmstart.load_two_tower(copy)
    (copy / name).unlink()
    with pytest.raises(ResultError, match="missing"):
        warmstart.load_two_tower(copy)
    with pytest.raises(ResultError, match="no result"):
        warmstart.load_two_tower(tmp_path)


def test_towers_that_differ_when_loaded_are_not_published(
    shop: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = two_tower_folder.save_file

    def wrong(tensors: dict[str, torch.Tensor], path: Path) -> None:
        changed = {name: value + 1 if name == "items.ids.weight" else value for name, value in tensors.items()}
        save(changed, path)

    monkeypatch.setattr(two_tower_folder, "save_file", wrong)
    with pytest.raises(RoundTripError, match="vectors"):
        warmstart.contrast_two_tower(**arguments(shop, tmp_path / "out", max_steps=2, no_floors=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["temporal", "cold_items"])
def test_the_other_splits(shop: tuple[Path, Path], tmp_path: Path, split: str) -> None:
    values = arguments(shop, tmp_path / "out", split=split, test_size=0.2, num_train_epochs=4)
    record = warmstart.contrast_two_tower(**values).record
    assert record.data.split == split
    assert (record.cold is not None) is (split == "cold_items")
    if record.cold is not None:
        assert record.data.cold == round(0.2 * ITEMS)
        assert record.cold.hit_10.value == 1.0  # there are fewer than ten


def test_texts_are_read_by_a_frozen_encoder(
    shop: tuple[Path, Path], tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    values = arguments(shop, tmp_path / "out", model=str(tiny_model), text_columns="title", max_steps=3, no_floors=True)
    record = warmstart.contrast_two_tower(**values).record
    assert record.text_model["name"] == str(tiny_model)
    towers = warmstart.load_two_tower(tmp_path / "out")
    assert towers.model.shape.item_shape == (32, 0, 0)
    found = towers.item_vectors([{"title": "thing number 3"}, {"title": "thing number 4"}])
    assert found.shape == (2, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_users_have_features(shop: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text(
        "customer,town\n" + "".join(f"u{user},{'north' if user % 2 else 'south'}\n" for user in range(60))
    )
    values = arguments(shop, tmp_path / "out", users=str(tmp_path / "users.csv"), max_steps=20, no_floors=True)
    warmstart.contrast_two_tower(**values)
    towers = warmstart.load_two_tower(tmp_path / "out")
    assert towers.model.shape.user_shape == (0, 2, 0)
    history = ["p3", "p4", "p5"]
    north, south, anyone = (towers.query_vectors([history], user) for user in (["u1"], ["u0"], None))
    assert np.abs(north - south).max() > 1e-6
    assert np.abs(anyone - south).max() > 1e-6
    np.testing.assert_allclose(towers.query_vectors([history], ["u3"]), north, atol=1e-6)


def test_a_time_budget_ends_training(shop: tuple[Path, Path], tmp_path: Path) -> None:
    found = warmstart.contrast_two_tower(**arguments(shop, tmp_path / "out", time_budget=1.0, no_floors=True))
    assert "time budget" in found.record.note


def test_an_existing_result_stays(shop: tuple[Path, Path], result: Path) -> None:
    before = digest(result / "results.json")
    with pytest.raises(UserError, match="already holds a result"):
        warmstart.contrast_two_tower(**arguments(shop, result))
    assert digest(result / "results.json") == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 3}, "--heads"),
        ({"temperature": 0.001, "learn_temperature": True}, "--temperature"),
        ({"negatives": "few"}, "--negatives"),
        ({"id_dropout": 1.0}, "--id-dropout"),
        ({"split": "cold_items", "items": None}, "--items"),
        ({"split": "temporal", "test_size": 5.0}, "--test-size"),
        ({"user_column": "who"}, "'who'"),
        ({"items_id_column": "sku"}, "'sku'"),
        ({"text_columns": "title", "category_columns": "title"}, "two things"),
        ({"interactions": "nowhere.csv"}, "nowhere.csv"),
        ({"events": "buy"}, "--event-column"),
    ],
)
def test_bad_calls_are_refused_before_anything_is_written(
    shop: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        warmstart.contrast_two_tower(**arguments(shop, tmp_path / "out", **changes))
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_shows_the_table(
    shop: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["contrast", "two-tower", "--interactions", str(shop[0]), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        run([*words, "--max-steps", "3", "--dim", "8", "--layers", "1"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in ("two towers", "EASE", "item-kNN", "popularity", "Report:"):
        assert word in shown


def test_a_row_that_is_no_list_and_ids_that_are_numbers(result: Path) -> None:
    towers = warmstart.load_two_tower(str(result))
    with pytest.raises(SettingError, match="list of rows"):
        towers.item_vectors({"aisle": "elsewhere"})
    with pytest.raises(DataError, match="no user '42'"):
        towers.recommend(user=42)


def test_an_item_that_training_never_meets_needs_no_content(tmp_path: Path) -> None:
    rows = [f"u{user},p{(user + step) % 8},{step}" for user in range(12) for step in range(6)]
    rows += [f"u0,late{number},{10 + number}" for number in range(2)]  # the last two of a user are not learned from
    (tmp_path / "events.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n")
    done = warmstart.contrast_two_tower(
        interactions=str(tmp_path / "events.csv"),
        model="none",
        no_floors=True,
        max_steps=3,
        dim=8,
        output_dir=str(tmp_path / "out"),
    )
    vectors = warmstart.load_two_tower(done.output_dir).vectors
    assert len(vectors) == 10
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
