"""The partition into groups, against three oracles that share no code with it.

A table written by hand, the order in which modules are called in a whole forward pass, and cause and effect: changing
the weights of a group must change what comes after it and leave what comes before it alone.
"""

from __future__ import annotations

import random
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import peft
import pytest
import torch
from tiny import TINY, make
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PretrainedConfig,
    PreTrainedModel,
)

from warmstart.backbones import groups as groups_module
from warmstart.backbones.blocks import find_stacks
from warmstart.backbones.groups import Group, group_rows, layer_groups, set_module_modes
from warmstart.core.errors import ModelError

TWO_TOWERS = ("clip", "siglip")
ONE_TOWER = tuple(name for name in TINY if name not in TWO_TOWERS)

THREE_IN_ENCODER = tuple(f"encoder.layer.{i}" for i in range(3))
THREE_AT_TOP = tuple(f"layers.{i}" for i in range(3))
# architecture → all before its first block, its blocks from input to output, all after its last block
EXPECTED: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "bert": (("embeddings",), THREE_IN_ENCODER, ("pooler",)),
    "roberta": (("embeddings",), THREE_IN_ENCODER, ("pooler",)),
    "distilbert": (("embeddings",), tuple(f"transformer.layer.{i}" for i in range(3)), ()),
    "mpnet": (("embeddings", "encoder.relative_attention_bias"), THREE_IN_ENCODER, ("pooler",)),
    "deberta_v2": (("embeddings", "encoder.rel_embeddings", "encoder.LayerNorm"), THREE_IN_ENCODER, ()),
    "modernbert": (("embeddings",), THREE_AT_TOP, ("final_norm",)),
    "electra": (("embeddings", "embeddings_project"), THREE_IN_ENCODER, ()),
    "albert": (
        ("embeddings", "encoder.embedding_hidden_mapping_in"),
        ("encoder.albert_layer_groups.0.albert_layers.0",),
        ("pooler",),
    ),
    "llama": (("embed_tokens",), THREE_AT_TOP, ("norm",)),
    "gemma3": (("embed_tokens",), THREE_AT_TOP, ("norm",)),
    "qwen2": (("embed_tokens",), THREE_AT_TOP, ("norm",)),
    "qwen3": (("embed_tokens",), THREE_AT_TOP, ("norm",)),
    "vit": (("embeddings",), THREE_AT_TOP, ("layernorm", "pooler")),
    "dinov2": (("embeddings",), THREE_IN_ENCODER, ("layernorm",)),
    "convnext": (
        ("embeddings",),
        tuple(f"encoder.stages.{i}.layers.{j}" for i, j in [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0)]),
        ("layernorm",),
    ),
    "resnet": (
        ("embedder",),
        tuple(f"encoder.stages.{i}.layers.{j}" for i, j in [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0)]),
        (),
    ),
    "swin": (
        ("embeddings",),
        tuple(f"encoder.layers.{i}.blocks.{j}" for i, j in [(0, 0), (1, 0), (1, 1)]),
        ("layernorm",),
    ),
    "efficientnet_lite": (("stem",), tuple(f"blocks.{i}" for i in range(4)), ("top",)),
}
BEFORE_BLOCK = {  # what stands between blocks goes with the block that follows
    "deberta_v2": {1: ["encoder.conv"]},
    "convnext": {i: [f"encoder.stages.{stage}.downsampling_layer"] for i, stage in [(1, 1), (2, 2), (4, 3)]},
    "swin": {1: ["encoder.layers.0.downsample"]},
}


def prefixes_of(name: str) -> list[list[str]]:
    first, blocks, last = EXPECTED[name]
    middle = [[path, *BEFORE_BLOCK.get(name, {}).get(i, [])] for i, path in enumerate(blocks)]
    return [part for part in [list(first), *middle, list(last)] if part]


