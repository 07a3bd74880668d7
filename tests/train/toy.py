"""Toy tasks on tiny backbones, and jobs and contexts around them. Nothing here takes more than milliseconds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny import TINY
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import PreTrainedTokenizerFast, TrainingArguments
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.groups import Group, layer_groups
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.text_inputs import Inputs
from warmstart.core.clock import Clock
from warmstart.strategies.protocol import Context, Settings
from warmstart.strategies.protocol import Rows as AdaptRows
from warmstart.train.arguments import Length, training_arguments
from warmstart.train.job import LossPlan, Rows, TrainJob
from warmstart.train.rates import RatePlan
from warmstart.train.unfreezing import ALL_OPEN, Unfreezing

LABELS = ("red", "green", "blue")
WORDS = ["[PAD]", "[UNK]", "a", "photo", "the", "of", *LABELS, *(f"w{i}" for i in range(31))]
CPU = torch.device("cpu")


def backbone(name: str) -> Backbone:
    """A backbone around a tiny random trunk, saved to a folder and loaded as any model is."""
    trunk = TINY[name]()
    with tempfile.TemporaryDirectory() as folder:
        trunk.save_pretrained(folder)
        if trunk.main_input_name == "pixel_values":
            side = getattr(trunk.config, "image_size", 32)
            ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
        else:
            tokens = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
            tokens.pre_tokenizer = Whitespace()
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=tokens, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
            )
            tokenizer.save_pretrained(folder)
        return load_backbone(folder)


def texts(rows: int, seed: int, labels: int = 3) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Texts of unequal length; the label is the one colour that is named in them, three times."""
    draw = np.random.default_rng(seed)
    classes = np.arange(rows) % labels
    out = []
    for label in classes:
        words = [f"w{i}" for i in draw.integers(0, 31, draw.integers(1, 16))] + [LABELS[label]] * 3
        out.append(" ".join(draw.permutation(words)))
    return {"text": out}, classes.astype(np.int64)


def images(rows: int, seed: int, labels: int = 3) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Noisy images in the colour that their label names."""
    draw = np.random.default_rng(seed)
    classes = np.arange(rows) % labels
    out = []
    for label in classes:
        pixels = draw.integers(0, 120, (32, 32, 3))
        pixels[:, :, label] += 130
        out.append(Image.fromarray(pixels.astype(np.uint8)))
    return {"image": out}, classes.astype(np.int64)


@dataclass
class Task:
    """Encoded rows of a toy task."""

    backbone: Backbone
    train: Inputs
    train_labels: np.ndarray
    validation: Inputs
    validation_labels: np.ndarray

    def classifier(self, seed: int = 0) -> Classifier:
        torch.manual_seed(seed)
        return self.backbone.classifier(LABELS, self.backbone.kind)


def task(name: str, rows: int = 48, validation: int = 24) -> Task:
    """A toy task of the kind that a backbone reads."""
    made = backbone(name)
    make = texts if made.kind == "text" else images
    train, train_labels = make(rows, 1)
    other, other_labels = make(validation, 2)
    encode = made.preprocessor.encode
    return Task(made, encode(train), train_labels, encode(other), other_labels)


def groups_of(model: nn.Module) -> tuple[Group, ...]:
    return layer_groups(model, head="head" if isinstance(model, Classifier) else "base_model.model.head")


def given(model: nn.Module, opens: tuple[float, ...]) -> Unfreezing:
    """An opening for each group of a model, as fractions of training; 1 for never. Without any, all are open."""
    if not opens:
        return ALL_OPEN
    labels = [group.label for group in groups_of(model)]
    return Unfreezing("given", opens_at={label: at for label, at in zip(labels, opens, strict=True) if at < 1})


def job(toy: Task, model: nn.Module, rates: RatePlan | None = None, **changes: Any) -> TrainJob:
    values: dict[str, Any] = {
        "train": Rows(toy.train, toy.train_labels),
        "validation": Rows(toy.validation, toy.validation_labels),
        "groups": groups_of(model),
        "rates": RatePlan(1e-3, 0.8, 5e-3) if rates is None else rates,
        "loss": LossPlan(),
        "metric": "log_loss",
        "clock": Clock(),
    }
    return TrainJob(**{**values, **changes})


def arguments(folder: Path, rows: int, **changes: Any) -> TrainingArguments:
    """CPU arguments for some rows; `epochs`, `max_steps`, `batch` and `accumulation` make the length."""
    length = Length(
        changes.pop("epochs", 2),
        changes.pop("max_steps", None),
        changes.pop("batch", 8),
        changes.pop("accumulation", 1),
    )
    values: dict[str, Any] = {"seed": 3, "bf16": False, "device": CPU}
    return training_arguments(folder, length, rows, **{**values, **changes})


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "learning_rate": 2e-3,
        "find_rate": False,
        "layer_decay": 0.8,
        "head_learning_rate": 1e-2,
        "group_rates": {},
        "unfreezing": Unfreezing("stages"),
        "num_train_epochs": 4,
        "max_steps": None,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "weight_decay": 0.01,
        "l2_sp": 0.0,
        "ema_decay": 0.0,
        "wise_alpha": None,
        "find_alpha": False,
        "max_forgetting": None,
        "warmup_steps": 0.1,
        "label_smoothing_factor": 0.0,
        "class_weights": "none",
        "early_stopping_patience": None,
        "metric": "accuracy",
        "bf16": False,
        "gradient_checkpointing": False,
        "cache_gb": 0.0,
        "augment": False,
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.05,
        "target_modules": "all-linear",
        "report_to": (),
        "templates": (),
    }
    return Settings(**{**values, **changes})


def context(toy: Task, folder: Path, *, seed: int = 5, clock: Clock | None = None, **changes: Any) -> Context:
    """A context of a strategy; `changes` are settings."""
    encoder = toy.backbone.encoder
    fit = forward(encoder, toy.train, dtype=torch.float32, device=CPU).features
    validation = forward(encoder, toy.validation, dtype=torch.float32, device=CPU).features
    return Context(
        backbone=toy.backbone,
        modality=toy.backbone.kind,
        labels=LABELS,
        fit=AdaptRows(toy.train, toy.train_labels, fit),
        validation=AdaptRows(toy.validation, toy.validation_labels, validation),
        settings=settings(**changes),
        seed=seed,
        work=folder,
        clock=Clock() if clock is None else clock,
        reserve=0.0,
    )


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Equal bit for bit."""
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, f"{len(different)} of {len(first)} differ: {different[:5]}"
