"""What the trained strategies share: from a classifier, its groups and a rate plan to the best checkpoint loaded."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, replace
from typing import Any

from torch import nn
from transformers import TrainingArguments

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import best_device
from warmstart.backbones.groups import Group, group_rows, layer_groups
from warmstart.core.records import GroupRow
from warmstart.strategies.protocol import Context, Outcome, Settings
from warmstart.strategies.rate_search import searched_rate
from warmstart.strategies.remedies import interpolates, remedies_of, weight_interpolation
from warmstart.train.arguments import Length, training_arguments
from warmstart.train.fit import Trained, fit
from warmstart.train.job import LossPlan, Rows, TrainJob
from warmstart.train.rates import RatePlan, group_rates
from warmstart.train.trainer import inner_classifier
from warmstart.train.unfreezing import ALL_OPEN, Unfreezing
from warmstart.train.wise import Line

_SHOWN = (
    "learning_rate",
    "layer_decay",
    "head_learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "weight_decay",
    "l2_sp",
    "ema_decay",
    "warmup_steps",
    "label_smoothing_factor",
    "class_weights",
    "bf16",
)


def rate_plan(context: Context, unfreezing: Unfreezing = ALL_OPEN, pretrained: bool = True) -> RatePlan:
    """The rates that the settings ask for.

    Args:
        context: the strategy's context.
        unfreezing: when groups open.
        pretrained: whether what learns carries knowledge: if not, its depth sets no rate, and nothing draws it back.
    """
    settings = context.settings
    return RatePlan(
        learning_rate=settings.learning_rate,
        layer_decay=settings.layer_decay if pretrained else 1.0,
        head_learning_rate=settings.head_learning_rate,
        weight_decay=settings.weight_decay,
        l2_sp=settings.l2_sp if pretrained else 0.0,
        warmup=settings.warmup_steps,
        unfreezing=unfreezing,
        group_rates=dict(settings.group_rates),
    )


def train(
    context: Context, model: nn.Module, groups: tuple[Group, ...], plan: RatePlan, extra: dict[str, Any]
) -> Outcome:
    """Train in place and describe it; `Outcome.model` is the classifier inside `model`.

    Where the settings ask for it, the plan's learning rate is searched for first.
    """
    settings, pretrained = context.settings, extra["start"] != "random"
    job = _job(context, groups, plan, pretrained=pretrained)
    search = searched_rate(context, model, job) if settings.find_rate else None
    if search is not None:
        plan = job.rates = replace(plan, learning_rate=search.learning_rate)
    line = Line(model) if pretrained and interpolates(settings) else None
    fractions = plan.unfreezing.fractions(groups)
    table = group_rows(model, groups, group_rates(groups, plan), plan.weight_decay, fractions)
    trained = fit(model, _arguments(context), job, settings.early_stopping_patience)
    if plan.unfreezing.kind == "plateau":
        table = _with_openings(table, trained)
    remedies = remedies_of(context, trained, plan.l2_sp)
    if line is not None and trained.steps:
        remedies += (weight_interpolation(context, model, line),)
    classifier = inner_classifier(model)
    classifier.requires_grad_(requires_grad=True)
    return Outcome(
        model=classifier.eval(),
        trainable=sum(row.trainable for row in table if row.opens_at < 1),
        note=trained.note,
        stopped=bool(trained.note),
        history=trained.history,
        groups=table,
        settings=_shown(settings, plan, trained) | extra,
        remedies=remedies,
        rate_search=search,
    )


def _job(context: Context, groups: tuple[Group, ...], plan: RatePlan, *, pretrained: bool) -> TrainJob:
    settings, weights = context.settings, context.class_weights()
    return TrainJob(
        train=Rows(context.fit.inputs, context.fit.labels, settings.augment, context.seed),
        validation=Rows(context.validation.inputs, context.validation.labels),
        groups=groups,
        rates=plan,
        loss=LossPlan(() if weights is None else tuple(weights.tolist()), settings.label_smoothing_factor),
        metric=settings.metric,
        clock=context.clock,
        reserve=context.reserve,
        progress=context.progress,
        fixed_statistics=pretrained,
        cache_bytes=int(settings.cache_gb * 2**30),
        ema_decay=settings.ema_decay,
        lean_late=settings.early_stopping_patience is None,
    )


def _arguments(context: Context) -> TrainingArguments:
    settings = context.settings
    length = Length(
        settings.num_train_epochs,
        settings.max_steps,
        settings.per_device_train_batch_size,
        settings.gradient_accumulation_steps,
    )
    return training_arguments(
        context.work,
        length,
        len(context.fit.labels),
        seed=context.seed,
        bf16=settings.bf16,
        gradient_checkpointing=settings.gradient_checkpointing,
        report_to=settings.report_to,
        device=best_device(),
    )


def _shown(settings: Settings, plan: RatePlan, trained: Trained) -> dict[str, Any]:
    """What is worth telling of the settings, as they were used."""
    values = asdict(settings)
    used: dict[str, Any] = {
        "learning_rate": plan.learning_rate,
        "layer_decay": plan.layer_decay,
        "l2_sp": plan.l2_sp,
        "steps": trained.steps,
    }
    if trained.cache:
        used["frozen_trunk_cache"] = trained.cache
    return {name: values[name] for name in _SHOWN} | used


def _with_openings(table: tuple[GroupRow, ...], trained: Trained) -> tuple[GroupRow, ...]:
    """The group table with the openings that the plateaus brought about."""
    opened = [1.0 if first is None else first / max(1, trained.planned_steps) for first in trained.opened]
    return tuple(dataclasses.replace(row, opens_at=at) for row, at in zip(table, opened, strict=True))


def classifier_groups(model: nn.Module) -> tuple[Group, ...]:
    """The groups of a classifier, or of one inside peft's wrapper; its head last."""
    return layer_groups(model, head="head" if isinstance(model, Classifier) else "base_model.model.head")
