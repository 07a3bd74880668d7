"""Schedules of unfreezing, against what one would write down by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import toy

from warmstart.backbones.groups import Group
from warmstart.core.errors import SettingError
from warmstart.train.fit import fit
from warmstart.train.rates import RatePlan, rate_factor
from warmstart.train.unfreezing import (
    Unfreezing,
    parse_group_rates,
    parse_unfreezing,
    plateau_steps,
    stages,
)

ONE = tuple(Group("", name, depth, (), ()) for depth, name in enumerate(["embeddings", "0", "1", "final", "head"]))
TWO = (
    *(Group("text", str(depth), depth, (), ()) for depth in range(2)),
    *(Group("vision", str(depth), depth, (), ()) for depth in range(4)),
    Group("joint", "final", 0, (), ()),
    Group("joint", "head", 1, (), ()),
)


def test_the_head_is_first_and_towers_open_level_by_level() -> None:
    assert stages(ONE) == (4, 3, 2, 1, 0)
    assert stages(TWO) == (3, 2, 5, 4, 3, 2, 1, 0)
    assert stages(ONE[:-1]) == (3, 2, 1, 0)  # without a head the last group is the first to open
    assert stages(()) == ()


def test_equal_stages() -> None:
    assert Unfreezing("stages").fractions(ONE) == pytest.approx((0.6, 0.45, 0.3, 0.15, 0.0))
    assert Unfreezing("stages", share=0.4).fractions(TWO) == pytest.approx((0.24, 0.16, 0.4, 0.32, 0.24, 0.16, 0.08, 0))
    assert Unfreezing("stages").fractions(ONE[-1:]) == (0.0,)
    assert Unfreezing("stages").first_steps(ONE, 100, ()) == (60, 45, 30, 15, 0)


def test_given_openings_leave_the_rest_closed() -> None:
    given = Unfreezing("given", opens_at={"head": 0.0, "1": 0.25})
    assert given.fractions(ONE) == (1.0, 1.0, 0.25, 1.0, 0.0)
    assert given.first_steps(ONE, 10, ()) == (None, None, 3, None, 0)
    assert given.never(ONE) == (True, True, False, True, False)
    with pytest.raises(SettingError, match=r"--unfreeze: the model has no group '5'"):
        Unfreezing("given", opens_at={"5": 0.0}).fractions(ONE)


@pytest.mark.parametrize(
    ("scores", "patience", "opened"),
    [
        ([], 1, [0]),
        ([0.5, 0.6, 0.7], 1, [0]),
        ([0.5, 0.5], 1, [0, 20]),  # a tie is no rise
        ([0.5, 0.4, 0.45, 0.6], 1, [0, 20, 30]),
        ([0.5, 0.4, 0.45, 0.6, 0.6, 0.6], 2, [0, 30, 60]),
        ([0.5] + [0.1] * 9, 1, [0, 20, 30, 40, 50]),  # four more groups, and no more
    ],
)
def test_plateaus(scores: list[float], patience: int, opened: list[int]) -> None:
    evaluations = [(10 * (place + 1), score) for place, score in enumerate(scores)]
    assert plateau_steps(4, evaluations, patience) == opened
    steps = Unfreezing("plateau", patience=patience).first_steps(ONE, 1000, evaluations)
    assert steps == tuple(opened[stage] if stage < len(opened) else None for stage in (4, 3, 2, 1, 0))
    assert Unfreezing("plateau").never(ONE) == (False,) * 5


def test_closed_prefixes_now_and_later() -> None:
    assert Unfreezing("all").closed_prefixes(ONE, 100, 0, ()) == ()
    assert Unfreezing("stages").closed_prefixes(ONE, 100, 0, ()) == (4, 3, 2, 1)
    assert Unfreezing("stages").closed_prefixes(ONE, 100, 29, ()) == (3, 2, 1)
    assert Unfreezing("stages").closed_prefixes(ONE, 100, 30, ()) == (2, 1)
    assert Unfreezing("stages").closed_prefixes(ONE, 100, 60, ()) == ()
    given = Unfreezing("given", opens_at={"head": 0.0, "1": 0.25, "embeddings": 0.5})
    assert given.closed_prefixes(ONE, 100, 0, ()) == (4, 2)  # the embeddings open before block 0, which stays closed
    assert Unfreezing("plateau").closed_prefixes(ONE, 100, 25, [(10, 0.5), (20, 0.4)]) == (3, 2, 1)


@pytest.mark.parametrize("text", ["stages", "plateau"])
def test_parsing_names(text: str) -> None:
    assert parse_unfreezing(text, 2) == Unfreezing(text, patience=2)


def test_parsing_pairs() -> None:
    assert parse_unfreezing("head=0, layer.5=0.25", 1) == Unfreezing("given", opens_at={"head": 0.0, "layer.5": 0.25})
    assert parse_group_rates(None) == {}
    assert parse_group_rates("text/layer.0=1e-5") == {"text/layer.0": 1e-5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sometimes", "--unfreeze is 'sometimes'; it must be stages, plateau, or group=fraction pairs"),
        ("head=0,layer.5=1.5", r"--unfreeze: layer\.5 opens at 1\.5; it must be at least 0 and below 1"),
        ("layer.5=0.5", "--unfreeze: no group is open at the start"),
        ("head=0,head=0.5", "--unfreeze: head is given twice"),
        ("head=", "--unfreeze is 'head='"),
        ("=0.1", "--unfreeze is '=0.1'"),
        ("head=nan", "--unfreeze is 'head=nan'"),
        ("", "--unfreeze is ''"),
    ],
)
def test_wrong_openings(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse_unfreezing(text, 1)


@pytest.mark.parametrize("text", ["layer.0", "layer.0=0", "layer.0=-1", "layer.0=11", "layer.0=fast"])
def test_wrong_group_rates(text: str) -> None:
    with pytest.raises(SettingError, match="--group-rates"):
        parse_group_rates(text)


def test_a_plateau_opens_groups_with_a_warm_up_of_their_own(tmp_path: Path, monkeypatch) -> None:
    """The rates that the optimizer sees, step by step, against a loop over the scores."""
    scores = iter([0.5, 0.4, 0.6, 0.6, 0.6, 0.6])
    monkeypatch.setattr("warmstart.train.trainer.selection_value", lambda *_: next(scores))
    task = toy.task("bert", 32, 12)
    model = task.classifier()
    groups = toy.groups_of(model)
    assert [group.name for group in groups] == ["embeddings", "layer.0", "layer.1", "pooler", "head"] or len(
        groups
    ) == 5
    seen: list[dict[str, float]] = []
    original = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        seen.append({group["group"]: group["lr"] for group in self.param_groups})
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    before = toy.weights(model)
    job = toy.job(task, model, RatePlan(1e-3, 0.5, 5e-3, unfreezing=Unfreezing("plateau")), metric="accuracy")
    found = fit(model, toy.arguments(tmp_path, 32, epochs=6), job)
    opened = [0, 8, 16, 20]  # the scores after steps 8, 16 and 20 are no better than those before; 24 is the end
    assert found.opened == tuple(opened[stage] if stage < len(opened) else None for stage in stages(groups))
    total = 24
    for place, group in enumerate(groups):
        peak = 5e-3 if group.name == "head" else 1e-3 * 0.5 ** (3 - place)
        for step in range(total):
            expected = peak * rate_factor(step, total, found.opened[place], 0.1)
            assert seen[step][group.name] == pytest.approx(expected, abs=1e-12), (group.name, step)
    after = toy.weights(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    closed = {
        name for group, first in zip(groups, found.opened, strict=True) if first is None for name in group.parameters
    }
    assert not moved & closed
    assert "head.weight" in moved
    assert math.isclose(found.best_score, 0.6)
