"""How long to train and how often to judge → transformers' own arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import TrainingArguments

_CHECKPOINTING = (  # renamed in transformers 5
    "activation_checkpointing"
    if "activation_checkpointing" in TrainingArguments.__dataclass_fields__
    else "gradient_checkpointing"
)


@dataclass(frozen=True)
class Length:
    """How long to train, and in what steps."""

    epochs: float
    max_steps: int | None
    batch: int  # rows per device and forward pass
    accumulation: int

    def steps(self, rows: int, devices: int = 1) -> int:
        """Optimizer steps for a number of rows."""
        if self.max_steps is not None:
            return self.max_steps
        batches = math.ceil(rows / (self.batch * devices))
        return max(1, math.ceil(math.ceil(batches / self.accumulation) * self.epochs))


def training_arguments(
    folder: Path,
    length: Length,
    rows: int,
    *,
    seed: int,
    bf16: bool,
    gradient_checkpointing: bool = False,
    report_to: Sequence[str] = (),
    metric_evaluations: int | None = None,
    device: torch.device | None = None,
) -> TrainingArguments:
    """Transformers' arguments for a job: evaluation and a checkpoint about once an epoch, the best one loaded last."""
    args = TrainingArguments(
        output_dir=str(folder.absolute()),
        per_device_train_batch_size=length.batch,
        gradient_accumulation_steps=length.accumulation,
        seed=seed,
        bf16=bf16,
        use_cpu=device is not None and device.type == "cpu",
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=None,  # `WarmstartTrainer` removes old checkpoints, once the new one is marked as whole
        load_best_model_at_end=True,
        metric_for_best_model="eval_selection",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=list(report_to) if report_to else "none",
        log_level="error",
        ddp_find_unused_parameters=True,  # closed groups, and parameters that a trunk keeps for its pretraining
        **({_CHECKPOINTING: True} if gradient_checkpointing else {}),
    )
    steps = length.steps(rows, args.world_size * max(1, args.n_gpu))
    times = max(1, math.ceil(length.epochs)) if metric_evaluations is None else metric_evaluations
    args.max_steps = steps
    args.eval_steps = args.save_steps = max(1, math.ceil(steps / times))
    args.logging_steps = max(1, steps // 50)
    return args


def checkpoints_activations(args: TrainingArguments) -> bool:
    """Whether gradient checkpointing is asked for."""
    return bool(getattr(args, _CHECKPOINTING))
