"""From towers to a bundle that serves: index of towers, publish, rollback, recommend, and what is refused."""

from __future__ import annotations

import csv
import html
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shop import ITEMS, USERS, walks, write_shop

import warmstart
from warmstart.cli.main import run
from warmstart.core.errors import DataError, OutputError, ResultError, SettingError, UserError
from warmstart.core.files import digest, read_sealed, write_sealed
from warmstart.core.index import TuneRecord
from warmstart.core.serving import ServingRecord
from warmstart.neighbours.folder import load_index
from warmstart.report.serving import render_serving
from warmstart.retrieve.bundle import MANIFEST
from warmstart.retrieve.versions import Serving
from warmstart.verbs import contrast_two_tower, index_publish, recommender
from warmstart.verbs.two_tower_folder import read_record


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers, other towers, an index of each, and a folder that serves one version; tests must not change them."""
    folder = tmp_path_factory.mktemp("serving")
    events, products = write_shop(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast_two_tower, "check_towers", lambda folder: 0.0)  # a new process takes seconds
        for name, seed in (("towers", 0), ("others", 1)):
            warmstart.contrast_two_tower(
                interactions=str(events),
                items=str(products),
                model="none",
                dim=16,
                layers=1,
                max_history=8,
                num_train_epochs=15 if name == "towers" else 1,
                learning_rate=1e-2,
                evaluations=1,
                no_floors=True,
                seed=seed,
                output_dir=str(folder / name),
            )
            warmstart.index_build(towers=str(folder / name), output_dir=str(folder / f"{name}-index"))
    publish(folder, folder / "serve")
    return folder


def publish(made: Path, to: Path, **changes: Any) -> Any:
    values = {"towers": str(made / "towers"), "index": str(made / "towers-index")}
    return warmstart.index_publish(**{**values, **changes}, to=str(to))


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    shutil.copytree(made / "serve" / "versions" / "0001", tmp_path / "bundle")
    return tmp_path / "bundle"


# --- what publishing saw


def test_the_report_of_a_version_tells_the_funnel_and_shows_titles(made: Path) -> None:
    place = made / "serve" / "versions" / "0001"
    seen = ServingRecord.from_json((place / "results.json").read_text())
    page = (place / "report.html").read_text()
    towers = read_record(place / "towers")
    assert render_serving(seen, towers, None, None) == page
    assert seen.asked == USERS
    assert seen.left["indexed"] == ITEMS + 1  # with the one that nobody took
    assert list(seen.left) == ["indexed", "allowed", "retrieved", "shown"]
    assert seen.left["indexed"] > seen.left["allowed"] >= seen.left["retrieved"] >= seen.left["shown"] > 0
    assert [step.name for step in seen.times] == ["query tower", "index", "whole answer"]
    assert all(0 < step.p50_ms <= step.p99_ms for step in seen.times)
    serving = warmstart.load_recommender(made / "serve")
    for one in seen.examples:
        assert one.items == serving.recommend(user=one.user).items
        assert all(html.escape(item.title) in page for item in one.items)
    assert "without measuring" in page


def test_a_single_text_is_one_item_and_not_its_letters(made: Path) -> None:
    serving = warmstart.load_recommender(made / "serve")
    assert serving.recommend(history="p3").items == serving.recommend(history=["p3"]).items
    assert serving.recommend(user="u0", only="p-new", include_seen=True).items[0].item == "p-new"
    assert serving.recommend(user="u0", where="aisle=aisle2").items
    towers = warmstart.load_two_tower(made / "towers")
    assert towers.recommend(history="p3") == towers.recommend(history=["p3"])


def test_a_version_with_ranker_and_tuned_index_shows_their_measurements(made: Path, tmp_path: Path) -> None:
    tuned, ranked = str(tmp_path / "tuned"), str(tmp_path / "ranker")
    warmstart.index_tune(towers=str(made / "towers"), recall=0.9, at=5, p99_ms=1e4, kinds="flat", output_dir=tuned)
    warmstart.ranker(towers=str(made / "towers"), num_train_epochs=1, candidates=10, output_dir=ranked)
    place = Path(publish(made, tmp_path / "to", index=tuned, ranker=ranked).report)
    seen = ServingRecord.from_json((place.parent / "results.json").read_text())
    assert list(seen.left) == ["indexed", "allowed", "retrieved", "ranked", "shown"]
    assert [step.name for step in seen.times] == ["query tower", "index", "ranker", "whole answer"]
    page = place.read_text()
    assert "<svg" in page
    assert "among the first 10 of the ranker" in page


# --- an index of towers


def test_an_index_of_towers_is_measured_with_what_real_users_ask(made: Path, tmp_path: Path) -> None:
    result = warmstart.index_tune(
        towers=str(made / "towers"), recall=0.9, at=5, p99_ms=1e4, kinds="flat", output_dir=str(tmp_path / "tuned")
    )
    record = TuneRecord.from_json((tmp_path / "tuned" / "results.json").read_text())
    assert record.queries == 2 * USERS  # all histories, and each once more as it was at an earlier moment
    assert record.queries_source == f"{2 * USERS} histories of users of {made / 'towers'}"
    assert set(record.data.towers) == {"config.json", "ids.json", "items.safetensors", "model.safetensors"}
    assert result.record == record
    index = load_index(tmp_path / "tuned")
    towers = warmstart.load_two_tower(made / "towers")
    assert index.ids().tolist() == list(range(ITEMS + 1))
    query = towers.query_vectors([["p3", "p4"]])
    found = index.search(query, 3).ids[0]
    assert found.tolist() == np.argsort(-(towers.vectors.numpy() @ query[0]))[:3].tolist()
    few = warmstart.index_tune(
        towers=str(made / "towers"), at=5, p99_ms=1e4, holdout=20, kinds="flat", output_dir=str(tmp_path / "few")
    )
    assert few.record.queries == 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "either --vectors or --towers"),
        ({"towers": "towers", "vectors": "v.npy"}, "either --vectors or --towers"),
        ({"towers": "towers", "ids": "ids.npy"}, "--ids goes with --vectors"),
        ({"towers": "towers-index"}, "no result of contrast two-tower"),
        ({"towers": "nowhere"}, "holds no result"),
    ],
)
def test_bad_calls_of_an_index_of_towers(made: Path, tmp_path: Path, changes: dict[str, str], words: str) -> None:
    paths = {name: str(made / value) for name, value in changes.items()}
    for verb in (warmstart.index_build, warmstart.index_tune):
        with pytest.raises(UserError, match=words):
            verb(output_dir=str(tmp_path / "out"), **paths)
    assert list(tmp_path.iterdir()) == []


def test_vectors_are_not_added_to_an_index_of_towers(made: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((1, 16), dtype=np.float32))
    np.save(tmp_path / "i.npy", np.array([99]))
    with pytest.raises(SettingError, match="items of two towers"):
        warmstart.index_add(
            index=str(made / "towers-index"), vectors=str(tmp_path / "v.npy"), ids=str(tmp_path / "i.npy")
        )


# --- the bundle


def test_a_bundle_answers_like_its_towers(made: Path) -> None:
    towers, found = warmstart.load_two_tower(made / "towers"), warmstart.load_recommender(made / "serve")
    for user in ("u0", "u7", "u31"):
        expected = [(one.item, one.title) for one in towers.recommend(user=user, k=5)]
        assert [(one.item, one.title) for one in found.recommend(user=user, k=5).items] == expected
    expected = [one.item for one in towers.recommend(history=["p3"], k=4)]
    answer = found.recommend(history=["thing number 3"], k=4)
    assert [one.item for one in answer.items] == expected
    assert answer.user is None
    assert answer.history == ("thing number 3",)
    assert found.manifest.recall == pytest.approx(1.0)


def test_the_towers_may_be_changed_afterwards(made: Path, tmp_path: Path) -> None:
    for name in ("towers", "towers-index"):
        shutil.copytree(made / name, tmp_path / name)
    publish(tmp_path, tmp_path / "serve")
    for path in (tmp_path / "towers").iterdir():
        path.write_bytes(b"spoiled")
    assert warmstart.load_recommender(tmp_path / "serve").recommend(user="u0").items


def test_any_changed_missing_or_unknown_file_is_refused(bundle: Path) -> None:
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    names = {str(path.relative_to(bundle)) for path in files}
    assert {"bundle.json", "items.parquet", "index/index.faiss", "towers/ids.json", "towers/model.safetensors"} <= names
    for path in files:
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            spoiled = bytearray(content)
            spoiled[place] ^= 1
            path.write_bytes(spoiled)
            with pytest.raises(ResultError, match=r"altered|damaged"):
                warmstart.load_recommender(bundle)
        path.unlink()
        with pytest.raises(ResultError, match=r"missing|no bundle|one part"):
            warmstart.load_recommender(bundle)
        path.write_bytes(content)
    for extra in ("more.txt", "towers/more.txt", "ranker/results.json"):
        (bundle / extra).parent.mkdir(exist_ok=True)
        (bundle / extra).write_text("{}")
        with pytest.raises(ResultError, match=f"{extra} does not belong to the bundle"):
            warmstart.load_recommender(bundle)
        (bundle / extra).unlink()
    assert warmstart.load_recommender(bundle).recommend(user="u1").items


def resealed(bundle: Path) -> None:
    """Note the files as they are now, as somebody would who means to mix parts."""
    values = read_sealed(bundle / MANIFEST)
    files = {str(p.relative_to(bundle)): digest(p) for p in bundle.rglob("*") if p.is_file() and p.name != MANIFEST}
    write_sealed(bundle / MANIFEST, {**values, "files": files})


@pytest.mark.parametrize(
    ("part", "source", "words"),
    [("index", "others-index", "index of other towers"), ("towers", "others", "index of other towers")],
)
def test_parts_of_another_version_are_refused(made: Path, bundle: Path, part: str, source: str, words: str) -> None:
    shutil.rmtree(bundle / part)
    shutil.copytree(made / source, bundle / part)
    with pytest.raises(ResultError, match=r"altered|missing"):
        warmstart.load_recommender(bundle)
    resealed(bundle)
    with pytest.raises(ResultError, match=words):
        warmstart.load_recommender(bundle)


@pytest.mark.parametrize("name", ["towers/items.safetensors", "towers/model.safetensors", "index/index.faiss"])
def test_single_files_of_another_version_are_refused(made: Path, bundle: Path, name: str) -> None:
    source = {"towers": "others", "index": "others-index"}[name.split("/")[0]]
    shutil.copy(made / source / name.split("/")[1], bundle / name)
    resealed(bundle)
    with pytest.raises(ResultError, match="put together of several"):
        warmstart.load_recommender(bundle)


@pytest.mark.parametrize("column", ["id", "title"])
def test_a_table_of_other_items_is_refused(bundle: Path, column: str) -> None:
    frame = pd.read_parquet(bundle / "items.parquet")
    frame[column] = frame[column].iloc[::-1].to_numpy()
    frame.to_parquet(bundle / "items.parquet")
    resealed(bundle)
    with pytest.raises(ResultError, match="lists other items than the towers know"):
        warmstart.load_recommender(bundle)


def test_parts_that_do_not_belong_together_are_not_published(made: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", warmstart.load_two_tower(made / "towers").vectors.numpy())
    warmstart.index_build(vectors=str(tmp_path / "v.npy"), output_dir=str(tmp_path / "bare"))
    to = tmp_path / "serve"
    for changes, words in (
        ({"index": str(made / "others-index")}, "index of other towers"),
        ({"index": str(tmp_path / "bare")}, "no index of towers: make it with --towers"),
        ({"index": str(made / "towers")}, "no index of towers"),
        ({"index": str(tmp_path / "nowhere")}, "no index"),
        ({"towers": str(tmp_path / "nowhere")}, "holds no result"),
        ({"towers": str(made / "towers-index")}, "no result of contrast two-tower"),
        ({"ranker": str(made / "towers-index"), "keep": 1}, "--keep is 1"),
        ({"retrieve": 0}, "--retrieve is 0"),
        ({"diversity": 1.5}, "--diversity is 1.5"),
        ({"to": str(made / "towers")}, "was not published"),
        ({"to": str(made / "events.csv")}, "is a file"),
        ({"to": str(made / "serve" / "versions" / "0001")}, "one version"),
    ):
        with pytest.raises(UserError, match=words):
            publish(made, **{"to": to, **changes})
        assert not to.exists()


# --- versions


def test_publish_and_rollback_switch_what_answers(made: Path, tmp_path: Path) -> None:
    to = tmp_path / "serve"
    first = publish(made, to, retrieve=7)
    second = publish(made, to, retrieve=9, diversity=0.5)
    assert (first.version, second.version, second.before) == ("0001", "0002", ("0001",))
    assert second.manifest.settings.retrieve == 9
    now = warmstart.load_recommender(to)
    assert now.recommend(user="u0", k=3).funnel.retrieved == 9
    assert now.recommend(user="u0", k=3).items[1].penalty is not None
    back = warmstart.index_rollback(serving=str(to))
    assert (back.version, back.was) == ("0001", "0002")
    assert warmstart.load_recommender(to).recommend(user="u0", k=3).funnel.retrieved == 7
    rows = warmstart.index_versions(serving=str(to)).versions
    assert [(row.version, row.is_current, row.note) for row in rows] == [
        ("0001", True, "current"),
        ("0002", False, "rolled back"),
    ]
    assert now.recommend(user="u0").items  # loaded before, still answers


def test_a_spoiled_version_is_not_gone_back_to(made: Path, tmp_path: Path) -> None:
    to = tmp_path / "serve"
    publish(made, to)
    publish(made, to)
    path = to / "versions" / "0001" / "towers" / "ids.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(ResultError, match="altered"):
        warmstart.index_rollback(serving=str(to))
    assert Serving(to).pointer().current == "0002"
    with pytest.raises(ResultError, match="Nothing was published"):
        warmstart.index_rollback(serving=str(tmp_path))


def test_two_publish_at_once(made: Path, tmp_path: Path) -> None:
    publish(made, tmp_path / "serve")
    with Serving(tmp_path / "serve").lock(), pytest.raises(OutputError, match="Another process is publishing"):
        publish(made, tmp_path / "serve")
    assert publish(made, tmp_path / "serve").version == "0002"


DYING = """
import os, signal, sys
import warmstart
towers, index, to, operation = sys.argv[1:]
seen = 0
def watch(event, arguments):
    global seen
    if event in ("os.rename", "os.mkdir", "shutil.copyfile") and to in str(arguments):
        seen += 1
        if seen == int(operation):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
