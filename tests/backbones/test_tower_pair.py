"""An image tower and a text tower in one folder: saved, loaded by transformers and by warmstart, and taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as tf
from saved import TEXTS, picture, processor_for, save, tokenizer
from tiny import TINY
from torch import nn

from warmstart.backbones import two_tower
from warmstart.backbones.classifier import Classifier, ClassifierConfig
from warmstart.backbones.groups import layer_groups
from warmstart.backbones.load import load_backbone
from warmstart.backbones.tower_pair import TowerPairModel, pair_towers

PAIRS = (("efficientnet_lite", "bert"), ("vit", "distilbert"), ("dinov2", "llama"))


def encoder(name: str, kind: str, pooling: str, width: int, hidden: bool = False) -> Classifier:
    trunk = TINY[name]()
    features = trunk.config.dim if name == "distilbert" else trunk.config.hidden_size
    last = {"in_features": 12 if hidden else features, "out_features": width, "bias": False, "activation": "identity"}
    first = {"in_features": features, "out_features": 12, "bias": True, "activation": "gelu"}
    specs = [first, last] if hidden else [last]
    config = ClassifierConfig(trunk.config.to_dict(), kind, pooling, specs, normalize=True)
    return Classifier(config, trunk=trunk).eval()


def write(folder: Path, vision_name: str, text_name: str) -> tuple[Classifier, Classifier]:
    vision = encoder(vision_name, "image", "pooler", 6, hidden=True)
    text = encoder(text_name, "text", "lasttoken" if text_name == "llama" else "mean", 6)
    pair_towers(vision, text, 3.0, "").save_pretrained(folder)
    processor_for(vision_name).save_pretrained(folder)
    tokenizer(model_max_length=20).save_pretrained(folder)
    return vision, text


@pytest.mark.parametrize(("vision_name", "text_name"), PAIRS)
def test_a_saved_pair_gives_the_same_vectors(vision_name: str, text_name: str, tmp_path: Path) -> None:
    vision, text = write(tmp_path, vision_name, text_name)
    backbone = load_backbone(str(tmp_path))
    pictures = backbone.preprocessor.encode({"image": [picture(seed=seed) for seed in range(3)]}).batch(range(3))
    words = backbone.text_tower.preprocessor.encode({"text": TEXTS}).batch(range(len(TEXTS)))
    model = tf.AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(model, TowerPairModel)
    with torch.no_grad():
        images, texts = vision.features(**pictures), text.features(**words)
        torch.testing.assert_close(backbone.encoder.features(**pictures), images, atol=1e-6, rtol=0)
        torch.testing.assert_close(backbone.text_tower.encoder.features(**words), texts, atol=1e-6, rtol=0)
        torch.testing.assert_close(backbone.embed_labels(TEXTS), texts, atol=1e-5, rtol=0)
        found = model(**pictures, **words)
    wanted = torch.exp(torch.tensor(3.0)) * images @ texts.T
    torch.testing.assert_close(found.logits_per_image, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.logits_per_text, wanted.T, atol=1e-4, rtol=0)
    assert backbone.logit_scale == pytest.approx(float(torch.tensor(3.0).exp()))
    assert backbone.kind == "image"
    assert backbone.text_tower.preprocessor.max_length == 20


def test_making_a_pair_leaves_the_towers_as_they_were(tmp_path: Path) -> None:
    """transformers sets the attention in the configuration that a model is given: the pair has copies of its own."""
    text, vision = encoder("bert", "text", "mean", 6), encoder("vit", "image", "cls", 6)
    ids = torch.tensor([[1, 5, 2, 0, 0, 0], [1, 5, 6, 7, 8, 2]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    with torch.no_grad():
        before = text.features(**inputs)
        alone = text.features(input_ids=ids[:1, :3], attention_mask=torch.ones(1, 3, dtype=torch.long))
        pair_towers(vision, text, 1.0, "")
        assert torch.equal(text.features(**inputs), before)
    torch.testing.assert_close(before[:1], alone)


def test_the_groups_of_a_pair_are_those_of_its_towers(tmp_path: Path) -> None:
    write(tmp_path, "efficientnet_lite", "bert")
    whole = load_backbone(str(tmp_path)).whole
    groups = layer_groups(whole)
    assert {group.tower for group in groups} == {"vision", "text", "joint"}
    names = [name for group in groups for name in group.parameters]
    assert sorted(names) == sorted(name for name, _ in whole.named_parameters())
    last = {group.tower: group for group in groups}
    assert "vision_projections.1.0.weight" in last["vision"].parameters
    assert "text_projections.0.0.weight" in last["text"].parameters
    assert last["joint"].parameters == ("logit_scale",)


def test_another_image_size_resizes_positions(tmp_path: Path) -> None:
    write(tmp_path, "vit", "bert")
    backbone = load_backbone(str(tmp_path), image_size=32)
    assert backbone.config.interpolate_positions
    with torch.no_grad():
        assert backbone.encoder.features(pixel_values=torch.rand(2, 3, 32, 32)).shape == (2, 6)


def test_a_clip_model_comes_apart_and_together_again(tmp_path: Path) -> None:
    model = save("clip", tmp_path)
    backbone = load_backbone(str(tmp_path))
    vision, text = backbone.encoder, backbone.text_tower.encoder
    ids = torch.tensor([[1, 5, 6, 2], [1, 9, 2, 2]])
    with torch.no_grad():
        wanted = nn.functional.normalize(model.get_text_features(input_ids=ids).pooler_output, dim=-1)
        torch.testing.assert_close(text.features(input_ids=ids, attention_mask=torch.ones_like(ids)), wanted)
        for encoder_ in (vision, text):
            for parameter in encoder_.parameters():
                parameter.mul_(1.5)
        again = two_tower.put_together(model, vision, text, 7.0)
        again.save_pretrained(tmp_path)
        changed = load_backbone(str(tmp_path))
        pixels = torch.rand(2, 3, 16, 16)
        torch.testing.assert_close(changed.encoder.features(pixel_values=pixels), vision.features(pixel_values=pixels))
        mask = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        torch.testing.assert_close(changed.text_tower.encoder.features(**mask), text.features(**mask))
    assert changed.logit_scale == pytest.approx(7.0)
    assert isinstance(tf.AutoModel.from_pretrained(tmp_path), tf.CLIPModel)


def test_a_text_tower_of_another_kind_is_left_whole(tmp_path: Path) -> None:
    save("siglip", tmp_path)
    backbone = load_backbone(str(tmp_path))
    assert backbone.text_tower is None
    assert backbone.embed_labels is not None
