"""What publishing sees of a bundle before it serves: how many items each step leaves, what it takes, and examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from warmstart.core.serving import Funnel, Recommendations, ServingRecord, StepTime
from warmstart.core.serving_options import IndexPublishOptions
from warmstart.verbs import facts
from warmstart.verbs.recommender import Recommender, Wanted

_USERS = 200
_WARM = 5  # users asked for before the clock counts
_EXAMPLES, _LAST = 4, 8  # users who are shown, and items of their histories
_STEPS = ("query tower", "index", "ranker", "whole answer")


def observe(recommender: Recommender, parts: Mapping[str, Path], options: IndexPublishOptions) -> ServingRecord:
    """Ask a bundle for some of its users, one after another.

    Args:
        recommender: what is about to be published.
        parts: part → the folder it came from.
        options: of the publishing.
    """
    histories = recommender.towers.histories
    users = np.array([user for user, history in enumerate(histories) if len(history)], dtype=np.int64)
    chosen = np.random.default_rng(0).permutation(users)[:_USERS].tolist()
    wanted = Wanted()
    for user in chosen[:_WARM]:
        recommender.timed(user, wanted)
    found = [recommender.timed(user, wanted) for user in chosen]
    answers = [answer for answer, _ in found]
    seconds = np.array([spent for _, spent in found]).reshape(-1, 3)
    return ServingRecord(
        verb="index publish",
        created=recommender.manifest.created,
        manifest=recommender.manifest,
        sources={name: str(folder) for name, folder in parts.items()},
        asked=len(answers),
        left=_left([answer.funnel for answer in answers]),
        times=_times(seconds, ranker=recommender.ranker is not None),
        examples=tuple(_short(answer) for answer in answers if answer.items)[:_EXAMPLES],
        machine=facts.machine(torch.device("cpu")),
        command=facts.command_line("index publish", options),
    )


def _left(funnels: list[Funnel]) -> dict[str, float]:
    """Step → items left after it, mean over users; a step that no answer took is not among them."""
    names = [spec.name for spec in dataclasses.fields(Funnel)]
    means = {name: float(np.mean([getattr(one, name) for one in funnels])) for name in names} if funnels else {}
    return {name: mean for name, mean in means.items() if name != "ranked" or mean > 0}


def _times(seconds: np.ndarray, *, ranker: bool) -> tuple[StepTime, ...]:
    """Of the steps and of whole answers, from seconds, (users, steps)."""
    if not len(seconds):
        return ()
    columns = [*seconds.T, seconds.sum(1)]
    return tuple(
        StepTime(name, *(float(1000 * value) for value in np.percentile(column, [50, 99])))
        for name, column in zip(_STEPS, columns, strict=True)
        if ranker or name != "ranker"
    )


def _short(answer: Recommendations) -> Recommendations:
    return dataclasses.replace(answer, history=answer.history[-_LAST:])
