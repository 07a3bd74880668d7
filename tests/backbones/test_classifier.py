"""`Classifier` as a transformers model: saved, loaded, registered; and the pooling rules, row by row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from saved import TEXTS, save, tokenizer
from tiny import TINY
from transformers import AutoConfig, AutoModel, PretrainedConfig

from warmstart.backbones.classifier import POOLINGS, Classifier, ClassifierConfig, pool, reads_segments, trunk_width
from warmstart.core.errors import ModelError

TEXT_MODELS = ("bert", "roberta", "distilbert", "mpnet", "deberta_v2", "modernbert", "electra", "albert")
CAUSAL_MODELS = ("llama", "qwen2", "qwen3", "gemma3")
VISION_MODELS = ("vit", "dinov2", "convnext", "resnet", "swin", "efficientnet_lite")


def built(name: str, pooling: str = "mean", **settings: object) -> Classifier:
    trunk = TINY[name]().eval()
    config = ClassifierConfig(
        backbone=trunk.config.to_dict(),
        modality="image" if name in VISION_MODELS else "text",
        pooling=pooling,
        num_labels=3,
        id2label={0: "a", 1: "b", 2: "c"},
        label2id={"a": 0, "b": 1, "c": 2},
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return Classifier(config, trunk=trunk).eval()


def inputs_of(name: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if name in VISION_MODELS:
        side = 16 if name in ("vit", "dinov2", "swin") else 32
        return {"pixel_values": torch.rand(2, 3, side, side, generator=generator)}
    ids = torch.randint(4, 40, (2, 7), generator=generator)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("name", [*TEXT_MODELS, *CAUSAL_MODELS, *VISION_MODELS])
def test_saved_and_loaded_gives_the_same_logits(name, tmp_path):
    pooling = "pooler" if name in VISION_MODELS and name not in ("vit", "dinov2") else "cls"
    spec = {"in_features": trunk_width(TINY[name]().config), "out_features": 6, "bias": True, "activation": "gelu"}
    model = built(name, pooling, projections=[spec], normalize=True, feature_scale=3.0, calibration_temperature=1.7)
    model.save_pretrained(tmp_path)
    again, info = Classifier.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        wanted = model(**inputs_of(name)).logits
        assert torch.equal(again.eval()(**inputs_of(name)).logits, wanted)
        assert torch.equal(AutoModel.from_pretrained(tmp_path)(**inputs_of(name)).logits, wanted)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, ClassifierConfig)
    assert config.id2label == {0: "a", 1: "b", 2: "c"}
    assert (config.pooling, config.normalize, config.feature_scale) == (pooling, True, 3.0)
    assert config.calibration_temperature == 1.7
    assert config.projections == [spec]


@pytest.mark.parametrize("name", [*TEXT_MODELS, *CAUSAL_MODELS, *VISION_MODELS])
def test_a_pretrained_trunk_is_not_initialised_again(name, tmp_path):
    save(name, tmp_path, TINY[name]())
    wanted = TINY[name]().state_dict()
    for trunk in (AutoModel.from_pretrained(tmp_path), TINY[name]()):
        with torch.no_grad():
            for parameter in trunk.parameters():
                parameter.add_(0.125)
        config = ClassifierConfig(backbone=trunk.config.to_dict(), pooling="mean", num_labels=2)
        found = Classifier(config, trunk=trunk).backbone.state_dict()
        parameters = [key for key, _ in trunk.named_parameters()]
        assert parameters
        assert all(torch.equal(found[key], wanted[key] + 0.125) for key in parameters)


def test_the_loss_is_cross_entropy_over_scaled_features():
    model = built("bert", normalize=True, feature_scale=5.0)
    labels = torch.tensor([2, 0])
    output = model(**inputs_of("bert"), labels=labels)
    features = model.features(**inputs_of("bert"))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    wanted = (5.0 * features) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(output.logits, wanted)
    torch.testing.assert_close(output.loss, -wanted.log_softmax(1)[torch.arange(2), labels].mean())
    assert model(**inputs_of("bert")).loss is None


def test_projections_are_dense_layers_with_their_activation():
    spec = {"in_features": 16, "out_features": 5, "bias": False, "activation": "tanh"}
    model, plain = built("bert", projections=[spec]), built("bert")
    assert model.feature_size == 5
    wanted = torch.tanh(plain.features(**inputs_of("bert")) @ model.projections[0][0].weight.T)
    torch.testing.assert_close(model.features(**inputs_of("bert")), wanted)


def test_only_poolers_with_weights_are_dropped():
    assert built("bert", "mean").backbone.pooler is None
    assert built("bert", "pooler").backbone.pooler is not None
    assert built("resnet", "mean").backbone.pooler is not None
    with torch.no_grad():
        assert built("resnet", "mean")(**inputs_of("resnet")).logits.shape == (2, 3)


def reference(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One row at a time, real tokens only."""
    rows = []
    for tokens, keep in zip(hidden, mask, strict=True):
        real = tokens[keep == 1]
        weights = torch.arange(1.0, len(real) + 1)[:, None]
        rows.append(
            {
                "mean": real.mean(0),
                "cls": real[0],
                "cls+mean": torch.cat([real[0], real.mean(0)]),
                "lasttoken": real[-1],
                "max": real.max(0).values,
                "mean_sqrt_len_tokens": real.sum(0) / len(real) ** 0.5,
                "weightedmean": (real * weights).sum(0) / weights.sum(),
            }[pooling]
        )
    return torch.stack(rows)


