"""What the trained strategies share: from a classifier, its groups and a rate plan to the best checkpoint loaded."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from torch import nn

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import best_device
from warmstart.backbones.groups import Group, group_rows, layer_groups
from warmstart.strategies.protocol import Context, Outcome
from warmstart.strategies.rate_search import searched_rate
from warmstart.train.arguments import Length, training_arguments
from warmstart.train.fit import fit
from warmstart.train.job import LossPlan, Rows, TrainJob
from warmstart.train.rates import RatePlan, group_rates
from warmstart.train.trainer import inner_classifier

_SHOWN = (
    "learning_rate",
    "layer_decay",
    "head_learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "weight_decay",
    "warmup_steps",
    "label_smoothing_factor",
    "class_weights",
    "bf16",
)


def rate_plan(context: Context, opens_at: tuple[float, ...] = (), layer_decay: float | None = None) -> RatePlan:
    """The rates that the settings ask for."""
    settings = context.settings
    return RatePlan(
        learning_rate=settings.learning_rate,
        layer_decay=settings.layer_decay if layer_decay is None else layer_decay,
        head_learning_rate=settings.head_learning_rate,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup_steps,
        opens_at=opens_at,
    )


def train(
    context: Context, model: nn.Module, groups: tuple[Group, ...], plan: RatePlan, extra: dict[str, Any]
) -> Outcome:
    """Train in place and describe it; `Outcome.model` is the classifier inside `model`.

    Where the settings ask for it, the plan's learning rate is searched for first.
    """
    settings = context.settings
    weights = context.class_weights()
    seed = context.seed
    job = TrainJob(
        train=Rows(context.fit.inputs, context.fit.labels, settings.augment, seed),
        validation=Rows(context.validation.inputs, context.validation.labels),
        groups=groups,
        rates=plan,
        loss=LossPlan(() if weights is None else tuple(weights.tolist()), settings.label_smoothing_factor),
        metric=settings.metric,
        clock=context.clock,
        reserve=context.reserve,
        progress=context.progress,
        fixed_statistics=extra["start"] != "random",
        lean_late=settings.early_stopping_patience is None,
    )
    search = searched_rate(context, model, job) if settings.find_rate else None
    if search is not None:
        plan = job.rates = replace(plan, learning_rate=search.learning_rate)
    length = Length(
        settings.num_train_epochs,
        settings.max_steps,
        settings.per_device_train_batch_size,
        settings.gradient_accumulation_steps,
    )
    args = training_arguments(
        context.work,
        length,
        len(context.fit.labels),
        seed=seed,
        bf16=settings.bf16,
        gradient_checkpointing=settings.gradient_checkpointing,
        report_to=settings.report_to,
        device=best_device(),
    )
    table = group_rows(model, groups, group_rates(groups, plan), plan.weight_decay, plan.opening(groups))
    trainable = sum(row.trainable for row in table if row.opens_at < 1)
    trained = fit(model, args, job, settings.early_stopping_patience)
    values = asdict(settings)
    used = {"learning_rate": plan.learning_rate, "layer_decay": plan.layer_decay, "steps": trained.steps}
    shown = {name: values[name] for name in _SHOWN} | used | extra
    classifier = inner_classifier(model)
    classifier.requires_grad_(requires_grad=True)
    return Outcome(
        model=classifier.eval(),
        trainable=trainable,
        note=trained.note,
        stopped=bool(trained.note),
        history=trained.history,
        groups=table,
        settings=shown,
        rate_search=search,
    )


def classifier_groups(model: nn.Module) -> tuple[Group, ...]:
    """The groups of a classifier, or of one inside peft's wrapper; its head last."""
    return layer_groups(model, head="head" if isinstance(model, Classifier) else "base_model.model.head")
