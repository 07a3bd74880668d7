"""Tasks end to end: tables, image folders, datasets; splits, leaks, fingerprints."""

from __future__ import annotations

import datetime
import shutil
import zlib

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import load, save_picture, sentence
from PIL import Image

from warmstart.core.errors import DataError, SettingError
from warmstart.core.options import DataOptions
from warmstart.core.records import TaskCard
from warmstart.data.task import load_task


def test_a_table_becomes_a_task(reviews):
    task = load(reviews(), test_size=10, seed=1)
    card = task.card
    assert card.columns == {"label": "label", "text": "text"}
    assert card.guessed == ("label", "text")
    assert card.labels == ("bad", "good")
    assert card.sizes == {"labelled": 30, "test": 10}
    assert card.counts == {"labelled": {"bad": 15, "good": 15}, "test": {"bad": 5, "good": 5}}
    assert (card.findings, card.dropped) == ((), 0)
    assert task.labelled.column_names == ["text", "label", "row"]
    assert sorted([*task.labelled["row"], *task.test["row"]]) == list(range(2, 42))
    for row in task.test:
        assert row["text"] == sentence(row["row"] - 2)
        assert row["label"] == (row["row"] - 2) // 20
    assert TaskCard.from_json(card.to_json()) == card


def test_test_rows_do_not_move(reviews):
    data = reviews(each=60)
    rows = [list(load(data, test_size=20, train_size=size).test["row"]) for size in (None, 10, 0.5)]
    assert rows[0] == rows[1] == rows[2]
    assert list(load(data, test_size=20, seed=7).test["row"]) != rows[0]
    assert len(load(data, test_size=20, train_size=0.5).labelled) == 50


def test_validation_split(reviews):
    task = load(reviews(each=60))
    fit, validation = task.split(0.25, seed=3)
    again, _ = task.split(0.25, seed=3)
    assert list(fit["row"]) == list(again["row"])
    assert sorted([*fit["row"], *validation["row"]]) == sorted(task.labelled["row"])
    assert np.bincount(validation["label"]).tolist() == [12, 12]
    assert list(task.split(0.25, seed=4)[1]["row"]) != list(validation["row"])
    with pytest.raises(SettingError, match="--validation-size is 500, but there are 96 rows"):
        task.split(500, seed=0)


def test_repeated_inputs_stay_together(reviews):
    copies = [f"{sentence(i).upper()}!,{'bad' if i < 40 else 'good'}" for i in range(0, 80, 2)]
    task = load(reviews(*copies, each=40))
    keys = [{text.lower().rstrip("!") for text in part["text"]} for part in (*task.split(0.3, 1), task.test)]
    assert len(set.union(*keys)) == sum(map(len, keys))
    [finding] = task.card.findings
    assert (finding.check, finding.severity, finding.count) == ("repeated_inputs", "warn", 80)
    together = task.together
    assert together is not None
    texts = [text.lower().rstrip("!") for text in task.labelled["text"]]
    assert len(np.unique(together)) == len(set(texts)) < len(texts)
    assert all((together[i] == together[j]) == (texts[i] == texts[j]) for i in range(40) for j in range(40))
    assert load(reviews(each=40)).together is None


def test_groups_stay_together(write):
    rng = np.random.default_rng(0)
    lines = [f"{sentence(i)},{'ab'[i % 2]},{rng.integers(30)}" for i in range(200)]
    task = load(write("a.csv", "\n".join(["text,label,who", *lines])), group_column="who")
    who = {i + 2: line.rsplit(",", 1)[1] for i, line in enumerate(lines)}
    parts = [{who[row] for row in part["row"]} for part in (*task.split(0.2, 1), task.test)]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert task.groups is not None
    assert len(task.groups) == len(task.labelled)
    assert abs(len(task.test) - 40) <= 4


def test_inputs_that_would_tie_all_groups_together_are_told(write):
    lines = [f"{'great' if i % 4 == 0 else sentence(i)},{'ab'[i % 2]},{i // 4}" for i in range(200)]
    task = load(write("a.csv", "\n".join(["text,label,who", *lines])), group_column="who", text_column="text")
    assert [finding.check for finding in task.card.findings] == ["straddling_inputs"]
    assert len(task.test) == 40


def test_drop_invalid(reviews):
    data = reviews(",good", "  ,bad", "left over,", ",", "alone,rare")
    with pytest.raises(DataError) as caught:
        load(data)
    for part in (
        "rows 44, 45: the label is missing",
        "rows 42, 43, 45: the text is empty",
        "row 46: only one row has the label 'rare'",
        "--drop-invalid leaves those 5 rows out",
    ):
        assert part in str(caught.value)
    card = load(data, drop_invalid=True).card
    assert card.dropped == 5
    assert [(f.check, f.count, f.dropped) for f in card.findings] == [
        ("missing_labels", 2, True),
        ("empty_texts", 3, True),
        ("tiny_classes", 1, True),
    ]
    assert sum(card.sizes.values()) == 40


