"""Fine-tuning: all groups learn, low rates below and high rates above, from the probe's head (LP-FT).

LP-FT: Kumar et al. 2022, arXiv 2202.10054. Rates by depth: Howard and Ruder 2018, arXiv 1801.06146.
"""

from __future__ import annotations

from warmstart.backbones.classifier import Classifier
from warmstart.strategies.linear_probe import set_head, solve
from warmstart.strategies.protocol import Context, Outcome
from warmstart.strategies.trained import classifier_groups, rate_plan, train


def fine_tune(context: Context) -> Outcome:
    """Solve the probe, then train everything from there with rates that fall by `layer_decay` per group."""
    model = warm_classifier(context)
    return train(context, model, classifier_groups(model), rate_plan(context), {"start": "probe"})


def warm_classifier(context: Context) -> Classifier:
    """A classifier on the pretrained trunk with the probe's head."""
    model = context.backbone.classifier(context.labels, context.modality)
    set_head(model, solve(context))
    return model
