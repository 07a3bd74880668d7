"""Tiny models in folders, as transformers and sentence-transformers write them, with tokenizers made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf
from PIL import Image
from tiny import TINY
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

WORDS = (*"abcdefghijklmnopqrstuvwxyz", "the", "dress", "fits", "so", "well", "too", "small", "return")
TEXTS = ["the dress fits", "a", "so well the dress fits too small return the dress", "x y z", "return", "too too too"]
DECODERS = ("llama", "qwen2", "qwen3", "gemma3")
ENCODERS = ("bert", "roberta", "distilbert", "mpnet", "deberta_v2", "modernbert")
IMAGES = ("vit", "dinov2", "convnext", "resnet", "efficientnet_lite")


def tokenizer(pad: int = 0, cls: int = 1, *, lower: bool = True, **settings: Any) -> PreTrainedTokenizerFast:
    """A WordLevel tokenizer of 40 tokens that puts [CLS] before and [SEP] after (and between) texts."""
    special = {pad: "[PAD]", cls: "[CLS]", 2: "[SEP]", 3: "[UNK]"}
    names = [special[i] for i in range(4)] + list(WORDS)
    vocabulary = {word: index for index, word in enumerate(names[:40])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    if lower:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", 2)],
    )
    names_of = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{**names_of, **settings})


def decoder_tokenizer(padding_side: str = "left") -> PreTrainedTokenizerFast:
    """A tokenizer that has no padding token and adds nothing to a text."""
    names = ["<unk>", "<s>", "</s>", *WORDS]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names[:40])}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", padding_side=padding_side
    )


def tokenizer_for(name: str) -> PreTrainedTokenizerFast:
    if name in DECODERS:
        return decoder_tokenizer()
    return tokenizer(pad=1, cls=0) if name == "mpnet" else tokenizer()


def processor_for(name: str, size: int | None = None) -> Any:
    if name in ("vit", "efficientnet_lite"):
        side = size or (16 if name == "vit" else 32)
        return tf.ViTImageProcessorPil(size={"height": side, "width": side})
    if name == "dinov2":
        side = size or 16
        return tf.BitImageProcessorPil(
            size={"shortest_edge": side + 4}, crop_size={"height": side, "width": side}, do_center_crop=True
        )
    if name in ("convnext", "resnet"):
        return tf.ConvNextImageProcessorPil(size={"shortest_edge": size or 32}, crop_pct=0.875)
    if name == "clip":
        side = size or 16
        return tf.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return tf.SiglipImageProcessorPil(size={"height": size or 16, "width": size or 16})


def save(name: str, folder: Path, model: PreTrainedModel | None = None) -> PreTrainedModel:
    """Write the tiny model `name` with what belongs beside it; gives the model back in evaluation mode."""
    model = (TINY[name]() if model is None else model).eval()
    model.save_pretrained(folder)
    if name not in IMAGES:
        tokenizer_for(name).save_pretrained(folder)
    if name in IMAGES or name in ("clip", "siglip"):
        processor_for(name).save_pretrained(folder)
    return model


def drop_weights(folder: Path, start: str) -> list[str]:
    """Take the weights whose names begin with `start` out of a saved model; gives their names."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    gone = [key for key in weights if key.startswith(start)]
    save_file({key: value for key, value in weights.items() if key not in gone}, path, {"format": "pt"})
    return gone


def edit_json(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **values}))


def picture(width: int = 50, height: int = 38, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A smooth picture with structure everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def tokens(found: PreTrainedTokenizerFast, text: str) -> dict[str, torch.Tensor]:
    """One text, without padding, as the model's arguments."""
    ids = found(text)["input_ids"]
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
