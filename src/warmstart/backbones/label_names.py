"""Names of labels, put into templates, as the rows of a classifier. What is done with it is left to the callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

TEXT_TEMPLATES = ("{}", "This is about {}.", "The topic is {}.")
IMAGE_TEMPLATES = ("a photo of {}.", "a photo of a {}.", "an image of {}.")


def have_names(labels: Sequence[str]) -> bool:
    """Whether any label is more than a bare number."""
    return not all(label.replace(".", "", 1).lstrip("-").isdigit() for label in labels)


def embed_names(embed: Callable[[Sequence[str]], Tensor], labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """The mean of each label's templates as a unit vector (CLIP, arXiv 2103.00020, sec. 3.1.4).

    Args:
        embed: from texts to unit vectors, (texts, features).
        labels: their names; underscores and dashes become spaces.
        templates: with {} where the name goes.

    Returns:
        (labels, features).
    """
    rows = []
    for label in labels:
        name = label.replace("_", " ").replace("-", " ").strip()
        vectors = embed([template.format(name) for template in templates])  # (templates, features)
        rows.append(nn.functional.normalize(vectors.mean(0), dim=0))
    return torch.stack(rows)  # (labels, features)
