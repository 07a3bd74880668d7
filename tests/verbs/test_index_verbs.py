"""`index build`, `tune`, `search`, `add` and `delete` end to end: folders, files, reports, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

import warmstart
import warmstart.verbs.index_tune as verb_module
from warmstart.cli.main import run
from warmstart.core.errors import GoalNotMetError, OutputError, ResultError, SettingError
from warmstart.core.files import digest
from warmstart.core.index import BuildRecord, TuneRecord
from warmstart.neighbours.exact import ExactIndex
from warmstart.neighbours.folder import load_index
from warmstart.neighbours.tuning import cheapest
from warmstart.report.index import candidate_rows, headline, render_tune


def unit(rows: int, width: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 vectors with ids, 250 queries, ten more vectors; tests must not change them."""
    folder = tmp_path_factory.mktemp("vectors")
    np.save(folder / "v.npy", unit(2000))
    np.save(folder / "ids.npy", np.arange(2000) * 3 + 1)
    np.save(folder / "q.npy", unit(250, seed=1))
    np.save(folder / "more.npy", unit(10, seed=2))
    np.save(folder / "more_ids.npy", np.arange(10) * 3 + 9000)
    return folder


@pytest.fixture(scope="module")
def tuned(files: Path) -> Path:
    """A finished tuning; tests must not change it."""
    warmstart.index_tune(
        vectors=str(files / "v.npy"),
        ids=str(files / "ids.npy"),
        queries=str(files / "q.npy"),
        recall=0.9,
        at=10,
        p99_ms=10_000,
        kinds="flat,sq8,ivf,hnswsq8",
        output_dir=str(files / "tuned"),
    )
    return files / "tuned"


@pytest.fixture
def built(files: Path, tmp_path: Path) -> Path:
    out = tmp_path / "built"
    warmstart.index_build(vectors=str(files / "v.npy"), ids=str(files / "ids.npy"), output_dir=str(out), kind="hnsw")
    return out


def test_a_tuned_index_meets_the_goal_and_is_the_one_of_the_record(files: Path, tuned: Path) -> None:
    record = TuneRecord.from_json((tuned / "results.json").read_text())
    assert [c.plan.kind for c in record.candidates] == ["sq8", "hnswsq8", "hnswsq8", "flat", "ivf"]
    meeting = [c for c in record.candidates if c.chosen is not None]
    best = record.candidates[record.chosen]
    assert record.chosen == cheapest(record.candidates)  # all are small, so the quickest: which one, the machine says
    assert best in meeting
    assert all(c.chosen.recall.low >= 0.9 for c in meeting if c.chosen)
    assert record.data.vectors == 2000
    assert all(digest(tuned / name) == found for name, found in record.files.items())
    index = load_index(tuned)
    assert index.plan == best.plan
    assert best.chosen is not None
    assert index.effort == best.chosen.effort
    assert sorted(index.ids().tolist()) == (np.arange(2000) * 3 + 1).tolist()
    assert not (files / "tuned.running").exists()


def test_the_report_is_drawn_from_the_record_alone(tuned: Path) -> None:
    record = TuneRecord.from_json((tuned / "results.json").read_text())
    page = render_tune(record)
    shown = (tuned / "report.html").read_text()
    assert "<script" not in page
    assert page.count("<svg") == 2
    assert headline(record) in page
    assert shown.count("chosen</span>") == 1
    rows = candidate_rows(record, every_effort=False)
    assert len(rows) == len(record.candidates)
    assert [row.chosen for row in rows].index(True) == record.chosen
    assert all(row.recall.replace("0.", "") and row.name in page for row in rows)
    assert len(candidate_rows(record, every_effort=True)) == sum(len(c.points) for c in record.candidates)


