"""Pairs, triplets and groups: columns, empty cells, splits that share no text, ids that tell false negatives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from warmstart.core.contrast_options import ContrastSentencesOptions
from warmstart.core.errors import DataError, SettingError
from warmstart.data.pairs import PairTask, load_pairs, questions


def write(folder: Path, rows: list[tuple[str, ...]], head: tuple[str, ...] = ("a", "b", "c")) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(dict(zip(head, row, strict=False))) for row in rows))
    return path


def options(path: Path, **changes: Any) -> ContrastSentencesOptions:
    values = {"anchor_column": "a", "positive_column": "b", "output_dir": "out", "test_size": 0.2, **changes}
    return ContrastSentencesOptions(data=str(path), **values)


def load(folder: Path, rows: list[tuple[str, ...]], **changes: Any) -> PairTask:
    return load_pairs(options(write(folder, rows), **changes))


def plain(count: int) -> list[tuple[str, ...]]:
    return [(f"question {i}", f"answer {i}", f"wrong {i}") for i in range(count)]


def test_pairs_are_split_and_every_row_is_used_once(tmp_path: Path) -> None:
    task = load(tmp_path, plain(50))
    assert task.card.sizes == {"train": 36, "validation": 4, "test": 10}
    parts = (task.train, task.validation, task.test)
    assert sorted(a for part in parts for a in part.anchors) == sorted(f"question {i}" for i in range(50))
    for part in parts:
        assert all(a.split()[1] == b.split()[1] for a, b in zip(part.anchors, part.positives, strict=True))
    assert load(tmp_path, plain(50)).card == task.card
    assert load(tmp_path, plain(50), seed=3).card.fingerprint != task.card.fingerprint


def test_pairs_that_share_a_text_stay_together_whatever_its_case(tmp_path: Path) -> None:
    rows = [(f"Title {i // 4}", f"body {i}") for i in range(80)]
    rows = [(a.upper() if i % 2 else a, b) for i, (a, b) in enumerate(rows)]
    task = load(tmp_path, rows)
    sides = [{a.lower() for a in part.anchors} for part in (task.train, task.validation, task.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert task.card.repeated == 60
    known = task.train.known()
    assert all(len(ids) == 4 for ids in known.values())
    row = task.train.positive_ids[task.train.anchor_ids == task.train.anchor_ids[0]]
    assert set(known[int(task.train.anchor_ids[0])].tolist()) == set(row.tolist())


def test_triplets_number_all_candidates_together(tmp_path: Path) -> None:
    rows = [(f"q {i}", f"text {i}", f"text {(i + 1) % 30}") for i in range(30)]
    task = load(tmp_path, rows, negative_column="c")
    pairs = task.train
    by_text = dict(zip(pairs.positives, pairs.positive_ids.tolist(), strict=True))
    shared = [(text, one) for text, one in zip(pairs.negatives[0], pairs.negative_ids[0].tolist(), strict=True)]
    assert any(text in by_text for text, _ in shared)
    assert all(by_text.get(text, one) == one for text, one in shared)


def test_empty_cells_stop_or_are_left_out(tmp_path: Path) -> None:
    rows = [*plain(30), ("lonely", " "), ("", "nobody's")]
    with pytest.raises(DataError, match=r"column 'a'.*1 rows are empty here \(rows 32\).*--drop-invalid"):
        load(tmp_path, rows)
    task = load(tmp_path, rows, drop_invalid=True)
    assert task.card.dropped == 2
    assert sum(task.card.sizes.values()) == 30


def test_the_same_pair_counts_once(tmp_path: Path) -> None:
    assert sum(load(tmp_path, plain(30) * 3).card.sizes.values()) == 30


def test_train_size(tmp_path: Path) -> None:
    task = load(tmp_path, plain(50), train_size=20)
    assert task.card.sizes == {"train": 18, "validation": 2, "test": 10}


def test_groups_pair_every_text_with_another_of_its_label(tmp_path: Path) -> None:
    rows = [(f"text {i}", f"kind {i % 12}") for i in range(60)] + [("alone", "kind of its own")]
    task = load(tmp_path, rows, positive_column=None, label_column="b", test_size=0.3)
    assert task.card.dropped == 1
    kind = dict(rows)
    for part in (task.train, task.validation, task.test):
        assert part.labelled
        assert all(a != b and kind[a] == kind[b] for a, b in zip(part.anchors, part.positives, strict=True))
        assert np.array_equal(part.anchor_ids, part.positive_ids)
    kinds = [{kind[a] for a in part.anchors} for part in (task.train, task.validation, task.test)]
    assert not kinds[0] & kinds[2]
    asked = questions(task.test)
    for query, answers, own in zip(asked.queries, asked.positives, asked.own.tolist(), strict=True):
        assert asked.candidates[own] == query
        assert own not in answers
        assert {kind[asked.candidates[place]] for place in answers} == {kind[query]}
        assert len(answers) == 4


def test_questions_ask_each_query_once_with_all_its_answers(tmp_path: Path) -> None:
    rows = [(f"title {i // 2}", f"body {i}") for i in range(40)]
    asked = questions(load(tmp_path, rows, test_size=0.5).test)
    assert len(set(asked.queries)) == len(asked.queries)
    for query, answers in zip(asked.queries, asked.positives, strict=True):
        assert {int(asked.candidates[place].split()[1]) // 2 for place in answers} == {int(query.split()[1])}
        assert len(answers) == 2
    assert (asked.own == -1).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"positive_column": None},
        {"anchor_column": None},
        {"label_column": "c"},
        {"positive_column": None, "label_column": "b", "negative_column": "c"},
        {"positive_column": "a"},
        {"test_size": 49},
    ],
)
def test_columns_and_sizes_that_do_not_go_together(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        load(tmp_path, plain(50), **changes)


def test_a_column_that_is_not_there_and_labels_without_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'answer'.*'a', 'b', 'c'"):
        load(tmp_path, plain(20), positive_column="answer")
    with pytest.raises(DataError, match="no label has two"):
        load(tmp_path, plain(20), positive_column=None, label_column="b")
