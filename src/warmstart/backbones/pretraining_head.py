"""The head that a language model was pretrained with, and the loss of any trunk of its kind under it.

Causal models give the mean loss of the next token, masked ones that of hidden tokens, both in nats. The head is the
checkpoint's own, never a random one. What the losses are compared with is left to `train/forgetting.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from warmstart.backbones.checkpoint import load_whole
from warmstart.backbones.classifier import Classifier, reads_segments
from warmstart.backbones.embed import TOKENS_PER_BATCH, best_device, inference_copy, ready_batches
from warmstart.backbones.packaged import gguf_file
from warmstart.backbones.text_inputs import Inputs
from warmstart.core.errors import ModelError

Objective = Literal["causal", "masked"]
MASKED_SHARE = 0.15  # of the tokens of a row, at least one (BERT, arXiv 1810.04805, sec. 3.1)
_LOGITS_PER_BATCH = 1 << 26  # numbers: a quarter of a GiB


def objective_of(config: PretrainedConfig) -> Objective | None:
    """What a checkpoint was trained to do, by the architecture that it states; None when that is no language model."""
    stated = list(getattr(config, "architectures", None) or ())
    if any(name.endswith("ForMaskedLM") or name in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values() for name in stated):
        return "masked"
    if any(name.endswith("ForCausalLM") or name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for name in stated):
        return "causal"
    return None


class PretrainingHead:
    """A language model whose trunk is lent to it for each measurement.

    Args:
        model: the whole checkpoint; its own trunk is dropped.
        objective: what it was trained to do.
        tokenizer: the checkpoint's.

    Raises:
        ModelError: a masked model whose tokenizer has no mask, or a model without a separate trunk.
    """

    def __init__(self, model: PreTrainedModel, objective: Objective, tokenizer: Any) -> None:
        self.objective, self.model = objective, model.eval()
        self.prefix = str(model.base_model_prefix)
        self.mask = tokenizer.mask_token_id
        self.special = np.asarray(tokenizer.all_special_ids, dtype=np.int64)
        trunk = getattr(model, self.prefix, None)
        if not isinstance(trunk, PreTrainedModel):
            raise ModelError(f"{type(model).__name__} has no trunk of its own to exchange.")
        if objective == "masked" and self.mask is None:
            raise ModelError("The tokenizer has no mask token.")
        self.trunk_class = type(trunk)
        setattr(model, self.prefix, nn.Identity())

    def loss(
        self, classifier: Classifier, inputs: Inputs, *, seed: int = 0, device: torch.device | None = None
    ) -> float:
        """Mean loss in nats a token of a classifier's trunk under this head, in float32; the trunk is not changed.

        Args:
            classifier: whose trunk is judged.
            inputs: token rows.
            seed: of the hidden tokens; the same rows and seed hide the same tokens.
            device: where to run; `best_device` by default.

        Returns:
            Not-a-number when no row has a token to predict.

        Raises:
            ModelError: the trunk is not of the checkpoint's class.
        """
        device = best_device() if device is None else device
        runner = inference_copy(classifier, torch.float32, device)
        if type(runner.backbone) is not self.trunk_class:
            raise ModelError(f"{type(self.model).__name__} does not read a {type(runner.backbone).__name__}.")
        self.model.to(device)
        setattr(self.model, self.prefix, runner.backbone)
        tokens = max(1, min(TOKENS_PER_BATCH, _LOGITS_PER_BATCH // int(self.model.config.vocab_size)))
        total, count = 0.0, 0
        try:
            with torch.inference_mode():
                for rows, batch in ready_batches(runner, inputs, device, tokens):
                    if not reads_segments(runner.backbone):
                        batch.pop("token_type_ids", None)
                    losses = self._losses(batch, rows, seed)  # (tokens that were predicted,)
                    total, count = total + float(losses.sum()), count + len(losses)
        finally:
            setattr(self.model, self.prefix, nn.Identity())
        return total / count if count else float("nan")

    def _losses(self, batch: dict[str, Tensor], rows: Sequence[int] | np.ndarray, seed: int) -> Tensor:
        ids = batch["input_ids"]  # (batch, tokens)
        if self.objective == "masked":
            chosen = self._chosen(ids.cpu().numpy(), batch["attention_mask"].cpu().numpy(), rows, seed).to(ids.device)
            logits = self.model(**{**batch, "input_ids": ids.masked_fill(chosen, int(self.mask))}).logits
            return nn.functional.cross_entropy(logits[chosen].float(), ids[chosen], reduction="none")
        real = batch["attention_mask"][:, 1:].bool()  # (batch, tokens - 1)
        logits = self.model(**batch).logits[:, :-1]  # (batch, tokens - 1, vocabulary)
        return nn.functional.cross_entropy(logits[real].float(), ids[:, 1:][real], reduction="none")

    def _chosen(self, ids: np.ndarray, mask: np.ndarray, rows: Sequence[int] | np.ndarray, seed: int) -> Tensor:
        """Which tokens are hidden, (batch, tokens); a row's draw depends on nothing but the seed and its number."""
        chosen = np.zeros(ids.shape, dtype=bool)
        for line, row in enumerate(rows):
            places = np.flatnonzero((mask[line] == 1) & ~np.isin(ids[line], self.special))
            if len(places):
                count = max(1, round(MASKED_SHARE * len(places)))
                chosen[line, np.random.default_rng((seed, int(row))).choice(places, count, replace=False)] = True
        return torch.from_numpy(chosen)


def head_loader(
    folder: Path, config: PretrainedConfig, tokenizer: Any, trust_remote_code: bool
) -> Callable[[], PretrainingHead] | None:
    """A function that loads the head of a checkpoint in a folder; None when it states none."""
    objective = objective_of(config)
    return None if objective is None else partial(_load, folder, objective, tokenizer, trust_remote_code)


def gguf_head_loader(package: Path, tokenizer: Any) -> Callable[[], PretrainingHead]:
    """The same for a decoder out of a package: `packaged.gguf_decoder` gives its trunk."""
    return partial(_load_gguf, package, tokenizer)


def _load(folder: Path, objective: Objective, tokenizer: Any, trust_remote_code: bool) -> PretrainingHead:
    loader = AutoModelForCausalLM if objective == "causal" else AutoModelForMaskedLM
    model = load_whole(loader, folder, trust_remote_code=trust_remote_code)
    return PretrainingHead(model, objective, tokenizer)


def _load_gguf(package: Path, tokenizer: Any) -> PretrainingHead:
    file = gguf_file(package)
    return PretrainingHead(load_whole(AutoModelForCausalLM, file.parent, gguf_file=file.name), "causal", tokenizer)
