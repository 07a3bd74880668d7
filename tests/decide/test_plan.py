"""Choices and plans: each on a situation whose answer is plain, and over a grid on which every plan must be sound."""

import dataclasses
import itertools
import math

import pytest
from situations import EPOCHS, around, compute, costs, evidence

from warmstart.core.decision import DomainEvidence, DomainMeasure, LabelEvidence
from warmstart.core.errors import DataError
from warmstart.core.record import Interval
from warmstart.core.records import Plan
from warmstart.core.statistics import wilson_interval
from warmstart.decide.choice import NONE, Question, cheapest_first, choose, contenders, turns, with_labels
from warmstart.decide.plan import make_plan
from warmstart.decide.response import PRIORS, Prior, Response

TEXT = "text"


def fixed(**gains):
    """A response in which each strategy adds so many logits, whatever the situation."""
    priors = {
        name: Prior((gains.get(name, 0.0),) + (0.0,) * 5, (1e-6,) * 6, 1e-6, 1e-6)
        for name in PRIORS
    }  # fmt: skip
    return Response((), priors)


def plan(given, modality=TEXT, overrides=None, response=None, **options):
    response = Response() if response is None else response
    return make_plan(given, costs(given, **options), modality, overrides, response=response)


def question(given, response=None, **options):
    return Question(given, costs(given, **options), TEXT, Response() if response is None else response)


CASES = [
    ({"per_class": 0}, "zero_shot"),
    ({"per_class": 3, "zero_shot": around(0.9)}, "zero_shot"),
    ({"per_class": 3}, "linear_probe"),
    ({"per_class": 12}, "linear_probe"),
    ({"per_class": 200}, "fine_tune"),
    ({"probe": around(0.985, 0.005), "knn": around(0.98)}, "linear_probe"),
    ({"budget_seconds": 40.0}, "linear_probe"),
    ({"per_class": 200, "parameters": 7_000_000_000}, "lora"),
    ({"per_class": 14, "tfidf": around(0.95)}, "fine_tune"),  # words beat the features: the trunk must move
]


@pytest.mark.parametrize(("changes", "strategy"), CASES)
def test_plain_situations(changes, strategy):
    given = evidence(**changes)
    got = plan(given)
    assert got.strategy == strategy
    assert got.evidence == given
    assert Plan.from_json(got.to_json()).strategy == strategy


def test_satellite_scenes_are_trained():
    assert plan(evidence(64, 7, probe=around(0.788), tfidf=None, zero_shot=None), "image").strategy == "fine_tune"


def test_a_tie_goes_to_the_cheapest_and_says_so():
    got = plan(evidence(), response=fixed(fine_tune=0.01, progressive=0.005, lora=0.0))
    assert got.strategy == "linear_probe"
    assert "fine_tune, the highest" in got.reasons[0]
    assert "a tie goes to the cheapest" in got.reasons[0]
    among = plan(
        evidence(), response=fixed(fine_tune=0.300, progressive=0.295, lora=0.0), epochs={**EPOCHS, "progressive": 2}
    )
    assert (among.strategy, among.runner_up) == ("progressive", "fine_tune")  # half the epochs, next to the same score


def test_zero_shot_within_a_tie_of_the_best_means_do_not_train():
    got = plan(evidence(zero_shot=around(0.836, 0.004), probe=around(0.83, 0.004)), response=fixed())
    assert got.strategy == "zero_shot"
    assert got.reasons[0].startswith("Do not train: zero-shot reaches 83.6 % [")
    assert "within the interval of the best" in got.reasons[0]
    clear = plan(evidence(3, zero_shot=around(0.9)))
    assert clear.reasons[0].startswith("Do not train: zero-shot reaches 90.0 % [88.0, 92.0]")