warmstart.index_publish(towers=towers, index=index, to=to)
"""


@pytest.mark.slow
@pytest.mark.parametrize("operation", [9, 21])  # while files are copied, and about the renaming
def test_a_publisher_that_is_killed(made: Path, tmp_path: Path, operation: int) -> None:
    to = tmp_path / "serve"
    publish(made, to)
    words = [str(made / "towers"), str(made / "towers-index"), str(to), str(operation)]
    done = subprocess.run([sys.executable, "-c", DYING, *words], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert warmstart.load_recommender(to).recommend(user="u3").items
    assert [path.name for path in (to / "versions").iterdir() if path.name.endswith(".part")]
    publish(made, to)
    assert not [path.name for path in (to / "versions").iterdir() if path.name.endswith((".part", ".gone"))]


# --- the ranker's place


class Backwards:
    """Turns the order round."""

    def scores(self, history: Sequence[int], candidates: np.ndarray, retrieved: np.ndarray) -> np.ndarray:
        return -retrieved


def fake_ranker(folder: Path, towers: Path) -> Path:
    """A folder as `ranker` writes it, which notes its towers."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    files = {name: digest(towers / name) for name in ("config.json", "ids.json", "items.safetensors")}
    record = {
        "towers": files,
        "settings": {"candidates": 6},
        "files": {"model.safetensors": digest(folder / "model.safetensors")},
    }
    (folder / "results.json").write_text(json.dumps(record))
    return folder


