"""The rate chosen from made-up curves: always safely below divergence, and near where the loss falls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from warmstart.train.rate_choice import BELOW_DIVERGENCE, Choice, choose_rate

RATES = np.geomspace(1e-6, 1e-2, 40)
START = 1e-4
LEVEL = 0.8  # nats, of the undisturbed batches
GUESSING = 1.1  # nats


def choose(
    effect: np.ndarray, *, noise: float = 0.0, seed: int = 0, batches: float = 0.2, guessing: float = GUESSING
) -> Choice:
    """From the effect of each rate, (steps,). `batches`: how much batches differ; `noise`: what pairing leaves."""
    draw = np.random.default_rng(seed)
    alone = LEVEL + batches * draw.standard_normal((3, len(effect)))
    losses = alone + effect + noise * draw.standard_normal(alone.shape)
    return choose_rate(RATES, losses, alone, start=START, guessing=guessing)


def valley(lowest: float, depth: float = 0.08, blow_up: float = 10.0) -> np.ndarray:
    """Falls to `lowest`, then climbs: back to zero at about `blow_up` times it."""
    place = np.log(RATES / lowest)
    return -depth * np.exp(-((place / 1.5) ** 2)) + depth * (RATES / (blow_up * lowest)) ** 2


def safe(found: Choice) -> None:
    highest = RATES[-1] if found.diverged is None else found.diverged
    assert 0 < found.learning_rate <= highest / BELOW_DIVERGENCE * (1 + 1e-12)
    assert ". Taken: " in found.note


@pytest.mark.parametrize("lowest", [1e-5, 1e-4, 6e-4])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_valley_gives_a_rate_before_its_bottom(lowest: float, noise: float) -> None:
    for seed in range(5):
        found = choose(valley(lowest), noise=noise, seed=seed)
        safe(found)
        assert lowest / 15 < found.learning_rate <= lowest
        assert found.reference == pytest.approx(LEVEL, abs=0.1)


def test_the_best_rate_may_lie_far_below_the_start() -> None:
    """transformers#16013: 1e-3 was suggested where 1e-5 was best."""
    found = choose(valley(1.2e-5, blow_up=5), noise=0.01)
    safe(found)
    assert found.learning_rate < 1.2e-5
    assert found.diverged < 2e-4


def test_noise_of_the_batches_does_not_count() -> None:
    quiet, loud = choose(valley(1e-4), batches=0.0), choose(valley(1e-4), batches=2.0)
    assert loud.learning_rate == pytest.approx(quiet.learning_rate)
    assert "fell fastest" in quiet.note


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_no_descent_keeps_the_start_where_that_is_safe(noise: float) -> None:
    flat = choose(np.zeros(40), noise=noise)
    assert flat.learning_rate == START
    assert flat.diverged is None
    assert "No rate lowered the loss clearly" in flat.note
    rises = choose(0.15 * (RATES / 4e-4) ** 2, noise=noise)  # as from a solved head: nowhere to go but up
    safe(rises)
    assert rises.learning_rate < START
    assert rises.diverged == pytest.approx(4e-4, rel=0.3)


def test_a_small_rise_is_no_divergence() -> None:
    """Measured in LP-FT of MiniLM on reviews: the best rate raises the loss of these few steps by a tenth."""
    curve = 0.1 * LEVEL * (RATES / 1.5e-4) ** 0.6 + 3.0 * (RATES / 3e-3) ** 3
    found = choose(curve, noise=0.01, guessing=1.7)
    safe(found)
    assert 5e-5 < found.learning_rate <= START


@pytest.mark.parametrize("guessing", [0.0, LEVEL, 0.9])
def test_what_knows_nothing_yet_diverges_with_a_clear_rise(guessing: float) -> None:
    """From random weights the loss starts at that of guessing, or above."""
    alone = np.full((3, 40), LEVEL)
    losses = alone + valley(1e-4, depth=0.01)
    calm = choose_rate(RATES, losses, alone, start=START, guessing=guessing)
    assert calm.diverged > 1e-3
    wild = choose_rate(RATES, losses + 1.0 * (RATES >= 2e-3), alone, start=START, guessing=guessing)
    assert 1e-3 < wild.diverged <= 2.1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, 9.0])
def test_divergence_at_once(value: float) -> None:
    found = choose(np.full(40, value))
    safe(found)
    assert found.diverged == RATES[0]
    assert found.learning_rate == RATES[0] / BELOW_DIVERGENCE


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("runs", [1, 3])
def test_where_one_run_is_not_finite_all_have_diverged(value: float, runs: int) -> None:
    alone = np.full((runs, 40), LEVEL)
    losses = alone + valley(6e-4)
    losses[0, 30:] = value
    found = choose_rate(RATES, losses, alone, start=START, guessing=GUESSING)
    safe(found)
    assert RATES[26] <= found.diverged <= RATES[30]
    assert not np.isfinite(found.curve[30:]).any()


def test_nothing_finite_at_all() -> None:
    bad = np.full((2, 40), np.nan)
    found = choose_rate(RATES, bad, bad, start=START, guessing=GUESSING)
    safe(found)
    assert np.isnan(found.reference)


def test_a_plain_fall_stays_below_the_highest_rate_tried() -> None:
    found = choose(-0.4 * (RATES / RATES[-1]) ** 0.3)
    safe(found)
    assert found.diverged is None
    assert "highest rate tried" in found.note


@settings(max_examples=150, deadline=None)
@given(arrays(np.float64, (3, 40), elements=st.floats(0, 8) | st.just(np.inf) | st.just(np.nan)), st.floats(1e-7, 1.0))
def test_any_curve_gives_a_safe_rate(losses: np.ndarray, start: float) -> None:
    alone = np.full((3, 40), LEVEL)
    found = choose_rate(RATES, losses, alone, start=start, guessing=GUESSING)
    safe(found)
    assert found.learning_rate <= max(start, RATES[-1])