def test_a_given_test_file(reviews, write):
    extra = [sentence(0), sentence(1).upper(), sentence(900), sentence(901), sentence(902)]
    labels = ["bad", "bad", "good", "odd", ""]
    test = write("test.csv", "\n".join(["label,text", *(f"{a},{b}" for a, b in zip(labels, extra, strict=True))]))
    data = reviews()
    with pytest.raises(DataError) as caught:
        load(data, test_data=test)
    assert f"row 2: the same input stands in {test}, which is to judge by (row 2 is row 2 there)" in str(caught.value)
    assert "no row to learn from has the label 'odd'" in str(caught.value)
    task = load(data, test_data=test, drop_invalid=True)
    assert task.card.sizes == {"labelled": 39, "test": 3}
    assert sentence(0) not in task.labelled["text"]
    found = {finding.check: finding for finding in task.card.findings}
    assert set(found) == {"leaks", "near_leaks", "missing_labels", "unknown_labels"}
    assert found["near_leaks"].severity == "warn"
    assert sentence(1) in task.labelled["text"]


def test_a_test_file_without_the_columns(reviews, write):
    with pytest.raises(DataError, match=r"t\.csv: there is no column 'text'.*'body', 'label'"):
        load(reviews(), test_data=write("t.csv", "body,label\nx,bad\n"))


def test_integers_that_had_a_gap_are_the_same_classes(write):
    train = [f"{sentence(i)},{i % 2}.0" for i in range(20)]
    test = [f"{sentence(100 + i)},{i % 2}" for i in range(6)]
    task = load(
        write("train.csv", "\n".join(["text,label", *train])),
        test_data=write("test.csv", "\n".join(["text,label", *test])),
    )
    assert task.card.labels == ("0", "1")


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"test_size": 100}, SettingError, "--test-size is 100, but there are 40 rows"),
        ({"test_size": 39}, SettingError, "at most 38 can be"),
        ({"train_size": 33}, SettingError, "--train-size is 33, but there are 32 rows"),
        ({"train_size": 3}, SettingError, "fewer than two rows for each of 2 classes"),
        ({"train_size": 10.5}, SettingError, "whole number"),
    ],
)
def test_sizes_that_cannot_be(reviews, more, error, says):
    with pytest.raises(error, match=says):
        load(reviews(), **more)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a"] * 30, "every row has the label 'a'"),
        ([f"id{i}" for i in range(30)], "look like ids"),
        ([str(i / 7) for i in range(30)], "regression target"),
    ],
)
def test_labels_that_cannot_be_learned(write, labels, says):
    data = write("a.csv", "\n".join(["text,label", *(f"{sentence(i)},{x}" for i, x in enumerate(labels))]))
    with pytest.raises(DataError, match=says):
        load(data, drop_invalid=True)


def test_text_pairs(write):
    lines = [f"{sentence(i)},{sentence(i + 500)},{'ab'[i % 2]}" for i in range(20)]
    data = write("a.csv", "\n".join(["premise,hypothesis,label", *lines]))
    task = load(data, text_column="premise", text_pair_column="hypothesis")
    assert task.card.modality == "pair"
    assert task.labelled.column_names == ["text", "text_pair", "label", "row"]
    first = task.labelled[0]
    assert first["text_pair"] == sentence(first["row"] - 2 + 500)


def test_the_fingerprint_is_of_the_content(reviews, write, tmp_path):
    data = reviews()
    base = load(data).card.fingerprint
    moved = shutil.copy(data, tmp_path / "other.csv")
    assert load(str(moved)).card.fingerprint == base
    frame = pd.read_csv(data)
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "a.parquet")
    assert load(str(tmp_path / "a.jsonl")).card.fingerprint == base
    assert load(str(tmp_path / "a.parquet")).card.fingerprint == base
    others = [
        load(data, seed=1),
        load(data, test_size=10),
        load(reviews(f"{sentence(999)},good", name="b.csv")),
        load(reviews(classes=("bad", "fine"), name="c.csv")),
    ]
    assert len({base, *(task.card.fingerprint for task in others)}) == 5


