"""Rates against loops by hand."""

from __future__ import annotations

import math

import pytest
import toy
from torch import nn

from warmstart.backbones.groups import Group, layer_groups
from warmstart.core.errors import SettingError
from warmstart.train.rates import RatePlan, group_rates, optimizer_groups, rate_factor
from warmstart.train.unfreezing import opening_step

ONE = tuple(Group("", name, depth, (), ()) for depth, name in enumerate(["embeddings", "0", "1", "final", "head"]))


def factors_by_hand(total: int, first: int, warm: int) -> list[float]:
    """Walk through training and count: closed, then one more part of the warm-up each step, times what is left."""
    out, risen = [], 0.0
    for step in range(total):
        if step < first:
            out.append(0.0)
            continue
        risen = min(1.0, risen + 1 / (warm + 1))
        out.append(risen * (1 - step / total))
    return out


@pytest.mark.parametrize("total", [1, 2, 7, 40, 101])
@pytest.mark.parametrize("opens", [0.0, 0.25, 0.6, 0.99])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0, 5.0, 1000.0])
def test_factor_at_every_step(total: int, opens: float, warmup: float) -> None:
    first = next(step for step in range(total + 1) if step >= opens * total - 1e-9)
    warm = math.ceil(round(warmup * (total - first), 6)) if warmup < 1 else int(warmup)
    expected = factors_by_hand(total, first, warm)
    assert opening_step(total, opens) == first
    assert [rate_factor(step, total, first, warmup) for step in range(total)] == pytest.approx(expected, abs=1e-12)


def test_late_group_warms_up_by_itself_and_follows_the_common_decay() -> None:
    total, early, late = 100, 0, 50
    for step in range(50):
        assert rate_factor(step, total, late, 0.1) == 0.0
    rises = [rate_factor(step, total, late, 0.1) / rate_factor(step, total, early, 0.1) for step in range(50, 56)]
    assert rises == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])  # five steps: a tenth of its own fifty
    for step in range(55, 101):
        assert rate_factor(step, total, late, 0.1) == rate_factor(step, total, early, 0.1)
    assert rate_factor(100, total, early, 0.1) == 0.0
    assert rate_factor(120, total, early, 0.1) == 0.0
    assert rate_factor(50, total, None, 0.1) == 0.0


def test_warmup_fraction_is_not_pushed_up_by_rounding() -> None:
    assert 0.07 * 100 > 7  # what binary fractions make of it
    assert rate_factor(0, 100, 0, 0.07) == pytest.approx(1 / 8)


def test_rates_fall_from_the_top() -> None:
    rates = group_rates(ONE, RatePlan(1e-3, 0.5, head_learning_rate=7e-3))
    assert rates == pytest.approx((1.25e-4, 2.5e-4, 5e-4, 1e-3, 7e-3))
    assert group_rates(ONE, RatePlan(1e-3, 1.0, 1e-3)) == pytest.approx((1e-3,) * 5)


def test_each_tower_has_its_own_depth() -> None:
    groups = (
        *(Group("text", str(depth), depth, (), ()) for depth in range(2)),
        *(Group("vision", str(depth), depth, (), ()) for depth in range(4)),
        Group("joint", "final", 0, (), ()),
        Group("joint", "head", 1, (), ()),
    )
    rates = group_rates(groups, RatePlan(1.0, 0.1, 9.0))
    assert rates == pytest.approx((0.1, 1, 0.001, 0.01, 0.1, 1, 1, 9))


@pytest.mark.parametrize("name", ["bert", "efficientnet_lite", "convnext", "vit"])
def test_every_parameter_once_and_decay_only_on_matrices(name: str) -> None:
    model = toy.task(name, 4, 4).classifier()
    groups = toy.groups_of(model)
    made = optimizer_groups(model, groups, RatePlan(1e-3, 0.8, 5e-3, weight_decay=0.3))
    seen = [id(parameter) for group in made for parameter in group["params"]]
    assert sorted(seen) == sorted(id(parameter) for parameter in model.parameters())
    for group in made:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.0 if parameter.ndim <= 1 else 0.3)
    normal = [m for m in model.modules() if isinstance(m, (nn.LayerNorm, nn.BatchNorm2d))]
    spared = {id(p) for group in made if group["weight_decay"] == 0 for p in group["params"]}
    assert normal
    assert {id(p) for m in normal for p in m.parameters()} <= spared
    rate_of = {group["group"]: group["lr"] for group in made}
    assert rate_of == dict(zip([g.name for g in groups], group_rates(groups, RatePlan(1e-3, 0.8, 5e-3)), strict=True))


def test_frozen_parameters_and_groups_that_never_open_are_left_out() -> None:
    model = toy.task("bert", 4, 4).classifier()
    groups = toy.groups_of(model)
    model.backbone.embeddings.requires_grad_(False)
    opens = toy.given(model, tuple(1.0 if group.name == "layer.0" else 0.0 for group in groups))
    made = optimizer_groups(model, groups, RatePlan(1e-3, unfreezing=opens))
    assert {group["group"] for group in made} == {group.name for group in groups} - {"embeddings", "layer.0"}


def test_tied_weights_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, nn.ReLU(), second)
    made = optimizer_groups(model, layer_groups(model), RatePlan(1e-3))
    seen = [id(p) for group in made for p in group["params"]]
    assert len(seen) == len(set(seen)) == 3


def test_rates_given_by_name() -> None:
    given = RatePlan(1e-3, 0.5, 7e-3, group_rates={"0": 3e-6, "head": 2e-2})
    assert group_rates(ONE, given) == pytest.approx((1.25e-4, 3e-6, 5e-4, 1e-3, 2e-2))
    with pytest.raises(SettingError, match=r"--group-rates: the model has no group '7'; its groups are 0, 1, embed"):
        group_rates(ONE, RatePlan(1e-3, group_rates={"7": 1e-3}))


def test_what_is_drawn_back_to_its_start_does_not_decay_to_zero_as_well() -> None:
    model = toy.task("bert", 4, 4).classifier()
    made = optimizer_groups(model, toy.groups_of(model), RatePlan(1e-3, weight_decay=0.3, l2_sp=0.1))
    assert {group["group"] for group in made if group["weight_decay"] > 0} == {"head"}
