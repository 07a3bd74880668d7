"""`index encode` end to end: sentence-transformers' own vectors, updates, kills, and indexes of what it wrote."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from captions_data import write_captions
from kinds import write_rows
from PIL import Image

import warmstart
from warmstart.backbones.load import load_backbone
from warmstart.cli.main import run
from warmstart.core.errors import DataError, OutputError, ResultError, SettingError, UnfinishedError
from warmstart.core.index import EncodeRecord
from warmstart.data.vector_store import Stored, VectorStore
from warmstart.neighbours.folder import load_index

sys.path.insert(0, str(Path(__file__).parents[1] / "backbones"))
from saved import save

ROWS = 50


def encode(data: Path, model: Path, out: Path, **changes: Any) -> EncodeRecord:
    values = {"text_column": "text", "title_column": "kind", "bf16": "false", "shard_rows": 16}
    return warmstart.index_encode(data=str(data), model=str(model), output_dir=str(out), **{**values, **changes}).record


def by_id(folder: Path) -> dict[str, np.ndarray]:
    found = VectorStore(folder).read()
    return dict(zip(found.items.ids, np.asarray(found.vectors[:]), strict=True))


def frame_of(data: Path) -> pd.DataFrame:
    return pd.read_csv(data, dtype=str)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty items of different lengths; tests must not change them."""
    return write_rows(tmp_path_factory.mktemp("items") / "items.csv", ROWS)


@pytest.fixture(scope="module")
def encoded(data: Path, tiny_model: Path) -> Path:
    """A finished folder; tests must not change it."""
    encode(data, tiny_model, data.parent / "vectors")
    return data.parent / "vectors"


def changed(data: Path, folder: Path) -> Path:
    """The items with two new ones, one changed, one removed, and others in another order."""
    frame = frame_of(data)
    frame.loc[3, "text"] = "the old hammer was very nice"
    more = pd.DataFrame({"id": ["n1", "n2"], "text": ["a cat", "my new dog and the horse"], "kind": ["animal"] * 2})
    frame = pd.concat([frame.drop(index=[7]), more]).sample(frac=1, random_state=0)
    frame.to_csv(folder / "changed.csv", index=False)
    return folder / "changed.csv"