def inputs_for(model: nn.Module, kind: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    config = getattr(model.config, f"{kind}_config", model.config)
    if kind == "text":
        ids = torch.randint(4, config.vocab_size, (2, 7), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    size = getattr(config, "image_size", 32)
    return {"pixel_values": torch.randn(2, 3, size, size, generator=generator)}


def kind_of(model: PreTrainedModel) -> str:
    return "vision" if model.main_input_name == "pixel_values" else "text"


def under(name: str, prefixes: list[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def assert_partition(model: nn.Module, groups: tuple[Group, ...]) -> None:
    """Each parameter once, depths counted from 0 within each tower, modules wholly and only their group's."""
    found = [name for group in groups for name in group.parameters]
    assert sorted(found) == sorted(name for name, _ in model.named_parameters())
    depths = defaultdict(list)
    for group in groups:
        depths[group.tower].append(group.depth)
        assert group.parameters
    assert all(values == list(range(len(values))) for values in depths.values())
    owner = {name: group for group in groups for name in group.parameters}
    ids = {id(p): owner[name] for name, p in model.named_parameters()}
    for group in groups:
        for path in group.modules:
            assert all(ids[id(p)] == group for p in model.get_submodule(path).parameters())
    covered = [path for group in groups for path in group.modules]
    for name, module in model.named_modules():
        if not list(module.children()) and not list(module.parameters()):
            assert sum(under(name, [path]) for path in covered) == 1, f"{name} is in no group's modules"


# --- one tower -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_is_in_exactly_one_group(name: str) -> None:
    model = TINY[name]()
    assert_partition(model, layer_groups(model))


@pytest.mark.parametrize("name", ONE_TOWER)
def test_groups_are_those_written_down_by_hand(name: str) -> None:
    model = TINY[name]()
    groups = layer_groups(model)
    expected = prefixes_of(name)
    assert len(groups) == len(expected)
    for group, prefixes in zip(groups, expected, strict=True):
        wanted = {p for p, _ in model.named_parameters() if under(p, prefixes)}
        assert set(group.parameters) == wanted
        assert group.tower == ""
    assert groups[0].name == ("stem" if name == "efficientnet_lite" else "embeddings")
    assert len({group.name for group in groups}) == len(groups)
    assert groups[-1].name == "final" or not EXPECTED[name][2]


@pytest.mark.parametrize("name", ONE_TOWER)
def test_groups_are_in_the_order_in_which_modules_are_called(name: str) -> None:
    model = TINY[name]().eval()
    depth = {p: group.depth for group in layer_groups(model) for p in group.parameters}
    called: list[int] = []

    def note(path: str, module: nn.Module):
        own = {depth[f"{path}.{p}" if path else p] for p, _ in module.named_parameters(recurse=False)}
        return lambda *_: called.extend(own)

    for path, module in model.named_modules():
        module.register_forward_pre_hook(note(path, module))
    with torch.no_grad():
        model(**inputs_for(model, kind_of(model)))
    assert called[0] == 0
    assert called == sorted(called)


@pytest.mark.parametrize("name", ONE_TOWER)
def test_a_group_changes_what_comes_after_it_and_nothing_before_it(name: str) -> None:
    model = TINY[name]().eval()
    groups = layer_groups(model)
    blocks = EXPECTED[name][1]
    depth_of = [next(g.depth for g in groups if any(under(p, [block]) for p in g.parameters)) for block in blocks]
    states: dict[str, torch.Tensor] = {}

    def keep(block: str):
        def hook(module: nn.Module, args: object, output: object) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            states.setdefault(block, tensor.clone())

        return hook

    for block in blocks:
        model.get_submodule(block).register_forward_hook(keep(block))

    def run() -> dict[str, torch.Tensor]:
        states.clear()
        with torch.no_grad():
            output = model(**inputs_for(model, kind_of(model)))
        pooled = output.get("pooler_output")
        last = (
            output.last_hidden_state
            if pooled is None
            else torch.cat([output.last_hidden_state.flatten(), pooled.flatten()])
        )
        return {**states, "output": last}

    before = run()
    named = dict(model.named_parameters())
    for group in groups:
        saved = {p: named[p].detach().clone() for p in group.parameters}
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for p in group.parameters:
                named[p].add_(torch.randn(named[p].shape, generator=generator))
        after = run()
        for block, depth in zip(blocks, depth_of, strict=True):
            assert torch.equal(before[block], after[block]) == (group.depth > depth), (group.name, block)
        assert not torch.equal(before["output"], after["output"]), group.name
        with torch.no_grad():
            for p, value in saved.items():
                named[p].copy_(value)


def test_what_registration_order_gets_wrong() -> None:
    deberta, mpnet = layer_groups(TINY["deberta_v2"]()), layer_groups(TINY["mpnet"]())
    assert {"encoder.rel_embeddings.weight", "encoder.LayerNorm.weight"} <= set(deberta[0].parameters)
    assert "encoder.relative_attention_bias.weight" in mpnet[0].parameters
    assert "encoder.conv.conv.weight" in deberta[2].parameters


def test_dropouts_outside_any_layer_are_covered() -> None:
    assert layer_groups(TINY["bert"]())[0].modules == ("embeddings",)
    assert "embeddings.dropout" in dict(TINY["bert"]().named_modules())
    electra = layer_groups(TINY["electra"]())
    assert electra[0].modules == ("embeddings", "embeddings_project")


def test_names_are_short_paths() -> None:
    assert [g.name for g in layer_groups(TINY["bert"]())] == ["embeddings", "layer.0", "layer.1", "layer.2", "final"]
    assert layer_groups(TINY["resnet"]())[3].name == "stages.1.layers.1"
    assert layer_groups(TINY["efficientnet_lite"]())[1].name == "blocks.0"


def test_a_model_of_one_layer() -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    assert [g.name for g in layer_groups(make(BertModel, config))] == ["embeddings", "layer.0", "final"]


# --- two towers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_towers_are_separate_and_ordered(name: str) -> None:
    model = TINY[name]()
    towers: dict[str, list[Group]] = defaultdict(list)
    for group in layer_groups(model):
        towers[group.tower].append(group)
    assert list(towers) == ["text", "vision", "joint"]
    for tower in ("text", "vision"):
        assert [g.name for g in towers[tower]] == ["embeddings", "layers.0", "layers.1", "layers.2", "final"]
        for i, group in enumerate(towers[tower][1:4]):
            assert all(p.startswith(f"{tower}_model.encoder.layers.{i}.") for p in group.parameters)
    assert all(p in ("logit_scale", "logit_bias") for group in towers["joint"] for p in group.parameters)


def test_clip_projections_and_norms_are_in_their_towers() -> None:
    groups = {(g.tower, g.name): g.parameters for g in layer_groups(TINY["clip"]())}
    assert "text_projection.weight" in groups["text", "final"]
    assert "visual_projection.weight" in groups["vision", "final"]
    assert "vision_model.pre_layrnorm.weight" in groups["vision", "embeddings"]
    assert "vision_model.post_layernorm.weight" in groups["vision", "final"]
    assert groups["joint", "final"] == ("logit_scale",)


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_a_tower_changes_its_own_features_only(name: str) -> None:
    model = TINY[name]().eval()
    groups, named = layer_groups(model), dict(model.named_parameters())

    def features() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            text = model.get_text_features(**inputs_for(model, "text"))
            vision = model.get_image_features(**inputs_for(model, "vision"))
        return {"text": text.pooler_output, "vision": vision.pooler_output}

    for group in groups:
        before = features()
        with torch.no_grad():
            for p in group.parameters:
                named[p].add_(torch.randn(named[p].shape, generator=torch.Generator().manual_seed(1)))
        after = features()
        changed = {tower for tower in before if not torch.equal(before[tower], after[tower])}
        assert changed == ({group.tower} - {"joint"}), group


def test_towers_that_cannot_be_run_are_an_error() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def get_text_features(self) -> None: ...

        def get_image_features(self) -> None: ...

    with pytest.raises(ModelError, match="towers of Broken"):
        layer_groups(Broken())


# --- wrappers, heads, plain networks ---------------------------------------------------------------------------------


class Wrapper(PreTrainedModel):
    """Backbone, dense projections, dropout, head; the head is registered first, to mislead."""

    config_class = PretrainedConfig

    def __init__(self, backbone: PreTrainedModel, width: int, *, projections: int = 2) -> None:
        super().__init__(PretrainedConfig())
        self.head = nn.Linear(width, 3)
        self.dropout = nn.Dropout(0.5)
        self.backbone = backbone
        dense = [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(projections)]
        self.projection = nn.ModuleList(dense)

    def forward(self, labels: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
        output = self.backbone(**inputs)
        pooled = output.last_hidden_state.mean(1) if output.last_hidden_state.dim() == 3 else output.pooler_output
        for layer in self.projection:
            pooled = layer(pooled.flatten(1))
        return self.head(self.dropout(pooled))


WIDTHS = {"convnext": 16, "resnet": 16, "efficientnet_lite": 24}


def wrap(name: str) -> Wrapper:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Wrapper(TINY[name](), WIDTHS.get(name, 16))


@pytest.mark.parametrize("name", ONE_TOWER)
def test_a_wrapper_keeps_its_backbones_groups_and_ends_with_the_head(name: str) -> None:
    model = wrap(name)
    groups = layer_groups(model, head="head")
    inner = layer_groups(model.backbone)
    assert_partition(model, groups)
    assert groups[-1] == Group("", "head", len(groups) - 1, ("head",), ("head.weight", "head.bias"))
    assert groups[-2].name == "final"
    assert {p for p, _ in model.named_parameters() if p.startswith("projection.")} <= set(groups[-2].parameters)
    assert "dropout" in groups[-2].modules
    names = [name for name in (g.name for g in inner) if name != "final"]
    assert [g.name for g in groups] == [*names, "final", "head"]
    for own, wrapped in zip(inner, groups[: len(names)], strict=False):
        if own.name != "final":
            assert set(wrapped.parameters) >= {f"backbone.{p}" for p in own.parameters}


def test_a_head_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="no submodule 'classifier'"):
        layer_groups(wrap("bert"), head="classifier")


def test_a_head_without_parameters_of_its_own() -> None:
    with pytest.raises(ModelError, match="no parameters of its own"):
        layer_groups(wrap("bert"), head="dropout")


def test_tied_weights_are_counted_once_where_they_are_first_used() -> None:
    mlm = make(BertForMaskedLM, BertConfig(vocab_size=12, hidden_size=8, num_hidden_layers=2, num_attention_heads=1))
    assert mlm.cls.predictions.decoder.weight is mlm.bert.embeddings.word_embeddings.weight
    groups = layer_groups(mlm)
    assert_partition(mlm, groups)
    assert "bert.embeddings.word_embeddings.weight" in groups[0].parameters
    gpt = make(GPT2LMHeadModel, GPT2Config(vocab_size=12, n_embd=8, n_layer=2, n_head=1, n_positions=16))
    groups = layer_groups(gpt)
    assert_partition(gpt, groups)
    assert [g.name for g in groups] == ["embeddings", "h.0", "h.1", "final"]
    assert "transformer.drop" in groups[0].modules


def test_shared_layers_are_one_group() -> None:
    groups = layer_groups(TINY["albert"]())
    assert [g.name for g in groups] == ["embeddings", "albert_layers.0", "final"]


def test_a_plain_network_has_one_group_per_child() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    groups = layer_groups(model)
    assert_partition(model, groups)
    assert [g.parameters for g in groups] == [tuple(f"{i}.{p}" for p in ("weight", "bias")) for i in (0, 3, 4, 5)]
    headed = layer_groups(model, head="5")
    assert [g.name for g in headed] == ["0", "3", "4", "head"]


def test_a_plain_network_inside_a_wrapper() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))
            self.head = nn.Linear(4, 2)

    groups = layer_groups(Net(), head="head")
    assert [g.parameters[0] for g in groups] == ["body.0.weight", "body.2.weight", "head.weight"]


def test_a_single_layer() -> None:
    model = nn.Linear(2, 2)
    groups = layer_groups(model)
    assert_partition(model, groups)
    assert groups[0].modules == ("",)


def test_stages_as_plain_attributes() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Linear(4, 4)
            self.stage1, self.stage2 = nn.Sequential(Block(), Block()), nn.Sequential(Block())
            self.norm = nn.LayerNorm(4)

    names = [g.name for g in layer_groups(Net())]
    assert names == ["stem", "stage1.0", "stage1.1", "stage2.0", "final"]


def test_experts_inside_a_block_are_not_blocks() -> None:
    class Expert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(Expert() for _ in range(3))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.mlp = nn.Linear(4, 4), Mixture()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Block() for _ in range(2))

    assert [g.name for g in layer_groups(Net())] == ["layers.0", "layers.1"]


# --- peft ------------------------------------------------------------------------------------------------------------

TARGETS = {"bert": ["query", "value", "pooler.dense", "word_embeddings"], "llama": ["q_proj", "down_proj"]}
CONVOLUTIONS = ["expansion.convolution", "projection.convolution", "top.convolution"]


def lora(targets: list[str]) -> peft.LoraConfig:
    return peft.LoraConfig(r=2, lora_alpha=2, lora_dropout=0.3, target_modules=targets)


def placed_with_their_modules(model: nn.Module, groups: tuple[Group, ...]) -> int:
    owner = {p: group.name for group in groups for p in group.parameters}
    adapters = [p for p in owner if "lora_" in p]
    for p in adapters:
        base = p[: p.index("lora_")] + "base_layer.weight"
        assert owner[p] == owner[base], p
    return len(adapters)


@pytest.mark.parametrize("name", ["bert", "llama", "efficientnet_lite", "vit"])
@pytest.mark.parametrize("way", ["inject", "wrap"])
def test_adapters_belong_to_the_group_of_what_they_adapt(name: str, way: str) -> None:
    plain = layer_groups(wrap(name), head="head")
    targets = TARGETS.get(name, CONVOLUTIONS if name == "efficientnet_lite" else ["q_proj", "v_proj", "fc1"])
    model: nn.Module = wrap(name)
    if way == "inject":
        model = peft.inject_adapter_in_model(lora(targets), model)
        prefix = ""
    else:
        model = peft.get_peft_model(model, lora(targets))
        prefix = "base_model.model."
    groups = layer_groups(model, head=f"{prefix}head")
    assert_partition(model, groups)
    assert placed_with_their_modules(model, groups) > 0
    assert [(g.name, g.depth) for g in groups] == [(g.name, g.depth) for g in plain]
    for before, after in zip(plain, groups, strict=True):
        base = {p.removeprefix(prefix).replace("base_layer.", "") for p in after.parameters if "lora_" not in p}
        assert base == set(before.parameters)


def test_adapters_that_are_not_active_are_placed_too() -> None:
    model = peft.get_peft_model(wrap("bert"), lora(TARGETS["bert"]))
    model.add_adapter("other", lora(TARGETS["bert"]))
    groups = layer_groups(model, head="base_model.model.head")
    assert_partition(model, groups)
    assert placed_with_their_modules(model, groups) == 2 * 2 * (2 * 3 + 2)


def test_adapters_make_no_block_of_a_dense_layer() -> None:
    dense = nn.ModuleDict({"layers": nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2))})
    assert find_stacks(dense, ()) == []
    assert find_stacks(peft.inject_adapter_in_model(lora(["0.0", "1.0"]), dense), ()) == []


