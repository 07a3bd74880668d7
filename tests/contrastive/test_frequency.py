"""Item frequency from the stream, and log-Q: with it the scores' true order is learnt, without it popularity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from warmstart.contrastive.frequency import FrequencyEstimator, pool_log_q
from warmstart.contrastive.info_nce import info_nce
from warmstart.contrastive.masks import same
from warmstart.contrastive.problem import Negatives
from warmstart.core.errors import SettingError


def skewed(items: int, power: float = 1.0) -> np.ndarray:
    weights = 1.0 / np.arange(1, items + 1) ** power
    return weights / weights.sum()


def test_frequencies_are_found_from_the_stream() -> None:
    truth = skewed(50)
    stream = np.random.default_rng(0).choice(50, 60_000, p=truth)
    found = FrequencyEstimator(50, decay=0.005)
    for batch in np.split(stream, 100):
        found.update(batch)
    estimate = found.log_probability(torch.arange(50)).numpy()
    assert np.abs(estimate - np.log(truth)).max() < 0.35
    assert np.abs(estimate - np.log(truth)).mean() < 0.1


def test_the_logarithm_is_unbiased_for_items_seen_once_or_twice() -> None:
    """log of the inverse of a mean of few gaps is too high by log k − ψ(k): .58 nats for one gap, if not corrected."""
    draws = np.random.default_rng(1)
    errors = []
    for _ in range(4000):
        gaps = draws.geometric(0.01, 2)
        found = FrequencyEstimator(2)
        stream = np.ones(gaps.sum(), dtype=np.int64)
        stream[[gaps[0] - 1, gaps.sum() - 1]] = 0
        found.update(stream[: gaps[0]])
        first = float(found.log_probability(torch.tensor([0])))
        found.update(stream[gaps[0] :])
        errors.append((first - math.log(0.01), float(found.log_probability(torch.tensor([0]))) - math.log(0.01)))
    once, twice = np.mean(errors, axis=0)
    assert abs(once) < 0.08
    assert abs(twice) < 0.08


def test_it_follows_drift_and_goes_on_after_a_pause() -> None:
    draws = np.random.default_rng(2)
    found = FrequencyEstimator(10, decay=0.05)
    found.update(draws.choice(10, 3000, p=skewed(10)))
    found.update(draws.choice(10, 20_000, p=skewed(10)[::-1]))
    again = FrequencyEstimator(10, decay=0.05)
    again.load_state_dict(found.state_dict())
    later = draws.choice(10, 500, p=skewed(10)[::-1])
    found.update(later)
    again.update(torch.from_numpy(later))
    estimate = found.log_probability(torch.arange(10))
    assert torch.equal(estimate, again.log_probability(torch.arange(10)))
    assert spearmanr(estimate.numpy(), skewed(10)[::-1]).statistic > 0.9


def test_an_item_never_seen_is_rare_and_not_impossible() -> None:
    found = FrequencyEstimator(3)
    found.update(np.array([0, 1] * 500))
    unseen = float(found.log_probability(torch.tensor([2])))
    assert math.isfinite(unseen)
    assert unseen < float(found.log_probability(torch.tensor([0]))) - 4


def test_bad_settings() -> None:
    for items, decay in ((0, 0.1), (3, 0.0), (3, 1.5)):
        with pytest.raises(SettingError):
            FrequencyEstimator(items, decay)
    with pytest.raises(SettingError):
        pool_log_q((0, torch.zeros(3)))


def test_expected_counts_of_a_mixed_pool_are_the_observed_ones() -> None:
    truth, draws = skewed(20), np.random.default_rng(3)
    counts = np.zeros(20)
    for _ in range(3000):
        pool = np.concatenate([draws.choice(20, 31, p=truth), draws.integers(0, 20, 16)])
        counts += np.bincount(pool, minlength=20)
    log_p = torch.from_numpy(np.log(truth))
    expected = pool_log_q((31, log_p), (16, torch.full_like(log_p, -math.log(20)))).exp().numpy()
    assert np.abs(counts / 3000 / expected - 1).max() < 0.1


def test_the_corrected_denominator_is_the_full_softmax_on_average() -> None:
    """Σ over drawn negatives of exp(s − log Q) has the expectation Σ over all other items of exp(s), mixed or not."""
    items, popularity = 30, skewed(30)
    scores = np.random.default_rng(4).normal(size=items)
    truth = float(np.exp(scores).sum() - np.exp(scores[5]))
    log_p = torch.from_numpy(np.log(popularity))
    log_q = pool_log_q((63, log_p), (16, torch.full_like(log_p, -math.log(items)))).numpy()
    draws = np.random.default_rng(5)
    found = []
    for _ in range(4000):
        pool = np.concatenate([draws.choice(items, 63, p=popularity), draws.integers(0, items, 16)])
        pool = pool[pool != 5]  # hits of the positive are excluded, and not put back into the counts
        found.append(np.exp(scores[pool] - log_q[pool]).sum())
    assert np.mean(found) == pytest.approx(truth, rel=0.02)


ITEMS, QUERIES = 40, 12


def learn(mode: str, correction: str, steps: int = 1500) -> float:
    """Learn free scores of items for queries from sampled batches; the rank correlation with the true ones.

    `correction`: "none", "true" probabilities, "estimated" ones from the stream, or "added" with the wrong sign.
    """
    draws = np.random.default_rng(6)
    popularity = skewed(ITEMS, 1.2)
    liking = draws.normal(size=(QUERIES, ITEMS))  # what makes a query choose, beside popularity
    choice = popularity * np.exp(liking)
    choice /= choice.sum(1, keepdims=True)
    marginal = torch.from_numpy(np.log(choice.mean(0)))
    uniform = torch.full((ITEMS,), -math.log(ITEMS), dtype=torch.float64)
    table = torch.zeros(QUERIES, ITEMS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.03)
    batch, extra = 64, 64 if mode == "mixed" else 0
    estimator = FrequencyEstimator(ITEMS)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.03 * (1 - step / steps)
        users = draws.integers(0, QUERIES, batch)
        taken = torch.tensor([draws.choice(ITEMS, p=choice[user]) for user in users])
        drawn = torch.from_numpy(draws.integers(0, ITEMS, extra))
        estimator.update(taken)
        log_p = estimator.log_probability(torch.arange(ITEMS)) if correction == "estimated" else marginal
        log_q = None if correction == "none" else pool_log_q((batch - 1, log_p), (extra, uniform))
        if correction == "added" and log_q is not None:
            log_q = -log_q
        options: dict[str, Any] = {"exclude": same(taken, taken)}
        if extra:
            own = None if log_q is None else log_q[drawn]
            options["negatives"] = [Negatives(one_hot(drawn), same(taken, drawn), own)]
        if log_q is not None:
            options["log_q"] = log_q[taken]
        loss = info_nce(table[users], one_hot(taken), scale=1.0, normalize=False, **options).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = table.detach().numpy()
    return float(np.mean([spearmanr(found[user], np.log(choice[user])).statistic for user in range(QUERIES)]))


def one_hot(ids: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(ids, ITEMS).double()


@pytest.mark.slow
def test_with_the_correction_the_true_order_is_learnt_and_without_it_is_not() -> None:
    """Popularity decides half of what is chosen; plain in-batch negatives divide it out of the scores."""
    found = {correction: learn("in-batch", correction) for correction in ("true", "estimated", "none", "added")}
    assert found["true"] > 0.85
    assert found["estimated"] > 0.85
    assert found["none"] < found["estimated"] - 0.2
    assert found["added"] < found["none"]  # tensorflow/recommenders#219: the sign


@pytest.mark.slow
def test_a_mixed_pool_is_nearer_to_the_truth_and_the_correction_brings_it_there() -> None:
    corrected, plain = learn("mixed", "true"), learn("mixed", "none")
    assert corrected > 0.97
    assert learn("in-batch", "none") < plain < corrected - 0.02
