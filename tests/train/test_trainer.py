"""The Trainer subclass on tiny models, against hand computations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from torch import nn

from warmstart.backbones.groups import set_module_modes
from warmstart.core.errors import OutputError, SettingError, WarmstartError
from warmstart.train import recompute
from warmstart.train.arguments import Length
from warmstart.train.fit import fit
from warmstart.train.job import LossPlan
from warmstart.train.lora import choose_targets, inject
from warmstart.train.rates import RatePlan
from warmstart.train.trainer import WarmstartTrainer, inner_classifier


@pytest.fixture(scope="module")
def text() -> toy.Task:
    return toy.task("bert", 32, 12)


@pytest.fixture(scope="module")
def conv() -> toy.Task:
    return toy.task("efficientnet_lite", 17, 6)


def trained(task: toy.Task, folder: Path, model: nn.Module, rates=None, patience=None, job=None, **changes):
    """Fit, and every step's rates and requires_grad as the optimizer saw them."""
    job = toy.job(task, model, rates) if job is None else job
    return fit(model, toy.arguments(folder, len(task.train_labels), **changes), job, patience)


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


# ---- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [(), (0.5, 0.0, 2.5)])
def test_loss_against_a_loop(smoothing: float, weights: tuple[float, ...]) -> None:
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 2, 2, 1, 0, 2]
    total = 0.0
    for line, label in zip(logits.tolist(), labels, strict=True):
        norm = math.log(sum(math.exp(value) for value in line))
        wanted = [smoothing / 3 + (1 - smoothing if place == label else 0) for place in range(3)]
        row = sum(share * (norm - value) for share, value in zip(wanted, line, strict=True))
        total += row * (weights[label] if weights else 1.0)
    found = LossPlan(weights, smoothing)(logits, torch.tensor(labels))
    assert found.item() == pytest.approx(total / 7, rel=1e-5)


# ---- rates over a real run

PROGRESSIVE = (0.6, 0.45, 0.3, 0.15, 0.0)


@pytest.mark.parametrize(
    ("decay", "opens", "warmup"),
    [(1.0, (), 0.1), (0.5, (), 3.0), (0.8, PROGRESSIVE, 0.1), (0.8, PROGRESSIVE, 3.0)],
    ids=["uniform", "decay", "progressive", "progressive, counted warm-up"],
)
def test_rate_at_every_step(text: toy.Task, tmp_path: Path, monkeypatch, decay, opens, warmup) -> None:
    model = text.classifier()
    names = [group.name for group in toy.groups_of(model)]
    seen: list[dict[str, float]] = []
    original = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        seen.append({group["group"]: group["lr"] for group in self.param_groups})
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    plan = RatePlan(2e-3, decay, 7e-3, warmup=warmup, unfreezing=toy.given(model, opens))
    found = trained(text, tmp_path, model, plan, epochs=5)
    total = 20
    assert len(names) == 5
    assert found.steps == len(seen) == total
    for place, name in enumerate(names):
        peak = 7e-3 if name == "head" else 2e-3 * decay ** (len(names) - 2 - place)
        first = math.ceil(opens[place] * total) if opens else 0
        warm = math.ceil(0.1 * (total - first)) if warmup < 1 else 3
        for step in range(total):
            rise = min(1, (step - first + 1) / (warm + 1)) if step >= first else 0
            assert seen[step][name] == pytest.approx(peak * rise * (total - step) / total, abs=1e-12), (name, step)
    # the history tells the rates that each step used
    points = [point for point in found.history if point.loss is not None]
    assert [point.step for point in points] == list(range(1, total + 1))
    for point in points:
        assert point.rates == seen[point.step - 1]


# ---- opening and freezing


