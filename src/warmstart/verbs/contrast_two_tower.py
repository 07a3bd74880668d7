"""`contrast two-tower`: from events of users and items to towers that recommend, judged beside the baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from warmstart.backbones.embed import best_device
from warmstart.contrastive.item_tower import Content
from warmstart.contrastive.two_tower import TwoTowerOutcome, new_model, shown_settings, train_two_tower
from warmstart.contrastive.two_tower_model import TwoTower, tower_scores
from warmstart.core.clock import Clock
from warmstart.core.errors import OutputError, SettingError
from warmstart.core.files import digests, write_text
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.recommend import Example, RankedRow, RankingScores, TwoTowerRecord
from warmstart.core.records import Record
from warmstart.core.two_tower_options import ContrastTwoTowerOptions
from warmstart.data.histories import Asked
from warmstart.report.two_tower import render_two_tower
from warmstart.retrieve.ranking import Ranked, ndcg, rank, ranking_scores
from warmstart.train.fit import peak_memory_mb
from warmstart.verbs import facts
from warmstart.verbs.advice import course_advice
from warmstart.verbs.item_reading import Readers, input_digests, told, wanted_readers
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.processes import Processes
from warmstart.verbs.two_tower_check import check_towers, save_queries
from warmstart.verbs.two_tower_data import (
    TwoTowerData,
    item_content,
    load_two_tower_data,
    user_content,
)
from warmstart.verbs.two_tower_floors import floors
from warmstart.verbs.two_tower_folder import TwoTowers, save_two_towers
from warmstart.verbs.workspace import Workspace

_EXAMPLES = 6
_SHOWN_HISTORY = 5
_RESERVE = 30.0  # seconds: judging, saving, and loading again in a new process


@dataclass(frozen=True)
class TwoTowerResult(Record):
    """Where the result is, and everything that was seen."""

    output_dir: str
    report: str
    record: TwoTowerRecord


@verb(ContrastTwoTowerOptions)
def contrast_two_tower(options: ContrastTwoTowerOptions) -> TwoTowerResult:
    """Train two towers: one reads a user's history, one gives every item a vector, and what comes next lies near.

    Raises:
        UserError: something in the call, the data or the machine must change; nothing was written.
        ContrastError: training diverged.
        RoundTripError: the saved towers differ from the tested ones; there is no result folder.
    """
    clock = Clock(options.time_budget)
    if Processes(best_device()).world > 1:
        raise SettingError("contrast two-tower trains in one process; start it without torchrun.")
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    workspace.check()
    data = load_two_tower_data(options)
    readers = wanted_readers(options, data.items)
    text_model, image_model = told(readers.text), told(readers.image)
    content = item_content(data.items, readers)
    people = user_content(data.users)
    _check_cold(options, content)
    model = new_model(options, len(data.items.ids), data.learnt(), content, people, options.seed)
    fingerprints = {"data": data.card.fingerprint, **text_model}
    fingerprints |= {f"image_{name}": value for name, value in image_model.items()}
    fingerprints |= {} if content is None else {"content": content.digest()}
    workspace.begin(dataclasses.asdict(options), fingerprints)
    clock.add(workspace.spent())
    with reporter().bar(f"Two towers, {data.card.counts['learned']:,} events") as bar:
        outcome = train_two_tower(
            model,
            data.split.train,
            lambda towers: validation_score(towers, data.split.validation),
            options,
            seed=options.seed,
            work=workspace.stage("training"),
            clock=clock,
            reserve=_RESERVE,
            progress=bar,
        )
    found = judge(outcome.model, data.split.test)
    scores = scored(found, data, data.split.test)
    reporter().say(f"Towers: {_line(scores)}")
    rows = () if options.no_floors else floors(data)
    for row in rows:
        reporter().say(f"{row.name}: {_line(row.test)}")
    record = _record(options, data, outcome, found, scores, rows, content, readers, clock)
    towers = TwoTowers(
        outcome.model,
        data.items.ids,
        data.users.ids,
        data.items.titles,
        _all_histories(data),
        data.items.plan,
        outcome.model.catalogue(),
        text_model,
        data.items.attributes,
        image_model,
        input_digests(data.items.features),
    )
    save_result(workspace, towers, record)
    folder = workspace.output
    record = TwoTowerRecord.from_json((folder / RESULTS).read_text(encoding="utf-8"))
    return TwoTowerResult(str(folder), str(folder / "report.html"), record)


def judge(model: TwoTower, asked: Asked) -> Ranked:
    """Rank the whole catalogue for every question."""
    vectors = model.catalogue()

    def scorer(users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        return tower_scores(model, users, histories, vectors)

    return rank(scorer, asked.users, asked.histories, asked.targets, model.shape.items, asked.among)


def validation_score(model: TwoTower, asked: Asked) -> float:
    """NDCG@10, what checkpoints are chosen by."""
    return float(ndcg(judge(model, asked).ranks).mean())


def scored(found: Ranked, data: TwoTowerData, asked: Asked) -> RankingScores:
    """What a ranking of the questions reached."""
    items = len(data.items.ids)
    counts = np.bincount(np.concatenate(data.split.train), minlength=items)
    users = sum(len(history) > 0 for history in data.split.train)
    return ranking_scores(found, asked.histories, counts, users)


def _check_cold(options: ContrastTwoTowerOptions, content: Content | None) -> None:
    if options.split == "cold_items" and content is None:
        raise SettingError("--split cold_items needs --items: without content a new item has nothing to be found by.")


def _all_histories(data: TwoTowerData) -> tuple[np.ndarray, ...]:
    bounds = data.events.bounds()
    return tuple(data.events.item[a:b] for a, b in pairwise(bounds))


def _line(scores: RankingScores) -> str:
    return (
        f"HR@10 {100 * scores.hit_10.value:.1f} %, HR@100 {100 * scores.hit_100.value:.1f} %, "
        f"NDCG@10 {scores.ndcg_10.value:.4f} of {scores.questions:,} questions"
    )


def _record(
    options: ContrastTwoTowerOptions,
    data: TwoTowerData,
    outcome: TwoTowerOutcome,
    found: Ranked,
    scores: RankingScores,
    rows: tuple[RankedRow, ...],
    content: Content | None,
    readers: Readers,
    clock: Clock,
) -> TwoTowerRecord:
    settings = shown_settings(options, len(data.items.ids))
    cold = None
    if len(data.split.cold):
        test = dataclasses.replace(data.split.test, among=data.split.cold)
        cold = scored(judge(outcome.model, test), data, test)
    return TwoTowerRecord(
        verb="contrast two-tower",
        created=facts.now(),
        data=data.card,
        settings=settings,
        towers=RankedRow("two towers", {}, scores),
        floors=rows,
        cold=cold,
        history=outcome.history,
        groups=outcome.groups,
        alarms=outcome.alarms,
        examples=_examples(data, found),
        parameters=sum(parameter.numel() for parameter in outcome.model.parameters()),
        steps=outcome.steps,
        note=outcome.note,
        seconds=clock.spent(),
        peak_memory_mb=peak_memory_mb(),
        versions=facts.versions(),
        machine=facts.machine(torch.device("cpu")),
        command=facts.command_line("contrast two-tower", options),
        text_model=told(readers.text),
        image_model=told(readers.image),
        advice=_advice(scores, rows, outcome, content, counted=options.max_steps is not None),
    )


def _examples(data: TwoTowerData, found: Ranked) -> tuple[Example, ...]:
    """A few users, spread over the questions."""
    asked, titles = data.split.test, data.items.titles
    places = np.unique(np.linspace(0, len(asked) - 1, _EXAMPLES).astype(int)).tolist()
    return tuple(
        Example(
            user=data.users.ids.ids[int(asked.users[place])],
            history=tuple(titles[item] for item in asked.histories[place][-_SHOWN_HISTORY:].tolist()),
            target=titles[int(asked.targets[place])],
            recommended=tuple(titles[item] for item in found.top[place].tolist() if item >= 0),
            rank=int(found.ranks[place]),
        )
        for place in places
    )


def _advice(
    scores: RankingScores,
    rows: Sequence[RankedRow],
    outcome: TwoTowerOutcome,
    content: Content | None,
    *,
    counted: bool,
) -> tuple[str, ...]:
    """What to do next, in plain sentences."""
    lines = course_advice(outcome.note, outcome.history, counted=counted)
    best = max(rows, key=lambda row: row.test.ndcg_10.value, default=None)
    if best is not None and scores.ndcg_10.low <= best.test.ndcg_10.value:
        more = "train to the end" if outcome.note else "try more --num-train-epochs, another --dropout, or more events"
        lines.append(f"The towers do not clearly beat {best.name}: use it instead, or {more}.")
    if content is None:
        lines.append(
            "Without --items a new item has no vector: give a table of titles, categories, numbers or pictures."
        )
    return tuple(lines)


def save_result(workspace: Workspace, towers: TwoTowers, record: TwoTowerRecord) -> None:
    """Write towers with their report, prove that they load in a new process, and give the folder its name.

    Raises:
        OutputError: it cannot be written.
        RoundTripError: they differ when they are loaded.
    """
    reporter().say("Saving, and loading again in a new process …")
    folder: Path = workspace.staging()
    try:
        save_two_towers(folder, towers)
        save_queries(folder, towers)
        check_towers(folder)
        write_text(folder / "report.html", render_two_tower(TwoTowerRecord.from_json(record.to_json())))
        whole = dataclasses.replace(record, files=digests(folder, apart_from=RESULTS))
        write_text(folder / RESULTS, whole.to_json())
    except OSError as error:
        raise OutputError(f"The result could not be written to {folder}: {error.strerror or error}.") from error
    workspace.publish()