def test_an_image_folder(pictures, tmp_path):
    root = pictures(each=8)
    save_picture(root / "cats" / "deep" / "er" / "x.PNG", 77)
    (root / "cats" / ".hidden.png").write_bytes(b"x")
    (root / "cats" / "notes.txt").write_text("x")
    (root / ".cache").mkdir()
    save_picture(root / "stray.png", 78)
    (root / "birds").mkdir()
    task = load(str(root), test_size=4)
    assert task.card.modality == "image"
    assert task.card.labels == ("cats", "dogs")
    assert task.card.sizes == {"labelled": 13, "test": 4}
    assert sorted([*task.labelled["row"], *task.test["row"]]) == list(range(1, 18))
    assert isinstance(task.labelled.features["image"], datasets.Image)
    assert isinstance(task.labelled[0]["image"], Image.Image)
    assert task.labelled[0]["image"].size == (45, 45)
    assert [finding.check for finding in task.card.findings] == ["stray_images", "empty_class_folders"]
    fit, validation = task.split(0.3, 0)
    assert len(fit) + len(validation) == 13
    shutil.copytree(root, tmp_path / "elsewhere")
    assert load(str(tmp_path / "elsewhere"), test_size=4).card.fingerprint == task.card.fingerprint


def test_train_and_test_folders(pictures):
    pictures("set/train", each=5)
    root = pictures("set/test", each=3, first=50).parent
    task = load(str(root))
    assert task.card.sizes == {"labelled": 10, "test": 6}


def test_broken_images(pictures):
    root = pictures(each=6)
    (root / "cats" / "empty.png").write_bytes(b"")
    (root / "cats" / "text.jpg").write_text("no image")
    whole = (root / "dogs" / "000.png").read_bytes()
    (root / "dogs" / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        load(str(root))
    for part in (
        "empty.png: the file is empty (0 bytes)",
        "text.jpg: not an image that Pillow reads",
        "cut.png: damaged",
    ):
        assert part in str(caught.value)
    card = load(str(root), drop_invalid=True).card
    assert card.dropped == 3
    assert sum(card.sizes.values()) == 12


def test_an_image_without_pixels(pictures):
    root = pictures(each=6)

    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = chunk(b"IHDR", (0).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0]))
    (root / "cats" / "zero.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IEND", b""))
    with pytest.raises(
        DataError,
        match=r"row 7, column 'image': the image cannot be used \(zero\.png: .*or one without pixels\)",
    ):
        load(str(root))


@pytest.mark.parametrize(
    ("flat", "says"), [(False, "no images in this folder"), (True, "1 images and no class folders")]
)
def test_folders_without_classes(tmp_path, flat, says):
    root = tmp_path / "empty"
    root.mkdir()
    if flat:
        save_picture(root / "a.png", 1)
    with pytest.raises(DataError, match=says):
        load(str(root))


def test_a_table_of_images(pictures, write):
    root = pictures(each=6)
    lines = [f"{path.relative_to(root.parent)},{path.parent.name}" for path in sorted(root.rglob("*.png"))]
    data = write("images.csv", "\n".join(["file,kind", *lines, "shapes/none.png,cats", ",dogs"]))
    with pytest.raises(DataError, match=r"rows 14, 15: .*none\.png: there is no such file; no image is given"):
        load(data)
    task = load(data, drop_invalid=True)
    assert task.card.columns == {"image": "file", "label": "kind"}
    assert task.labelled[0]["image"].size == (45, 45)


def test_image_copies_stay_together(pictures):
    root = pictures(each=12)
    for path in sorted(root.rglob("*.png"))[::2]:
        Image.open(path).save(path.with_suffix(".jpg"), quality=85)
    task = load(str(root), test_size=8)
    [finding] = task.card.findings
    assert (finding.check, finding.count) == ("repeated_inputs", 24)


CLASSES = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})


def table(first, labels):
    rows = {"text": [sentence(first + i) for i in range(len(labels))], "label": labels}
    return datasets.Dataset.from_dict(rows, features=CLASSES)


def test_a_dataset_dict_with_its_own_test_split(tmp_path):
    whole = datasets.DatasetDict(
        train=table(0, [0, 1] * 10), validation=table(100, [0, 1] * 3), test=table(200, [-1] * 4)
    )
    task = load_task(DataOptions(data="mine"), dataset=whole)
    assert task.card.source == "mine"
    assert task.card.labels == ("no", "yes")
    assert task.card.sizes == {"labelled": 20, "test": 6}  # nobody can be judged by hidden labels
    whole.save_to_disk(str(tmp_path / "saved"))
    assert load(str(tmp_path / "saved")).card.fingerprint == task.card.fingerprint
    whole["train"].save_to_disk(str(tmp_path / "one"))
    assert load(str(tmp_path / "one")).card.sizes == {"labelled": 16, "test": 4}