def test_held_out_queries_end_up_in_the_index(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = {"vectors": str(files / "v.npy"), "recall": 0.5, "at": 5, "p99_ms": 1e4, "holdout": 100}
    result = warmstart.index_tune(kinds="sq8", output_dir=str(out), **arguments)
    assert result.record.queries == 100
    index = load_index(out)
    assert sorted(index.ids().tolist()) == list(range(2000))
    found = index.search(np.load(files / "v.npy"), 1)
    assert (found.ids[:, 0] == np.arange(2000)).mean() > 0.9
    assert any("held out" in line for line in result.record.advice)


def test_no_index_meets_an_impossible_goal(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--vectors", str(files / "v.npy"), "--queries", str(files / "q.npy"), "--kinds", "flat,sq8", "--at", "10"]
    with pytest.raises(SystemExit) as done:
        run(["index", "tune", *common, "--p99-ms", "0.000001", "--output-dir", str(tmp_path / "out")])
    assert done.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("Error: No index meets recall@10 ≥ 0.95 within 1e-06 ms")
    assert "the quickest takes" in told
    assert list(tmp_path.iterdir()) == []


def test_a_tuning_that_was_killed_goes_on(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, measured = tmp_path / "out", []
    real = verb_module.measure

    def dying(plan, *rest):  # type: ignore[no-untyped-def]
        measured.append(plan.kind)
        if plan.kind == "flat" and measured.count("flat") == 1:
            raise KeyboardInterrupt
        return real(plan, *rest)

    monkeypatch.setattr(verb_module, "measure", dying)
    arguments = {"vectors": str(files / "v.npy"), "kinds": "flat,sq8", "at": 5, "recall": 0.5, "p99_ms": 1e4}
    with pytest.raises(KeyboardInterrupt):
        warmstart.index_tune(output_dir=str(out), **arguments)
    assert not out.exists()
    with pytest.raises(OutputError, match="unfinished"):
        warmstart.index_tune(output_dir=str(out), **arguments)
    with pytest.raises(OutputError, match="other options"):
        warmstart.index_tune(output_dir=str(out), resume=True, **{**arguments, "at": 6})
    result = warmstart.index_tune(output_dir=str(out), resume=True, **arguments)
    assert measured == ["sq8", "flat", "flat"]
    assert [c.plan.kind for c in result.record.candidates] == ["sq8", "flat"]
    assert len(load_index(out)) == 2000


def test_a_busy_machine_is_told(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"vectors": str(files / "v.npy"), "kinds": "flat", "at": 5, "p99_ms": 1e4}
    for busy, told in ((80.0, 1), (3.0, 0)):
        monkeypatch.setattr("psutil.cpu_percent", lambda interval, busy=busy: busy)
        result = warmstart.index_tune(output_dir=str(tmp_path / f"out-{told}"), **arguments)
        assert sum("80 % busy" in line for line in result.record.advice) == told


def test_a_time_budget_leaves_candidates_out(files: Path, tmp_path: Path) -> None:
    with pytest.raises(GoalNotMetError, match="time-budget"):
        warmstart.index_tune(
            vectors=str(files / "v.npy"), queries=str(files / "q.npy"), time_budget=1e-6, output_dir=str(tmp_path / "x")
        )
    assert list(tmp_path.iterdir()) == []


def test_build_search_add_and_delete(files: Path, built: Path, tmp_path: Path) -> None:
    record = BuildRecord.from_json((built / "results.json").read_text())
    assert record.plan.kind == "hnsw"
    assert record.effort.ef_search == 64
    truth = ExactIndex(8)
    truth.add(np.arange(2000) * 3 + 1, np.load(files / "v.npy"))
    more, more_ids = str(files / "more.npy"), str(files / "more_ids.npy")

    def searched(**options: object) -> pd.DataFrame:
        out = tmp_path / "found.csv"
        summary = warmstart.index_search(
            index=str(built), vectors=str(files / "q.npy"), output=str(out), k=5, overwrite=True, **options
        )
        assert summary.queries == 250
        return pd.read_csv(out)

    found = searched(ef_search=2000)
    expected = truth.search(np.load(files / "q.npy"), 5)
    assert found["query"].tolist() == np.repeat(np.arange(250), 5).tolist()
    assert found["rank"].tolist() == [1, 2, 3, 4, 5] * 250
    assert (found["id"].to_numpy().reshape(250, 5) == expected.ids).mean() > 0.99
    np.testing.assert_allclose(found["score"].head(5), expected.scores[0], atol=1e-5)
    added = warmstart.index_add(index=str(built), vectors=more, ids=more_ids)
    assert (added.added, added.updated, added.vectors) == (10, 0, 2010)
    with pytest.raises(SettingError, match="there already"):
        warmstart.index_add(index=str(built), vectors=more, ids=more_ids)
    again = warmstart.index_add(index=str(built), vectors=more, ids=more_ids, update=True)
    assert (again.added, again.updated, again.vectors) == (0, 10, 2010)
    (tmp_path / "some.txt").write_text("9000\n9003\n")
    only = searched(allow=str(tmp_path / "some.txt"), mmap=True)
    assert set(only["id"]) == {9000, 9003}
    assert len(only) == 500
    gone = warmstart.index_delete(index=str(built), ids=str(tmp_path / "some.txt"))
    assert (gone.deleted, gone.vectors, gone.rebuild_due) == (2, 2008, False)
    assert searched(allow=str(tmp_path / "some.txt")).empty
    with pytest.raises(SettingError, match="9000 is not in the index"):
        warmstart.index_delete(index=str(built), ids=str(tmp_path / "some.txt"))
    values = json.loads((built / "results.json").read_text())
    assert all(digest(built / name) == known for name, known in values["files"].items())
    assert len(load_index(built)) == 2008
    assert not built.with_name("built.running").exists()


def test_every_kind_of_file_gives_the_same_index(files: Path, tmp_path: Path) -> None:
    vectors, ids = np.load(files / "v.npy"), np.load(files / "ids.npy")
    save_file({"vectors": vectors}, tmp_path / "v.safetensors")
    pq.write_table(pa.table({"id": ids, "vector": list(vectors)}), tmp_path / "lists.parquet")
    pd.DataFrame(vectors, columns=[f"d{i}" for i in range(8)]).assign(id=ids).to_parquet(tmp_path / "wide.parquet")
    pd.DataFrame({"id": ids}).to_csv(tmp_path / "ids.csv", index=False)
    np.save(tmp_path / "half.npy", vectors.astype(np.float64))
    expected = None
    for name, given in (
        ("v.safetensors", str(tmp_path / "ids.csv")),
        ("lists.parquet", None),
        ("wide.parquet", None),
        ("half.npy", str(files / "ids.npy")),
    ):
        out = tmp_path / name.replace(".", "-")
        result = warmstart.index_build(vectors=str(tmp_path / name), ids=given, output_dir=str(out))
        assert result.record.plan.kind == "flat"
        found = load_index(out).search(vectors[:20], 5)
        assert found.ids[:, 0].tolist() == ids[:20].tolist()
        expected = found.ids if expected is None else expected
        np.testing.assert_array_equal(found.ids, expected)


def test_a_changed_byte_is_refused(built: Path, files: Path, tmp_path: Path) -> None:
    content = bytearray((built / "index.faiss").read_bytes())
    content[len(content) // 2] ^= 1
    (built / "index.faiss").write_bytes(bytes(content))
    for call in (
        lambda: warmstart.index_search(index=str(built), vectors=str(files / "q.npy"), output=str(tmp_path / "o.csv")),
        lambda: warmstart.index_delete(index=str(built), ids=str(files / "ids.npy")),
    ):
        with pytest.raises(ResultError, match="altered"):
            call()
    assert not (tmp_path / "o.csv").exists()


def _bad(files: Path, folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """name → arguments, words that the one line must hold."""
    nan = unit(50)
    nan[7, 2] = np.nan
    np.save(folder / "nan.npy", nan)
    np.save(folder / "flat.npy", np.zeros(9, dtype=np.float32))
    np.save(folder / "whole.npy", np.zeros((9, 2), dtype=np.int64))
    np.save(folder / "wide.npy", unit(5, 9))
    np.save(folder / "few.npy", unit(5))
    np.save(folder / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    (folder / "cut.npy").write_bytes((files / "v.npy").read_bytes()[:300])
    (folder / "x.csv").write_text("a,b\n1,2\n")
    (folder / "cut.safetensors").write_bytes(b"nothing")
    (folder / "cut.parquet").write_bytes(b"PAR1")
    save_file({"a": unit(3), "b": unit(3)}, folder / "two.safetensors")
    pq.write_table(pa.table({"v": [[1.0, 2.0], [1.0]]}), folder / "ragged.parquet")
    (folder / "twice.txt").write_text("1\n2\n2\n4\n5\n")
    (folder / "words.txt").write_text("1\ntwo\n")
    (folder / "minus.txt").write_text("1\n-2\n3\n4\n5\n")
    v, q, out = str(files / "v.npy"), str(files / "q.npy"), ["--output-dir", str(folder / "out")]
    few = str(folder / "few.npy")

    def build(name: str, *more: str) -> list[str]:
        return ["build", "--vectors", str(folder / name), *more, *out]

    tune = ["tune", "--vectors", v, *out]
    search = ["search", str(files / "tuned"), "--output", str(folder / "o.csv")]
    return {
        "no such file": (build("absent.npy"), ["absent.npy"]),
        "another ending": (build("x.csv"), ["x.csv", ".npy"]),
        "pickled": (build("objects.npy"), ["objects.npy", "not a whole"]),
        "cut npy": (build("cut.npy"), ["cut.npy", "not a whole"]),
        "cut safetensors": (build("cut.safetensors"), ["cut.safetensors"]),
        "two tensors": (build("two.safetensors"), ["a, b"]),
        "cut parquet": (build("cut.parquet"), ["cut.parquet"]),
        "ragged lists": (build("ragged.parquet"), ["row 2", "'v'"]),
        "not a number": (build("nan.npy"), ["nan.npy", "row 8"]),
        "one dimension": (build("flat.npy"), ["(9,)"]),
        "whole numbers": (build("whole.npy"), ["int64"]),
        "ids of another length": (build("few.npy", "--ids", str(files / "ids.npy")), ["2000 ids", "5 vectors"]),
        "an id twice": (build("few.npy", "--ids", str(folder / "twice.txt")), ["twice.txt", "Id 2"]),
        "an id that is a word": (build("few.npy", "--ids", str(folder / "words.txt")), ["words.txt", "row 2", "'two'"]),
        "a negative id": (build("few.npy", "--ids", str(folder / "minus.txt")), ["minus.txt", "-2"]),
        "ids without a column": (build("few.npy", "--ids", str(folder / "x.csv")), ["x.csv", "'id'"]),
        "too few to train on": (build("few.npy", "--kind", "ivf", "--nlist", "8"), ["8 vectors", "are 5"]),
        "nprobe of flat": (build("few.npy", "--nprobe", "3"), ["--nprobe", "flat"]),
        "m of 1": (build("few.npy", "--kind", "hnsw", "--m", "1"), ["--m"]),
        "unknown kinds": ([*tune, "--kinds", "flat,annoy"], ["annoy", "hnsw"]),
        "recall above 1": ([*tune, "--recall", "95"], ["--recall", "at most 1"]),
        "no latency": ([*tune, "--p99-ms", "0"], ["--p99-ms"]),
        "queries of another width": ([*tune, "--queries", str(folder / "wide.npy")], ["9", "8"]),
        "too few to hold out": (["tune", "--vectors", few, *out], ["--queries"]),
        "search: another width": ([*search, "--vectors", str(folder / "wide.npy")], ["width 9", "8"]),
        "search: k of 0": ([*search, "--vectors", q, "--k", "0"], ["--k"]),
        "search: no index": (
            ["search", str(folder), "--vectors", q, "--output", str(folder / "o.csv")],
            ["index.json"],
        ),
        "search: unknown ending": (["search", str(files / "tuned"), "--vectors", q, "--output", "o.xlsx"], [".csv"]),
        "search: effort of another kind": (
            [*search, "--vectors", q, "--k-factor", "9"],
            ["--k-factor", "means nothing"],
        ),
        "add without ids": (["add", str(files / "tuned"), "--vectors", few], ["--ids"]),
        "add to no index": (
            ["add", str(folder / "none"), "--vectors", few, "--ids", str(folder / "twice.txt")],
            ["twice"],
        ),
        "delete what is not there": (["delete", str(files / "tuned"), "--ids", str(folder / "minus.txt")], ["-2"]),
    }


def test_wrong_input_is_one_line_and_writes_nothing(
    files: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = _bad(files, tmp_path)
    before, index = sorted(path.name for path in tmp_path.iterdir()), digest(tuned / "index.faiss")
    for name, (arguments, words) in cases.items():
        with pytest.raises(SystemExit) as done:
            run(["index", *arguments])
        told = capsys.readouterr().err.strip().splitlines()
        assert done.value.code == 2, (name, told)
        assert told[-1].startswith("Error: "), name
        assert "Traceback" not in "".join(told), name
        assert all(word in told[-1] for word in words), (name, told[-1])
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert digest(tuned / "index.faiss") == index


def test_results_are_not_replaced_unasked(files: Path, built: Path) -> None:
    arguments = {"vectors": str(files / "v.npy"), "output_dir": str(built)}
    with pytest.raises(OutputError, match="already holds a result"):
        warmstart.index_build(**arguments)
    with pytest.raises(OutputError, match="already holds a result"):
        warmstart.index_tune(**arguments)
    assert warmstart.index_build(overwrite=True, **arguments).record.plan.kind == "flat"
