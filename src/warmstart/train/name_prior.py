"""A probe that starts from the label names: the product of what the labelled rows say and what the names say.

With a few rows a class, a probe knows less than the names of the labels do; with many, the names add nothing. The
product of both, log p(y|x) = log p_rows(y|x) + a · log p_names(y|x) + constant, is one linear head again, and
cross-validation says how much of the names to take (a product of experts, Hinton 2002; that the blend of class names
and features is a strong few-shot classifier: LP++, Huang et al. 2024, arXiv 2404.02285).

Functions of arrays. Embedding the names is left to `warmstart.backbones`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from warmstart.core.errors import DataError
from warmstart.core.metrics import Floats, Ints, fit_temperature, row_losses
from warmstart.train.probe_solver import ProbeSolution, log_shares

WEIGHTS = (0.0, 0.5, 1.0, 2.0)  # a; a finer grid gave the same (docs/lab-notes.md)


def with_names(
    probe: ProbeSolution, features: Floats, labels: Ints, names: Floats, class_weights: Floats | None = None
) -> ProbeSolution:
    """The probe times the label names, the names' weight out of `WEIGHTS` by the cross-validated log-loss.

    The names use no label but for one temperature, so what they say of a row is held out already. A tie goes to the
    smaller weight; at 0 the probe is given back as it is.

    Args:
        probe: solved on these rows.
        features: (rows, features).
        labels: (rows,).
        names: (classes, features): a linear head on the same features that the label names make.
        class_weights: (classes,) of the rows' losses; ones by default.

    Raises:
        DataError: when shapes do not fit.
    """
    if names.shape != probe.weight.shape or features.shape != (len(labels), names.shape[1]):
        raise DataError(f"label names of shape {names.shape} fit neither features {features.shape} nor the probe")
    weights = np.ones(len(names)) if class_weights is None else np.asarray(class_weights, dtype=np.float64)
    said = np.asarray(features, dtype=np.float64) @ np.asarray(names, dtype=np.float64).T
    temperature = fit_temperature(said, labels, weights[labels], log_shares(labels, len(names), weights))
    said /= temperature
    answers = {a: probe.cross_validated_logits + a * said for a in WEIGHTS}
    losses = {a: float(np.average(row_losses(answers[a], labels), weights=weights[labels])) for a in WEIGHTS}
    best = min(WEIGHTS, key=losses.__getitem__)
    if best == 0:
        return probe
    share = (best / temperature * np.asarray(names, dtype=np.float64)).astype(np.float32)
    return replace(
        probe,
        weight=probe.weight + share,
        cross_validated_logits=answers[best].astype(np.float32),
        names=share,
        names_weight=best,
    )
