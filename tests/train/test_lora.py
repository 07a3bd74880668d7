"""LoRA: which modules, merging, saving."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy
from torch import nn

from warmstart.core.errors import SettingError, StrategyNotPossibleError
from warmstart.train import lora as lora_module
from warmstart.train.lora import choose_targets, inject, linear_modules, load_adapter, lora_size, merge, save_adapter

NAMES = ("bert", "efficientnet_lite", "convnext", "vit")


def adapted(task: toy.Task, targets: str = "all-linear"):
    """A wrapped classifier whose adapter and head do something."""
    model = task.classifier()
    wrapped = inject(model, choose_targets(model, targets), 3, 6, 0.5)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
                assert "lora_" in name or "head" in name
    return wrapped.eval()


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_the_plain_linear_maps_below_the_head(name: str) -> None:
    model = toy.task(name, 3, 3).classifier()
    chosen = set(choose_targets(model, "all-linear"))
    assert chosen == set(linear_modules(model))
    for path, module in model.named_modules():
        linear = isinstance(module, nn.Linear)
        plain = isinstance(module, nn.Conv2d) and module.weight.shape[1] == module.in_channels
        assert (path in chosen) == (path != "head" and (linear or plain)), path
    if name in ("efficientnet_lite", "convnext"):
        assert any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in model.modules())


def test_targets_by_name() -> None:
    model = toy.task("bert", 3, 3).classifier()
    queries = choose_targets(model, " query , layer.0.attention.self.query ")
    assert [name.rpartition("encoder.")[2] for name in queries] == [f"layer.{i}.attention.self.query" for i in range(3)]


def test_unknown_target_lists_what_there_is() -> None:
    model = toy.task("bert", 3, 3).classifier()
    with pytest.raises(SettingError, match=r"no module is called 'q_proj'; there are dense, key, query, value\."):
        choose_targets(model, "query,q_proj")
    with pytest.raises(SettingError, match="no module is called 'head'"):
        choose_targets(model, "head")


def test_nothing_to_adapt(monkeypatch) -> None:
    model = toy.task("bert", 3, 3).classifier()
    monkeypatch.setattr(lora_module, "linear_modules", lambda _model: ())
    with pytest.raises(StrategyNotPossibleError, match="LoRA needs"):
        choose_targets(model, "all-linear")


@pytest.mark.parametrize("name", NAMES)
def test_merged_equals_unmerged_equals_reloaded(name: str, tmp_path: Path) -> None:
    task = toy.task(name, 6, 6)
    wrapped = adapted(task)
    batch = task.train.batch(range(6))
    base = task.classifier().eval()
    with torch.no_grad():
        before = toy.weights(wrapped)
        expected = wrapped(**batch).logits
        merged = merge(wrapped)
        assert torch.allclose(merged.eval()(**batch).logits, expected, atol=1e-4)
        toy.assert_same(before, toy.weights(wrapped))
        assert set(merged.state_dict()) == set(base.state_dict())
        assert (base(**batch).logits - expected).abs().max() > 0.01
        save_adapter(wrapped, tmp_path, "user/some-model")
        again = load_adapter(task.classifier(seed=9), tmp_path).eval()
        assert torch.allclose(again(**batch).logits, expected, atol=1e-6)
    assert again.peft_config["default"].base_model_name_or_path == "user/some-model"
    assert (tmp_path / "adapter_model.safetensors").stat().st_size > 0


def test_merge_by_hand() -> None:
    task = toy.task("bert", 3, 3)
    wrapped = adapted(task, "query")
    merged, base = merge(wrapped).state_dict(), task.classifier().state_dict()
    own = dict(wrapped.named_parameters())
    for name, value in base.items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        if name.endswith("query.weight"):
            a, b = own[f"{prefix}.lora_A.default.weight"], own[f"{prefix}.lora_B.default.weight"]
            value = value + 6 / 3 * (b @ a)
        if not name.startswith("head"):
            assert torch.allclose(merged[name], value, atol=1e-6), name


def test_saving_asks_no_hub(tmp_path: Path, monkeypatch) -> None:
    def fail(*_args, **_kwargs):
        raise AssertionError("asked the Hub")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", fail)
    save_adapter(adapted(toy.task("bert", 3, 3)), tmp_path, "user/some-model")


@pytest.mark.parametrize("name", NAMES)
def test_size_is_what_peft_adds(name: str) -> None:
    model = toy.task(name, 3, 3).classifier()
    targets = choose_targets(model, "all-linear")
    wrapped = inject(model, targets, 3, 6, 0.0)
    added = sum(p.numel() for n, p in wrapped.named_parameters() if "lora_" in n)
    assert lora_size(toy.task(name, 3, 3).classifier(), targets, 3) == added
