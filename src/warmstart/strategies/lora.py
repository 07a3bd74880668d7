"""LoRA: the base stays as it is, low-rank updates and the head learn; merged at the end, the adapter kept as well."""

from __future__ import annotations

import torch

from warmstart.strategies.fine_tune import warm_classifier
from warmstart.strategies.protocol import Context, Outcome
from warmstart.strategies.trained import classifier_groups, rate_plan, train
from warmstart.train.lora import choose_targets, inject, merge


def lora(context: Context) -> Outcome:
    """Train LoRA on all linear layers (or `target_modules`) with one rate, from the probe's head.

    Adapters of all depths start at zero and share one rate: layer decay is for weights that carry knowledge.
    """
    settings = context.settings
    model = warm_classifier(context)
    targets = choose_targets(model, settings.target_modules)
    torch.manual_seed(context.seed)
    wrapped = inject(model, targets, settings.r, settings.lora_alpha, settings.lora_dropout)
    extra = {
        "start": "probe",
        "r": settings.r,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.lora_dropout,
        "target_modules": list(targets),
    }
    plan = rate_plan(context, pretrained=False)
    outcome = train(context, wrapped, classifier_groups(wrapped), plan, extra)
    return Outcome(
        model=merge(wrapped).eval(),
        trainable=outcome.trainable,
        note=outcome.note,
        stopped=outcome.stopped,
        history=outcome.history,
        groups=outcome.groups,
        settings=outcome.settings,
        adapter=wrapped,
        remedies=outcome.remedies,
        rate_search=outcome.rate_search,
    )