def test_over_a_grid_every_plan_is_sound():
    seen = set()
    grid = itertools.product(
        (0, 2, 19, 60, 5000),
        (0.31, 0.83, 0.99),
        (0.5, 0.9),
        (None, around(0.6), around(0.95)),
        (22_000_000, 3_000_000_000),
        (None, 30.0, 400.0),
        (None, 3_000_000_000, 20_000_000_000),
    )
    for per_class, probe, tfidf, zero_shot, parameters, budget, device in grid:
        given = evidence(
            per_class,
            probe=around(probe, 0.01),
            tfidf=around(tfidf),
            zero_shot=zero_shot,
            parameters=parameters,
            budget_seconds=budget,
            compute=compute(parameters=parameters, device_bytes=device),
        )
        allowed = {cost.forecast.strategy for cost in costs(given) if cost.forecast.allowed}
        if per_class == 0 and "zero_shot" not in allowed:
            with pytest.raises(DataError, match="zero_shot is ruled out"):
                plan(given)
            continue
        got = plan(given)
        seen.add(got.strategy)
        assert got.strategy in (allowed or {"linear_probe", NONE})
        assert got.runner_up in allowed | {""}
        assert got.runner_up != got.strategy
        assert got.reasons
        assert got.would_change
        assert all(sentence.endswith(".") and "  " not in sentence for sentence in got.reasons + got.would_change)
        assert ("num_train_epochs" in got.settings) == (got.strategy in EPOCHS)
        if got.strategy in EPOCHS:
            assert 0 < got.settings["num_train_epochs"] <= EPOCHS[got.strategy]
        for forecast in got.forecasts:
            assert 0 <= forecast.score.low <= forecast.score.value <= forecast.score.high <= 1
            if not forecast.allowed and forecast.strategy not in ("scratch", got.strategy):
                assert any(f"{forecast.strategy} is ruled out: " in line for line in got.reasons)
    assert seen >= {"zero_shot", "linear_probe", "fine_tune", "lora", NONE}


def test_reasons_hold_the_numbers():
    got = plan(evidence(per_class=60))
    assert "60 labels a class in 6 classes" in got.reasons[0]
    score = got.forecast_of("fine_tune").score
    told = f"{100 * score.value:.1f} % [{100 * score.low:.1f}, {100 * score.high:.1f}]"
    assert got.reasons[0].startswith(f"fine_tune is expected to reach {told}, ")
    assert "4 epochs of fine_tune take about" in got.reasons[-1]
    far = plan(evidence(tfidf=around(0.9)), "pair").reasons
    assert any("TF-IDF (90.0 % [88.0, 92.0])" in line and "pairs of texts" in line for line in far)


def test_labels_and_domain_are_told():
    labels = LabelEvidence((9, 9), 1.0, around(0.2), (1,), (), 100, around(0.012, 0.005))
    measure = DomainMeasure("MMD²", 0.7, 0.0, 1.0, "halves", "scrambled")
    got = plan(evidence(labels=labels, domain=DomainEvidence("film titles", 99, (measure,)))).reasons
    assert any("Up to 20 % of the labels may be wrong" in line for line in got)
    assert any("100 more labels would add about 1.2 points [0.7, 1.7] to the probe" in line for line in got)
    assert any("far from the reference (film titles): 0.70 of the way" in line for line in got)


def test_what_would_change_it_is_where_the_choice_really_turns():
    given = evidence(per_class=12)
    asked = question(given)
    below, above = turns(asked, choose(asked).strategy)
    assert below is None
    assert above is not None
    assert choose(with_labels(asked, above.labels_a_class)).strategy == above.strategy == "fine_tune"
    assert choose(with_labels(asked, above.labels_a_class / 1.2)).strategy == "linear_probe"
    assert any(f"{above.strategy}." in line and "Above about" in line for line in plan(given).would_change)
    many = plan(evidence(per_class=200)).would_change
    assert any("Below about" in line and "linear_probe" in line for line in many)
    assert "Below 20,000 labelled rows never from scratch." in many


def test_a_turn_is_looked_for_from_outside_of_the_bounds():
    few = question(evidence(per_class=1), fixed(fine_tune=-0.5, progressive=-1.0, lora=-1.0))
    assert turns(few, "lora") != (None, None)  # above one label a class, though two are the fewest looked at
    many = question(evidence(per_class=9000))
    below, above = turns(many, choose(many).strategy)
    assert above is None
    assert below is not None
    assert below.labels_a_class < 4096


def test_more_time_and_more_memory_are_named_with_what_they_would_buy():
    short = plan(evidence(per_class=200, budget_seconds=40.0)).would_change
    assert any(line.startswith("A larger --time-budget, or none: fine_tune, expected at 8") for line in short)
    small = plan(evidence(per_class=200, compute=compute(device_bytes=120_000_000)))
    assert small.strategy == "linear_probe"
    assert any(line.startswith("A device of 760 MB: fine_tune") for line in small.would_change)
    free = plan(evidence(per_class=200)).would_change
    assert not any("--time-budget" in line or "A device" in line for line in free)


def test_seventy_billion_parameters_on_24_gigabytes():
    size = compute(
        parameters=70_000_000_000,
        stored_bytes=140 * 10**9,
        lora_parameters=10**8,
        device_bytes=24 * 10**9,
        measured=False,
    )
    given = evidence(parameters=70_000_000_000, seconds_forward=math.nan, seconds_train=math.nan, compute=size)
    got = plan(given)
    assert (got.strategy, got.runner_up) == (NONE, "")
    text = " ".join(got.reasons)
    assert "None of the strategies fits into 24.0 GB" in text
    assert "LoRA holds weights 280 GB + 100,000,000 LoRA parameters" in text
    assert "as stored, the weights are 140 GB" in text
    for name in ("zero_shot", "linear_probe", "fine_tune", "progressive", "lora"):
        assert f"{name} is ruled out" in text
    assert any("A device of 282 GB: lora" in line for line in got.would_change)
    assert any("billion parameters of the same kind: lora would fit" in line for line in got.would_change)