def test_towers_of_an_adapted_model() -> None:
    model = peft.get_peft_model(TINY["clip"](), lora(["q_proj", "v_proj"]))
    groups = layer_groups(model)
    assert_partition(model, groups)
    assert [(g.tower, g.name) for g in groups] == [(g.tower, g.name) for g in layer_groups(TINY["clip"]())]


# --- tracing leaves no trace -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_meta_device(name: str) -> None:
    model = TINY[name]()
    expected = layer_groups(model)
    assert layer_groups(model.to("meta")) == expected


def test_without_a_trace_registration_order_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "trace_forward", lambda *_: None)
    for name in ("bert", "llama", "dinov2", "convnext", "resnet", "efficientnet_lite"):
        model = TINY[name]()
        found = [set(g.parameters) for g in layer_groups(model)]
        assert found == [{p for p, _ in model.named_parameters() if under(p, part)} for part in prefixes_of(name)]


@pytest.mark.parametrize("name", ["bert", "convnext", "efficientnet_lite", "clip"])
def test_flags_random_state_buffers_and_hooks_are_left_alone(name: str) -> None:
    model = TINY[name]().train()
    next(model.children()).eval()
    flags = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random_states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    layer_groups(model)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert (np.random.get_state()[1] == random_states[1]).all()
    assert random.getstate() == random_states[2]
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_a_pass_that_fails_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Wrapper):
        def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
            torch.rand(3)
            self.backbone(**inputs)
            raise ValueError("on purpose")

    model = Fails(TINY["mpnet"](), 16).train()
    state = torch.get_rng_state()
    groups = layer_groups(model, head="head")
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    # the backbone alone could still be traced
    assert "backbone.encoder.relative_attention_bias.weight" in groups[0].parameters
    assert [g.name for g in groups][-2:] == ["final", "head"]
    assert not caplog.records


