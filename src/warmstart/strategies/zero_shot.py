"""Zero-shot: the names of the labels, put into templates, are the classifier. No label of any row is used.

The head's weights are the label embeddings, so the result is a classifier like any other.
"""

from __future__ import annotations

import torch
from torch import nn

from warmstart.core.errors import StrategyNotPossibleError
from warmstart.strategies.protocol import Context, Outcome

TEXT_TEMPLATES = ("{}", "This is about {}.", "The topic is {}.")
IMAGE_TEMPLATES = ("a photo of {}.", "a photo of a {}.", "an image of {}.")


def zero_shot(context: Context) -> Outcome:
    """Scores are `logit_scale · cosine(input, mean of the label's templates)` (CLIP, arXiv 2103.00020, sec. 3.1.4).

    Raises:
        StrategyNotPossibleError: when the model embeds no label names, or the labels are bare numbers.
    """
    embed = context.backbone.embed_labels
    if embed is None:
        raise StrategyNotPossibleError(
            "zero_shot needs a model that embeds texts (a sentence encoder, or CLIP-like for images)."
        )
    if all(label.replace(".", "", 1).lstrip("-").isdigit() for label in context.labels):
        raise StrategyNotPossibleError("zero_shot needs labels with names; these are bare numbers.")
    default = IMAGE_TEMPLATES if context.modality == "image" else TEXT_TEMPLATES
    templates = context.templates if context.templates else default
    rows = []
    for label in context.labels:
        name = label.replace("_", " ").replace("-", " ").strip()
        vectors = embed([template.format(name) for template in templates])  # (templates, features)
        rows.append(nn.functional.normalize(vectors.mean(0), dim=0))
    model = context.backbone.classifier(context.labels, context.modality)
    model.config.normalize = True
    model.config.feature_scale = context.backbone.logit_scale
    with torch.no_grad():
        model.head.weight.copy_(torch.stack(rows))  # (labels, features)
        model.head.bias.zero_()
    return Outcome(model.eval(), trainable=0, settings={"templates": list(templates)})
