import math

import pytest
from situations import EPOCHS, compute, costs, evidence

from warmstart.core.errors import SettingError
from warmstart.core.options import STRATEGIES
from warmstart.decide.forecast import SLACK, Rows, forecast_costs

ROWS = Rows(fit=600, validation=100, test=1000)


def by_name(given, **options):
    return {cost.forecast.strategy: cost for cost in forecast_costs(given, ROWS, EPOCHS, **options)}


def test_without_a_budget_all_is_allowed_and_seconds_add_up():
    got = by_name(evidence())
    assert tuple(got) == STRATEGIES
    assert [name for name, cost in got.items() if not cost.forecast.allowed] == ["scratch"]  # too few rows, ever
    assert all(cost.forecast.learning_seconds == pytest.approx(cost.forecast.seconds - 10.0) for cost in got.values())
    assert got["zero_shot"].forecast.seconds == pytest.approx(11.0)
    assert got["linear_probe"].forecast.seconds == pytest.approx(17.0)
    epoch = 600 * 0.04 + 100 * 0.01
    assert got["fine_tune"].forecast.seconds == pytest.approx(17.0 + 4 * epoch)
    assert got["lora"].forecast.seconds == pytest.approx(17.0 + 6 * (600 * (0.01 + 0.95 * 0.03) + 1.0))
    assert got["progressive"].forecast.seconds == pytest.approx(17.0 + 8 * (600 * (0.01 + 0.5 * 0.03) + 1.0))
    assert {name: cost.epochs for name, cost in got.items() if cost.epochs} == EPOCHS


def test_cached_features_are_not_paid_again():
    got = by_name(evidence(), features_ready=True)
    for name in ("zero_shot", "linear_probe"):
        assert got[name].forecast.seconds == pytest.approx(10.0)
        assert got[name].forecast.learning_seconds == pytest.approx(0.0)
    assert got["fine_tune"].forecast.seconds == pytest.approx(10.0 + 4 * 25.0)


@pytest.mark.parametrize(("budget", "epochs"), [(1000.0, 4), (90.0, 2), (60.0, 1), (40.0, 0)])
def test_whole_epochs_that_fit(budget, epochs):
    cost = by_name(evidence(budget_seconds=budget))["fine_tune"]
    assert cost.epochs == epochs
    assert isinstance(cost.epochs, float)
    assert cost.forecast.allowed == (epochs > 0)
    assert (cost.forecast.seconds <= budget * (1 - SLACK)) == (epochs > 0)
    if epochs in (1, 2):
        assert f"{epochs} of 4 epochs" in cost.forecast.reason
    if epochs == 0:
        assert "fine_tune needs one epoch: one takes about 25 s, 42 s with all around it" in cost.forecast.reason
        assert "38 s are left" in cost.forecast.reason


def test_strategies_that_start_far_away_need_half_of_their_epochs():
    assert by_name(evidence(budget_seconds=80.0))["lora"].epochs == 0  # two of six would fit
    assert "at least half of 6 epochs" in by_name(evidence(budget_seconds=80.0))["lora"].forecast.reason
    assert by_name(evidence(budget_seconds=110.0))["lora"].epochs == 3


def test_less_than_an_epoch_may_be_what_is_wanted():
    (cost,) = forecast_costs(evidence(budget_seconds=40.0), ROWS, {"lora": 0.5}, strategies=("lora",))
    assert cost.forecast.allowed
    assert cost.epochs == 0.5


def test_time_already_spent_counts():
    given = evidence(budget_seconds=120.0)
    assert by_name(given)["fine_tune"].epochs == 3
    assert by_name(given, spent_seconds=60.0)["fine_tune"].epochs == 1
    gone = by_name(given, spent_seconds=500.0)
    assert not any(cost.forecast.allowed for cost in gone.values())
    assert "linear_probe needs about 17 s, and 0 s of the budget are left" in gone["linear_probe"].forecast.reason


def test_what_the_model_or_the_data_rule_out():
    got = by_name(evidence(zero_shot=None))
    assert not got["zero_shot"].forecast.allowed
    assert "label names" in got["zero_shot"].forecast.reason
    none = forecast_costs(evidence(per_class=0), Rows(0, 0, 50), EPOCHS)
    assert [cost.forecast.strategy for cost in none if cost.forecast.allowed] == ["zero_shot"]


def test_named_strategies_only():
    got = costs(evidence(), strategies=("lora", "linear_probe"), epochs={"lora": 1.0})
    assert [cost.forecast.strategy for cost in got] == ["lora", "linear_probe"]
    with pytest.raises(SettingError, match="unknown strategy magic"):
        costs(evidence(), strategies=("magic",))
    with pytest.raises(SettingError, match="epochs wanted for progressive, lora, scratch"):
        costs(evidence(), epochs={"fine_tune": 1.0})


def test_scratch_needs_rows():
    assert "below 20,000 labelled rows, and there are 600" in by_name(evidence())["scratch"].forecast.reason
    assert by_name(evidence())["scratch"].never
    assert by_name(evidence(per_class=4000))["scratch"].forecast.allowed


def test_memory_rules_out_by_name_and_shows_the_sum():
    got = by_name(evidence(compute=compute(device_bytes=500_000_000)))
    assert [name for name, cost in got.items() if cost.forecast.allowed] == ["zero_shot", "linear_probe", "lora"]
    reason = got["fine_tune"].forecast.reason
    assert reason.startswith("fine_tune needs 760 MB, and there are 500 MB: weights 88.0 MB + gradients 88.0 MB")
    assert reason.endswith("activations of 16 rows 320 MB = 760 MB")
    assert got["lora"].forecast.peak_memory_mb * 2**20 == pytest.approx(4 * 22e6 + 20 * 600_000 + 16 * 20e6)
    assert not got["fine_tune"].never
    assert not got["fine_tune"].short_of_time
    assert math.isnan(by_name(evidence())["lora"].forecast.peak_memory_mb)


def test_above_a_billion_parameters_lora_stands_for_all_that_trains():
    got = by_name(evidence(parameters=1_500_000_000))
    assert [name for name, cost in got.items() if not cost.forecast.allowed] == ["fine_tune", "progressive", "scratch"]
    assert "1.5 billion parameters, where lora will do" in got["fine_tune"].forecast.reason
    assert got["fine_tune"].never


def test_without_weights_nothing_is_timed():
    got = by_name(evidence(seconds_forward=math.nan, seconds_train=math.nan, budget_seconds=5.0))
    assert all(math.isnan(cost.forecast.seconds) for cost in got.values())
    assert got["lora"].forecast.allowed
    assert got["lora"].forecast.reason == "lora cannot be timed without the model's weights"
    assert got["lora"].epochs == EPOCHS["lora"]


def test_checkpoints_take_time_where_their_size_is_known():
    plain, known = by_name(evidence()), by_name(evidence(compute=compute()))
    names = ("fine_tune", "progressive", "lora")
    more = {name: known[name].forecast.seconds - plain[name].forecast.seconds for name in names}
    assert more["fine_tune"] == pytest.approx(4 * (0.1 + 4 * 4 * 22e6 / 400e6))
    assert more["progressive"] == pytest.approx(8 * (0.1 + 4 * (1 + 3 * 0.5) * 22e6 / 400e6))  # half of it is open
    assert more["lora"] == pytest.approx(6 * (0.1 + 4 * (22e6 + 3 * 600_000) / 400e6))
    assert known["linear_probe"].forecast.seconds == plain["linear_probe"].forecast.seconds
