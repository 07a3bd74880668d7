"""Zero-shot: the names of the labels, put into templates, are the classifier. No label of any row is used.

The head's weights are the label embeddings, so the result is a classifier like any other.
"""

from __future__ import annotations

import numpy as np
import torch

from warmstart.backbones.label_names import IMAGE_TEMPLATES, TEXT_TEMPLATES, embed_names, have_names
from warmstart.core.errors import StrategyNotPossibleError
from warmstart.strategies.protocol import Context, Outcome


def zero_shot(context: Context) -> Outcome:
    """Scores are `logit_scale · cosine(input, mean of the label's templates)` (CLIP, arXiv 2103.00020, sec. 3.1.4).

    Raises:
        StrategyNotPossibleError: when the model embeds no label names, or the labels are bare numbers.
    """
    weights, templates = _name_weights(context)
    model = context.backbone.classifier(context.labels, context.modality)
    model.config.normalize = True
    model.config.feature_scale = context.backbone.logit_scale
    with torch.no_grad():
        model.head.weight.copy_(weights)
        model.head.bias.zero_()
    return Outcome(model.eval(), trainable=0, settings={"templates": list(templates)})


def name_head(context: Context) -> np.ndarray | None:
    """Zero-shot as a linear head on the features as they are, (labels, features); None where it is not possible.

    Features that are not scaled to unit length are taken to be as long as they are on average.
    """
    try:
        weights, _ = _name_weights(context)
    except StrategyNotPossibleError:
        return None
    length = float(np.linalg.norm(context.fit.features, axis=1).mean())
    return np.asarray(weights.float()) * (context.backbone.logit_scale / length) if length > 0 else None


def _name_weights(context: Context) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The label embeddings, (labels, features), and the templates that they come from."""
    embed = context.backbone.embed_labels
    if embed is None:
        raise StrategyNotPossibleError(
            "zero_shot needs a model that embeds texts (a sentence encoder, or CLIP-like for images)."
        )
    if not have_names(context.labels):
        raise StrategyNotPossibleError("zero_shot needs labels with names; these are bare numbers.")
    default = IMAGE_TEMPLATES if context.modality == "image" else TEXT_TEMPLATES
    chosen = context.settings.templates
    templates = chosen if chosen else default
    return embed_names(embed, context.labels, templates), templates
