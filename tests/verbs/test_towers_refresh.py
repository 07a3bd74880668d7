"""`index encode --towers`: new items, users and events in towers that are not trained again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from shop import ITEMS, USERS, walks, write_shop

import warmstart
from warmstart.core.errors import DataError, ResultError, SettingError
from warmstart.core.files import digest
from warmstart.core.recommend import TowersUpdate
from warmstart.verbs import contrast_two_tower
from warmstart.verbs.two_tower_check import check_towers
from warmstart.verbs.two_tower_folder import read_record


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Towers that read titles, towers without items, and the tables; tests must not change them."""
    folder = tmp_path_factory.mktemp("shop")
    events, products = write_shop(folder)
    common = {
        "interactions": str(events), "dim": 16, "layers": 1, "max_history": 8, "num_train_epochs": 15,
        "learning_rate": 1e-2, "evaluations": 1, "no_floors": True,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast_two_tower, "check_towers", lambda folder: 0.0)  # a new process takes seconds
        warmstart.contrast_two_tower(
            items=str(products), model=str(tiny_model), output_dir=str(folder / "towers"), **common
        )
        warmstart.contrast_two_tower(**{**common, "num_train_epochs": 1}, output_dir=str(folder / "bare"))
    return folder


def refresh(shop: Path, out: Path, **options: Any) -> TowersUpdate:
    values = {"towers": str(shop / "towers"), "output_dir": str(out)}
    record = warmstart.index_encode(**{**values, **options}).record
    assert isinstance(record, TowersUpdate)
    return record


def table(shop: Path) -> pd.DataFrame:
    return pd.read_csv(shop / "products.csv", dtype=str)


@pytest.fixture
def products(shop: Path, tmp_path: Path) -> Path:
    """Two new products in the middle of the shop, one changed, one gone, in another order."""
    frame = table(shop)
    frame.loc[frame["product"] == "p3", "title"] = "a very old saw"
    more = {"product": ["x1", "x2"], "title": ["thing number 9", "my cat"], "aisle": ["aisle1|shop", "nowhere"],
            "angle": ["0.375", "0.9"]}  # fmt: skip
    frame = pd.concat([frame[frame["product"] != "p5"], pd.DataFrame(more)]).sample(frac=1, random_state=0)
    frame.to_csv(tmp_path / "products.csv", index=False)
    return tmp_path / "products.csv"


