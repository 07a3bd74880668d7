import itertools

import pytest
from situations import EPOCHS, around, costs, evidence
from warmstart.decide.rules import RULES, make_plan
from warmstart.decide.situation import SCRATCH, above, situation

from warmstart.core.errors import DataError
from warmstart.core.options import STRATEGIES
from warmstart.core.records import Plan


def fired(given, modality="text"):
    seen = situation(given, costs(given), modality)
    return next(rule.name for rule in RULES if rule.applies(seen))


def plan(given, modality="text", overrides=None, **options):
    return make_plan(given, costs(given, **options), modality, overrides)


CASES = [
    ("no_labels", {"per_class": 0}, "zero_shot", ""),
    ("zero_shot_beats_probe", {"per_class": 3, "zero_shot": around(0.9)}, "zero_shot", "linear_probe"),
    ("few_labels", {"per_class": 3}, "linear_probe", "progressive"),
    ("few_labels", {"per_class": 7, "zero_shot": around(0.85)}, "linear_probe", "progressive"),
    ("ceiling", {"probe": around(0.985, 0.005)}, "linear_probe", "fine_tune"),
    ("no_time_to_train", {"budget_seconds": 40.0}, "linear_probe", "zero_shot"),
    ("huge_model", {"parameters": 7_000_000_000}, "lora", "linear_probe"),
    ("features_do_not_fit", {"tfidf": around(0.9)}, "fine_tune", "progressive"),
    ("features_do_not_fit", {"knn": around(0.9), "tfidf": None, "per_class": 12}, "fine_tune", "progressive"),
    ("features_do_not_fit", {"majority": 0.82}, "fine_tune", "progressive"),
    ("features_do_not_fit_and_much_data", {"tfidf": around(0.9), "per_class": 4000}, "fine_tune", "scratch"),
    ("between", {"per_class": 12}, "linear_probe", "progressive"),
    ("enough_labels", {"per_class": 30}, "fine_tune", "progressive"),
    ("plenty_of_labels", {"per_class": 200}, "fine_tune", "lora"),
]


@pytest.mark.parametrize(("rule", "changes", "strategy", "runner_up"), CASES)
def test_each_rule_decides_its_case(rule, changes, strategy, runner_up):
    given = evidence(**changes)
    assert fired(given) == rule
    got = plan(given)
    assert (got.strategy, got.runner_up) == (strategy, runner_up)
    assert got.evidence == given
    assert Plan.from_json(got.to_json()).strategy == strategy


def test_no_rule_is_without_a_case():
    assert {case[0] for case in CASES} == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_over_a_grid_every_plan_is_sound_and_every_rule_fires():
    seen = set()
    grid = itertools.product(
        (0, 2, 8, 19, 20, 60, 5000),
        (0.31, 0.83, 0.99),
        (0.5, 0.9),
        (None, around(0.6), around(0.95)),
        (22_000_000, 3_000_000_000),
        (None, 30.0, 400.0),
    )
    for per_class, probe, tfidf, zero_shot, parameters, budget in grid:
        given = evidence(
            per_class,
            probe=around(probe, 0.01),
            tfidf=around(tfidf),
            zero_shot=zero_shot,
            parameters=parameters,
            budget_seconds=budget,
        )
        if per_class == 0 and zero_shot is None:
            with pytest.raises(DataError, match="zero_shot is ruled out"):
                plan(given)
            continue
        seen.add(fired(given))
        got = plan(given)
        allowed = {f.strategy for f in got.forecasts if f.allowed}
        assert got.strategy in (allowed or {"linear_probe"})
        assert got.runner_up in allowed | {""}
        assert got.runner_up != got.strategy
        assert got.strategy != "scratch"
        assert given.labelled >= SCRATCH or got.runner_up != "scratch"
        assert got.reasons
        assert got.would_change
        assert all(sentence.endswith(".") and "  " not in sentence for sentence in got.reasons + got.would_change)
        trains = got.strategy in EPOCHS
        assert ("num_train_epochs" in got.settings) == trains
        if trains:
            assert 0 < got.settings["num_train_epochs"] <= EPOCHS[got.strategy]
    assert seen == {rule.name for rule in RULES}


