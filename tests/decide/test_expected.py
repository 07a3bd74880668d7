"""The regression and the forecasts made of it: by hand, and honest on outcomes that were simulated."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from situations import around, evidence

from warmstart.core.decision import PilotRun
from warmstart.core.options import STRATEGIES
from warmstart.core.records import Interval
from warmstart.core.statistics import wilson_interval
from warmstart.decide import experience
from warmstart.decide.expected import (
    CUT_SHORT,
    Epochs,
    expected_scores,
    gain_over_probe,
    pilot_gain,
    probe_level,
    regressors,
)
from warmstart.decide.logit import counts_of, from_logit, logit_of, to_logit, with_counts
from warmstart.decide.response import PRIORS, REGRESSORS, Observation, Prior, Response, posterior, scatter

ONE = Prior((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0.3, 0.1, 0.1, 0.1, 0.1, 0.1), between=0.1, within=0.1)


def outcomes(datasets=6, sizes=(4, 16, 64, 256), seed=0, truth=(0.1, 0.08, 0, 0, 0, 0), prior=ONE):
    rng = np.random.default_rng(seed)
    found = []
    for d in range(datasets):
        own = rng.normal(0, prior.between)
        for n in sizes:
            for _ in range(2):
                x = (1.0, math.log2(n / 16), 0.1 * d - 0.2, 0.0, 0.0, 0.0)
                gain = float(np.dot(x, truth)) + own + rng.normal(0, prior.within * scatter(n) ** 0.5)
                found.append(Observation(f"set{d}", "fine_tune", x, float(n), gain, 0.02))
    return tuple(found)


def test_every_strategy_has_starting_values():
    assert set(PRIORS) == set(STRATEGIES)
    for prior in PRIORS.values():
        assert len(prior.mean) == len(prior.deviation) == len(REGRESSORS)


def test_the_posterior_is_that_of_a_slow_bayesian_update():
    """The joint Gaussian of coefficients and outcomes, conditioned the long way."""
    rows = outcomes(3)
    mean, covariance = posterior(ONE, rows)
    x = np.array([o.regressors for o in rows])
    noise = np.zeros((len(rows), len(rows)))
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            noise[i, j] = ONE.between**2 * (a.dataset == b.dataset)
            noise[i, j] += (ONE.within**2 * scatter(a.labels_a_class) + a.error**2) * (i == j)
    prior = np.diag(np.square(ONE.deviation))
    whole = x @ prior @ x.T + noise
    gain = prior @ x.T @ np.linalg.inv(whole)
    y = np.array([o.gain for o in rows])
    assert mean == pytest.approx(gain @ y, abs=1e-9)
    assert covariance == pytest.approx(prior - gain @ x @ prior, abs=1e-9)


def test_without_outcomes_the_starting_values_speak():
    response = Response()
    x = (1.0, 2.0, 0.0, 1.0, 0.0, 0.0)
    mean, deviation = response.predict("fine_tune", x, 64.0)
    prior = PRIORS["fine_tune"]
    assert mean == pytest.approx(np.dot(x, prior.mean))
    variance = np.dot(np.square(x), np.square(prior.deviation)) + prior.between**2 + prior.within**2 * scatter(64)
    assert deviation == pytest.approx(math.sqrt(variance))


def test_outcomes_are_learned_from_and_a_data_set_can_be_forgotten():
    rows = outcomes()
    response = Response(rows, {"fine_tune": ONE})
    mean, deviation = response.predict("fine_tune", (1.0, 2.0, 0, 0, 0, 0), 64.0)
    assert mean == pytest.approx(0.26, abs=0.12)
    assert deviation < Response((), {"fine_tune": ONE}).predict("fine_tune", (1.0, 2.0, 0, 0, 0, 0), 64.0)[1]
    less = response.without("set0")
    assert {o.dataset for o in less.observations} == {f"set{d}" for d in range(1, 6)}
    assert less.predict("fine_tune", (1.0, 2.0, 0, 0, 0, 0), 64.0)[0] != mean


def test_intervals_cover_data_sets_that_were_left_out():
    inside, total = 0, 0
    for seed in range(12):
        response = Response(outcomes(seed=seed), {"fine_tune": ONE})
        for dataset in {o.dataset for o in response.observations}:
            less = response.without(dataset)
            for o in (o for o in response.observations if o.dataset == dataset):
                mean, deviation = less.predict("fine_tune", o.regressors, o.labels_a_class)
                inside += abs(o.gain - mean) <= 1.645 * math.hypot(deviation, o.error)
                total += 1
    assert 0.84 <= inside / total <= 0.96


def test_surprises_widen_the_doubt():
    calm = Response(outcomes(), {"fine_tune": ONE})
    wild = dataclasses.replace(ONE, between=0.03, within=0.03)
    doubtful = Response(outcomes(), {"fine_tune": wild})
    assert doubtful._fit("fine_tune").inflation > 2.0
    assert 0.7 <= calm._fit("fine_tune").inflation < 1.6


def test_what_was_learned_comes_with_the_package():
    text = experience.resources.files("warmstart.decide").joinpath(experience.FILE).read_text(encoding="utf-8")
    assert experience.learned_response().observations == tuple(Observation.from_dict(o) for o in json.loads(text))


def test_regressors_describe_the_situation():
    found = regressors(evidence(per_class=64, classes=12), "image")
    assert found == (1.0, 2.0, 1.0, 1.0, 0.0, 0.0)
    above = regressors(evidence(tfidf=around(0.88)), "text")
    error = math.hypot(logit_of(around(0.88))[1], logit_of(around(0.83))[1])
    assert above[4] == pytest.approx(to_logit(0.88) - to_logit(0.83) - error)
    chance = evidence(per_class=3, tfidf=wilson_interval(10, 12), probe=wilson_interval(8, 12))
    assert regressors(chance, "text")[4] < 0.2 < to_logit(10 / 12) - to_logit(8 / 12)


def test_a_well_measured_probe_speaks_for_itself_and_few_rows_do_not():
    sure = evidence(probe=wilson_interval(8300, 10000))
    level, doubt = probe_level(sure)
    measured = logit_of(sure.probe)[0]
    assert level == pytest.approx(measured + 0.15 * math.log2(1 / 0.8), abs=0.01)  # carried to all rows along its curve
    assert doubt < 0.07
    few = probe_level(evidence(probe=wilson_interval(12, 12), per_class=2))
    assert few[0] < logit_of(wilson_interval(12, 12))[0]
    assert few[1] > 0.5


def test_without_features_words_or_counts_must_do():
    unknown = Interval(math.nan, 0.0, 1.0)
    words, doubt = probe_level(evidence(probe=unknown, knn=unknown, tfidf=around(0.78)))
    assert words == pytest.approx(to_logit(0.78) + 0.3, abs=0.02)
    counts, more = probe_level(evidence(probe=unknown, knn=unknown, tfidf=None))
    assert 0.3 < from_logit(counts) < 1.0
    assert more > doubt


def test_forecasts_keep_shared_doubt_apart():
    found = expected_scores(evidence(), "text", ("zero_shot", "linear_probe", "fine_tune"), Response())
    probe, tuned = found["linear_probe"], found["fine_tune"]
    assert probe.apart == 0.0
    assert tuned.deviation == pytest.approx(math.hypot(probe.deviation, tuned.apart))
    assert found["zero_shot"].share == pytest.approx(0.6, abs=0.02)  # it was measured
    assert tuned.score.low < tuned.share < tuned.score.high


def pilot(right, probe, judged=400, rows=400, **changes):
    both = min(right, probe) - 10
    given = {"only_right": right - both, "only_probe": probe - both}
    return PilotRun("fine_tune", 0, rows, 2.0, judged, right, probe, seconds=1.0, **(given | changes))


def test_a_pilots_gain_by_hand():
    gain, error = pilot_gain([pilot(340, 320)])
    assert gain == pytest.approx(to_logit(340.5 / 401) - to_logit(320.5 / 401))
    b, c, n = 31, 11, 402
    middle = (340.5 + 320.5) / 2 / 401
    assert error == pytest.approx(math.sqrt((b + c - (b - c) ** 2 / n) / n**2) / (middle * (1 - middle)))
    twice = pilot_gain([pilot(340, 320), pilot(340, 320)])
    assert twice[0] == pytest.approx(gain, abs=0.01)
    assert twice[1] < error


def test_pilots_move_the_forecast_towards_what_they_saw():
    given = evidence()
    before, doubt = gain_over_probe("fine_tune", given, "text", Response())
    good, after = gain_over_probe("fine_tune", given, "text", Response(), [pilot(360, 300)])
    bad, _ = gain_over_probe("fine_tune", given, "text", Response(), [pilot(300, 360)])
    assert bad < before < good
    assert after < doubt


def test_a_pilot_speaks_for_what_trains_like_it_with_less_certainty():
    given, response = evidence(), Response()
    lora = [dataclasses.replace(pilot(300, 360), strategy="lora")]
    before, doubt = gain_over_probe("fine_tune", given, "text", response)
    kin, after = gain_over_probe("fine_tune", given, "text", response, lora)
    own, sure = gain_over_probe("fine_tune", given, "text", response, [pilot(300, 360)])
    assert own < kin < before
    assert sure < after < doubt
    alone = gain_over_probe("scratch", given, "text", response)
    assert (
        gain_over_probe("scratch", given, "text", response, lora) == alone
    )  # random weights have nothing to do with it
    both = gain_over_probe("fine_tune", given, "text", response, [pilot(360, 300), *lora])
    assert own < both[0] < gain_over_probe("fine_tune", given, "text", response, [pilot(360, 300)])[0]
    assert both[1] < sure


def test_a_pilot_cannot_lessen_the_luck_of_the_run_that_counts():
    given, response = evidence(per_class=8), Response()
    sure = [pilot(36_000, 32_000, judged=40_000)]
    _, deviation = gain_over_probe("fine_tune", given, "text", response, sure)
    luck = response.scatter_of_a_run("fine_tune", 8.0)
    assert luck == pytest.approx(PRIORS["fine_tune"].within * math.sqrt(scatter(8.0)))
    assert luck < deviation < gain_over_probe("fine_tune", given, "text", response)[1]


def test_a_short_pilot_promises_more_than_it_saw_and_says_less():
    given, seen = evidence(), [pilot(330, 330)]
    whole = gain_over_probe("fine_tune", given, "text", Response(), seen, {"fine_tune": Epochs(2.0, 2.0)})
    half = gain_over_probe(
        "fine_tune", given, "text", Response(), seen, {"fine_tune": Epochs(4.0, 4.0)}
    )  # of which it had two
    assert half[0] > whole[0]
    assert half[1] > whole[1]
    assert gain_over_probe("fine_tune", given, "text", Response(), seen) == whole


def test_a_training_without_all_its_epochs():
    whole = gain_over_probe("lora", evidence(), "text", Response(), (), {"lora": Epochs(4.0, 4.0)})
    cut = gain_over_probe("lora", evidence(), "text", Response(), (), {"lora": Epochs(1.0, 4.0)})
    assert cut[0] == pytest.approx(whole[0] - 0.75 * CUT_SHORT[0])
    assert cut[1] == pytest.approx(math.hypot(whole[1], 0.75 * CUT_SHORT[1]))
    assert (
        gain_over_probe("lora", evidence(), "text", Response(), (), {"lora": Epochs(0.0, 4.0)}) == whole
    )  # not allowed anyway


def test_a_pilot_on_few_rows_is_carried_to_all_of_them():
    few = gain_over_probe("fine_tune", evidence(), "text", Response(), [pilot(340, 330, rows=75)])[0]
    many = gain_over_probe("fine_tune", evidence(), "text", Response(), [pilot(340, 330, rows=600)])[0]
    assert few > many  # the same gain on an eighth of the labels promises more on all


def test_a_pilot_on_few_rows_is_less_sure_than_one_on_many():
    few, many = (
        gain_over_probe("fine_tune", evidence(), "text", Response(), [pilot(340, 330, rows=rows)])[1]
        for rows in (75, 400)
    )
    assert few > many


def test_a_cross_validated_score_scatters_more_than_its_rows():
    given = evidence(probe=wilson_interval(24, 40), per_class=5)
    mean, deviation = probe_level(given)
    room = to_logit(0.3 + 0.55 * 0.7)
    at, slope = np.meshgrid(
        np.linspace(-4, 5, 2001), np.linspace(-1, 1.3, 401), indexing="ij"
    )  # of all rows; of the curve
    there = 1 / (1 + np.exp(-(at + slope * math.log2(0.8))))
    share, rows = 24.5 / 41, 40 / 1.2**2  # half a row to either side
    log = -((at - room) ** 2) / (2 * 1.2**2) - (slope - 0.15) ** 2 / (2 * 0.15**2)
    log += rows * (share * np.log(there) + (1 - share) * np.log(1 - there))
    weight = np.exp(log - log.max())
    slow = (weight * at).sum() / weight.sum()
    assert mean == pytest.approx(slow, abs=0.02)
    assert deviation == pytest.approx(math.sqrt((weight * (at - slow) ** 2).sum() / weight.sum()), rel=0.03)


def test_a_better_measurement_is_never_a_lower_forecast():
    levels = [
        probe_level(evidence(probe=wilson_interval(hits, 192), per_class=48, classes=4))[0] for hits in range(193)
    ]
    assert all(after > before for before, after in itertools.pairwise(levels))
    whole = wilson_interval(192, 192)
    assert from_logit(levels[-1]) == pytest.approx(whole.low, abs=0.01)  # where 192 of 192 leaves it, not far below


@pytest.mark.parametrize(("hits", "rows"), [(0, 5), (1, 7), (16, 32), (30, 31), (192, 192)])
def test_counts_are_read_back_from_an_interval(hits, rows):
    share, found = counts_of(wilson_interval(hits, rows))
    assert found == pytest.approx(rows)
    assert share == pytest.approx((hits + 0.5) / (rows + 1))
    back = with_counts(share, rows)
    for one, other in zip(dataclasses.astuple(back), dataclasses.astuple(wilson_interval(hits, rows)), strict=True):
        assert one == pytest.approx(other, abs=1e-9)


def test_a_guess_before_any_feature_is_not_surer_than_the_texts_make_it():
    unknown = Interval(math.nan, 0.0, 1.0)
    given = evidence(probe=unknown, knn=unknown, tfidf=wilson_interval(192, 192), per_class=48, classes=4)
    found = expected_scores(given, "text", ["linear_probe"], Response())["linear_probe"]
    assert found.share > 0.95
    assert found.score.high - found.score.low > 0.03


def test_a_guess_of_zero_shot_falls_behind_a_probe_with_every_label():
    unknown = Interval(math.nan, 0.0, 1.0)

    def gap(per_class, **changes):
        given = evidence(per_class=per_class, zero_shot=unknown, **changes)
        found = expected_scores(given, "text", ("zero_shot", "linear_probe"), Response())
        return found["zero_shot"].mean - found["linear_probe"].mean

    assert gap(64) - gap(16) == pytest.approx(-0.3)
    blind = {"probe": unknown, "knn": unknown, "tfidf": None}  # then the level does not know the labels, either
    assert gap(64, **blind) == pytest.approx(gap(16, **blind)) == pytest.approx(gap(0, **blind))
