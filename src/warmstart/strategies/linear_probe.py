"""Linear probe: the pretrained features as they are, and a convex solve for the head, begun at the label names."""

from __future__ import annotations

import numpy as np
import torch

from warmstart.backbones.classifier import Classifier
from warmstart.strategies.protocol import Context, Outcome
from warmstart.strategies.zero_shot import name_head
from warmstart.train.name_prior import with_names
from warmstart.train.probe_solver import ProbeSolution, solve_probe


def linear_probe(context: Context) -> Outcome:
    """Multinomial logistic regression on the features, times zero-shot where the model embeds the label names.

    Its regularisation and the names' weight are chosen by cross-validation.
    """
    solution = solve(context)
    model = context.backbone.classifier(context.labels, context.modality)
    set_head(model, solution)
    settings = {
        "C": solution.c,
        "label_names": solution.names_weight,
        "class_weights": context.settings.class_weights,
    }
    return Outcome(model.eval(), trainable=model.head.weight.numel() + model.head.bias.numel(), settings=settings)


def solve(context: Context) -> ProbeSolution:
    """The probe of the fit rows."""
    weights = context.class_weights()
    found = solve_probe(
        context.fit.features,
        context.fit.labels,
        len(context.labels),
        class_weights=weights,
        metric="log_loss",
        seed=context.seed,
        groups=context.fit.groups,
    )
    names = name_head(context)
    return found if names is None else with_names(found, context.fit.features, context.fit.labels, names, weights)


def set_head(model: Classifier, solution: ProbeSolution) -> None:
    """Put a solved probe into a classifier's head."""
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(np.asarray(solution.weight)))
        model.head.bias.copy_(torch.from_numpy(np.asarray(solution.bias)))
