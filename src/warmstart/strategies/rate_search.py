"""`--learning-rate auto`: the rate of one training, searched for once and kept beside its checkpoints.

The search itself is `train/lr_find.py`.
"""

from __future__ import annotations

from accelerate import PartialState
from torch import nn

from warmstart.backbones.embed import best_device
from warmstart.core.files import write_text
from warmstart.core.records import RateSearch
from warmstart.strategies.protocol import Context
from warmstart.train.job import TrainJob
from warmstart.train.lr_find import find_rate

SHARE = 0.2  # of the time left for a training, which its search may take
KEPT = "learning-rate.json"


def searched_rate(context: Context, model: nn.Module, job: TrainJob) -> RateSearch:
    """Search, or take up what an interrupted run had found: training must go on with the rate that it began with.

    Of several processes the first one searches, and the others take up what it found.
    """
    with PartialState(cpu=best_device().type == "cpu").main_process_first():
        return _searched_here(context, model, job)


def _searched_here(context: Context, model: nn.Module, job: TrainJob) -> RateSearch:
    kept = context.work / KEPT
    if kept.is_file():
        return RateSearch.from_json(kept.read_text(encoding="utf-8"))
    settings = context.settings
    found = find_rate(
        model,
        job,
        batch=settings.per_device_train_batch_size,
        seed=context.seed,
        bf16=settings.bf16,
        device=best_device(),
        accumulation=settings.gradient_accumulation_steps,
        gradient_checkpointing=settings.gradient_checkpointing,
        seconds=SHARE * max(0.0, context.clock.left() - context.reserve),
    )
    context.work.mkdir(parents=True, exist_ok=True)
    write_text(kept, found.to_json())
    return found
