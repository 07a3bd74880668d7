import dataclasses
import json
import math
import types
import typing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warmstart.core import contrast, decision, index, ledger, record, records
from warmstart.core.records import Evidence, Interval, Point, Record, RunRecord, StrategyRun

MODULES = (record, records, decision, ledger, contrast, index)
RECORDS = sorted(
    (c for c in Record.__subclasses__() if c.__module__ in [module.__name__ for module in MODULES]),
    key=lambda c: c.__name__,
)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.floats(-9, 9)
LEAVES = {
    str: st.text(max_size=5),
    int: st.integers(-(2**40), 2**40),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    typing.Any: SCALARS,
}


def values(hint):
    """Whatever a field may hold, from its annotation."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in LEAVES:
        return LEAVES[hint]
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin is types.UnionType:
        return st.one_of(*(st.none() if arg is type(None) else values(arg) for arg in args))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(max_size=3), values(args[1]), max_size=2)
    return instances(hint)


def instances(record):
    return st.builds(record, **{name: values(hint) for name, hint in typing.get_type_hints(record).items()})


def test_every_record_is_known_here():
    assert {"RunRecord", "Plan", "Evidence", "Scores", "Interval", "TaskCard"} <= {c.__name__ for c in RECORDS}
    assert all(dataclasses.is_dataclass(c) and c.__dataclass_params__.frozen for c in RECORDS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda c: c.__name__)
def test_json_round_trip(record):
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(instance=instances(record))
    def check(instance):
        again = record.from_json(instance.to_json())
        assert again == instance
        assert type(again) is record
        assert again.to_json() == instance.to_json()

    check()


@pytest.mark.parametrize("record", RECORDS, ids=lambda c: c.__name__)
def test_unknown_keys_fail(record):
    with pytest.raises(ValueError, match=f"{record.__name__} has no field surprise, wonder"):
        record.from_dict({"surprise": 1, "wonder": 2})


def test_unknown_keys_fail_inside_too():
    run = StrategyRun("lora", 0, "done", "", {}, 0.5, None, 1.0, 2.0, 3, history=(Point(1, 0.1, 0.2),))
    plain = run.to_dict()
    assert StrategyRun.from_dict(plain) == run
    plain["history"][0]["extra"] = 1
    with pytest.raises(ValueError, match="Point has no field extra"):
        StrategyRun.from_dict(plain)


def test_not_a_number_becomes_null_and_comes_back():
    text = Interval(math.nan, -math.inf, 1.0).to_json()
    assert json.loads(text) == {"value": None, "low": None, "high": 1.0}
    again = Interval.from_json(text)
    assert math.isnan(again.value)
    assert math.isnan(again.low)
    assert again.high == 1.0


def test_whole_numbers_stay_floats_where_floats_belong():
    assert isinstance(Interval.from_json('{"value": 1, "low": 0, "high": 1}').value, float)


def test_interval_prints_itself():
    assert f"{Interval(0.5, 0.25, 0.75)}" == "0.500 [0.250, 0.750]"
    assert f"{Interval(0.5, 0.25, 0.75):.1f}" == "0.5 [0.2, 0.8]"


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Interval(0.0, 0.0, 0.0).value = 1.0


def test_missing_optional_parts_stay_missing():
    point = Point.from_json(Point(3, 0.5, 1.0, rates={"head": 1e-3}).to_json())
    assert point.loss is None
    assert point.rates == {"head": 1e-3}
    fields = {f.name for f in dataclasses.fields(Evidence)}
    assert {"zero_shot", "tfidf", "budget_seconds"} <= fields


def test_run_of_skips_what_did_not_run():
    run = StrategyRun("lora", 0, "skipped", "", {}, 0.0, None, 0.0, 0.0, 0)
    done = dataclasses.replace(run, seed=1, status="done")
    holder = types.SimpleNamespace(runs=(run, done))
    assert RunRecord.run_of(holder, "lora") is done
    with pytest.raises(KeyError):
        RunRecord.run_of(holder, "scratch")


def test_module_holds_no_other_public_class():
    own = {(m, n) for m in MODULES for n, o in vars(m).items() if isinstance(o, type) and o.__module__ == m.__name__}
    assert {name for _, name in own} == {c.__name__ for c in RECORDS} | {"Record"}
