"""sentence-transformers folders against `SentenceTransformer.encode`, and the modules that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from saved import TEXTS, drop_weights, edit_json, save, tokenizer

from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.backbones.sentence_folder import Stated, read, write
from warmstart.core.errors import ModelError

st = pytest.importorskip("sentence_transformers")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", "cls+mean")


def features(folder: Path) -> np.ndarray:
    backbone = load_backbone(str(folder))
    inputs = backbone.preprocessor.encode({"text": TEXTS})
    return forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features


def build(
    tmp_path: Path, *after: torch.nn.Module, name: str = "bert", pooling: str = "mean", **settings: object
) -> Path:
    """Write a sentence-transformers folder around a tiny trunk; its own vectors of TEXTS go to wanted.npy."""
    trunk = tmp_path / "trunk"
    save(name, trunk)
    transformer = modules.Transformer(str(trunk), max_seq_length=8)
    if transformer.tokenizer.pad_token is None:
        transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    model = st.SentenceTransformer(
        modules=[transformer, modules.Pooling(16, pooling_mode=pooling.split("+")), *after], device="cpu", **settings
    )
    folder = tmp_path / "whole"
    model.save(str(folder), create_model_card=False)
    np.save(tmp_path / "wanted.npy", model.encode(TEXTS))
    return folder


def dense(width: int = 16, activation: type[torch.nn.Module] = torch.nn.Tanh, **settings: object) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return modules.Dense(width, 12, activation_function=activation(), **settings)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ["bert", "mpnet", "llama"])
def test_every_pooling(name, pooling, tmp_path):
    folder = build(tmp_path, name=name, pooling=pooling)
    assert load_backbone(str(folder)).card.pooling == pooling
    np.testing.assert_allclose(features(folder), np.load(tmp_path / "wanted.npy"), atol=1e-5)


@pytest.mark.parametrize("activation", [torch.nn.Tanh, torch.nn.Identity, torch.nn.GELU, torch.nn.ReLU])
def test_dense_layers(activation, tmp_path):
    folder = build(tmp_path, dense(activation=activation), dense(12, bias=False), modules.Dropout(0.5))
    backbone = load_backbone(str(folder))
    assert (backbone.card.features, len(backbone.encoder.projections)) == (12, 2)
    np.testing.assert_allclose(features(folder), np.load(tmp_path / "wanted.npy"), atol=1e-5)


def test_normalisation_and_prompts(tmp_path):
    prompts = {"query": "the dress ", "other": "a "}
    folder = build(tmp_path, dense(), modules.Normalize(), prompts=prompts, default_prompt_name="query")
    backbone = load_backbone(str(folder))
    assert (backbone.card.normalize, backbone.card.preprocessing["prompt"]) == (True, "the dress ")
    assert backbone.preprocessor.max_length == 8
    found = features(folder)
    np.testing.assert_allclose(found, np.load(tmp_path / "wanted.npy"), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_prompts_without_a_default_are_not_used(tmp_path):
    folder = build(tmp_path, prompts={"query": "the dress "})
    assert load_backbone(str(folder)).card.preprocessing["prompt"] == ""
    np.testing.assert_allclose(features(folder), np.load(tmp_path / "wanted.npy"), atol=1e-5)


def test_classifiers_and_results_keep_the_projections(tmp_path):
    folder = build(tmp_path, dense(), modules.Normalize(), prompts={"q": "a "}, default_prompt_name="q")
    backbone = load_backbone(str(folder))
    model = backbone.classifier(["x", "y"], "text")
    assert torch.equal(model.projections[0][0].weight, backbone.encoder.projections[0][0].weight)
    assert model.projections[0][0].weight.data_ptr() != backbone.encoder.projections[0][0].weight.data_ptr()
    model.save_pretrained(tmp_path / "result")
    backbone.preprocessor.save(tmp_path / "result")
    np.testing.assert_allclose(features(tmp_path / "result"), np.load(tmp_path / "wanted.npy"), atol=1e-5)


def test_lower_casing_is_the_folder_s(tmp_path):
    folder = build(tmp_path)
    tokenizer(lower=False, model_max_length=8).save_pretrained(folder)
    edit_json(next(folder.glob("sentence_*_config.json")), do_lower_case=True)
    upper = [text.upper() for text in TEXTS]
    backbone = load_backbone(str(folder))
    inputs = backbone.preprocessor.encode({"text": upper})
    found = forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features
    np.testing.assert_allclose(found, st.SentenceTransformer(str(folder), device="cpu").encode(upper), atol=1e-5)
    np.testing.assert_allclose(found, np.load(tmp_path / "wanted.npy"), atol=1e-5)
    backbone.preprocessor.save(tmp_path)
    assert backbone.preprocessor.tokenizer(["THE"])["input_ids"] == [[1, 30, 2]]


def test_the_digest_sees_the_dense_layers(tmp_path):
    folder = build(tmp_path, dense())
    before = load_backbone(str(folder)).card.digest
    from safetensors.torch import load_file, save_file

    place = next(folder.glob("*_Dense")) / "model.safetensors"
    save_file({key: value + 1 for key, value in load_file(place).items()}, place)
    assert load_backbone(str(folder)).card.digest != before


def test_older_folders(tmp_path):
    """modules.json, pooling flags and a .bin of the dense layer, as version 2 wrote them."""
    folder = build(tmp_path, dense())
    old = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(old))
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(inner / path.name)
    flags = {"word_embedding_dimension": 16, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(flags))
    from safetensors.torch import load_file

    weights = folder / "2_Dense/model.safetensors"
    torch.save(load_file(weights), folder / "2_Dense/pytorch_model.bin")
    weights.unlink()
    np.testing.assert_allclose(features(folder), np.load(tmp_path / "wanted.npy"), atol=1e-5)


def test_a_folder_that_is_none():
    assert read(Path("/nonexistent")) == Stated()


def test_a_dense_layer_that_is_not_whole(tmp_path):
    folder = build(tmp_path, dense())
    place = next(folder.glob("*_Dense"))
    edit_json(place / "config.json", out_features=13)
    with pytest.raises(ModelError, match=r"dense layers of .* do not fit their weights"):
        load_backbone(str(folder))
    (place / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="damaged or cut off"):
        load_backbone(str(folder))
    (place / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="a dense layer without weights"):
        load_backbone(str(folder))


def test_missing_trunk_weights_are_an_error_here_too(tmp_path):
    folder = build(tmp_path)
    drop_weights(folder, "encoder.layer.2.")
    with pytest.raises(ModelError, match="left at random"):
        load_backbone(str(folder))


PLAIN = [("Transformer", ""), ("Pooling", "1_Pooling")]


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ([*PLAIN, ("CNN", "2_CNN")], "has a module CNN, which is not supported"),
        ([("BoW", ""), *PLAIN], "has a module BoW"),
        ([*PLAIN, ("Normalize", "2"), ("Dense", "3_Dense")], "in this order"),
        ([PLAIN[0]], "supported: Transformer, Pooling"),
        ([*PLAIN, PLAIN[1]], "supported: Transformer, Pooling"),
    ],
)
def test_modules_that_are_refused(listed, said, tmp_path):
    content = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(listed)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=said):
        read(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pooling_mode": ["mean", "max"]}, "pools by \\['mean', 'max'\\]"),
        ({"pooling_mode": "middle"}, "pools by"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, "pools by"),
        ({"pooling_mode": "mean", "include_prompt": False}, "leaves its prompt out"),
    ],
)
def test_poolings_that_are_refused(values, said, tmp_path):
    content = [{"path": path, "type": f"x.{kind}"} for kind, path in PLAIN]
    (tmp_path / "modules.json").write_text(json.dumps(content))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(values))
    edit_json(tmp_path / "config_sentence_transformers.json", prompts={"q": "a "}, default_prompt_name="q")
    with pytest.raises(ModelError, match=said):
        read(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"activation_function": "torch.nn.modules.activation.SELU"}, "the activation SELU"),
        ({"use_residual": True}, "a residual connection"),
        ({"module_input_name": "token_embeddings"}, "works on token_embeddings"),
    ],
)
def test_dense_layers_that_are_refused(values, said, tmp_path):
    folder = build(tmp_path, dense())
    edit_json(next(folder.glob("*_Dense")) / "config.json", **values)
    with pytest.raises(ModelError, match=said):
        load_backbone(str(folder))


def test_unreadable_json(tmp_path):
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(ModelError, match=r"modules.json cannot be read"):
        read(tmp_path)


def rewrite(folder, to):
    """What was loaded, written again as a sentence-transformers folder."""
    backbone = load_backbone(str(folder))
    config, prep = backbone.encoder.config, backbone.preprocessor
    backbone.encoder.backbone.save_pretrained(to)
    prep.save(to)
    weights = dict(backbone.encoder.projections.state_dict())
    stated = Stated(
        "", config.pooling, config.normalize, prep.max_length, False, prep.prompt, config.projections, weights
    )
    write(to, stated)
    return to


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ["bert", "mpnet", "llama"])
def test_what_is_written_loads_there_and_here(name, pooling, tmp_path):
    wanted = rewrite(build(tmp_path, name=name, pooling=pooling), tmp_path / "again")
    vectors = np.load(tmp_path / "wanted.npy")
    np.testing.assert_allclose(features(wanted), vectors, atol=1e-5)
    np.testing.assert_allclose(st.SentenceTransformer(str(wanted), device="cpu").encode(TEXTS), vectors, atol=1e-5)


def test_dense_layers_normalisation_prompt_and_lower_case_are_written(tmp_path):
    prompts = {"prompts": {"query": "the dress "}, "default_prompt_name": "query"}
    after = (dense(activation=torch.nn.GELU), dense(12, torch.nn.Identity, bias=False), modules.Normalize())
    folder = build(tmp_path, *after, **prompts)
    tokenizer(lower=False, model_max_length=8).save_pretrained(folder)
    edit_json(next(folder.glob("sentence_*_config.json")), do_lower_case=True)
    wanted = rewrite(folder, tmp_path / "again")
    upper = [text.upper() for text in TEXTS]
    there = st.SentenceTransformer(str(wanted), device="cpu")
    expected = st.SentenceTransformer(str(folder), device="cpu").encode(upper)
    np.testing.assert_allclose(there.encode(upper), expected, atol=1e-5)
    assert there.max_seq_length == 8
    backbone = load_backbone(str(wanted))
    found = forward(backbone.encoder, backbone.preprocessor.encode({"text": upper}), dtype=torch.float32).features
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_pooling_that_is_not_known_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot pool by pooler"):
        write(tmp_path, Stated(pooling="pooler"))