def test_a_dataset_with_images(pictures):
    root = pictures(each=6)
    paths = sorted(map(str, root.rglob("*.png")))
    features = datasets.Features({"photo": datasets.Image(), "label": datasets.ClassLabel(names=["c", "d"])})
    rows = datasets.Dataset.from_dict({"photo": paths, "label": [0] * 6 + [1] * 6}, features=features)
    task = load_task(DataOptions(data="photos"), dataset=rows.select(range(11, -1, -1)))
    assert task.card.columns == {"image": "photo", "label": "label"}
    first = task.labelled[0]
    expected = Image.open(paths[12 - first["row"]])
    assert np.array_equal(np.asarray(first["image"]), np.asarray(expected))
    assert first["label"] == (0 if first["row"] > 6 else 1)


def test_pictures_inside_parquet(pictures, tmp_path):
    paths = sorted(pictures(each=6).rglob("*.png"))
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    pq.write_table(pa.table({"image": images, "label": [0] * 6 + [1] * 6}), tmp_path / "a.parquet")
    task = load(str(tmp_path / "a.parquet"))
    assert (task.card.modality, task.card.labels) == ("image", ("0", "1"))
    assert task.labelled[0]["image"].size == (45, 45)


@pytest.mark.parametrize("role", ["text", "label", "group"])
def test_pictures_are_no_text_label_or_group(pictures, role):
    paths = sorted(map(str, pictures(each=2).rglob("*.png")))
    features = datasets.Features({"photo": datasets.Image(), "kind": datasets.Value("string")})
    rows = datasets.Dataset.from_dict({"photo": paths, "kind": ["a", "a", "b", "b"]}, features=features)
    columns = {"text_column": "kind"} if role == "label" else {"label_column": "kind"}
    columns |= {f"{role}_column": "photo"}
    if role == "group":
        rows = rows.add_column("words", [sentence(i) for i in range(4)])
        columns |= {"text_column": "words"}
    with pytest.raises(DataError, match=f"column 'photo': the column holds images, which cannot be the {role}"):
        load_task(DataOptions(data="x", **columns), dataset=rows)


COLUMNS = {
    "lists": (pa.array([["a"], ["b"]] * 20), "the cell holds a list; warmstart learns one label per row"),
    "nothing": (pa.array([None] * 40, pa.null()), "(40 in all): the label is missing"),
}


@pytest.mark.parametrize(("labels", "says"), COLUMNS.values(), ids=COLUMNS.keys())
def test_label_columns_of_odd_types(tmp_path, labels, says):
    pq.write_table(pa.table({"text": [sentence(i) for i in range(40)], "label": labels}), tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        load(str(tmp_path / "a.parquet"))
    assert says in str(caught.value)


def test_label_columns_of_other_types(tmp_path):
    texts = [sentence(i) for i in range(40)]
    days = pa.array([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)] * 20)
    for labels, names in (
        (pa.array(["a", "b"] * 20).dictionary_encode(), ("a", "b")),
        (pa.array([True, False] * 20), ("False", "True")),
        (pa.array([1.0, 2.0] * 20), ("1", "2")),
        (days, ("2020-01-01", "2021-01-01")),
    ):
        pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "a.parquet")
        assert load(str(tmp_path / "a.parquet")).card.labels == names


def test_rows_that_cannot_be_parted(write):
    same = write("same.csv", "text,label\n" + "same,a\nsame,b\n" * 20)
    with pytest.raises(DataError, match="none of 40 rows can be set aside to judge by"):
        load(same, text_column="text")
    small = write("small.csv", "text,label\n" + "".join(f"{sentence(i)},{'ab'[i % 2]}\n" for i in range(4)))
    with pytest.raises(SettingError, match="--validation-size sets 1 of 2 rows aside"):
        load(small, test_size=2).split(0.15, 0)
    with pytest.raises(DataError, match="no usable row to judge by is left"):
        load(small, test_data=write("other.csv", "text,label\nx,c\n"), drop_invalid=True)


def test_wrong_datasets():
    with pytest.raises(DataError, match="no split 'train'; there are: a, b"):
        load_task(DataOptions(data="x"), dataset=datasets.DatasetDict(a=table(0, [0]), b=table(1, [1])))
    with pytest.raises(DataError, match="no rows"):
        load_task(DataOptions(data="x"), dataset=table(0, []))
    with pytest.raises(DataError, match="a list where a Dataset"):
        load_task(DataOptions(data="x"), dataset=[1])


def test_a_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "https://no-such-host.invalid")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images").mkdir()
    with pytest.raises(DataError, match=r"my_image: no file or folder by that name.*Did you mean my_images\?"):
        load("my_image")
