"""Texts and pairs of texts → padded token batches. Images are `image_inputs.py`; both give an `Inputs`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from warmstart.core.errors import ModelError


class Inputs(Protocol):
    """Encoded rows: how long each is, and batches of them."""

    @property
    def lengths(self) -> np.ndarray:
        """Cost of each row, (rows,): tokens, or 1 for images."""

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
    """Token rows of unequal length, padded to the longest of each batch.

    Padding always stands at the end, whatever the tokenizer says: causal models read the same before it, models with
    absolute positions read the same positions, and `classifier.pool` finds the last token by the mask.
    """

    ids: list[list[int]]
    types: list[list[int]] | None
    pad: int
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
            ids[line, :size] = self.ids[row]
            mask[line, :size] = 1
            if self.types is not None:
                types[line, :size] = self.types[row]
        batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if self.types is not None:
            batch["token_type_ids"] = torch.from_numpy(types)
        return batch  # each (rows, longest)


class Subset:
    """Some rows of encoded inputs, without copying them."""

    def __init__(self, inputs: Inputs, chosen: np.ndarray) -> None:
        self._inputs, self._chosen = inputs, chosen
        self.lengths = inputs.lengths[chosen]

    def __len__(self) -> int:
        return len(self._chosen)

    def batch(self, rows: Sequence[int], augment_seed: int | None = None) -> dict[str, Tensor]:
        """See `Inputs.batch`."""
        return self._inputs.batch([int(self._chosen[row]) for row in rows], augment_seed)


class PooledInputs:
    """Rows of which it is known already what the trunk and its pooling give; the model is given that in their place.

    Args:
        pooled: (rows, width), in float32.
    """

    def __init__(self, pooled: np.ndarray) -> None:
        self._pooled = pooled

    @property
    def lengths(self) -> np.ndarray:
        """Ones: every row costs the same."""
        return np.ones(len(self._pooled), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._pooled)

    def batch(self, rows: Sequence[int], augment_seed: int | None = None) -> dict[str, Tensor]:
        """pooled, (rows, width)."""
        return {"pooled": torch.from_numpy(self._pooled[list(rows)])}


class TextPreprocessor:
    """A tokenizer with a length and a prompt.

    Args:
        tokenizer: a transformers tokenizer.
        max_length: longest row in tokens; longer ones are cut.
        prompt: text put before every input, as a sentence-transformers model states it.
    """

    def __init__(self, tokenizer: Any, max_length: int, prompt: str = "") -> None:
        if tokenizer.pad_token is None:  # the mask hides it, so any known token will do
            known = (tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token)
            tokenizer.pad_token = next((token for token in known if token is not None), None)
        if tokenizer.pad_token_id is None:
            raise ModelError("The tokenizer has no padding token, and no other special token to pad with.")
        self.tokenizer, self.max_length, self.prompt = tokenizer, max_length, prompt

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Inputs:
        """Tokenise column "text", or "text" with "text_pair" as two segments."""
        texts = [self.prompt + str(text) for text in rows["text"]]
        pairs = [str(text) for text in rows["text_pair"]] if "text_pair" in rows else None
        if not texts:
            return TokenInputs([], None, 0, np.zeros(0, dtype=np.int64))
        encoded = self.tokenizer(texts, pairs, truncation=True, max_length=self.max_length, padding=False)
        pad = int(self.tokenizer.pad_token_id)
        ids = [line or [pad] for line in encoded["input_ids"]]  # a model must read at least one token
        types = encoded.get("token_type_ids") if pairs is not None else None
        if types is not None:
            types = [line or [0] for line in types]
        lengths = np.array([len(line) for line in ids], dtype=np.int64)
        return TokenInputs(ids, types, pad, lengths)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, with the length limit in them."""
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)

    def describe(self) -> dict[str, Any]:
        """Tokenizer class, vocabulary size, a digest of vocabulary and rules, length limit and prompt."""
        return {
            "tokenizer": type(self.tokenizer).__name__,
            "vocabulary": len(self.tokenizer),
            "digest": _digest(self.tokenizer),
            "max_length": self.max_length,
            "prompt": self.prompt,
        }


def _digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        text = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    else:
        backend.no_truncation()  # the last call's length and padding are in it
        backend.no_padding()
        text = backend.to_str()
    return hashlib.sha256(text.encode()).hexdigest()
