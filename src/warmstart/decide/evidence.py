"""Evidence: what was measured before the decision, put together from arrays and timings handed in.

Nothing is loaded, embedded or timed here (`warmstart.verbs` does that through its siblings), and nothing is
concluded (`warmstart.decide.rules` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from warmstart.core.errors import DataError
from warmstart.core.metrics import Floats, Ints
from warmstart.core.records import Evidence, Floor, Interval
from warmstart.core.statistics import wilson_interval
from warmstart.decide.floors import Texts, accuracy_interval, knn_floor, majority_floor, tfidf_floor
from warmstart.train.probe_solver import ProbeSolution


def gather(
    *,
    labels: Ints,
    classes: int,
    features: Floats | None,
    texts: Texts | None,
    probe: ProbeSolution | None,
    zero_shot_logits: Floats | None,
    seconds_forward: float,
    seconds_train: float,
    parameters: int,
    budget_seconds: float | None,
    device: str,
    seed: int = 0,
    groups: npt.NDArray[Any] | None = None,
    floors: Sequence[Floor] | None = None,
) -> Evidence:
    """Everything a decision needs, as accuracies with 95 % Wilson intervals on rows that were not learned from.

    Args:
        labels: (rows,) of the labelled rows; may be empty.
        classes: how many classes the task has.
        features: (rows, features) of the frozen backbone; needed for kNN unless `floors` brings it.
        texts: the rows' texts or pairs of texts; None for images, and then there is no TF-IDF.
        probe: the probe solved on the same rows; None only without labelled rows.
        zero_shot_logits: (rows, classes); None when the model cannot do zero-shot. Without labelled rows, (0, classes)
            says that it can.
        seconds_forward: per row, features only, measured on this machine.
        seconds_train: per row, one training step's share.
        parameters: of the backbone.
        budget_seconds: for the whole run, or None.
        device: where the times were measured.
        seed: of the folds of TF-IDF.
        groups: (rows,) of names; rows that share one are held out together.
        floors: floors that were already measured on these rows, instead of measuring them here.

    Raises:
        DataError: when labelled rows lack a probe or features, or numbers of rows differ.
    """
    rows = len(labels)
    if probe is not None and len(probe.cross_validated_logits) != rows:
        raise DataError(f"the probe was solved on {len(probe.cross_validated_logits)} rows, not on these {rows}")
    if zero_shot_logits is not None and len(zero_shot_logits) != rows:
        raise DataError(f"there are {len(zero_shot_logits)} zero-shot predictions for {rows} labelled rows")
    if rows and probe is None:
        raise DataError("labelled rows need a solved probe to be judged by")
    if floors is None:
        floors = measure_floors(labels, classes, features=features, texts=texts, seed=seed, groups=groups)
    known = {floor.name: floor.cross_validated for floor in floors}
    unknown = wilson_interval(0, 0)
    counts = np.bincount(labels, minlength=classes) if rows else np.zeros(classes, dtype=np.int64)
    return Evidence(
        labelled=rows,
        classes=classes,
        per_class_min=int(counts.min()),
        per_class_median=float(np.median(counts)),
        majority=known["majority"].value if "majority" in known else float("nan"),
        zero_shot=None if zero_shot_logits is None else _judged(zero_shot_logits, labels),
        tfidf=known.get("tfidf"),
        knn=known.get("knn", unknown),
        probe=unknown if probe is None else _judged(probe.cross_validated_logits, labels),
        label_names=0.0 if probe is None else probe.names_weight,
        seconds_forward=float(seconds_forward),
        seconds_train=float(seconds_train),
        parameters=int(parameters),
        budget_seconds=None if budget_seconds is None else float(budget_seconds),
        device=device,
    )


def measure_floors(
    labels: Ints,
    classes: int,
    *,
    features: Floats | None,
    texts: Texts | None,
    seed: int,
    groups: npt.NDArray[Any] | None = None,
    test_labels: Ints | None = None,
    test_features: Floats | None = None,
    test_texts: Texts | None = None,
) -> tuple[Floor, ...]:
    """All floors that the data allow, in the order majority, tfidf, knn; none without labelled rows.

    Raises:
        DataError: when numbers of rows differ, or nothing can be held out.
    """
    if len(labels) == 0:
        return ()
    floors = [majority_floor(labels, classes, test_labels=test_labels)]
    if texts is not None:
        floors.append(
            tfidf_floor(
                texts, labels, classes, seed=seed, groups=groups, test_texts=test_texts, test_labels=test_labels
            )
        )
    if features is not None:
        floors.append(
            knn_floor(features, labels, classes, groups=groups, test_features=test_features, test_labels=test_labels)
        )
    return tuple(floors)


def _judged(logits: Floats, labels: Ints) -> Interval:
    return accuracy_interval(logits.argmax(axis=1), labels) if len(labels) else wilson_interval(0, 0)