@pytest.mark.parametrize("pooling", [name for name in POOLINGS if name != "pooler"])
def test_pooling_of_padded_rows(pooling):
    hidden = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0]])
    output = SimpleNamespace(last_hidden_state=hidden)
    torch.testing.assert_close(pool(output, mask, pooling), reference(hidden, mask, pooling))
    torch.testing.assert_close(pool(output, None, pooling), reference(hidden, torch.ones(4, 6), pooling))
    hidden[mask == 0] = 1e6  # what stands under padding never matters
    torch.testing.assert_close(pool(output, mask, pooling), reference(hidden, mask, pooling))


def test_a_head_is_as_wide_as_what_it_reads():
    assert built("bert", "cls+mean").head.in_features == 2 * built("bert", "mean").head.in_features


def test_pooling_of_maps():
    maps = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1))
    output = SimpleNamespace(last_hidden_state=maps, pooler_output=maps.mean((2, 3), keepdim=True))
    torch.testing.assert_close(pool(output, None, "mean"), maps.mean((2, 3)))
    torch.testing.assert_close(pool(output, None, "max"), maps.amax((2, 3)))
    torch.testing.assert_close(pool(output, None, "pooler"), maps.mean((2, 3)))


def test_averages_are_taken_in_float32():
    hidden = torch.full((1, 3000, 1), 1.0, dtype=torch.bfloat16)
    found = pool(SimpleNamespace(last_hidden_state=hidden), None, "mean")
    assert found.dtype == torch.float32
    assert found.item() == 1.0


def test_segments():
    assert [name for name in (*TEXT_MODELS, *CAUSAL_MODELS) if reads_segments(TINY[name]())] == [
        "bert",
        "roberta",
        "electra",
        "albert",
    ]


def test_widths():
    assert [trunk_width(TINY[name]().config) for name in ("bert", "distilbert", "resnet", "efficientnet_lite")] == [
        16,
        16,
        16,
        24,
    ]
    with pytest.raises(ModelError, match="Cannot tell the feature size of PreTrainedConfig"):
        trunk_width(PretrainedConfig())


@pytest.mark.parametrize("name", ["bert", "llama", "vit"])
def test_gradient_checkpointing_changes_nothing(name):
    model = built(name).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.backbone.config._attn_implementation = "eager"
    model(**inputs_of(name), labels=torch.tensor([0, 1])).loss.backward()
    wanted = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model(**inputs_of(name), labels=torch.tensor([0, 1])).loss.backward()
    found = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    assert set(found) == set(wanted)
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key], atol=1e-6, rtol=1e-4)


def test_a_text_and_its_classifier(tmp_path):
    """The whole path once by hand: tokens → average → head."""
    model = built("bert")
    encoded = tokenizer()(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        wanted = model.backbone(**encoded).last_hidden_state.mean(1) @ model.head.weight.T + model.head.bias
        torch.testing.assert_close(model(**encoded).logits, wanted)
