"""`ranker`: from towers to a ranker that puts their candidates in a better order, judged beside the towers alone."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from warmstart.core.clock import Clock
from warmstart.core.contrast import ContrastPoint
from warmstart.core.errors import DataError, OutputError, ResultError
from warmstart.core.files import check_digests, digests, write_text
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.ranker_options import RankerOptions
from warmstart.core.recommend import RankedRow, RankerRecord, RerankedExample, TwoTowerRecord
from warmstart.core.records import Interval, Record
from warmstart.core.statistics import bootstrap_interval, wilson_interval
from warmstart.data.histories import HistorySplit, split_last
from warmstart.report.ranker import render_ranker
from warmstart.retrieve.candidates import Candidates, ranker_scores, rerank
from warmstart.retrieve.evidence import gather
from warmstart.retrieve.ranker import Ranker, RankerConfig
from warmstart.retrieve.ranker_training import RankerOutcome, train_ranker
from warmstart.retrieve.ranking import TOP, Ranked, ndcg, ranking_scores
from warmstart.train.fit import peak_memory_mb
from warmstart.verbs import facts
from warmstart.verbs.advice import course_advice
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.ranker_check import check_ranker, save_answers
from warmstart.verbs.ranker_data import RankerData, kept_questions, ranker_data
from warmstart.verbs.ranker_folder import LoadedRanker, save_ranker
from warmstart.verbs.two_tower_folder import TwoTowers, read_folder, read_record
from warmstart.verbs.workspace import Workspace

_LEAST = 2  # questions without which nothing can be learned or chosen by
_EXAMPLES, _SHOWN_HISTORY = 6, 5
_TIMED = 50  # lists whose scoring is timed
_RESERVE = 20.0  # seconds: judging, saving, and loading again in a new process
_MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "HR@10": lambda ranks: (ranks <= TOP).astype(np.float64),
    "NDCG@10": ndcg,
    "MRR": lambda ranks: 1.0 / ranks,
}
_SHOWN = (
    "candidates",
    "width",
    "layers",
    "heads",
    "max_history",
    "dropout",
    "learning_rate",
    "weight_decay",
    "warmup_steps",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
)


@dataclass(frozen=True)
class RankerResult(Record):
    """Where the result is, and everything that was seen."""

    output_dir: str
    report: str
    record: RankerRecord


@verb(RankerOptions)
def ranker(options: RankerOptions) -> RankerResult:
    """Train a transformer that re-orders the candidates of two towers.

    It learns from what most users took second last, which the towers never learned from, is chosen by that of the other
    users, and judged by what all users took last.

    Raises:
        UserError: something in the call, the folder or the machine must change; nothing was written.
        RoundTripError: the saved ranker differs from the tested one; there is no result folder.
    """
    clock = Clock(options.time_budget)
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    workspace.check()
    towers, source = _load_towers(Path(options.towers).expanduser())
    split = split_last(towers.histories)
    _check_size(options, len(split.validation))
    with reporter().bar("Looking for candidates") as bar:
        data = ranker_data(towers, split, options.candidates, options.validation_size, options.seed, bar)
    reporter().say(_found(data, options.candidates))
    model = new_ranker(options, towers)
    bound = source.identity()
    workspace.begin(dataclasses.asdict(options), bound)
    clock.add(workspace.spent())
    with reporter().bar("Ranker") as bar:
        outcome = train_ranker(
            model,
            data.learn,
            data.choose,
            options,
            seed=options.seed,
            work=workspace.stage("training"),
            clock=clock,
            reserve=_RESERVE,
            progress=bar,
        )
    record = _record(options, source, towers, split, data, model, outcome, bound, clock)
    reporter().say(f"Towers: {_line(record.before)}")
    reporter().say(f"Ranker: {_line(record.after)}")
    _save(workspace, LoadedRanker(model, gather(towers.histories, len(towers.items)), bound), data, record)
    folder = workspace.output
    record = RankerRecord.from_json((folder / RESULTS).read_text(encoding="utf-8"))
    return RankerResult(str(folder), str(folder / "report.html"), record)


def _load_towers(folder: Path) -> tuple[TwoTowers, TwoTowerRecord]:
    record = read_record(folder)
    check_digests(folder, record.files)
    if record.data.split != "last":
        raise ResultError(
            f"The towers in {folder} were trained with --split {record.data.split}; a ranker needs --split last, which "
            "keeps two events of every user from them."
        )
    return read_folder(folder), record


def _check_size(options: RankerOptions, questions: int) -> None:
    kept = kept_questions(options.validation_size, questions)
    if not _LEAST <= kept <= questions - _LEAST:
        raise DataError(
            f"--validation-size {options.validation_size:g} keeps {kept} of {questions} questions for choosing",
            remedy=f"At least {_LEAST} must be kept, and {_LEAST} left to learn from.",
        )


def new_ranker(options: RankerOptions, towers: TwoTowers) -> Ranker:
    """A ranker with fresh weights: it keeps the towers' order."""
    scale = float(towers.model.temperature().detach())
    config = RankerConfig(
        len(towers.items),
        towers.model.shape.dim,
        options.width,
        options.layers,
        options.heads,
        options.max_history,
        options.dropout,
        scale,
    )
    torch.manual_seed(options.seed)
    return Ranker(config, towers.vectors)


def judged(name: str, settings: dict[str, Any], found: Ranked, data: RankerData, split: HistorySplit) -> RankedRow:
    """What a ranking of the test questions reached."""
    counts = data.learn.evidence.counts
    users = sum(len(history) > 0 for history in split.train)
    return RankedRow(name, settings, ranking_scores(found, data.asked.histories, counts, users))