def test_a_tight_budget_cuts_epochs_and_says_so():
    given, gains = evidence(per_class=300, labelled=600, budget_seconds=90.0), fixed(fine_tune=0.5)
    got = plan(given, response=gains, epochs={**EPOCHS, "progressive": 99})
    assert got.settings == {"num_train_epochs": 2.0}
    assert any("2 of 4 epochs" in reason for reason in got.reasons)
    assert any("More time: 4 epochs" in sentence for sentence in got.would_change)


def test_no_budget_at_all():
    nothing = plan(evidence(budget_seconds=5.0))
    assert (nothing.strategy, nothing.runner_up) == ("linear_probe", "")
    assert any("No strategy fits the budget" in reason for reason in nothing.reasons)
    neither = plan(evidence(budget_seconds=5.0, compute=compute(device_bytes=1_000_000)))
    assert neither.strategy == NONE  # memory forbids it, too
    assert any("linear_probe is ruled out: linear_probe needs" in reason for reason in neither.reasons)


def test_a_guess_is_not_called_measured():
    unknown = Interval(math.nan, 0.0, 1.0)
    got = plan(evidence(zero_shot=unknown, probe=unknown, knn=unknown), strategies=("zero_shot",))
    assert got.strategy == "zero_shot"
    assert got.reasons[0].startswith("zero_shot is expected to reach ")
    assert "nothing was measured" in got.reasons[0]
    assert "nan" not in " ".join(got.reasons)
    easy = evidence(zero_shot=unknown, probe=unknown, knn=unknown, tfidf=around(0.999, 0.001))
    assert plan(easy).strategy == "linear_probe"  # a guess wins no tie
    assert plan(dataclasses.replace(easy, zero_shot=around(0.999, 0.0005))).strategy == "zero_shot"


def test_fewer_epochs_are_expected_to_give_less_and_are_less_sure():
    whole = plan(evidence(per_class=200)).forecast_of("fine_tune").score
    cut = plan(evidence(per_class=200, budget_seconds=150.0)).forecast_of("fine_tune").score
    assert cut.value < whole.value
    assert cut.high - cut.low > whole.high - whole.low


def test_the_user_wins_and_is_warned():
    given = evidence(per_class=300, labelled=600, budget_seconds=90.0)
    changes = {"num_train_epochs": 5, "learning_rate": 1e-4, "r": None}
    got = plan(given, overrides=changes, response=fixed(fine_tune=0.5))
    assert got.settings == {"num_train_epochs": 5, "learning_rate": 1e-4}
    assert any("5 epochs were asked for, and 2 fit the budget" in reason for reason in got.reasons)
    assert plan(evidence(per_class=12), overrides={"num_train_epochs": 5}).settings == {}  # a probe has no epochs


def test_only_what_is_offered_is_taken():
    got = plan(evidence(), strategies=("lora", "linear_probe"))
    assert {got.strategy, got.runner_up} == {"lora", "linear_probe"}


def test_cheapest_first():
    names = cheapest_first(costs(evidence()))
    assert names[:2] == ("zero_shot", "linear_probe")
    assert names[-1] == "scratch"  # twenty epochs
    unknown = costs(evidence(seconds_forward=math.nan, seconds_train=math.nan))
    assert set(cheapest_first(unknown)[:2]) == {"zero_shot", "linear_probe"}


def test_contenders_are_those_that_might_win():
    assert contenders(question(evidence()), 3) == ("fine_tune", "lora", "progressive")
    assert contenders(question(evidence()), 1) == ("fine_tune",)
    hopeless = question(evidence(), fixed(fine_tune=-1.0, progressive=-1.0, lora=-1.0))
    assert contenders(hopeless, 3) == ()


def test_another_number_of_labels_does_not_move_a_perfect_score_by_itself():
    whole = wilson_interval(192, 192)
    asked = question(evidence(per_class=48, classes=4, probe=whole, zero_shot=whole))
    for near in (47.9, 48.1):
        moved = with_labels(asked, near).evidence.probe
        assert (moved.value, moved.low) == pytest.approx((whole.value, whole.low), abs=1e-3)


def test_nothing_turns_where_nothing_is_allowed():
    asked = dataclasses.replace(question(evidence()), costs=())
    assert turns(asked, "linear_probe") == (None, None)
