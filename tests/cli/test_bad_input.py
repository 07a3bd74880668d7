"""Wrong input through the command line: one line that names the place and the remedy, exit code 2, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from warmstart.cli.main import run


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(n: int, label: Callable[[int], str] = lambda i: "ab"[i % 2]) -> str:
    return "text,label\n" + "".join(f"some text number {i},{label(i)}\n" for i in range(n))


def images(folder: Path) -> Path:
    for kind in "ab":
        (folder / "pics" / kind).mkdir(parents=True)
        for number in range(6):
            picture = Image.new("RGB", (16, 16), (number * 20, 40 if kind == "a" else 200, number))
            picture.save(folder / "pics" / kind / f"{number}.png")
    return folder / "pics"


def broken_images(folder: Path) -> Path:
    pics = images(folder)
    (pics / "a" / "0.png").write_bytes(b"not an image")
    (pics / "b" / "1.png").write_bytes(b"")
    return pics


# name: (how the data are made, more arguments, words that the one line must hold)
CASES: dict[str, tuple[Callable[[Path], Path], list[str], list[str]]] = {
    "no such file": (lambda d: d / "absent.csv", [], ["absent.csv"]),
    "nearly the name": (lambda d: write(d, "rows.csv", rows(20)).with_name("row.csv"), [], ["rows.csv"]),
    "empty file": (lambda d: write(d, "x.csv", ""), [], ["x.csv", "empty"]),
    "header only": (lambda d: write(d, "x.csv", "text,label\n"), [], ["x.csv", "no rows"]),
    "unknown ending": (lambda d: write(d, "x.xlsx", "zip"), [], ["x.xlsx", ".csv"]),
    "undecodable bytes": (lambda d: write(d, "x.csv", rows(9).encode() + b"caf\xe9,a\n"), [], ["x.csv", "UTF-8"]),
    "ragged row": (lambda d: write(d, "x.csv", rows(9) + "one,two,three\n"), [], ["x.csv", "row 11"]),
    "broken JSON line": (
        lambda d: write(d, "x.jsonl", '{"text": "a", "label": "b"}\n{"text": \n'),
        [],
        ["x.jsonl", "row 2"],
    ),
    "damaged parquet": (lambda d: write(d, "x.parquet", b"PAR1 nothing"), [], ["x.parquet"]),
    "wrong text column": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--text-column", "txt"],
        ["txt", "text", "label"],
    ),
    "wrong label column": (lambda d: write(d, "x.csv", rows(20)), ["--label-column", "lable"], ["lable", "label"]),
    "one column twice": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--text-column", "label", "--label-column", "label"],
        ["label"],
    ),
    "missing label": (
        lambda d: write(d, "x.csv", rows(20) + "text without,\n"),
        [],
        ["x.csv", "'label'", "22", "--drop-invalid"],
    ),
    "empty text": (lambda d: write(d, "x.csv", rows(20) + "   ,a\n"), [], ["'text'", "22", "--drop-invalid"]),
    "one class": (lambda d: write(d, "x.csv", rows(20, lambda i: "a")), [], ["label"]),
    "class too small": (
        lambda d: write(d, "x.csv", rows(20) + "a lonely row,c\n"),
        [],
        ["'c'", "22", "--drop-invalid"],
    ),
    "labels are ids": (lambda d: write(d, "x.csv", rows(60, lambda i: f"id{i // 2 if i < 4 else i}")), [], ["label"]),
    "regression target": (
        lambda d: write(d, "x.csv", rows(60, lambda i: f"{i * 0.37:.3f}")),
        [],
        ["label"],
    ),
    "more rows than there are": (lambda d: write(d, "x.csv", rows(20)), ["--train-size", "500"], ["500"]),
    "test rows with unknown label": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--test-data", "TEST"],
        ["zebra", "--drop-invalid"],
    ),
    "unreadable images": (broken_images, ["--model", "EfficientNet-Lite0"], ["0.png", "1.png", "--drop-invalid"]),
    "folder without images": (lambda d: (d / "pics").mkdir() or d / "pics", [], ["pics"]),
    "images for a text model": (images, [], ["image"]),
    "unknown model": (lambda d: write(d, "x.csv", rows(20)), ["--model", "nobody/nothing"], ["nobody/nothing", "Hub"]),
    "folder that is no model": (lambda d: write(d, "x.csv", rows(20)), ["--model", "."], ["config.json"]),
    "layer decay above one": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--layer-decay", "1.5"],
        ["--layer-decay", "1.5"],
    ),
    "rate that is no number": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--learning-rate", "automatic"],
        ["--learning-rate", "'automatic'", "at most 10", "auto"],
    ),
    "rate out of range": (lambda d: write(d, "x.csv", rows(20)), ["--learning-rate", "50"], ["--learning-rate", "50"]),
    "template without a place": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--template", "a photo of it"],
        ["--template", "'a photo of it'", "{}"],
    ),
    "negative budget": (lambda d: write(d, "x.csv", rows(20)), ["--time-budget", "-3"], ["--time-budget", "-3"]),
    "resume without a run": (lambda d: write(d, "x.csv", rows(20)), ["--resume"], ["resume"]),
    "resume and overwrite": (lambda d: write(d, "x.csv", rows(20)), ["--resume", "--overwrite"], ["--overwrite"]),
    "openings for a strategy that has none": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--unfreeze", "plateau", "--strategy", "fine_tune"],
        ["--unfreeze", "progressive"],
    ),
    "openings that are none": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--unfreeze", "soon", "--strategy", "progressive"],
        ["--unfreeze", "soon"],
    ),
    "opening of a group that is not there": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--unfreeze", "head=0,layer.77=0.5", "--strategy", "progressive"],
        ["layer.77", "layer.0"],
    ),
    "rate of a group that is not there": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--group-rates", "layer.77=1e-5", "--strategy", "fine_tune"],
        ["--group-rates", "layer.77"],
    ),
    "a rate that is no number": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--group-rates", "layer.0=quick"],
        ["--group-rates", "layer.0=quick"],
    ),
    "negative room for activations": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--cache-gb", "-1"],
        ["--cache-gb", "-1"],
    ),
    "a share of weights above one": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--wise-alpha", "1.5"],
        ["--wise-alpha", "1.5"],
    ),
    "a share of weights that is no number": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--wise-alpha", "half"],
        ["--wise-alpha", "half"],
    ),
    "forgetting everything": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--max-forgetting", "1"],
        ["--max-forgetting", "1"],
    ),
    "a bound on forgetting that nothing measures": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--max-forgetting", "0.1", "--reference-data", "none"],
        ["--max-forgetting", "--reference-data none"],
    ),
    "a bound on forgetting and a fixed share": (
        lambda d: write(d, "x.csv", rows(20)),
        ["--max-forgetting", "0.1", "--wise-alpha", "0.5"],
        ["--max-forgetting", "--wise-alpha"],
    ),
    "an average that never moves": (lambda d: write(d, "x.csv", rows(20)), ["--ema-decay", "1"], ["--ema-decay", "1"]),
    "group column absent": (lambda d: write(d, "x.csv", rows(20)), ["--group-column", "customer"], ["customer"]),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_is_one_line_exit_code_two_and_nothing_written(
    name: str, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, more, words = CASES[name]
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    data = make(tmp_path)
    if "TEST" in more:
        test = write(tmp_path, "test.csv", rows(6) + "an animal,zebra\n")
        more = [str(test) if part == "TEST" else part for part in more]
    model = [] if "--model" in more else ["--model", str(tiny_model)]
    with pytest.raises(SystemExit) as stop:
        run(["adapt", "--data", str(data), "--output-dir", "out", *model, *more])
    said = capsys.readouterr()
    last = said.err.strip().splitlines()[-1]
    assert stop.value.code == 2
    assert last.startswith("Error: ")
    for word in words:
        assert word in last, f"{word!r} is not in: {last}"
    assert "Traceback" not in said.err
    assert said.out == ""
    assert list(work.iterdir()) == []


def test_an_existing_result_or_folder_is_never_overwritten(
    tmp_path: Path, tiny_model: Path, reviews: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    for more in ([], ["--overwrite"]):
        with pytest.raises(SystemExit) as stop:
            run(["adapt", "--data", str(reviews), "--model", str(tiny_model), "--output-dir", str(out), *more])
        assert stop.value.code == 2
        assert "out" in capsys.readouterr().err
    assert (out / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["predict", "RESULT", "--data", "x.csv"], "RESULT"),
        (["predict", "EMPTY", "--data", "x.csv"], "results.json"),
        (["push", "EMPTY", "me/model"], "results.json"),
        (["push", "EMPTY", "not a name"], "user/name"),
        (["groups", "nobody/nothing"], "nobody/nothing"),
        (["compare", "--data", "x.csv", "--output-dir", "o", "--strategies", "lora,magic"], "magic"),
        (["sample", "nonsense", "--output", "x.csv"], "nonsense"),
    ],
)
def test_other_verbs_say_what_is_wrong(
    arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "EMPTY").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert word in said.err
    assert "Traceback" not in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EMPTY"]


def test_an_unknown_option_fails_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(["adapt", "--data", "x", "--output-dir", "y", "--learning-rat", "1"])
    assert stop.value.code == 2
    assert "--learning-rat" in capsys.readouterr().err


def test_a_wrong_choice_is_answered_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(["adapt", "--data", "x", "--output-dir", "y", "--strategy", "magic"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "'--strategy': 'magic' is not one of auto, zero_shot, linear_probe," in said


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("3", 3.0), ("auto", "auto"), (None, None)])
def test_a_learning_rate_is_a_number_or_auto(
    text: str | None, value: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import warmstart.verbs.advise as module

    given: dict[str, object] = {}

    def advise(**values: object) -> None:
        given.update(values)
        raise SystemExit(0)

    monkeypatch.setattr(module, "advise", advise)
    run_ok(["advise", "--data", "x.csv", *([] if text is None else ["--learning-rate", text])])
    assert given["learning_rate"] == value
    run_ok(["advise", "--help"])
    assert "FLOAT|auto" in capsys.readouterr().out


def test_json_output_is_one_document(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_ok(["groups", str(tiny_model), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert sum(row["parameters"] for row in found["rows"]) == found["backbone"]["parameters"]


def run_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 0


def test_ctrl_c_is_code_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(**given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("warmstart.verbs.sample.sample", interrupted)
    with pytest.raises(SystemExit) as stop:
        run(["sample", "reviews", "--output", str(tmp_path / "r.csv")])
    assert stop.value.code == 130
    assert "--resume" in capsys.readouterr().err
