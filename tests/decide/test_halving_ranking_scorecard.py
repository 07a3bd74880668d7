"""Successive halving with a clock of its own, the ranking of models, and the scorecard by hand."""

import dataclasses
import math

import pytest
from situations import around, costs, evidence

from warmstart.core.decision import PilotRun
from warmstart.core.ledger import LedgerEntry, Scorecard
from warmstart.core.records import Interval
from warmstart.decide.halving import successive_halving
from warmstart.decide.plan import make_plan
from warmstart.decide.ranking import rank_models
from warmstart.decide.response import Response
from warmstart.decide.scorecard import covered, make_scorecard


class Bench:
    """Pilots that take the seconds they are given, or less, and whose merit is known."""

    def __init__(self, merit, seconds=None, impossible=()):
        self.merit, self.needs, self.impossible, self.time, self.log = merit, seconds, impossible, 0.0, []

    def run(self, name, rung, seconds):
        if name in self.impossible:
            return None
        self.time += seconds if self.needs is None else self.needs
        self.log.append((name, rung, seconds))
        return PilotRun(name, rung, 10, 1.0, 10, 5, 5, 1, 1, seconds)

    def rank(self, pilots):
        assert len(pilots) == len(self.log)
        return self.merit

    def play(self, names, seconds, **options):
        return successive_halving(names, seconds, self.run, self.rank, now=lambda: self.time, **options)


def test_the_better_half_goes_on():
    bench = Bench({"a": 1.0, "b": 3.0, "c": 2.0, "d": 0.0})
    found = bench.play("abcd", 120.0)
    assert [(p.strategy, p.rung) for p in found] == [("a", 0), ("b", 0), ("c", 0), ("d", 0), ("b", 1), ("c", 1)]
    assert [seconds for _, _, seconds in bench.log] == pytest.approx([15.0] * 4 + [30.0] * 2)
    assert bench.time == pytest.approx(120.0)  # nothing lies idle


def test_seconds_left_over_go_to_the_next_rung():
    bench = Bench({"a": 1.0, "b": 2.0, "c": 3.0}, seconds=1.0)
    bench.play("abc", 90.0)
    assert bench.log[3][2] == pytest.approx((90.0 - 3.0) / 2)


def test_two_meet_once_and_one_has_all_the_seconds():
    both = Bench({"a": 1.0, "b": 2.0})
    both.play("ab", 60.0)
    assert [seconds for _, _, seconds in both.log] == pytest.approx([30.0, 30.0])
    alone = Bench({"a": 1.0})
    alone.play("a", 60.0)
    assert [seconds for _, _, seconds in alone.log] == pytest.approx([60.0])


def test_what_cannot_run_is_out_and_overruns_end_it():
    bench = Bench({"a": 1.0, "b": 2.0}, impossible=("b",))
    assert {p.strategy for p in bench.play("ab", 60.0)} == {"a"}
    slow = Bench({"a": 1.0, "b": 2.0}, seconds=100.0)
    assert [p.strategy for p in slow.play("ab", 60.0)] == ["a"]
    assert Bench({}).play("", 60.0) == ()
    assert Bench({"a": 1.0}).play("a", 0.0) == ()


def planned(name, parameters, probe, **changes):
    given = evidence(per_class=4, parameters=parameters, probe=around(probe), **changes)
    return dataclasses.replace(make_plan(given, costs(given), "text", response=Response()), model=name)


def test_models_are_ranked_and_a_tie_goes_to_the_smallest():
    plans = [planned("good", 10**8, 0.9), planned("poor", 10**7, 0.7), planned("alike", 10**6, 0.8995)]
    ranking = rank_models(plans)
    assert [row.model for row in ranking] == ["alike", "good", "poor"]
    assert ranking[0].strategy == plans[2].strategy
    assert ranking[0].score == plans[2].forecast_of(plans[2].strategy).score


def test_a_model_that_does_not_fit_comes_last_with_its_reason():
    never = dataclasses.replace(planned("huge", 10**11, 0.99), strategy="none", reasons=("Nothing fits.",))
    ranking = rank_models([never, planned("poor", 10**7, 0.7)])
    assert [row.model for row in ranking] == ["poor", "huge"]
    assert ranking[1].note == "Nothing fits."
    assert ranking[1].score is None


def test_a_guess_does_not_outrank_a_measurement():
    unknown = Interval(math.nan, 0.0, 1.0)
    guessed = planned("guessed", 10**6, 0.5, tfidf=around(0.99))
    evidence_ = dataclasses.replace(guessed.evidence, probe=unknown)
    guessed = dataclasses.replace(guessed, evidence=evidence_)
    high = dataclasses.replace(
        guessed, forecasts=tuple(dataclasses.replace(f, score=around(0.99)) for f in guessed.forecasts)
    )
    ranking = rank_models([high, planned("poor", 10**7, 0.6), planned("good", 10**8, 0.9)])
    assert [row.model for row in ranking] == ["good", "poor", "guessed"]
    assert "not measured" in ranking[2].note
    assert rank_models([high])[0].note == ""


def entry(**changes):
    given = {
        "created": "2026-01-01T00:00:00+00:00",
        "verb": "compare",
        "data": "abc",
        "model": "m",
        "machine": "here",
        "effort": "probe",
        "strategy": "lora",
        "seed": 0,
        "planned": False,
        "chosen": False,
        "labels_a_class": 20.0,
        "classes": 3,
        "test_rows": 10_000,
        "forecast_score": Interval(0.8, 0.75, 0.85),
        "score": 0.82,
        "forecast_seconds": 100.0,
        "seconds": 110.0,
        "forecast_memory_mb": 1000.0,
        "memory_mb": 900.0,
    }
    return LedgerEntry(**(given | changes))


def test_an_outcome_is_inside_its_interval_or_not():
    assert covered(entry()) is True
    assert covered(entry(score=0.87)) is False
    assert covered(entry(score=0.87, test_rows=60)) is True  # sixty rows can miss by as much
    assert covered(entry(score=1.0, test_rows=12)) is True
    assert covered(entry(forecast_score=None)) is None
    assert covered(entry(score=math.nan)) is None


def test_the_scorecard_by_hand():
    entries = [
        entry(),
        entry(score=0.87, seconds=150.0),
        entry(strategy="linear_probe", planned=True, score=0.80, forecast_seconds=math.nan, memory_mb=math.nan),
    ]
    card = make_scorecard(entries, "ledger")
    assert (card.entries, card.runs) == (3, 1)
    rows = {row.strategy: row for row in card.rows}
    lora, probe, whole = rows["lora"], rows["linear_probe"], rows["all"]
    assert lora.bias == pytest.approx(0.045)
    assert lora.error == pytest.approx(0.045)
    assert lora.covered == 0.5
    assert lora.seconds_ratio == pytest.approx(1.3)
    assert lora.seconds_within == 0.5
    assert lora.memory_ratio == pytest.approx(0.9)
    assert math.isnan(probe.seconds_ratio)
    assert math.isnan(probe.memory_ratio)
    assert whole.runs == 3
    assert card.regret == pytest.approx(0.845 - 0.80)  # lora's mean over seeds against what was planned
    assert card.comparisons == 1
    assert "say little" in card.notes[0]
    assert Scorecard.from_json(card.to_json()).entries == 3


def test_an_empty_ledger_makes_an_empty_card():
    card = make_scorecard([], "ledger", ["Nothing yet."])
    assert card.rows == ()
    assert math.isnan(card.regret)
    assert card.notes == ("Nothing yet.",)
