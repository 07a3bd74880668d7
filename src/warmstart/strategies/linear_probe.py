"""Linear probe: the pretrained features as they are, and a convex solve for the head."""

from __future__ import annotations

import numpy as np
import torch

from warmstart.backbones.classifier import Classifier
from warmstart.strategies.protocol import Context, Outcome
from warmstart.train.probe_solver import ProbeSolution, solve_probe


def linear_probe(context: Context) -> Outcome:
    """Multinomial logistic regression on the features; its regularisation is chosen by cross-validation."""
    solution = solve(context)
    model = context.backbone.classifier(context.labels, context.modality)
    set_head(model, solution)
    settings = {"C": solution.c, "class_weights": context.settings.class_weights}
    return Outcome(model.eval(), trainable=model.head.weight.numel() + model.head.bias.numel(), settings=settings)


def solve(context: Context) -> ProbeSolution:
    """The probe of the fit rows."""
    return solve_probe(
        context.fit.features,
        context.fit.labels,
        len(context.labels),
        class_weights=context.class_weights(),
        metric="log_loss",
        seed=context.seed,
        groups=context.fit.groups,
    )


def set_head(model: Classifier, solution: ProbeSolution) -> None:
    """Put a solved probe into a classifier's head."""
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(np.asarray(solution.weight)))
        model.head.bias.copy_(torch.from_numpy(np.asarray(solution.bias)))
