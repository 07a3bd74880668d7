"""What an adapted model kept of the original, on reference rows that have nothing to do with its task.

Three measures: what the model could do before (its nearest neighbours, and what it was pretrained for), how alike the
activations of each group are (linear CKA), and how far its weights went. The rows are read in `data/`, chosen in
`verbs/`; the formulas are in `similarity`, the passes in `snapshot`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from warmstart.backbones import two_tower
from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import Progress, forward
from warmstart.backbones.groups import JOINT, Group, layer_groups
from warmstart.backbones.label_names import IMAGE_TEMPLATES, embed_names, have_names
from warmstart.backbones.load import Backbone
from warmstart.backbones.pretraining_head import PretrainingHead
from warmstart.backbones.text_inputs import Inputs
from warmstart.core.errors import ModelError
from warmstart.core.records import Ability, Forgetting, GroupDrift
from warmstart.train.similarity import linear_cka, neighbours_kept, relative_distance
from warmstart.train.snapshot import Snapshot, snapshot

NEIGHBOURS = 10


@dataclass(frozen=True)
class SourceTest:
    """Something that the original can do: how any model of its kind is scored, and what the original reached.

    `score` takes a classifier and its features of the reference rows, (rows, width).
    """

    name: str
    higher_is_better: bool
    score: Callable[[Classifier, np.ndarray], float]
    before: float


@dataclass(frozen=True)
class Reference:
    """Rows that have nothing to do with the task, and what the original model makes of them.

    Attributes:
        name: what the rows are, in words.
        inputs: encoded.
        groups: of the original's trunk, input to output.
        original: its features and activations, in float32.
        tests: its abilities beside its neighbours.
        notes: which abilities could not be measured, and why.
        seconds: that all this took; measuring an adapted model takes about as long.
    """

    name: str
    inputs: Inputs
    groups: tuple[Group, ...]
    original: Snapshot
    tests: tuple[SourceTest, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def features(self) -> np.ndarray:
        """The original's features of the rows, (rows, width)."""
        return self.original.features

    def kept_by(self, model: Classifier) -> float:
        """Share of the original's ten nearest neighbours that a model of the same kind keeps; one forward pass."""
        found = forward(model, self.inputs, dtype=torch.float32)
        return neighbours_kept(self.features, found.features, NEIGHBOURS)


def trunk_groups(model: Classifier) -> tuple[Group, ...]:
    """The layer groups of a classifier without its head."""
    return tuple(
        group for group in layer_groups(model, head="head") if not (group.name == "head" and group.tower in ("", JOINT))
    )


def take_reference(
    backbone: Backbone,
    inputs: Inputs,
    name: str,
    *,
    labels: Sequence[str | None] = (),
    names: Sequence[str] = (),
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Reference:
    """Measure the original once, so that any number of adapted models can be held against it.

    Args:
        backbone: the original.
        inputs: the reference rows, encoded by its preprocessor.
        name: what they are, in words.
        labels: of the rows, (rows,), where they have any; only models with two towers have a use for them.
        names: every label there is.
        seed: of the tokens that masked models are asked for.
        device: where to run; the best there is by default.
        progress: called with rows done and rows in all.
    """
    start = time.perf_counter()
    groups = trunk_groups(backbone.encoder)
    original = snapshot(backbone.encoder, inputs, groups, device=device, progress=progress)
    made, notes = [_zero_shot(backbone, original, labels, names)], []
    try:
        made.append(_language(backbone, inputs, original, seed, device))
    except ModelError as error:
        notes.append(f"What it was pretrained for is not measured: {error}")
    tests = tuple(test for test in made if test is not None and math.isfinite(test.before))
    return Reference(name, inputs, groups, original, tests, tuple(notes), time.perf_counter() - start)


def measure(original: Classifier, adapted: Classifier, reference: Reference) -> Forgetting:
    """What an adapted model kept of the original.

    Args:
        original: the classifier that the reference was taken of.
        adapted: one of the same structure; heads are not looked at.
        reference: from `take_reference`.
    """
    after = snapshot(adapted, reference.inputs, reference.groups)
    weights = [dict(model.named_parameters()) for model in (original, adapted)]
    drift = []
    for group in reference.groups:
        first, second = ([named[name] for name in group.parameters] for named in weights)
        alike = _alike(reference.original.activations.get(group.label), after.activations.get(group.label))
        drift.append(GroupDrift(group.tower, group.name, group.depth, alike, relative_distance(first, second)))
    return Forgetting(
        reference=reference.name,
        rows=len(reference.inputs),
        neighbours_kept=neighbours_kept(reference.features, after.features, NEIGHBOURS),
        abilities=tuple(
            Ability(test.name, test.before, test.score(adapted, after.features), test.higher_is_better)
            for test in reference.tests
        ),
        groups=tuple(drift),
        notes=reference.notes,
    )


def _alike(before: np.ndarray | None, after: np.ndarray | None) -> float:
    return math.nan if before is None or after is None else linear_cka(before, after)


def _language(
    backbone: Backbone, inputs: Inputs, original: Snapshot, seed: int, device: torch.device | None
) -> SourceTest | None:
    """The pretraining loss of a language model; None for models that were trained for something else."""
    if backbone.pretraining_head is None:
        return None
    head: PretrainingHead = backbone.pretraining_head()

    def score(model: Classifier, features: np.ndarray) -> float:
        loss = head.loss(model, inputs, seed=seed, device=device)
        return _exponential(loss) if head.objective == "causal" else loss

    name = "perplexity" if head.objective == "causal" else "masked-token loss"
    return SourceTest(name, higher_is_better=False, score=score, before=score(backbone.encoder, original.features))


def _exponential(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


def _zero_shot(
    backbone: Backbone, original: Snapshot, labels: Sequence[str | None], names: Sequence[str]
) -> SourceTest | None:
    """Accuracy by the names of the labels, of a model with a text tower and rows that have labels."""
    places = np.array([place for place, label in enumerate(labels) if label is not None], dtype=np.int64)
    embed = backbone.embed_labels
    if embed is None or not two_tower.is_two_tower(backbone.whole) or not len(places):
        return None
    if len(names) < 2 or not have_names(names):
        return None
    weights = embed_names(embed, names, IMAGE_TEMPLATES).numpy()  # (labels, width)
    true = np.array([names.index(labels[place] or "") for place in places])

    def score(model: Classifier, features: np.ndarray) -> float:
        return float(((features[places] @ weights.T).argmax(1) == true).mean())

    before = score(backbone.encoder, original.features)
    return SourceTest("zero-shot accuracy", higher_is_better=True, score=score, before=before)
