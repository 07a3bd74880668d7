"""Sentence embeddings from pairs, triplets and labelled groups: a batch → (anchors, positives and hard negatives)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import best_device, forward
from warmstart.backbones.load import Backbone
from warmstart.backbones.text_inputs import Preprocessor
from warmstart.contrastive.batches import PairRows
from warmstart.contrastive.fitting import ContrastOutcome, check_groups, fit_towers
from warmstart.contrastive.info_nce import Direction
from warmstart.contrastive.mining import MiningPlan, mine
from warmstart.contrastive.pair_loss import PairLoss
from warmstart.contrastive.ranking import score_ranks
from warmstart.contrastive.settings import ContrastSettings
from warmstart.contrastive.towers import Towers, tower_groups
from warmstart.contrastive.trainer import ContrastJob, ContrastTrainer
from warmstart.core.clock import Clock
from warmstart.core.contrast import RankScores
from warmstart.core.contrast_options import ContrastTrainOptions
from warmstart.core.metrics import unit_rows
from warmstart.data.duplicates import fold, numbered
from warmstart.data.pairs import Pairs, Questions
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.train.job import LossPlan, Rows

NAME = "text"


class Judge:
    """Ranks the queries of a split with an encoder; the texts are encoded into tokens once.

    Args:
        asked: the split.
        preprocessor: the tokenizer.
    """

    def __init__(self, asked: Questions, preprocessor: Preprocessor) -> None:
        self._asked = asked
        self._queries = preprocessor.encode({"text": asked.queries})
        self._candidates = preprocessor.encode({"text": asked.candidates})

    def rows(self) -> Rows:
        """The candidates as rows, for what estimates how long ranking takes."""
        return Rows(self._candidates, np.zeros(len(self._candidates), dtype=np.int64))

    def __call__(self, encoder: Classifier) -> RankScores:
        """Scores with whole vectors."""
        return self.cut(encoder, ())[0]

    def cut(self, encoder: Classifier, dimensions: Sequence[int]) -> tuple[RankScores, dict[str, RankScores]]:
        """Scores with whole vectors, and with their first dimensions."""
        first, second = (forward(encoder, inputs).features for inputs in (self._queries, self._candidates))

        def scores(width: int | None) -> RankScores:
            return score_ranks(first[:, :width], second[:, :width], self._asked.positives, own=self._asked.own)

        return scores(None), {str(width): scores(width) for width in dimensions}


def pair_rows(pairs: Pairs, preprocessor: Preprocessor, part_rows: int) -> PairRows:
    """Pairs as rows to train on."""
    sides = [preprocessor.encode({"text": texts}) for texts in (pairs.anchors, pairs.positives, *pairs.negatives)]
    candidates = np.stack([pairs.positive_ids, *pairs.negative_ids])
    return PairRows(sides, pairs.anchor_ids, candidates, pairs.known(), part_rows)


def with_hard_negatives(pairs: Pairs, backbone: Backbone, plan: MiningPlan, seed: int) -> Pairs:
    """The pairs that have hard negatives among the candidates of all pairs, with them; found with the model as it is.

    Nothing that has the content of any positive of the anchor is taken.
    """
    first = np.unique(pairs.positive_ids if not pairs.labelled else _contents(pairs), return_index=True)[1]
    texts = [pairs.positives[place] for place in first.tolist()]
    ids = pairs.positive_ids[first]
    encode = backbone.preprocessor.encode
    vectors, queries, answers = (
        unit_rows(forward(backbone.encoder, encode({"text": rows})).features).astype(np.float32)
        for rows in (texts, pairs.anchors, pairs.positives)
    )
    index = FaissIndex(vectors.shape[1])
    index.add(np.arange(len(texts)), vectors)
    known = pairs.known()
    own = [
        np.flatnonzero(np.isin(ids, known.get(anchor, positive)))
        for anchor, positive in zip(pairs.anchor_ids.tolist(), pairs.positive_ids.tolist(), strict=True)
    ]
    scores = (queries * answers).sum(1)
    found = mine(index, queries, scores, [frozenset(places.tolist()) for places in own], plan, seed)
    rows = found.complete()
    kept = pairs.take(rows)
    columns = [found.ids[rows, number] for number in range(plan.num_negatives)]
    return replace(
        kept,
        negatives=(*kept.negatives, *(tuple(texts[place] for place in column.tolist()) for column in columns)),
        negative_ids=(*kept.negative_ids, *(ids[column] for column in columns)),
    )


def check_training(backbone: Backbone, rows: int, settings: ContrastSettings, world: int) -> None:
    """Find the mistakes that only a loaded model and a number of rows show, before anything is written.

    Raises:
        SettingError: rates or openings for groups, or LoRA for modules, that the model does not have; or too few pairs
            in a batch.
    """
    towers = Towers({NAME: settings.adapted(copy.deepcopy(backbone.encoder))}, settings.temperature())
    check_groups(tower_groups(towers), rows, settings, world)


def train_sentences(
    backbone: Backbone,
    pairs: Pairs,
    validation: Questions,
    settings: ContrastSettings,
    *,
    dimensions: tuple[int, ...],
    work: Path,
    clock: Clock,
    reserve: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> ContrastOutcome:
    """Train a copy of the backbone's encoder on pairs.

    Args:
        backbone: the model to start from.
        pairs: to learn from.
        validation: what checkpoints are chosen by.
        settings: how.
        dimensions: shorter vectors to train for as well.
        work: folder of the checkpoints; what is there already is gone on from.
        clock: seconds spent and left.
        reserve: seconds to keep for what follows.
        progress: told after every step.

    Raises:
        SettingError: settings do not fit the model or the number of rows.
        ContrastError: training diverged.
    """
    device = best_device()
    encoder = copy.deepcopy(backbone.encoder)
    encoder.requires_grad_(requires_grad=True)
    torch.manual_seed(settings.seed)
    towers = Towers({NAME: settings.adapted(encoder)}, settings.temperature())
    rows = pair_rows(pairs, backbone.preprocessor, settings.options.mini_batch_size)
    score = Judge(validation, backbone.preprocessor)
    args = settings.arguments(work, len(rows), device)
    direction = cast("ContrastTrainOptions", settings.options).direction
    job = ContrastJob(
        train=rows,
        validation=score.rows(),
        groups=tower_groups(towers),
        rates=settings.rates,
        loss=LossPlan(),
        metric="reciprocal_rank",
        clock=clock,
        reserve=reserve,
        progress=progress,
        fixed_statistics=True,
        sides=(NAME,) * (2 + len(pairs.negatives)),
        pair_loss=PairLoss(cast("Direction", direction), dimensions, gather=args.world_size > 1),
        score=lambda model: score(model.encoder(NAME)),
        start_rank=score(backbone.encoder).geometry.effective_rank,
    )
    return fit_towers(ContrastTrainer(towers, args, job, settings.options.early_stopping_patience))


def _contents(pairs: Pairs) -> np.ndarray:
    return numbered(map(fold, pairs.positives))