def test_reasons_hold_the_numbers():
    got = plan(evidence(per_class=30))
    assert "30 labels a class" in got.reasons[0]
    assert "0.830 [0.810, 0.850]" in got.reasons[0]
    assert "0.170 to win" in got.reasons[0]
    assert "4 epochs of fine_tune take about" in got.reasons[1]
    assert any("20 labels a class" in sentence for sentence in got.would_change)
    assert "112 GB" in plan(evidence(parameters=7_000_000_000)).reasons[0]
    far = plan(evidence(tfidf=around(0.9)), "pair").reasons[0]
    assert "TF-IDF (0.900 [0.880, 0.920])" in far
    assert "pairs of texts" in far


def test_a_tight_budget_cuts_epochs_and_says_so():
    got = plan(evidence(budget_seconds=90.0))
    assert got.settings == {"num_train_epochs": 2.0}
    assert any("2 of 4 epochs" in reason for reason in got.reasons)
    assert any("More time: 4 epochs" in sentence for sentence in got.would_change)


def test_no_budget_for_an_epoch_names_what_is_ruled_out():
    got = plan(evidence(budget_seconds=40.0))
    assert got.strategy == "linear_probe"
    text = " ".join(got.reasons)
    for name in ("fine_tune", "progressive", "lora"):
        assert f"{name} is ruled out: {name} needs" in text
    nothing = plan(evidence(budget_seconds=5.0))
    assert nothing.strategy == "linear_probe"
    assert nothing.runner_up == ""
    assert any("No strategy fits the budget" in reason for reason in nothing.reasons)


def test_a_preferred_strategy_that_is_ruled_out_gives_way():
    got = plan(evidence(parameters=3_000_000_000, budget_seconds=55.0))
    assert got.strategy == "linear_probe"
    assert got.reasons[0].startswith("The model has 3.0 billion parameters")
    assert got.reasons[1].startswith("lora is ruled out: lora needs at least half of 6 epochs")


def test_strategies_that_are_not_offered_are_not_taken():
    got = plan(evidence(), strategies=("lora", "linear_probe"))
    assert (got.strategy, got.runner_up) == ("lora", "linear_probe")
    only = plan(evidence(per_class=3), strategies=("scratch", "zero_shot"))
    assert (only.strategy, only.runner_up) == ("zero_shot", "")


def test_the_user_wins_and_is_warned():
    got = plan(evidence(budget_seconds=90.0), overrides={"num_train_epochs": 5, "learning_rate": 1e-4, "r": None})
    assert got.settings == {"num_train_epochs": 5, "learning_rate": 1e-4}
    assert any("5 epochs were asked for, and 2 fit the budget" in reason for reason in got.reasons)


def test_a_floor_above_the_probe_is_told_whatever_decides():
    got = plan(evidence(per_class=4, tfidf=around(0.9)))
    assert got.strategy == "linear_probe"
    assert any(reason.startswith("Beware: the probe") for reason in got.reasons)


def test_scratch_needs_rows():
    assert "scratch" not in situation(evidence(), costs(evidence()), "image").allowed
    many = evidence(per_class=4000)
    assert "scratch" in situation(many, costs(many), "image").allowed


def test_order_of_allowed_is_cheapest_first():
    got = situation(evidence(), costs(evidence()), "text")
    assert set(got.allowed) == set(STRATEGIES) - {"scratch"}
    assert got.allowed[:2] == ("zero_shot", "linear_probe")


def test_above_knows_nothing_of_what_was_not_measured():
    nan = float("nan")
    assert above(around(0.9), around(0.8))
    assert not above(around(0.81), around(0.8))
    assert not above(None, around(0.1))
    assert not above(around(nan), around(0.1))