def test_no_pass_at_all_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = TINY["bert"]()
    model.forward = lambda **_: (_ for _ in ()).throw(ValueError("on purpose"))
    assert_partition(model, layer_groups(model))
    assert "order of registration" in caplog.text
    assert "on purpose" in caplog.text


def test_a_weights_dtype_is_no_use_of_the_weight() -> None:
    class Net(PreTrainedModel):
        def __init__(self) -> None:
            super().__init__(PretrainedConfig())
            self.backbone = TINY["bert"]()
            self.norm = nn.LayerNorm(16)

        def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
            assert self.norm.weight.dtype.is_floating_point
            assert self.norm.weight.shape == (16,)
            return self.norm(self.backbone(**inputs).last_hidden_state)

    assert "norm.weight" in layer_groups(Net())[-1].parameters


def test_a_half_precision_model() -> None:
    assert layer_groups(TINY["convnext"]().to(torch.bfloat16)) == layer_groups(TINY["convnext"]())


@pytest.mark.parametrize("wrong", ["missing", "twice"])
def test_a_parameter_that_is_not_in_exactly_one_group_is_named(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = groups_module._parts

    def parts(*args: object) -> list[object]:
        found = whole(*args)
        items = found[1].items
        return [
            *found[:1],
            found[1]._replace(items=items[1:] if wrong == "missing" else [*items, items[0]]),
            *found[2:],
        ]

    monkeypatch.setattr(groups_module, "_parts", parts)
    with pytest.raises(ModelError, match=r"encoder\.layer\.0\.attention\.self\.query\.weight"):
        layer_groups(TINY["bert"]())


# --- rows and modes --------------------------------------------------------------------------------------------------


def test_rows_are_counted_from_the_model() -> None:
    model = wrap("bert")
    groups = layer_groups(model, head="head")
    model.backbone.requires_grad_(False)
    rates = [0.1 * (i + 1) for i in range(len(groups))]
    rows = group_rows(model, groups, rates, 0.01, [0.0] * len(groups))
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())
    assert sum(row.trainable for row in rows) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert rows[0].trainable == 0
    assert rows[-1].parameters == rows[-1].trainable == 16 * 3 + 3
    assert [row.learning_rate for row in rows] == rates
    assert [(row.group, row.depth, row.names) for row in rows] == [(g.name, g.depth, g.parameters) for g in groups]
    with pytest.raises(ValueError, match="zip"):
        group_rows(model, groups, rates[1:], 0.01, [0.0] * len(groups))


