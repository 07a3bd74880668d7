"""Texts and pairs of texts → padded token batches. Images are `image_inputs.py`; both give an `Inputs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Inputs(Protocol):
    """Encoded rows: how long each is, and batches of them."""

    lengths: np.ndarray  # (rows,) cost of each row: tokens, or 1 for images

    def __len__(self) -> int:
        """Number of rows."""

    def batch(self, rows: Sequence[int], augment_seed: int | None = None) -> dict[str, Tensor]:
        """The model's arguments for some rows; augmented, where that applies, when a seed is given."""


class Preprocessor(Protocol):
    """What turns raw rows into a model's inputs, and is saved beside the model."""

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Inputs:
        """Encode columns "text" (and "text_pair") or "image"."""

    def save(self, folder: Path) -> None:
        """Write the files that `load_preprocessor` reads."""

    def describe(self) -> dict[str, Any]:
        """Plain values that determine the encoding: part of the feature cache's key."""


@dataclass(frozen=True)
class TokenInputs:
    """Token rows of unequal length, padded to the longest of each batch."""

    ids: list[list[int]]
    types: list[list[int]] | None
    pad: int
    left: bool
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Sequence[int], augment_seed: int | None = None) -> dict[str, Tensor]:
        """input_ids and attention_mask (and token_type_ids), each (rows, longest)."""
        longest = max(len(self.ids[row]) for row in rows)
        ids = np.full((len(rows), longest), self.pad, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        types = np.zeros((len(rows), longest), dtype=np.int64)
        for line, row in enumerate(rows):
            size = len(self.ids[row])
            place = slice(longest - size, None) if self.left else slice(0, size)
            ids[line, place] = self.ids[row]
            mask[line, place] = 1
            if self.types is not None:
                types[line, place] = self.types[row]
        batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if self.types is not None:
            batch["token_type_ids"] = torch.from_numpy(types)
        return batch  # each (rows, longest)


class TextPreprocessor:
    """A tokenizer with a length and a prompt.

    Args:
        tokenizer: a transformers tokenizer.
        max_length: longest row in tokens; longer ones are cut.
        prompt: text put before every input, as a sentence-transformers model states it.
    """

    def __init__(self, tokenizer: Any, max_length: int, prompt: str = "") -> None:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer, self.max_length, self.prompt = tokenizer, max_length, prompt

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> TokenInputs:
        """Tokenise column "text", or "text" with "text_pair" as two segments."""
        texts = [self.prompt + str(text) for text in rows["text"]]
        pairs = [str(text) for text in rows["text_pair"]] if "text_pair" in rows else None
        if not texts:
            return TokenInputs([], None, 0, False, np.zeros(0, dtype=np.int64))
        encoded = self.tokenizer(texts, pairs, truncation=True, max_length=self.max_length, padding=False)
        ids = encoded["input_ids"]
        types = encoded.get("token_type_ids") if pairs is not None else None
        lengths = np.array([len(line) for line in ids], dtype=np.int64)
        left = getattr(self.tokenizer, "padding_side", "right") == "left"
        return TokenInputs(ids, types, int(self.tokenizer.pad_token_id), left, lengths)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, with the length limit in them."""
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)

    def describe(self) -> dict[str, Any]:
        """Tokenizer class, vocabulary size, length limit and prompt."""
        return {
            "tokenizer": type(self.tokenizer).__name__,
            "vocabulary": len(self.tokenizer),
            "max_length": self.max_length,
            "prompt": self.prompt,
        }