def test_closed_groups_do_not_move_until_they_open(text: toy.Task, tmp_path: Path, monkeypatch) -> None:
    model = text.classifier()
    groups = toy.groups_of(model)
    snapshots: list[dict[str, torch.Tensor]] = [toy.weights(model)]
    states: list[dict[str, int]] = []
    original = WarmstartTrainer.open_groups

    def spy(self, step, total):
        if step:
            snapshots.append(toy.weights(self.model))
            named = dict(self.model.named_parameters())
            held = self.optimizer.state
            states.append({n: int(held[p]["step"]) for n, p in named.items() if p in held})
        original(self, step, total)
        before = {name: p.requires_grad for name, p in self.model.named_parameters()}
        original(self, step, total)
        assert before == {name: p.requires_grad for name, p in self.model.named_parameters()}

    monkeypatch.setattr(WarmstartTrainer, "open_groups", spy)
    trained(text, tmp_path, model, RatePlan(2e-3, 0.8, 5e-3, unfreezing=toy.given(model, PROGRESSIVE)), epochs=5)
    total = 20
    for group, opens in zip(groups, PROGRESSIVE, strict=True):
        first = math.ceil(opens * total)
        for name in group.parameters:
            for step in range(1, total):
                moved = not torch.equal(snapshots[step][name], snapshots[step - 1][name])
                if step <= first:
                    assert not moved, (name, step)
                    assert name not in states[step - 1]
            assert not torch.equal(snapshots[-1][name], snapshots[0][name]) or "key.bias" in name, name
            if "key.bias" not in name:
                assert states[-1][name] == total - 1 - first  # its moments count every step since it opened