def freeze_below(model: nn.Module, groups: tuple[Group, ...], depth: int) -> None:
    named = dict(model.named_parameters())
    for group in groups:
        for p in group.parameters:
            named[p].requires_grad_(group.depth >= depth)


def test_frozen_groups_evaluate_and_open_ones_train() -> None:
    model = wrap("bert")
    groups = layer_groups(model, head="head")
    freeze_below(model, groups, 3)
    model.train()
    set_module_modes(model, groups)
    assert not any(m.training for m in model.backbone.embeddings.modules())
    assert not any(m.training for i in (0, 1) for m in model.backbone.encoder.layer[i].modules())
    assert all(m.training for m in model.backbone.encoder.layer[2].modules())
    assert model.head.training
    assert model.dropout.training
    freeze_below(model, groups, 2)  # opening one more
    model.train()
    set_module_modes(model, groups)
    assert not any(m.training for m in model.backbone.encoder.layer[0].modules())
    assert all(m.training for m in model.backbone.encoder.layer[1].modules())


def test_modules_that_span_frozen_groups_evaluate_too() -> None:
    model = wrap("bert")
    groups = layer_groups(model, head="head")
    model.backbone.requires_grad_(False)
    model.train()
    set_module_modes(model, groups)
    assert not any(m.training for m in model.backbone.encoder.modules())
    assert not model.backbone.encoder.training
    assert model.training


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    model = wrap("efficientnet_lite")
    groups = layer_groups(model, head="head")
    freeze_below(model, groups, 3)
    model.train()
    set_module_modes(model, groups)
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(pixel_values=torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    changed = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    frozen = [path for group in groups[:3] for path in group.modules]
    assert changed
    assert not any(under(name, frozen) for name in changed)
    trained = {name for name in before if not under(name, frozen)}
    assert changed == trained


def test_lora_dropout_stays_on_in_frozen_groups() -> None:
    model = peft.inject_adapter_in_model(lora(TARGETS["bert"]), wrap("bert"))
    groups = layer_groups(model, head="head")
    model.head.requires_grad_(True)
    model.train()
    set_module_modes(model, groups)
    dropouts = {name: m for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    own = {name for name in dropouts if "lora_dropout" not in name and name.startswith("backbone.")}
    assert own
    assert any("lora_dropout" in name for name in dropouts)
    assert all(m.training == (name not in own and name != "dropout") for name, m in dropouts.items())
    model.eval()
    set_module_modes(model, groups)
    assert not any(m.training for m in model.modules())


def test_groups_made_before_adapters_were_put_in_are_refused() -> None:
    model = wrap("bert")
    groups = layer_groups(model, head="head")
    adapted = peft.inject_adapter_in_model(lora(TARGETS["bert"]), model)
    with pytest.raises(KeyError):
        set_module_modes(adapted, groups)


def test_a_frozen_trunk_gives_the_same_features_every_time() -> None:
    for name in ("bert", "vit", "deberta_v2", "modernbert"):
        model = TINY[name]()
        groups = layer_groups(model)
        model.requires_grad_(False)
        model.train()
        set_module_modes(model, groups)
        inputs = inputs_for(model, kind_of(model))
        assert torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