def test_a_ranker_is_one_more_part(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (recommender, index_publish):
        monkeypatch.setattr(module, "load_ranker", lambda folder: Backwards())
    monkeypatch.setattr(index_publish, "_ranking", lambda parts: None)
    ranker, other = (fake_ranker(tmp_path / name, made / name) for name in ("towers", "others"))
    with pytest.raises(ResultError, match="ranker of other towers"):
        publish(made, tmp_path / "serve", ranker=str(other))
    result = publish(made, tmp_path / "serve", ranker=str(ranker))
    assert result.manifest.ranker
    loaded = warmstart.load_recommender(tmp_path / "serve")
    plain, ranked = (loaded.recommend(user="u2", k=6, ranker=use) for use in (False, True))
    assert [one.item for one in ranked.items] == [one.item for one in plain.items][::-1]
    assert (plain.funnel.ranked, ranked.funnel.ranked) == (0, 6)
    assert [one.ranker for one in plain.items] == [None] * 6
    assert [one.ranker for one in ranked.items] == pytest.approx([-one.score for one in ranked.items])
    path = Path(result.bundle) / "ranker" / "model.safetensors"
    path.write_bytes(b"Weights")
    with pytest.raises(ResultError, match="altered"):
        warmstart.load_recommender(tmp_path / "serve")


# --- recommend


def test_filters_never_leak(made: Path) -> None:
    loaded = warmstart.load_recommender(made / "serve")
    everything = {one.item for one in loaded.recommend(user="u0", k=99, include_seen=True).items}
    assert len(everything) == ITEMS + 1
    took = {f"p{item}" for item in walks()[0]}
    assert {one.item for one in loaded.recommend(user="u0", k=99).items} == everything - took
    other = loaded.recommend(user="u0", history=["p3"], k=99)  # what the user took is seen, whatever is read
    assert {one.item for one in other.items} == everything - took - {"p3"}
    aisle = loaded.recommend(history=["p0"], k=99, where=["aisle=aisle2"])
    assert {one.item for one in aisle.items} == {f"p{item}" for item in range(12, 18)} | {"p-new"}
    assert aisle.funnel.allowed == 7
    both = loaded.recommend(history=["p0"], k=99, where=["aisle=aisle2", "angle>=0.6"])
    assert {one.item for one in both.items} == {"p15", "p16", "p17"}
    only = loaded.recommend(history=["p0"], k=99, only=["p4,p5", "thing number 0"], exclude=["p5"])
    assert [one.item for one in only.items] == ["p4"]
    least = loaded.recommend(history=["p0"], k=99, min_score=0.3)
    assert all(one.score >= 0.3 for one in least.items)
    assert 0 < len(least.items) < ITEMS


def test_many_users_get_what_each_gets_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("customer\nu5\nu1\nu5\n")
    out = tmp_path / "out.csv"
    values = {"source": str(made / "serve"), "users": str(tmp_path / "users.csv"), "k": 4, "output": str(out)}
    done = warmstart.recommend(**values)
    assert (done.users, done.rows, done.short) == (2, 8, 0)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["user", "rank", "item", "title", "score"]
    loaded = warmstart.load_recommender(made / "serve")
    for user in ("u5", "u1"):
        alone = [(str(one.rank), one.item, one.title) for one in loaded.recommend(user=user, k=4).items]
        assert [(row["rank"], row["item"], row["title"]) for row in rows if row["user"] == user] == alone
    every = warmstart.recommend(**{**values, "users": "all", "output": str(tmp_path / "all.parquet")})
    assert every.users == USERS
    (tmp_path / "users.csv").write_text("customer\nu5\nnobody\n\n")
    with pytest.raises(DataError, match=r"users.csv, row 3, column 'customer': there is no user 'nobody'"):
        warmstart.recommend(**{**values, "output": str(tmp_path / "more.csv")})
    assert not (tmp_path / "more.csv").exists()
    some = warmstart.recommend(**{**values, "output": str(tmp_path / "more.jsonl"), "drop_invalid": True})
    assert (some.users, some.left_out) == (1, 1)


def test_the_command_line(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            run([*words])
        assert stop.value.code == 0
        return capsys.readouterr().out

    to, serve = str(tmp_path / "serve"), str(made / "serve")
    parts = ["--towers", str(made / "towers"), "--index", str(made / "towers-index"), "--to", to]
    assert "Version 0001 serves from" in said("index", "publish", *parts)
    assert "before it: 0001" in said("index", "publish", *parts)
    assert "in place of 0002" in said("index", "rollback", to)
    assert "can be gone back to" not in said("index", "versions", to)
    shown = said("recommend", serve, "--user", "u0", "--k", "3", "--diversity", "0.2")
    last = [f"thing number {item}" for item in walks()[0][-5:]]
    assert all(title in shown for title in last)
    assert "User u0; last of 9" in shown
    assert "25 items → 16 allowed → 16 retrieved → 3 shown" in shown
    (tmp_path / "history.txt").write_text("thing number 3\np4\n")
    answer = json.loads(
        said("recommend", serve, "--history", f"@{tmp_path / 'history.txt'}", "--history", "p5", "--json")
    )
    assert answer["answer"]["history"] == ["thing number 3", "thing number 4", "thing number 5"]
    assert len(answer["answer"]["items"]) == 10
    assert answer["bundle"].endswith("0001")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": "nobody"}, "no user 'nobody'"),
        ({"user": None}, "Give --user, --history"),
        ({"user": None, "history": ""}, "--history is empty"),
        ({"user": None, "history": "thing number 99"}, "Did you mean"),
        ({"user": None, "history": "@nowhere.txt"}, "no file 'nowhere.txt'"),
        ({"only": "p99"}, "--only: there is no item 'p99'"),
        ({"where": "aisle=aisle9"}, "no item has aisle=aisle9"),
        ({"where": "colour=red"}, "names 'colour'"),
        ({"k": 0}, "--k is 0"),
        ({"diversity": -0.1}, "--diversity is -0.1"),
        ({"min_score": 2.0}, "--min-score is 2"),
        ({"users": "all"}, "without --user"),
        ({"user": None, "users": "all"}, "needs --output"),
        ({"output": "o.csv"}, "--output goes with --users"),
        ({"user": None, "users": "all", "output": "o.xlsx"}, "o.xlsx"),
        ({"source": "nowhere"}, "no folder nowhere"),
        ({"source": "towers"}, "one part of a bundle"),
        ({"source": "."}, "is no bundle"),
    ],
)
def test_bad_requests(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(made if changes.get("source") == "towers" else tmp_path)
    with pytest.raises(UserError, match=words):
        warmstart.recommend(**{"source": str(made / "serve"), "user": "u0", **changes})
    assert list(tmp_path.iterdir()) == []
