"""L2-SP and the moving average, against loops by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy
from torch import nn

from warmstart.train.anchor import Anchor
from warmstart.train.average import EVERY, Average
from warmstart.train.fit import fit
from warmstart.train.rates import RatePlan
from warmstart.train.trainer import WarmstartTrainer


def test_pull_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    start = toy.weights(model)
    anchor = Anchor(model, 0.5, {"1.weight", "1.bias"})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    groups = [{"params": list(model[0].parameters()), "lr": 0.2}, {"params": list(model[1].parameters()), "lr": 0.2}]
    anchor.pull(torch.optim.SGD(groups, lr=0.2))
    for name, value in model.state_dict().items():
        expected = start[name] + (1.0 - 0.2 * 0.5 * 1.0 if name.startswith("0") else 1.0)
        assert torch.allclose(value, expected, atol=1e-6), name


def test_a_strong_pull_keeps_the_trunk_and_lets_the_head_learn(tmp_path: Path) -> None:
    task = toy.task("bert", 32, 12)
    distances = {}
    for strength in (0.0, 100.0):
        model = task.classifier()
        start = toy.weights(model)
        fit(
            model,
            toy.arguments(tmp_path / str(strength), 32, epochs=3),
            toy.job(task, model, RatePlan(2e-3, 1.0, 5e-3, l2_sp=strength)),
        )
        moved = {name: float((value - start[name]).norm()) for name, value in toy.weights(model).items()}
        distances[strength] = (sum(v for n, v in moved.items() if not n.startswith("head")), moved["head.weight"])
    assert distances[100.0][0] < 0.8 * distances[0.0][0]
    assert distances[100.0][1] > 0.5 * distances[0.0][1]


def test_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = Average(model, 0.9)
    mean = 0.0
    for step, value in enumerate([1.0, 2.0, -1.0, 4.0, 5.0, 3.0, 2.0, 7.0, -2.0], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(step)
        if step % EVERY == 0:
            keep = min(0.9, (1 + step) / (10 + step)) ** EVERY
            mean = keep * mean + (1 - keep) * value
    with average.swapped_in():
        assert model.weight.item() == pytest.approx(mean)
    assert model.weight.item() == -2.0
    average.put_in()
    assert model.weight.item() == pytest.approx(mean)
    assert not Average(model, 0.0)


@pytest.mark.parametrize("name", ["bert", "efficientnet_lite"])
def test_the_average_is_judged_kept_and_returned(name: str, tmp_path: Path, monkeypatch) -> None:
    """The returned weights are the mean that a loop over the steps gives, at the best evaluation."""
    task = toy.task(name, 24, 12)
    model = task.classifier()
    mean = {n: p.detach().clone() for n, p in model.named_parameters()}
    at_step: dict[int, dict[str, torch.Tensor]] = {}
    judged: dict[int, dict[str, torch.Tensor]] = {}
    after = WarmstartTrainer.after_optimizer
    logits = WarmstartTrainer._logits

    def spy(self, step):
        after(self, step)
        keep = min(0.8, (1 + step) / (10 + step)) ** EVERY if step % EVERY == 0 else 1.0
        for n, p in self.model.named_parameters():
            mean[n] = keep * mean[n] + (1 - keep) * p.detach()
        at_step[step] = {n: value.clone() for n, value in mean.items()}

    def judge(self, rows):
        judged.setdefault(self.state.global_step, {n: p.detach().clone() for n, p in self.model.named_parameters()})
        return logits(self, rows)

    monkeypatch.setattr(WarmstartTrainer, "after_optimizer", spy)
    monkeypatch.setattr(WarmstartTrainer, "_logits", judge)
    job = toy.job(task, model, RatePlan(2e-3, 0.8, 5e-3), ema_decay=0.8)
    found = fit(model, toy.arguments(tmp_path, 24, epochs=8), job)
    best = max((p for p in found.history if p.validation_score is not None), key=lambda p: p.validation_score).step
    for step, values in judged.items():
        for n, value in values.items():
            assert torch.allclose(value, at_step[step][n], atol=1e-5), (step, n)
    for n, p in model.named_parameters():
        assert torch.allclose(p, at_step[best][n], atol=1e-5), n
    assert found.plain_score is not None
    assert found.plain_score != found.best_score
