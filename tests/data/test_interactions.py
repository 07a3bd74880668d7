"""Events, catalogues and splits: what is read, what is refused, and that nothing of the future gets into the past."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.core.errors import DataError, ResultError, SettingError
from warmstart.core.two_tower_options import InteractionOptions
from warmstart.data.catalogue import Columns, load_catalogue
from warmstart.data.features import apply_plan, fit_plan, given_rows, split_values
from warmstart.data.histories import split_histories
from warmstart.data.ids import IdMap, load_maps, save_maps
from warmstart.data.interactions import Interactions, load_interactions


def read(path: Path, text: str, **changes: object) -> Interactions:
    path.write_text(text)
    return load_interactions(InteractionOptions(interactions=str(path), **changes))


def sequences(events: Interactions) -> dict[str, list[str]]:
    bounds = events.bounds()
    return {
        events.users.ids[user]: [events.items.ids[item] for item in events.item[bounds[user] : bounds[user + 1]]]
        for user in range(len(events.users))
    }


def test_events_are_ordered_by_time_and_then_by_row(tmp_path: Path) -> None:
    found = read(tmp_path / "e.csv", "user,item,time\na,x,5\nb,y,1\na,y,3\na,z,3\na,w,3\n")
    assert sequences(found) == {"b": ["y"], "a": ["y", "z", "w", "x"]}
    assert found.counts["users_tied_at_the_end"] == 0
    tied = read(tmp_path / "t.csv", "user,item,time\na,x,3\na,w,5\na,v,5\n")
    assert sequences(tied)["a"] == ["x", "w", "v"]
    assert tied.counts["users_tied_at_the_end"] == 1


def test_a_repeated_pair_counts_once_where_it_came_first(tmp_path: Path) -> None:
    found = read(tmp_path / "e.csv", "user,item,time\na,x,9\na,y,2\na,x,1\n")
    assert sequences(found) == {"a": ["x", "y"]}
    assert found.counts["repeated"] == 1


def test_dates_are_read_and_ordered(tmp_path: Path) -> None:
    found = read(tmp_path / "e.csv", "userId,movieId,date\n1,x,2024-03-01\n1,y,2024-02-29 10:00\n1,z,2023-12-31\n")
    assert sequences(found) == {"1": ["z", "y", "x"]}
    assert set(found.guessed) == {"user", "item", "time"}


def test_bare_lines_are_oldest_first(tmp_path: Path) -> None:
    found = read(tmp_path / "s.txt", "7 x\n7 y\n8 x\n\n7 a\n")
    assert sequences(found) == {"7": ["x", "y", "a"], "8": ["x"]}


def test_events_and_weights_choose_rows(tmp_path: Path) -> None:
    text = "user,item,time,rating,event\na,x,1,5,buy\na,y,2,1,buy\na,z,3,5,view\n"
    assert sequences(read(tmp_path / "e.csv", text, min_weight=4.0)) == {"a": ["x", "z"]}
    assert sequences(read(tmp_path / "e.csv", text, events="buy")) == {"a": ["x", "y"]}
    with pytest.raises(SettingError, match="kinds there: buy, view"):
        read(tmp_path / "e.csv", text, events="sell")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("person,thing\na,b\n", "--user-column"),
        ("user,item,time\na,x,soon\n", "row 2.*'soon' is not a date"),
        ("user,item,time\na,x,3\nb,x,soon\nc,x,4\n", "row 3.*'soon' is not a number, as the other times are"),
        ("user,item,time\na,x,2024-01-02\nb,x,2024-01-03\nc,x,soon\nd,x,late\n", r"row 4.*'soon'.*\(2 such rows\)"),
        ("user,item,time\na,,3\n", r"rows 2.*--drop-invalid"),
        ("user,item,time\n", "no rows"),
    ],
)
def test_bad_events_are_refused_with_their_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(tmp_path / "e.csv", text)


@pytest.mark.parametrize("times", [("1", "soon", "3"), ("2024-01-02", "soon", "2024-01-03")])
def test_times_that_cannot_be_read_are_left_out_when_asked_for(tmp_path: Path, times: tuple[str, ...]) -> None:
    lines = [f"a,{item},{time}" for item, time in zip("xyz", times, strict=True)]
    text = "\n".join(["user,item,time", *lines])
    found = read(tmp_path / "e.csv", text, drop_invalid=True)
    assert sequences(found) == {"a": ["x", "z"]}
    assert found.counts["empty"] == 1


def test_ragged_bare_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2"):
        read(tmp_path / "s.txt", "7 x\n7 y 3\n")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'who'"):
        read(tmp_path / "e.csv", "user,item\na,x\n", user_column="who")


def test_id_maps_go_round(tmp_path: Path) -> None:
    first, second = IdMap("item", ["007", "ü", "1.0"]), IdMap("user", ["a"])
    save_maps(tmp_path / "ids.json", [first, second])
    assert load_maps(tmp_path / "ids.json") == {"item": first, "user": second}
    assert first.numbers(["1.0", "007"]).tolist() == [2, 0]
    assert first.find(["7", "ü"]).tolist() == [-1, 1]
    with pytest.raises(DataError, match="'7'"):
        first.number("7")
    with pytest.raises(DataError, match=r"no item 'Ü'.*Did you mean 'ü'\?"):
        first.number("Ü")
    with pytest.raises(DataError, match="more than once"):
        IdMap("item", ["a", "a"])
    (tmp_path / "ids.json").write_text("[1")
    with pytest.raises(ResultError):
        load_maps(tmp_path / "ids.json")


ROWS = [
    {"t": "a film", "g": "x|y", "n": "1", "d": "1995-01-01"},
    {"t": "another", "g": "y", "n": "3", "d": None},
    {"t": None, "g": None, "n": None, "d": "1995-01-03"},
]


def test_features_are_scaled_and_new_rows_go_the_same_way() -> None:
    plan = fit_plan(ROWS, ["t"], ["g"], ["n"], ["d"], given_rows(len(ROWS)))
    assert plan.values == ("g=y",)  # x is in one row only
    found = apply_plan(plan, ROWS)
    assert found.texts == ("a film", "another", "")
    assert [bag.tolist() for bag in found.bags] == [[0], [0], []]
    np.testing.assert_allclose(found.numbers, [[-1, -1], [1, 0], [0, 1]], atol=1e-6)
    new = apply_plan(plan, [{"g": "unknown|y", "n": 5}])
    assert new.bags[0].tolist() == [0]
    np.testing.assert_allclose(new.numbers, [[3, 0]], atol=1e-6)
    with pytest.raises(DataError, match=r"the given rows, row 1, column 'n': 'many' is no number"):
        apply_plan(plan, [{"n": "many"}])
    assert split_values(["a", " b "]) == ["a", "b"]


def test_a_catalogue_guesses_its_columns_and_keeps_new_items(tmp_path: Path) -> None:
    lines = ["item_id,title,genre,price,url,released"]
    lines += [f"i{n},the film no {n},{'AB'[n % 2]},{n},http://x/{n},2020-01-{n + 1:02d}" for n in range(12)]
    (tmp_path / "i.csv").write_text("\n".join(lines))
    ids = IdMap("item", ["i3", "gone"])
    found = load_catalogue(str(tmp_path / "i.csv"), "--items", ids, Columns(), "item", add=True)
    assert found.ids.ids[:2] == ("i3", "gone")
    assert len(found.ids) == 13
    assert found.plan.texts == ("title",)
    assert (found.plan.categories, found.plan.numbers, found.plan.dates) == (("genre",), ("price",), ("released",))
    assert found.titles[:2] == ("the film no 3", "gone")
    assert found.counts == {"rows": 12, "without_events": 11, "not_in_table": 1}
    assert len(load_catalogue(str(tmp_path / "i.csv"), "--items", ids, Columns(), "item", add=False).ids) == 2


def test_a_word_among_numbers_is_told_with_its_row_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item,price\na,1\nb,cheap\n")
    with pytest.raises(DataError, match=r"i\.csv, row 3, column 'price': 'cheap' is no number"):
        load_catalogue(
            str(tmp_path / "i.csv"), "--items", IdMap("item", ["a"]), Columns(numbers=("price",)), "item", add=True
        )


def test_a_word_in_a_guessed_column_of_numbers_is_a_gap_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("warmstart.data.catalogue.reporter", lambda: SimpleNamespace(warn=warnings.append))
    lines = ["item,price,code", *(f"i{n},{'cheap' if n == 7 else n},{'x' * (n % 3)}{n}" for n in range(30))]
    (tmp_path / "i.csv").write_text("\n".join(lines))
    found = load_catalogue(str(tmp_path / "i.csv"), "--items", IdMap("item", ["i7", "i8"]), Columns(), "item", add=True)
    assert found.plan.numbers == ("price",)
    assert found.features.numbers[0, 0] == 0.0  # the mean
    assert len(warnings) == 1
    assert "i.csv, row 9, column 'price': 'cheap' is no number; counted as empty" in warnings[0]
    price = found.attributes["price"]
    assert price.dtype.kind == "f"
    assert np.isnan(price[0])
    assert price[1] == 8.0
    assert found.attributes["code"].dtype.kind == "O"  # as many words as numbers are no column of numbers


def test_ids_that_never_meet_are_told(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item,title\n0007,a hat\n0008,a shoe\n")
    with pytest.raises(DataError, match=r"no id is among the items of the events: '0007' here, '7' there.*id-column"):
        load_catalogue(str(tmp_path / "i.csv"), "--items", IdMap("item", ["7", "8"]), Columns(), "item", add=True)


def test_an_id_twice_in_the_catalogue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item,title\na,x y\nb,z\na,q\n")
    with pytest.raises(DataError, match=r"row 4.*'a' is there already, in row 2"):
        load_catalogue(str(tmp_path / "i.csv"), "--items", IdMap("item", ["a"]), Columns(), "item", add=True)


def made(lists: list[list[int]], times: list[list[float]]) -> Interactions:
    rows = [
        (u, i, t)
        for u, (items, when) in enumerate(zip(lists, times, strict=True))
        for i, t in zip(items, when, strict=True)
    ]
    users, items, time = (np.array(column) for column in zip(*rows, strict=True))
    names = IdMap("item", [str(n) for n in range(int(items.max()) + 1)])
    return Interactions(
        users, items, time.astype(float), IdMap("user", map(str, range(len(lists)))), names, {}, (), {}, "", "events"
    )


@pytest.mark.parametrize("kind", ["last", "temporal", "cold_items"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_split_lets_the_future_into_the_past(kind: str, data: st.DataObject) -> None:
    """Every item carries its time: nothing trained on or read may be later than what is asked for."""
    draw = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    lists = [draw.permutation(40)[: int(draw.integers(3, 15))].tolist() for _ in range(25)]
    times = [np.sort(draw.integers(0, 1000, len(items))).astype(float).tolist() for items in lists]
    events = made(lists, times)
    split = split_histories(events, kind, 0.2, int(draw.integers(100)))
    for asked in (split.validation, split.test):
        for user, history, target in zip(asked.users, asked.histories, asked.targets, strict=True):
            place = lists[user].index(target)
            assert set(history) <= set(lists[user][:place])
            assert [lists[user].index(item) for item in history] == sorted(lists[user].index(item) for item in history)
            assert target not in split.train[user]
            if kind != "temporal":
                assert set(split.train[user]) <= set(lists[user][:place])
    for user, history, target in zip(split.test.users, split.test.histories, split.test.targets, strict=True):
        assert set(split.complete[user]) <= set(history)
        assert target not in split.complete[user]
    if kind == "temporal":
        asked_times = [times[u][lists[u].index(t)] for u, t in zip(split.test.users, split.test.targets, strict=True)]
        trained = [times[u][lists[u].index(i)] for u, items in enumerate(split.complete) for i in items]
        assert max(trained) < min(asked_times)
    if kind == "cold_items":
        assert len(split.cold) == 8
        assert not set(split.cold) & {int(item) for items in split.train for item in items}
        assert set(split.test.targets) <= set(split.cold)


def test_last_is_the_last_and_validation_the_one_before() -> None:
    split = split_histories(made([[0, 1, 2, 3], [3, 2, 1], [1, 0]], [[1, 2, 3, 4], [1, 2, 3], [1, 2]]), "last", 0.1, 0)
    assert split.test.targets.tolist() == [3, 1]
    assert split.validation.targets.tolist() == [2, 2]
    assert [items.tolist() for items in split.train] == [[0, 1], [3], [1, 0]]
    assert split.left_out == 1


def test_too_few_users_are_refused() -> None:
    with pytest.raises(DataError, match="leaves 0 users"):
        split_histories(made([[0, 1], [1, 0]], [[1, 2], [1, 2]]), "last", 0.1, 0)
