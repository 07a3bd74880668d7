"""CLIP-like models against their own get_image_features and get_text_features."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from saved import TEXTS, picture, processor_for, save, tokenizer
from tiny import TEXT, VISION, make
from torch import nn

from warmstart.backbones import two_tower
from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.core.errors import ModelError

NAMES = ("clip", "siglip")


def unit(output: object) -> torch.Tensor:
    return nn.functional.normalize(getattr(output, "pooler_output", output), dim=-1)


@pytest.mark.parametrize("name", NAMES)
def test_image_features(name, tmp_path):
    model = save(name, tmp_path)
    backbone = load_backbone(str(tmp_path))
    pictures = [picture(seed=seed) for seed in range(3)]
    pixels = processor_for(name)(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        wanted = unit(model.get_image_features(pixel_values=pixels))
        torch.testing.assert_close(backbone.encoder.features(pixel_values=pixels), wanted, atol=1e-6, rtol=0)
    inputs = backbone.preprocessor.encode({"image": pictures})
    for dtype, tolerance in ((torch.float32, 0.02), (torch.bfloat16, 0.05)):
        found = forward(backbone.encoder, inputs, dtype=dtype, device=torch.device("cpu")).features
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=tolerance, rtol=0)
    assert (backbone.kind, backbone.card.normalize, backbone.card.features) == ("image", True, wanted.shape[1])
    assert backbone.card.pooling == "pooler"
    assert backbone.whole is not backbone.encoder.backbone


@pytest.mark.parametrize("name", NAMES)
def test_label_embeddings(name, tmp_path):
    model = save(name, tmp_path)
    own = tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])  # more than the tower reads
    own.save_pretrained(tmp_path)
    embed = load_backbone(str(tmp_path)).embed_labels
    found = embed(TEXTS)
    torch.testing.assert_close(embed(TEXTS[:2]), found[:2], atol=1e-6, rtol=0)  # whatever stands beside them
    rows = []
    for text in TEXTS:
        if name == "siglip":  # trained on a fixed length, padding included
            ids = own(text, padding="max_length", max_length=12, truncation=True, return_tensors="pt")["input_ids"]
        else:
            ids = own(text, max_length=12, truncation=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            rows.append(unit(model.get_text_features(input_ids=ids))[0])
    torch.testing.assert_close(found, torch.stack(rows), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_scale_is_the_model_s_own(name, tmp_path):
    model = save(name, tmp_path)
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    model.save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path)).logit_scale == pytest.approx(float(torch.tensor(3.0).exp()))


def test_zero_shot_logits_equal_the_model_s(tmp_path):
    model = save("clip", tmp_path)
    backbone = load_backbone(str(tmp_path))
    pixels = torch.rand(2, 3, 16, 16)
    labels = ["the dress", "a b c"]
    encoded = tokenizer()(labels, padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], pixel_values=pixels)
        found = backbone.encoder.features(pixel_values=pixels) @ backbone.embed_labels(labels).T * backbone.logit_scale
    torch.testing.assert_close(found, wanted.logits_per_image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_another_image_size(name, tmp_path):
    model = save(name, tmp_path)
    backbone = load_backbone(str(tmp_path), image_size=32)
    assert backbone.config.interpolate_positions
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        wanted = unit(model.get_image_features(pixel_values=pixels, interpolate_pos_encoding=True))
        torch.testing.assert_close(backbone.encoder.features(pixel_values=pixels), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_classifiers_hold_the_vision_tower_alone(name, tmp_path):
    save(name, tmp_path)
    backbone = load_backbone(str(tmp_path))
    model = backbone.classifier(["a", "b", "c"], "image").eval()
    assert not [key for key, _ in model.named_parameters() if "text" in key]
    pixels = torch.rand(2, 3, 16, 16)
    model.save_pretrained(tmp_path / "result")
    again = type(model).from_pretrained(tmp_path / "result").eval()
    with torch.no_grad():
        torch.testing.assert_close(model.features(pixel_values=pixels), backbone.encoder.features(pixel_values=pixels))
        assert torch.equal(again(pixel_values=pixels).logits, model(pixel_values=pixels).logits)


def test_what_is_asked_of_towers_that_have_their_own_pooling(tmp_path):
    save("clip", tmp_path)
    with pytest.raises(ModelError, match=r"--pooling is mean, but .* has two towers"):
        load_backbone(str(tmp_path), pooling="mean")


def test_models_that_are_refused():
    class Odd(nn.Module):
        def get_image_features(self) -> None: ...

        def get_text_features(self) -> None: ...

    assert two_tower.is_two_tower(Odd())
    with pytest.raises(ModelError, match="Odd has no vision_model"):
        two_tower.vision_tower(Odd())
    config = tf.CLIPConfig(text_config={**TEXT, "max_position_embeddings": 12}, vision_config=VISION, projection_dim=16)
    model = make(tf.CLIPModel, config)

    class Other(nn.Module):
        def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values.flatten(1)[:, :16]

    with pytest.raises(ModelError, match="its image features are not those of its vision tower"):
        two_tower.check_features(model, Other(), "odd")
