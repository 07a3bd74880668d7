"""From scratch: the same architecture, random weights. For the cases that justify it, and to show how rare they are."""

from __future__ import annotations

import torch

from warmstart.strategies.protocol import Context, Outcome
from warmstart.strategies.trained import classifier_groups, rate_plan, train


def scratch(context: Context) -> Outcome:
    """Train everything from random weights with one rate."""
    torch.manual_seed(context.seed)
    model = context.backbone.classifier(context.labels, context.modality, pretrained=False)
    return train(context, model, classifier_groups(model), rate_plan(context, pretrained=False), {"start": "random"})