def test_a_group_that_never_opens(text: toy.Task, tmp_path: Path) -> None:
    model = text.classifier()
    before = toy.weights(model)
    trained(text, tmp_path, model, RatePlan(1e-2, unfreezing=toy.given(model, (1.0, 1.0, 1.0, 1.0, 0.0))), epochs=1)
    after = toy.weights(model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


def test_frozen_groups_are_in_evaluation_mode_while_training(conv: toy.Task, tmp_path: Path, monkeypatch) -> None:
    model = conv.classifier()
    before = toy.weights(model)
    groups = toy.groups_of(model)
    modes: list[set[bool]] = []
    original = WarmstartTrainer.compute_loss

    def spy(self, wrapped, *args, **kwargs):
        out = original(self, wrapped, *args, **kwargs)
        frozen = [wrapped.get_submodule(path) for group in groups[:-1] for path in group.modules]
        modes.append({module.training for top in frozen for module in top.modules()})
        return out

    monkeypatch.setattr(WarmstartTrainer, "compute_loss", spy)
    trained(
        conv, tmp_path, model, RatePlan(1e-2, unfreezing=toy.given(model, (*[1.0] * (len(groups) - 1), 0.0))), epochs=2
    )
    assert modes
    assert all(mode == {False} for mode in modes)
    after = toy.weights(model)
    assert any("running_mean" in name for name in before)
    toy.assert_same(
        {name: value for name, value in before.items() if not name.startswith("head")},
        {name: value for name, value in after.items() if not name.startswith("head")},
    )


def test_batch_norm_statistics_move_when_open(conv: toy.Task, tmp_path: Path) -> None:
    model = conv.classifier()
    before = toy.weights(model)
    trained(conv, tmp_path, model, epochs=1)
    moved = [name for name, value in toy.weights(model).items() if "running" in name and not value.equal(before[name])]
    assert len(moved) == sum("running" in name for name in before)


def test_fixed_statistics_stay_while_everything_else_learns(conv: toy.Task, tmp_path: Path) -> None:
    model = conv.classifier()
    before = toy.weights(model)
    trained(conv, tmp_path, model, job=toy.job(conv, model, fixed_statistics=True), epochs=1)
    after = toy.weights(model)
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert statistics
    assert {name for name in before if torch.equal(before[name], after[name])} == statistics


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_dropout_on_and_base_dropout_off(text: toy.Task, tmp_path: Path, monkeypatch, checkpointing: bool) -> None:
    model = text.classifier()
    base = {name: value for name, value in toy.weights(model).items() if not name.startswith("head")}
    torch.manual_seed(0)
    wrapped = inject(model, choose_targets(model, "all-linear"), 2, 4, 0.3)
    modes: dict[str, set[bool]] = {"lora": set(), "base": set()}
    original = nn.Dropout.forward

    def spy(self, values):
        modes["lora" if self.p == 0.3 else "base"].add(self.training)
        return original(self, values)

    monkeypatch.setattr(nn.Dropout, "forward", spy)
    original_loss = WarmstartTrainer.compute_loss

    def only_training(self, *args, **kwargs):
        modes["lora"].clear()
        modes["base"].clear()
        out = original_loss(self, *args, **kwargs)
        assert modes == {"lora": {True}, "base": {False}}
        return out

    monkeypatch.setattr(WarmstartTrainer, "compute_loss", only_training)
    frozen: list[nn.Module] = []
    reached = recompute._frozen
    monkeypatch.setattr(recompute, "_frozen", lambda layer: (frozen.append(layer), reached(layer))[1])
    trained(text, tmp_path, wrapped, epochs=2, gradient_checkpointing=checkpointing)
    assert len(frozen) == (3 * 8 if checkpointing else 0)  # three layers in each of eight steps
    found = {
        name.replace(".base_layer", ""): value
        for name, value in toy.weights(inner_classifier(wrapped)).items()
        if "lora_" not in name and not name.startswith("head")
    }
    toy.assert_same(base, found)
    moved = [n for n, p in wrapped.named_parameters() if "lora_B" in n and p.abs().sum() > 0]
    assert len(moved) == 18


# ---- accumulation, ragged batches, batch norm


@pytest.mark.parametrize("rows", [27, 25])
def test_accumulation_equals_a_large_batch(tmp_path: Path, rows: int) -> None:
    """27 rows end in a batch of 3, and 25 in a batch of 1: each of their rows still counts once."""
    task = toy.task("bert", rows, 6)
    results = []
    for batch, accumulation in ((16, 1), (8, 2), (4, 4)):
        model = without_dropout(task.classifier())
        found = trained(
            task, tmp_path / str(batch), model, RatePlan(1e-3, 0.8, 1e-3), batch=batch, accumulation=accumulation
        )
        losses = [point.loss for point in found.history if point.loss is not None]
        results.append((toy.weights(model), losses))
    for other, losses in results[1:]:
        assert losses == pytest.approx(results[0][1], abs=2e-4)
        for name, value in results[0][0].items():
            if "key.bias" not in name:  # no gradient but rounding, which Adam blows up
                assert torch.allclose(value, other[name], atol=5e-5), name


@pytest.mark.parametrize(("fixed", "expected"), [(False, [8, 2, 8, 2]), (True, [8, 1, 8, 1])])
def test_last_batch_of_one_row_with_batch_norm(tmp_path: Path, monkeypatch, fixed: bool, expected: list[int]) -> None:
    """At 32 pixels nothing is left but one value per channel, from which batch norm cannot learn its statistics."""
    task = toy.task("resnet", 9, 6)
    sizes: list[int] = []
    original = WarmstartTrainer.compute_loss

    def spy(self, model, inputs, *args, **kwargs):
        sizes.append(len(inputs["labels"]))
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(WarmstartTrainer, "compute_loss", spy)
    model = task.classifier()
    found = trained(task, tmp_path, model, job=toy.job(task, model, fixed_statistics=fixed), epochs=2)
    assert sizes == expected
    assert found.steps == 4
    assert all(value.isfinite().all() for value in toy.weights(model).values())


def test_steps() -> None:
    assert Length(3, None, 16, 1).steps(100) == 21
    assert Length(3, None, 16, 2).steps(100) == 12
    assert Length(3, None, 16, 1).steps(100, devices=2) == 12
    assert Length(0.01, None, 16, 1).steps(100) == 1
    assert Length(0.5, None, 16, 1).steps(100) == 4
    assert Length(3, 5, 16, 1).steps(100) == 5


# ---- gradient checkpointing


def prepared(task: toy.Task, kind: str) -> nn.Module:
    """A model that learns whole, above its third group, or by LoRA."""
    model: nn.Module = task.classifier()
    if kind == "lora":
        torch.manual_seed(0)
        model = inject(model, choose_targets(model, "all-linear"), 2, 4, 0.3)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    if kind == "frozen below":
        named = dict(model.named_parameters())
        for name in (name for group in toy.groups_of(model)[:3] for name in group.parameters):
            named[name].requires_grad_(False)
    return model


def gradients(model: nn.Module, batch: dict[str, torch.Tensor], checkpointed: bool) -> tuple[dict, int, dict]:
    """Gradients of one pass with dropout, how often layers were computed, and the modes of the modules."""
    calls: list[int] = []
    model.train()
    set_module_modes(model, toy.groups_of(model))
    modes = {name: module.training for name, module in model.named_modules()}
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_pre_hook(lambda *_: calls.append(1)) for layer in layers]
    if checkpointed:
        inner_classifier(model).activation_checkpointing_enable()
        recompute.reach_frozen(model)
    torch.manual_seed(1)
    model(**batch).logits.square().sum().backward()
    recompute.stop(model)
    for hook in hooks:
        hook.remove()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, len(calls), modes