def write_events(path: Path, rows: list[tuple[str, str, int]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["customer", "product", "timestamp"])
        writer.writerows(rows)
    return path


def test_new_items_follow_the_old_ones(shop: Path, products: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    update = refresh(shop, out, items=str(products))
    assert (update.new, update.changed, update.absent, update.items) == (2, 1, 1, ITEMS + 3)
    assert (update.new_users, update.new_events) == (0, 0)
    before, after = warmstart.load_two_tower(shop / "towers"), warmstart.load_two_tower(out)
    assert after.items.ids[: len(before.items)] == before.items.ids
    assert set(after.items.ids[len(before.items) :]) == {"x1", "x2"}
    changed = before.items.number("p3")
    same = [number for number in range(len(before.items)) if number != changed]
    assert torch.equal(after.vectors[same], before.vectors[same])  # to the bit
    assert not torch.allclose(after.vectors[changed], before.vectors[changed], atol=1e-3)
    frame = pd.read_csv(products, dtype=str).set_index("product")
    for name in ("x1", "x2"):
        row = {key: None if value != value else value for key, value in frame.loc[name].to_dict().items()}
        expected = before.item_vectors([row])[0]  # what training shows of an item whose id is left out
        np.testing.assert_allclose(after.vectors[after.items.number(name)].numpy(), expected, atol=1e-5)
    assert after.titles[after.items.number("x2")] == "my cat"
    assert after.titles[changed] == "a very old saw"
    assert after.titles[after.items.number("p5")] == before.titles[before.items.number("p5")]
    aisle = after.attributes["aisle"]
    assert aisle[after.items.number("x1")] == ("aisle1", "shop")
    assert aisle[after.items.number("p5")] == before.attributes["aisle"][before.items.number("p5")]
    assert all((a == b).all() for a, b in zip(after.histories, before.histories, strict=True))
    assert all(torch.equal(value, before.model.state_dict()[name]) for name, value in after.model.state_dict().items()
               if not name.startswith("items.ids") and name != "items.learnt")  # fmt: skip
    assert not after.model.items.learnt[len(before.items) :].any()


def test_the_folder_is_whole_and_says_what_happened(shop: Path, products: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    refresh(shop, out, items=str(products))
    record = read_record(out)
    assert all(digest(out / name) == known for name, known in record.files.items())
    assert record.identity() != read_record(shop / "towers").identity()
    assert record.towers == read_record(shop / "towers").towers
    assert "2 new items, 1 changed" in record.advice[0]
    assert record.data.items == ITEMS + 3
    assert "Brought up to date" in (out / "report.html").read_text()
    assert check_towers(out) < 1e-5
    again = tmp_path / "again"
    assert refresh(shop, again, towers=str(out), items=str(products)).new == 0
    assert torch.equal(warmstart.load_two_tower(again).vectors, warmstart.load_two_tower(out).vectors)


def test_events_lengthen_histories_and_bring_users(shop: Path, products: Path, tmp_path: Path) -> None:
    before = warmstart.load_two_tower(shop / "towers")
    taken = walks()[0]
    other = next(item for item in range(ITEMS) if item not in taken)
    rows = [
        ("u0", f"p{taken[2]}", 99_000),  # known
        ("u0", "x1", 99_002),
        ("u0", f"p{other}", 99_001),
        ("u0", "nothing", 99_003),
        ("newcomer", "p8", 99_000),
        ("newcomer", "p9", 99_001),
    ]
    events = write_events(tmp_path / "events.csv", rows)
    update = refresh(shop, tmp_path / "new", items=str(products), interactions=str(events))
    assert (update.new_users, update.new_events, update.unknown_events, update.users) == (1, 4, 1, USERS + 1)
    after = warmstart.load_two_tower(tmp_path / "new")
    first = before.users.number("u0")
    expected = [*before.histories[first].tolist(), after.items.number(f"p{other}"), after.items.number("x1")]
    assert after.histories[first].tolist() == expected
    assert after.users.ids[: len(before.users)] == before.users.ids
    newcomer = after.histories[after.users.number("newcomer")]
    assert [after.items.ids[item] for item in newcomer] == ["p8", "p9"]
    alike = after.query_vectors([["p8", "p9"]])
    np.testing.assert_allclose(after.query_vectors([["p8", "p9"]], ["newcomer"]), alike, atol=1e-6)
    # the whole log again adds nothing
    assert refresh(shop, tmp_path / "log", interactions=str(shop / "events.csv")).new_events == 0


def test_new_items_are_served(shop: Path, products: Path, tmp_path: Path) -> None:
    """x1 is like p9, which follows p8: whoever took p6, p7 and p8 is shown it."""
    out, events = tmp_path / "new", write_events(tmp_path / "e.csv", [("newcomer", f"p{n}", n) for n in (6, 7, 8)])
    refresh(shop, out, items=str(products), interactions=str(events))
    warmstart.index_tune(towers=str(out), recall=0.9, at=5, p99_ms=1e4, kinds="flat", output_dir=str(tmp_path / "idx"))
    warmstart.index_publish(towers=str(out), index=str(tmp_path / "idx"), to=str(tmp_path / "serve"))
    serving = warmstart.load_recommender(tmp_path / "serve")
    found = [item.item for item in serving.recommend(user="newcomer", k=6).items]
    assert "x1" in found
    assert "x1" in [item.item for item in serving.recommend(history=["p6", "p7", "p8"], k=6).items]
    only = serving.recommend(user="newcomer", k=30, where=["aisle=nowhere"]).items
    assert [item.item for item in only] == ["x2"]
    with pytest.raises(ResultError, match="other towers"):
        warmstart.index_publish(towers=str(shop / "towers"), index=str(tmp_path / "idx"), to=str(tmp_path / "old"))


def test_what_does_not_fit_is_refused(shop: Path, products: Path, tmp_path: Path, tiny_model: Path) -> None:
    def refused(error: type[Exception], words: str, **options: Any) -> None:
        with pytest.raises(error, match=words):
            refresh(shop, tmp_path / "new", **options)
        assert not list(tmp_path.glob("new*"))

    refused(SettingError, "trained without --items", towers=str(shop / "bare"), items=str(products))
    refused(SettingError, "--towers needs", items=None)
    refused(SettingError, "--model goes with --data", items=str(products), model=str(tiny_model))
    refused(SettingError, "--text-column goes with --data", items=str(products), text_column="title")
    refused(SettingError, "either --data or --towers", items=str(products), data=str(products))
    refused(ResultError, "no result", towers=str(tmp_path), items=str(products))
    table(shop).drop(columns=["angle"]).to_csv(tmp_path / "less.csv", index=False)
    refused(DataError, "'angle'", items=str(tmp_path / "less.csv"))
    table(shop).assign(angle="wide").to_csv(tmp_path / "words.csv", index=False)
    refused(DataError, "'wide' is no number", items=str(tmp_path / "words.csv"))
    pd.concat([table(shop)] * 2).to_csv(tmp_path / "twice.csv", index=False)
    refused(DataError, "there already", items=str(tmp_path / "twice.csv"))
    (tmp_path / "other.csv").write_text("who,product,timestamp\nu0,p1,5\n")
    refused(DataError, "'customer'", interactions=str(tmp_path / "other.csv"))
    events = write_events(tmp_path / "unknown.csv", [("u0", "nothing", 5)])
    refused(DataError, "no event names an item", interactions=str(events))
    with pytest.raises(SettingError, match="name another one"):
        refresh(shop, shop / "towers", items=str(products), overwrite=True)
    with pytest.raises(SettingError, match="go with --towers"):
        warmstart.index_encode(data=str(products), items=str(products), output_dir=str(tmp_path / "v"))


def test_another_text_model_is_refused(shop: Path, products: Path, tmp_path: Path, tiny_model: Path) -> None:
    changed = tmp_path / "towers"
    import json
    import shutil

    shutil.copytree(shop / "towers", changed)
    features = json.loads((changed / "features.json").read_text())
    features["text_model"]["digest"] = "0" * 64
    (changed / "features.json").write_text(json.dumps(features))
    with pytest.raises(ResultError, match="altered"):
        refresh(shop, tmp_path / "new", towers=str(changed), items=str(products))
    values = json.loads((changed / "results.json").read_text())
    values["files"]["features.json"] = digest(changed / "features.json")
    (changed / "results.json").write_text(json.dumps(values))
    with pytest.raises(ResultError, match="its weights differ"):
        refresh(shop, tmp_path / "new", towers=str(changed), items=str(products))