def test_vectors_are_those_of_sentence_transformers(
    data: Path, encoded: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    frame, peer = frame_of(data), SentenceTransformer(str(tiny_model), device="cpu")
    for options, unit in (({}, True), ({"normalize": False}, False), ({"bf16": "true"}, True)):
        expected = peer.encode(list(frame["text"]), normalize_embeddings=unit)
        folder = encoded
        if options:
            folder = tmp_path / "-".join(options)
            encode(data, tiny_model, folder, **options)
        found = by_id(folder)
        assert list(found) != list(frame["id"])  # they lie by length
        got = np.stack([found[name] for name in frame["id"]])
        near = 2e-2 if "bf16" in options else 1e-5
        np.testing.assert_allclose(got, expected, atol=near)
        assert VectorStore(folder).read().unit_length == unit


def test_a_vector_does_not_hang_on_its_neighbours(encoded: Path, data: Path, tiny_model: Path) -> None:
    backbone, found = load_backbone(str(tiny_model)), by_id(encoded)
    frame = frame_of(data)
    for name, text in list(zip(frame["id"], frame["text"], strict=True))[::7]:
        with torch.no_grad():
            alone = backbone.encoder.features(**backbone.preprocessor.encode({"text": [text]}).batch([0]))[0]
        np.testing.assert_allclose(found[name], torch.nn.functional.normalize(alone, dim=0).numpy(), atol=1e-6)


def test_the_record_says_what_was_done(encoded: Path, tiny_model: Path) -> None:
    record = EncodeRecord.from_json((encoded / "results.json").read_text())
    assert (record.new, record.encoded, record.items, record.dropped) == (ROWS, ROWS, ROWS, 0)
    assert (record.width, record.shards) == (32, 4)
    assert record.encoder.columns == {"id": "id", "text": "text"}
    assert record.guessed == ("id",)
    assert record.items_per_second > 0
    assert f"--model {tiny_model}" in record.command
    titles = VectorStore(encoded).read().items.titles
    assert titles is not None
    assert set(titles) == {"fruit", "tool", "animal"}


def test_an_update_is_as_good_as_encoding_anew(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "v", changed(data, tmp_path)
    encode(data, tiny_model, out)
    before = by_id(out)
    numbers = VectorStore(out).read().items.number_of
    with pytest.raises(OutputError, match="--update"):
        encode(other, tiny_model, out)
    record = encode(other, tiny_model, out, update=True)
    assert (record.new, record.changed, record.removed, record.kept, record.encoded) == (2, 1, 1, 48, 3)
    encode(other, tiny_model, tmp_path / "anew")
    after, anew = by_id(out), by_id(tmp_path / "anew")
    assert after.keys() == anew.keys()
    for name, vector in anew.items():
        np.testing.assert_allclose(after[name], vector, atol=1e-6)
    same = [name for name in after if name in before and name != frame_of(data)["id"][3]]
    assert len(same) == 48
    assert all((after[name] == before[name]).all() for name in same)
    now = VectorStore(out).read().items.number_of
    assert all(now[name] == numbers[name] for name in now if name in numbers)
    again = encode(other, tiny_model, out, update=True)
    assert (again.kept, again.encoded, again.new) == (51, 0, 0)


def test_update_encodes_everything_where_there_is_nothing_yet(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert encode(data, tiny_model, tmp_path / "v", update=True).new == ROWS


def test_another_model_or_setting_is_refused(data: Path, encoded: Path, tiny_model: Path, tmp_path: Path) -> None:
    save("bert", tmp_path / "other")
    for model, options, word in (
        (tmp_path / "other", {}, "weights"),
        (tiny_model, {"normalize": False}, "normalize"),
        (tiny_model, {"text_column": "kind"}, "columns"),
        (tiny_model, {"max_length": 8}, "max_length"),
        (tiny_model, {"prompt": "query: "}, "prompt"),
        (tiny_model, {"dtype": "float16"}, "dtype"),
    ):
        with pytest.raises(OutputError, match=f"other settings: .*{word}"):
            encode(data, model, encoded, update=True, **options)
    assert len(by_id(encoded)) == ROWS
    with pytest.raises(OutputError, match="nothing to resume"):
        encode(data, tiny_model, encoded, resume=True)
    with pytest.raises(SettingError, match="contradict"):
        encode(data, tiny_model, encoded, update=True, overwrite=True)


def test_half_precision_and_overwriting(data: Path, encoded: Path, tiny_model: Path, tmp_path: Path) -> None:
    encode(data, tiny_model, tmp_path / "v", shard_rows=10)
    encode(data, tiny_model, tmp_path / "v", dtype="float16", overwrite=True)
    found, whole = by_id(tmp_path / "v"), by_id(encoded)
    assert all(vector.dtype == np.float16 for vector in found.values())
    assert all(np.abs(found[name] - whole[name]).max() < 1e-3 for name in whole)


def test_a_time_budget_keeps_what_was_done(data: Path, encoded: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "v"
    with pytest.raises(UnfinishedError, match=r"of 50 items are encoded. --resume"):
        encode(data, tiny_model, out, time_budget=1e-9)
    assert not out.exists()
    with pytest.raises(OutputError, match="--resume goes on"):
        encode(data, tiny_model, out)
    with pytest.raises(OutputError, match="other options: normalize"):
        encode(data, tiny_model, out, resume=True, normalize=False)
    encode(data, tiny_model, out, resume=True, time_budget=600)
    assert by_id(out).keys() == by_id(encoded).keys()
    assert not (tmp_path / "v.running").exists()


DYING = """
import json, os, signal, sys
import warmstart
arguments, shards = json.loads(sys.argv[1]), int(sys.argv[2])
seen = 0
def watch(event, what):
    global seen
    if event == "os.rename" and str(what[1]).rpartition("/")[2].isdecimal():
        seen += 1
        if seen > shards:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
warmstart.index_encode(**arguments)
"""


def kill(shards: int, **arguments: Any) -> None:
    """Run the verb in a process that is killed when it commits another shard."""
    words = [sys.executable, "-c", DYING, json.dumps(arguments), str(shards)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_a_kill_and_a_resumption(data: Path, encoded: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "v"
    same = {"text_column": "text", "title_column": "kind", "bf16": "false", "shard_rows": 16}
    common = {"model": str(tiny_model), "output_dir": str(out), **same}
    kill(2, data=str(data), **common)
    assert not out.exists()
    record = encode(data, tiny_model, out, resume=True)
    assert (record.encoded, record.items) == (ROWS - 2 * 16, ROWS)
    one, two = by_id(encoded), by_id(out)
    assert one.keys() == two.keys()
    assert all((one[name] == two[name]).all() for name in one)  # to the bit: the shards are the same ones
    other = changed(data, tmp_path)
    kill(0, data=str(other), update=True, **common)
    assert by_id(out).keys() == one.keys()  # the old folder serves until the new one is whole
    assert encode(other, tiny_model, out, update=True).encoded == 3
    assert "n1" in by_id(out)


def test_rows_that_cannot_be_used_are_told_or_left_out(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    frame = frame_of(data)
    frame.loc[4, "text"], frame.loc[5, "id"], frame.loc[9, "id"] = "  ", None, frame["id"][8]
    frame.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(DataError) as told:
        encode(tmp_path / "bad.csv", tiny_model, tmp_path / "v")
    for words in ("row 7: the id is missing", "row 11: an earlier row has the id '0009'", "row 6: the text is empty"):
        assert words in str(told.value)
    assert "--drop-invalid leaves those 3 rows out" in str(told.value)
    record = encode(tmp_path / "bad.csv", tiny_model, tmp_path / "v", drop_invalid=True)
    assert (record.items, record.dropped) == (ROWS - 3, 3)


def test_pairs_of_texts(tiny_model: Path, tmp_path: Path) -> None:
    pd.DataFrame({"id": [1, 2], "a": ["the cat", "a saw"], "b": ["is nice", "was old"]}).to_csv(
        tmp_path / "p.csv", index=False
    )
    encode(tmp_path / "p.csv", tiny_model, tmp_path / "v", text_column="a", text_pair_column="b", title_column=None)
    backbone = load_backbone(str(tiny_model))
    inputs = backbone.preprocessor.encode({"text": ["the cat"], "text_pair": ["is nice"]})
    with torch.no_grad():
        expected = torch.nn.functional.normalize(backbone.encoder.features(**inputs.batch([0]))[0], dim=0)
    np.testing.assert_allclose(by_id(tmp_path / "v")["1"], expected.numpy(), atol=1e-6)


# --- results of other verbs


def test_a_result_of_adapt_encodes(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv", 90)
    common = {"text_column": "text", "label_column": "kind", "cache_dir": str(tmp_path / "c"), "reference_data": "none"}
    adapted = tmp_path / "adapted"
    warmstart.adapt(
        data=str(rows), model=str(tiny_model), strategy="fine_tune", num_train_epochs=1, bf16="false",
        output_dir=str(adapted), **common,
    )  # fmt: skip
    encode(data, adapted, tmp_path / "v")
    found, frame = by_id(tmp_path / "v"), frame_of(data)
    result = warmstart.load(adapted)
    with torch.no_grad():
        inputs = result.preprocessor.encode({"text": [frame["text"][0]]}).batch([0])
        expected = torch.nn.functional.normalize(result.model.features(**inputs)[0], dim=0)
    np.testing.assert_allclose(found[frame["id"][0]], expected.numpy(), atol=1e-5)
    other = tmp_path / "plain"
    encode(data, tiny_model, other)
    assert np.abs(by_id(other)[frame["id"][0]] - found[frame["id"][0]]).max() > 1e-4  # it was trained


def test_images_are_found_by_words(tmp_path: Path, tiny_model: Path) -> None:
    """A result of `contrast clip`: items are images in a folder, queries are words; both lie in one space."""
    captions = write_captions(tmp_path, images=30, captions=1)
    save("efficientnet_lite", tmp_path / "vision")
    warmstart.contrast_clip(
        captions=str(captions), images=str(tmp_path / "images"), vision_model=str(tmp_path / "vision"),
        text_model=str(tiny_model), projection_dim=16, test_size=6, validation_size=6, num_train_epochs=1,
        per_device_train_batch_size=12, mini_batch_size=12, evaluations=1, bf16="false",
        output_dir=str(tmp_path / "pair"),
    )  # fmt: skip
    common = {"model": str(tmp_path / "pair"), "bf16": "false"}
    pictures = warmstart.index_encode(data=str(tmp_path / "images"), output_dir=str(tmp_path / "v"), **common).record
    assert (pictures.items, pictures.encoder.reads) == (30, "image")
    warmstart.index_build(vectors=str(tmp_path / "v"), output_dir=str(tmp_path / "idx"))
    text = "the apple with hammer"
    found = warmstart.index_search(index=str(tmp_path / "idx"), text=text, k=30).shown
    assert sorted(answer.id for answer in found) == [f"{place:03d}.png" for place in range(30)]
    backbone = load_backbone(str(tmp_path / "pair"))
    assert backbone.embed_labels is not None
    with torch.no_grad():
        query = backbone.embed_labels([text])[0]
        pixels = backbone.preprocessor.encode({"image": [Image.open(tmp_path / "images" / found[0].id)]}).batch([0])
        image = torch.nn.functional.normalize(backbone.encoder.features(**pixels)[0], dim=0)
    assert found[0].score == pytest.approx(float(image @ query), abs=1e-4)
    nearest = warmstart.index_search(
        index=str(tmp_path / "idx"), data=str(tmp_path / "images"), k=1, output=str(tmp_path / "near.csv")
    )
    assert nearest.queries == 30
    table = pd.read_csv(tmp_path / "near.csv")
    assert table["id"].tolist() == [f"{place:03d}.png" for place in range(30)]  # every image is nearest to itself


# --- indexes of encoded items


@pytest.fixture
def index(encoded: Path, tmp_path: Path) -> Path:
    warmstart.index_build(vectors=str(encoded), output_dir=str(tmp_path / "idx"))
    return tmp_path / "idx"


def exact(folder: Path, query: np.ndarray, k: int) -> list[str]:
    found = by_id(folder)
    order = sorted(found, key=lambda name: -float(np.asarray(found[name], dtype=np.float64) @ query))
    return order[:k]


def test_words_find_items(data: Path, encoded: Path, index: Path, tiny_model: Path, tmp_path: Path) -> None:
    frame = frame_of(data)
    text = frame["text"][12]
    found = warmstart.index_search(index=str(index), text=[text, "the cat"], k=3)
    assert (found.queries, found.answers, found.output) == (2, 3, "")
    assert found.shown[0].id == frame["id"][12]
    assert found.shown[0].title == frame["kind"][12]
    assert found.shown[0].score == pytest.approx(1.0, abs=1e-5)
    query = by_id(encoded)[frame["id"][12]]
    assert [answer.id for answer in found.shown[:3]] == exact(encoded, query, 3)
    out = tmp_path / "found.parquet"
    warmstart.index_search(index=str(index), data=str(data), text_column="text", k=1, output=str(out))
    table = pd.read_parquet(out)
    assert list(table.columns) == ["query", "text", "rank", "id", "score", "title"]
    assert table["id"].tolist() == frame["id"].tolist()
    assert table["text"].tolist() == frame["text"].tolist()


def test_filters_and_deletion_go_by_the_ids_outside(data: Path, index: Path, tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("0003\n0007\n")
    pd.DataFrame({"id": ["0003"]}).to_csv(tmp_path / "one.csv", index=False)

    def search(**options: str) -> set[str]:
        return {answer.id for answer in warmstart.index_search(index=str(index), text="a saw", k=50, **options).shown}

    assert search(allow=str(tmp_path / "some.txt")) == {"0003", "0007"}
    assert search(block=str(tmp_path / "one.csv")) == set(frame_of(data)["id"]) - {"0003"}
    warmstart.index_delete(index=str(index), ids=str(tmp_path / "one.csv"))
    assert search() == set(frame_of(data)["id"]) - {"0003"}
    (tmp_path / "unknown.txt").write_text("0003\nxx\n")
    with pytest.raises(DataError, match=r"2 of 2 ids are not in the index \('0003', 'xx'\)"):
        search(allow=str(tmp_path / "unknown.txt"))


def test_tuning_reads_the_folder(encoded: Path, tmp_path: Path) -> None:
    arguments = {"recall": 0.5, "at": 5, "p99_ms": 1e4, "kinds": "flat,sq8"}
    result = warmstart.index_tune(vectors=str(encoded), output_dir=str(tmp_path / "idx"), **arguments)
    assert result.record.data.encoder is not None
    assert sorted(load_index(tmp_path / "idx").ids().tolist()) == list(range(ROWS))
    assert len(warmstart.index_search(index=str(tmp_path / "idx"), text="a dog", k=4).shown) == 4


def test_an_index_follows_its_items(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    vectors, index, other = tmp_path / "v", tmp_path / "idx", changed(data, tmp_path)
    encode(data, tiny_model, vectors)
    warmstart.index_build(vectors=str(vectors), output_dir=str(index), kind="flat")
    encode(other, tiny_model, vectors, update=True)
    first = warmstart.index_add(index=str(index), vectors=str(vectors))
    assert (first.added, first.updated, first.deleted, first.vectors) == (2, 0, 0, ROWS + 2)
    assert warmstart.index_search(index=str(index), text="a cat", k=1).shown[0].id == "n1"
    then = warmstart.index_add(index=str(index), vectors=str(vectors), update=True)
    assert (then.added, then.updated, then.deleted, then.vectors) == (0, 1, 1, ROWS + 1)
    assert warmstart.index_search(index=str(index), text="the old hammer was very nice", k=1).shown[0].id == "0004"
    warmstart.index_build(vectors=str(vectors), output_dir=str(tmp_path / "anew"), kind="flat")
    for query in ("my dog", "the new drill"):
        one, two = (
            warmstart.index_search(index=str(tmp_path / name), text=query, k=51).shown for name in ("idx", "anew")
        )
        assert {answer.id: round(answer.score, 4) for answer in one} == {a.id: round(a.score, 4) for a in two}
    assert warmstart.index_add(index=str(index), vectors=str(vectors), update=True).updated == 0
    encode(other, tiny_model, tmp_path / "elsewhere")
    with pytest.raises(SettingError, match="other numbers"):
        warmstart.index_add(index=str(index), vectors=str(tmp_path / "elsewhere"))
    encode(other, tiny_model, tmp_path / "half", dtype="float16")
    with pytest.raises(SettingError, match="other settings"):
        warmstart.index_add(index=str(index), vectors=str(tmp_path / "half"))


def test_altered_names_or_weights_are_refused(data: Path, index: Path, tiny_model: Path, tmp_path: Path) -> None:
    content = bytearray((index / "items.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (index / "items.parquet").write_bytes(content)
    with pytest.raises(ResultError, match=r"items.parquet was altered"):
        warmstart.index_search(index=str(index), text="a dog")
    save("bert", tmp_path / "model")
    encode(data, tmp_path / "model", tmp_path / "v", title_column=None)
    warmstart.index_build(vectors=str(tmp_path / "v"), output_dir=str(tmp_path / "second"))
    values = json.loads((tmp_path / "second" / "results.json").read_text())
    values["data"]["encoder"]["model"] = str(tiny_model)
    (tmp_path / "second" / "results.json").write_text(json.dumps(values))
    with pytest.raises(ResultError, match="is not the model that encoded the items"):
        warmstart.index_search(index=str(tmp_path / "second"), text="a dog")


def test_wrong_input_is_one_line(
    data: Path, encoded: Path, index: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "q.npy", np.ones((25, 32), dtype=np.float32))
    np.save(tmp_path / "ids.npy", np.arange(25))
    save("vit", tmp_path / "vit")
    warmstart.index_build(vectors=str(tmp_path / "q.npy"), output_dir=str(tmp_path / "bare"))
    own = ["--model", str(tiny_model), "--output-dir", str(tmp_path / "out")]
    begin = ["encode", "--data", str(data), *own]
    search = ["search", str(index)]
    cases: dict[str, tuple[list[str], list[str]]] = {
        "no such file": (["encode", "--data", str(data.parent / "item.csv"), *own], ["items.csv"]),
        "no such column": ([*begin, "--text-column", "txt"], ["'txt'", "text"]),
        "no such id": ([*begin, "--id-column", "ids"], ["'ids'", "'id'"]),
        "one column twice": ([*begin, "--text-column", "id"], ["--text-column", "--id-column", "'id'"]),
        "no such title": ([*begin, "--text-column", "text", "--title-column", "name"], ["'name'"]),
        "no such model": (["encode", "--data", str(data), "--model", "./none", "--output-dir", "x"], ["none"]),
        "a model of images": (
            ["encode", "--data", str(data), "--text-column", "text", "--model", str(tmp_path / "vit"), *own[2:]],
            ["reads images", "--model"],
        ),
        "nothing to resume": ([*begin, "--resume"], ["nothing to resume"]),
        "a folder of something else": ([*begin[:-1], str(data.parent)], ["already holds files"]),
        "no rows in a shard": ([*begin, "--shard-rows", "0"], ["--shard-rows"]),
        "another type": ([*begin, "--dtype", "int8"], ["int8"]),
        "a folder without vectors": (
            ["build", "--vectors", str(tmp_path / "empty"), "--output-dir", str(tmp_path / "o")],
            ["vectors.json"],
        ),
        "ids of a folder": (
            ["build", "--vectors", str(encoded), "--ids", str(tmp_path / "ids.npy"), "--output-dir", "o"],
            ["--ids", "numbers of their own"],
        ),
        "add a file": (
            ["add", str(index), "--vectors", str(tmp_path / "q.npy"), "--ids", str(tmp_path / "ids.npy")],
            ["index encode"],
        ),
        "add a folder": (["add", str(tmp_path / "bare"), "--vectors", str(encoded)], ["no encoded items"]),
        "no query": (search, ["--vectors, --text or --data"]),
        "two kinds of query": (
            [*search, "--text", "a", "--vectors", str(tmp_path / "q.npy")],
            ["--vectors, --text or --data"],
        ),
        "an empty query": ([*search, "--text", " "], ["--text is empty"]),
        "words for bare vectors": (["search", str(tmp_path / "bare"), "--text", "a"], ["--vectors"]),
        "many queries": ([*search, "--vectors", str(tmp_path / "q.npy")], ["--output"]),
        "pictures for texts": (
            [*search, "--data", str(write_captions(tmp_path / "c", 1).parent / "images")],
            ["reads"],
        ),
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    for name, (arguments, words) in cases.items():
        with pytest.raises(SystemExit) as done:
            run(["index", *arguments])
        told = capsys.readouterr().err.strip().splitlines()
        assert done.value.code == 2, (name, told)
        assert told[-1].startswith("Error: "), name
        assert all(word in told[-1] for word in words), (name, told[-1])
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_answers_are_shown(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_ok(["search", str(index), "--text", "a saw", "--k", "2"])
    shown = capsys.readouterr().out
    assert "a saw" in shown
    assert "animal" in shown
    assert "title" in shown


def run_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as done:
        run(["index", *arguments])
    assert done.value.code == 0


# --- the real model


@pytest.mark.real
def test_the_packaged_model_is_like_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from warmstart.backbones.resolve import resolve

    model = "sentence-transformers/all-MiniLM-L6-v2"
    titles = [
        "Toy Story (1995)",
        "GoldenEye (1995)",
        "a film about toys that come alive at night",
        "war",
        "space opera",
    ]
    pd.DataFrame({"item_id": [f"m{n}" for n in range(5)], "title": titles}).to_csv(tmp_path / "m.csv", index=False)
    expected = SentenceTransformer(str(resolve(model).path), device="cpu").encode(titles)
    for bf16, near in (("false", 1e-5), ("true", 1e-2)):
        record = warmstart.index_encode(data=str(tmp_path / "m.csv"), output_dir=str(tmp_path / bf16), bf16=bf16).record
        assert record.encoder.columns == {"id": "item_id", "text": "title"}
        stored: Stored = VectorStore(tmp_path / bf16).read()
        found = by_id(tmp_path / bf16)
        got = np.stack([found[f"m{n}"] for n in range(5)])
        np.testing.assert_allclose(got, expected, atol=near)
        assert ((got * expected).sum(1) > 1 - 1e-3).all()
        assert stored.unit_length
    warmstart.index_build(vectors=str(tmp_path / "false"), output_dir=str(tmp_path / "idx"))
    assert warmstart.index_search(index=str(tmp_path / "idx"), text="playthings awake", k=2).shown[0].id in ("m0", "m2")