@pytest.mark.parametrize("kind", ["all", "frozen below", "lora"])
@pytest.mark.parametrize("name", ["bert", "efficientnet_lite", "vit"])
def test_checkpointed_gradients_equal(name: str, kind: str) -> None:
    task = toy.task(name, 8, 3)
    batch = task.train.batch(range(8))
    plain, once, _ = gradients(prepared(task, kind), batch, checkpointed=False)
    model = prepared(task, kind)
    found, twice, modes = gradients(model, batch, checkpointed=True)
    assert plain.keys() == found.keys()
    for parameter, value in plain.items():
        assert torch.allclose(value, found[parameter], atol=1e-6), parameter
    assert twice > once * 1.3  # layers were computed again: it was no empty promise
    _, again, after = gradients(model, batch, checkpointed=False)
    assert (again, after) == (once, modes)  # and nothing of it is left


def test_checkpointing_gives_the_same_training(text: toy.Task, tmp_path: Path) -> None:
    results = []
    for flag in (False, True):
        model = text.classifier()
        trained(text, tmp_path / str(flag), model, gradient_checkpointing=flag, epochs=1)
        results.append(toy.weights(model))
        assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        assert not any("_gradient_checkpointing_func" in module.__dict__ for module in model.modules())
    for name, value in results[0].items():
        assert torch.allclose(value, results[1][name], atol=1e-5), name