def gains(before: np.ndarray, after: np.ndarray, seed: int = 0) -> dict[str, Interval]:
    """Metric → its mean after less before with the 95 % interval over the questions, from ranks, (questions,)."""
    return {name: bootstrap_interval(of(after) - of(before), seed) for name, of in _MEASURES.items()}


def _record(
    options: RankerOptions,
    source: TwoTowerRecord,
    towers: TwoTowers,
    split: HistorySplit,
    data: RankerData,
    model: Ranker,
    outcome: RankerOutcome,
    bound: dict[str, str],
    clock: Clock,
) -> RankerRecord:
    old = Ranked(data.test.ranks, data.test.items[:, :TOP], data.test.scores[:, :TOP])
    new = rerank(ranker_scores(model, data.test), data.test)
    before, after = judged("two towers", {}, old, data, split), judged("towers + ranker", {}, new, data, split)
    found = int((data.test.places >= 0).sum())
    values = dataclasses.asdict(options)
    record = RankerRecord(
        verb="ranker",
        created=facts.now(),
        data=source.data,
        towers=bound,
        settings={name: values[name] for name in _SHOWN if values[name] is not None},
        questions={
            "learn": len(data.learn),
            "found": int((data.learn.places >= 0).sum()),
            "choose": len(data.choose),
            "test": len(data.test),
        },
        before=before,
        after=after,
        gains=gains(old.ranks, new.ranks),
        ceiling=wilson_interval(found, len(data.test)),
        choose_before=float(ndcg(data.choose.ranks).mean()),
        choose_after=outcome.chosen,
        helps=outcome.helps,
        history=_course(outcome, data.test.items.shape[1]),
        groups=outcome.groups,
        examples=_examples(towers, data, old, new),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        milliseconds=milliseconds(model, data.test),
        steps=outcome.steps,
        note=outcome.note,
        seconds=clock.spent(),
        peak_memory_mb=peak_memory_mb(),
        versions=facts.versions(),
        machine=facts.machine(torch.device("cpu")),
        command=facts.command_line("ranker", options),
    )
    return dataclasses.replace(record, advice=_advice(record))


def milliseconds(model: Ranker, candidates: Candidates) -> float:
    """Median time to score one question's candidates, batch of one."""
    found = []
    for row in np.linspace(0, len(candidates) - 1, _TIMED).astype(int).tolist():
        start = time.perf_counter()
        with torch.inference_mode():
            model(candidates.lists([row], model.shape.max_history))
        found.append(time.perf_counter() - start)
    return 1000 * statistics.median(found)


def _course(outcome: RankerOutcome, k: int) -> tuple[ContrastPoint, ...]:
    return tuple(
        ContrastPoint(
            point.step,
            point.epoch,
            point.seconds,
            loss=point.loss,
            ceiling=None if point.loss is None else math.log(k),
            validation_score=point.validation_score,
            rates=point.rates or None,
        )
        for point in outcome.history
    )


def _examples(towers: TwoTowers, data: RankerData, old: Ranked, new: Ranked) -> tuple[RerankedExample, ...]:
    """A few users whose next item was among the candidates, spread over the questions."""
    there = np.flatnonzero(data.test.places >= 0)
    chosen = there[np.unique(np.linspace(0, len(there) - 1, _EXAMPLES).astype(int))] if len(there) else there

    def names(items: np.ndarray) -> tuple[str, ...]:
        return tuple(towers.titles[item] for item in items.tolist() if item >= 0)

    return tuple(
        RerankedExample(
            user=towers.users.ids[int(data.asked.users[place])],
            history=names(data.asked.histories[place][-_SHOWN_HISTORY:]),
            target=towers.titles[int(data.asked.targets[place])],
            before=names(old.top[place]),
            after=names(new.top[place]),
            rank_before=int(old.ranks[place]),
            rank_after=int(new.ranks[place]),
        )
        for place in chosen.tolist()
    )


def _advice(record: RankerRecord) -> tuple[str, ...]:
    """What to do next, in plain sentences."""
    lines = []
    gain = record.gains["NDCG@10"]
    if not record.helps:
        lines.append(
            "The ranker did not beat the towers on the questions kept for choosing, so what is saved keeps their "
            "order: do without it, or give it more users to learn from."
        )
    elif gain.low <= 0:
        lines.append(
            "The gain in NDCG@10 is not clearly above zero: the towers alone are simpler, and here about as good."
        )
    return (*lines, *course_advice(record.note, record.history, counted="--max-steps" in record.command))


def _found(data: RankerData, k: int) -> str:
    share = 100 * float((data.learn.places >= 0).mean())
    return (
        f"{len(data.learn):,} questions to learn from, {len(data.choose):,} to choose by, {len(data.test):,} to judge "
        f"by; the towers' {k} candidates hold the right item for {share:.1f} %"
    )


def _line(row: RankedRow) -> str:
    scores = row.test
    return (
        f"HR@10 {100 * scores.hit_10.value:.1f} %, NDCG@10 {scores.ndcg_10.value:.4f} of {scores.questions:,} questions"
    )


def _save(workspace: Workspace, loaded: LoadedRanker, data: RankerData, record: RankerRecord) -> None:
    reporter().say("Saving, and loading again in a new process …")
    folder = workspace.staging()
    try:
        save_ranker(folder, loaded)
        save_answers(folder, loaded, data.test)
        check_ranker(folder)
        write_text(folder / "report.html", render_ranker(RankerRecord.from_json(record.to_json())))
        whole = dataclasses.replace(record, files=digests(folder, apart_from=RESULTS))
        write_text(folder / RESULTS, whole.to_json())
    except OSError as error:
        raise OutputError(f"The result could not be written to {folder}: {error.strerror or error}.") from error
    workspace.publish()
