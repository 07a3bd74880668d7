"""Tiny random models of many architectures, made on the spot: a few thousand parameters each, the same every time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers as tf
from transformers import PretrainedConfig, PreTrainedModel

from warmstart.backbones.efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel

SEED = 20
TEXT: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CAUSAL: dict[str, Any] = {**TEXT, "num_key_value_heads": 1, "head_dim": 8}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}


def make(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """A model with seeded weights, leaving the random state as it was. In training mode, as constructed."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED)
        return model_class(config)


def bert() -> PreTrainedModel:
    return make(tf.BertModel, tf.BertConfig(**TEXT))


def roberta() -> PreTrainedModel:
    return make(tf.RobertaModel, tf.RobertaConfig(**TEXT))


def distilbert() -> PreTrainedModel:
    config = tf.DistilBertConfig(
        vocab_size=40, dim=16, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=40, pad_token_id=0
    )
    return make(tf.DistilBertModel, config)


def mpnet() -> PreTrainedModel:
    return make(tf.MPNetModel, tf.MPNetConfig(**{**TEXT, "pad_token_id": 1, "bos_token_id": 0}))


def deberta_v2() -> PreTrainedModel:
    config = tf.DebertaV2Config(
        **TEXT,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        conv_kernel_size=3,
        conv_act="gelu",
        type_vocab_size=0,
        position_biased_input=False,
    )
    return make(tf.DebertaV2Model, config)


def modernbert() -> PreTrainedModel:
    return make(tf.ModernBertModel, tf.ModernBertConfig(**TEXT, cls_token_id=1, sep_token_id=2, local_attention=8))


def electra() -> PreTrainedModel:
    return make(tf.ElectraModel, tf.ElectraConfig(**TEXT, embedding_size=8))


def albert() -> PreTrainedModel:
    return make(tf.AlbertModel, tf.AlbertConfig(**TEXT, embedding_size=8))


def llama() -> PreTrainedModel:
    return make(tf.LlamaModel, tf.LlamaConfig(**CAUSAL))


def gemma3() -> PreTrainedModel:
    return make(tf.Gemma3TextModel, tf.Gemma3TextConfig(**CAUSAL, sliding_window=8))


def qwen2() -> PreTrainedModel:
    return make(tf.Qwen2Model, tf.Qwen2Config(**CAUSAL))


def qwen3() -> PreTrainedModel:
    return make(tf.Qwen3Model, tf.Qwen3Config(**CAUSAL))


def vit() -> PreTrainedModel:
    return make(tf.ViTModel, tf.ViTConfig(**VISION))


def dinov2() -> PreTrainedModel:
    return make(tf.Dinov2Model, tf.Dinov2Config(**VISION, mlp_ratio=2))


def convnext() -> PreTrainedModel:
    config = tf.ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 2, 1], image_size=32, drop_path_rate=0.1)
    return make(tf.ConvNextModel, config)


def resnet() -> PreTrainedModel:
    config = tf.ResNetConfig(
        embedding_size=4, hidden_sizes=[8, 8, 16, 16], depths=[1, 2, 1, 1], layer_type="bottleneck"
    )
    return make(tf.ResNetModel, config)


def swin() -> PreTrainedModel:
    config = tf.SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=4)
    return make(tf.SwinModel, config)


def clip() -> PreTrainedModel:
    text = {**TEXT, "max_position_embeddings": 12}
    return make(tf.CLIPModel, tf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8))


def siglip() -> PreTrainedModel:
    text = {**TEXT, "max_position_embeddings": 12}
    return make(tf.SiglipModel, tf.SiglipConfig(text_config=text, vision_config=VISION))


def efficientnet_lite() -> PreTrainedModel:
    config = EfficientNetLiteConfig(
        image_size=32,
        stem_size=8,
        block_sizes=[8, 12, 16],
        depths=[1, 2, 1],
        kernel_sizes=[3, 5, 3],
        strides=[1, 2, 2],
        expand_ratios=[1, 2, 2],
        hidden_size=24,
    )
    return make(EfficientNetLiteModel, config)


TINY: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": bert,
    "roberta": roberta,
    "distilbert": distilbert,
    "mpnet": mpnet,
    "deberta_v2": deberta_v2,
    "modernbert": modernbert,
    "electra": electra,
    "albert": albert,
    "llama": llama,
    "gemma3": gemma3,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "vit": vit,
    "dinov2": dinov2,
    "convnext": convnext,
    "resnet": resnet,
    "swin": swin,
    "clip": clip,
    "siglip": siglip,
    "efficientnet_lite": efficientnet_lite,
}