def test_checkpointing_refused_where_there_is_nothing_to_checkpoint(
    text: toy.Task, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(recompute, "_layers", lambda model: iter(()))
    with pytest.raises(SettingError, match="--gradient-checkpointing"):
        trained(text, tmp_path, text.classifier(), gradient_checkpointing=True)


# ---- precision, divergence, stopping


def test_bf16_trains_and_leaves_a_plain_float32_model(text: toy.Task, tmp_path: Path) -> None:
    model = text.classifier()
    seen: set[torch.dtype] = set()
    hook = model.head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    trained(text, tmp_path, model, bf16=True, epochs=3)
    assert torch.bfloat16 in seen
    seen.clear()
    out = model.eval()(**text.validation.batch(range(4)))
    hook.remove()
    assert seen == {torch.float32}
    assert out.logits.dtype == torch.float32
    assert "forward" not in model.__dict__
    assert "_original_forward" not in model.__dict__
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_a_forward_of_the_models_own_is_kept(text: toy.Task, tmp_path: Path) -> None:
    model = text.classifier()
    own = model.head.forward
    model.head.forward = lambda values: own(values) * 1.0
    kept = model.head.forward
    trained(text, tmp_path, model, bf16=True, epochs=1)
    assert model.head.forward is kept


@pytest.mark.parametrize("epochs", [1, 6])
def test_divergence_is_an_error(text: toy.Task, tmp_path: Path, epochs: int) -> None:
    with pytest.raises(WarmstartError, match=r"diverged\. Use a lower --learning-rate"):
        trained(text, tmp_path, text.classifier(), RatePlan(1e36, 1.0, 1e36, warmup=0.0), epochs=epochs)


def test_divergence_in_the_very_last_step_is_an_error(text: toy.Task, tmp_path: Path) -> None:
    with pytest.raises(WarmstartError, match=r"diverged\. Use a lower --learning-rate"):
        trained(text, tmp_path, text.classifier(), RatePlan(1e38, 1.0, 1e38, warmup=0.0), max_steps=1, epochs=1)


def test_early_stopping_keeps_the_best(text: toy.Task, tmp_path: Path, monkeypatch) -> None:
    scores = iter([0.1, 0.5, 0.5, 0.4, 0.9])
    monkeypatch.setattr("warmstart.train.trainer.selection_value", lambda *_: next(scores))
    at_best: dict[str, torch.Tensor] = {}
    original = WarmstartTrainer.evaluate

    def spy(self, *args, **kwargs):
        out = original(self, *args, **kwargs)
        if self.state.global_step == 8:
            at_best.update(toy.weights(self.model))
        return out

    monkeypatch.setattr(WarmstartTrainer, "evaluate", spy)
    model = text.classifier()
    found = trained(text, tmp_path, model, epochs=5, patience=2)
    assert (found.steps, found.best_score, found.note) == (16, 0.5, "")
    toy.assert_same(at_best, toy.weights(model))


class FakeClock:
    """Each look at it takes a moment."""

    def __init__(self, budget: float, look: float) -> None:
        self.budget, self.now, self.look = budget, 0.0, look

    def spent(self) -> float:
        self.now += self.look
        return self.now

    def left(self) -> float:
        return max(0.0, self.budget - self.spent())


def test_time_budget_stops_evaluates_and_keeps_the_best(text: toy.Task, tmp_path: Path) -> None:
    model = text.classifier()
    job = toy.job(text, model, clock=FakeClock(100.0, 2.0), reserve=40.0)
    found = trained(text, tmp_path, model, job=job, epochs=50)
    assert 10 < found.steps < 31  # 100 seconds, 40 kept, 2 and more a step
    assert found.note == f"the time budget ended training at step {found.steps} of 200"
    last = [point for point in found.history if point.validation_score is not None][-1]
    assert last.step == found.steps
    best = max(point.validation_score for point in found.history if point.validation_score is not None)
    assert found.best_score == best


def test_real_time_budget_is_kept(text: toy.Task, tmp_path: Path) -> None:
    import time

    from warmstart.core.clock import Clock

    model = text.classifier()
    start = time.perf_counter()
    found = trained(text, tmp_path, model, job=toy.job(text, model, clock=Clock(1.5)), epochs=5000)
    assert time.perf_counter() - start < 2.5
    assert 0 < found.steps < 20000
    assert "time budget" in found.note


def test_evaluation_is_allowed_for_before_the_first_one(text: toy.Task, tmp_path: Path) -> None:
    """With many more rows to judge by than to learn from, training must not use up their time."""
    from warmstart.train.watch import Watch

    model = text.classifier()
    job = toy.job(text, model, clock=FakeClock(1e9, 0.0))
    watch = Watch(job, WarmstartTrainer(model, toy.arguments(tmp_path, 32, batch=4), job))
    watch.pace.add(2.0)
    assert watch._evaluation(watch.trainer.args) == pytest.approx(0.5 * 2.0 * 12 / 4)
    watch._evaluated, watch.between = True, 0.7
    assert watch._evaluation(watch.trainer.args) == 0.7


def test_one_stall_among_the_steps_is_not_waited_for_again() -> None:
    """A machine that stood still once must not end a training that has most of its time left."""
    from warmstart.train.watch import Pace

    pace = Pace()
    assert (pace.slow, pace.usual) == (0.0, 0.0)
    pace.add(0.5)
    assert (pace.slow, pace.usual) == (0.5, 0.5)
    for seconds in (0.1, 60.0, 0.3, 0.2):
        pace.add(seconds)
    assert pace.slow == 0.5
    assert pace.usual == pytest.approx((0.5 + 0.1 + 0.3 + 0.2) / 4)
    pace.add(50.0)  # the second time it is how the machine is
    assert pace.slow == 50.0


def test_spent_budget_trains_nothing(text: toy.Task, tmp_path: Path) -> None:
    model = text.classifier()
    before = toy.weights(model)
    found = trained(text, tmp_path, model, job=toy.job(text, model, clock=FakeClock(1.0, 5.0)))
    assert (found.steps, found.history) == (0, ())
    assert np.isnan(found.best_score)
    assert found.note == "the time budget was spent before training began"
    toy.assert_same(before, toy.weights(model))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_full_disk(text: toy.Task, tmp_path: Path, monkeypatch, error: Exception) -> None:
    def fail(*_args):
        raise error

    monkeypatch.setattr(WarmstartTrainer, "_save_optimizer_and_scheduler", fail)
    with pytest.raises(OutputError, match=r"A checkpoint could not be written to .*(No space left|Writer failed)"):
        trained(text, tmp_path, text.classifier())


def test_an_error_in_reading_rows_is_not_said_to_be_one_in_writing(text: toy.Task, tmp_path: Path, monkeypatch) -> None:
    def fail(*_args):
        raise OSError("image is cut off")

    monkeypatch.setattr(type(text.train), "batch", fail)
    with pytest.raises(OSError, match="image is cut off"):
        trained(text, tmp_path, text.classifier())


@pytest.mark.parametrize(("lean", "chosen"), [(False, 0.52), (True, 0.5)])
def test_of_two_checkpoints_within_a_standard_error_the_later_is_taken(
    text: toy.Task, tmp_path: Path, monkeypatch, lean: bool, chosen: float
) -> None:
    scores = iter([0.52, 0.3, 0.1, 0.5])
    monkeypatch.setattr("warmstart.train.trainer.selection_value", lambda *_: next(scores))
    model = text.classifier()
    job = toy.job(text, model, metric="accuracy", lean_late=lean)
    found = fit(model, toy.arguments(tmp_path, len(job.train), epochs=4), job)
    assert found.best_score == chosen
