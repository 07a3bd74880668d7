"""`index tune`: the cheapest index that reaches a recall within a latency, on these vectors and this machine."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from warmstart.core.clock import Clock
from warmstart.core.errors import DataError, SettingError, UserError
from warmstart.core.files import digest, digests, write_text
from warmstart.core.index import KINDS, Candidate, Goal, TuneRecord
from warmstart.core.index_options import IndexTuneOptions
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.records import Record
from warmstart.core.sizes import show_bytes
from warmstart.core.vector_rows import VectorRows
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.folder import load_index, write_index
from warmstart.neighbours.measure import ExactAnswer
from warmstart.neighbours.plans import candidates
from warmstart.neighbours.tuning import cheapest, measure, refuse
from warmstart.report.index import render_tune
from warmstart.train.fit import peak_memory_mb
from warmstart.verbs import facts
from warmstart.verbs.index_input import Items, read_queries, save_names, versions
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.towers_input import asked, read_source
from warmstart.verbs.workspace import Workspace

_BLOCK = 1 << 16  # vectors copied at a time
_FEW_QUERIES = 200
_BUSY = 25.0  # per cent of all cores, from which on latencies are those of a busy machine


@dataclass(frozen=True)
class IndexTuneResult(Record):
    """Where the index is, and everything that was measured."""

    output_dir: str
    report: str
    record: TuneRecord


@dataclass(frozen=True)
class _Split:
    """Vectors to build candidates of, and queries to measure them with."""

    ids: np.ndarray
    vectors: VectorRows
    queries: np.ndarray
    held_out: np.ndarray  # (rows,), places of the items that are queries for now; empty with queries of their own
    source: str


@verb(IndexTuneOptions)
def index_tune(options: IndexTuneOptions) -> IndexTuneResult:
    """Build candidates, measure recall and latency of each, and keep the cheapest that meets the goal.

    Raises:
        UserError: something in the call or the files must change, or no index meets the goal; nothing was written.
    """
    clock = Clock(options.time_budget)
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    workspace.check()
    kinds = _kinds(options.kinds)
    goal = Goal(options.recall, options.at, options.p99_ms)
    items, queries, source = _read(options)
    fingerprints = {
        "vectors": items.card.digest,
        **items.card.towers,
        "ids": _digest(options.ids),
        "queries": _digest(options.queries),
    }
    workspace.begin(dataclasses.asdict(options), fingerprints)
    clock.add(workspace.spent())
    try:
        split = _split(items, queries, source, options, workspace.stage("queries"))
        busy = psutil.cpu_percent(interval=0.3)
        if busy > _BUSY:
            reporter().warn(f"Other work keeps the machine {busy:.0f} % busy: latencies are measured beside it.")
        measured = _measure_all(workspace, split, goal, kinds, options.seed, clock)
        place = cheapest(measured)
        if place is None:
            raise refuse(measured, goal)
    except UserError:
        workspace.abandon()
        raise
    index = load_index(workspace.folder / _stage(place))
    if len(split.held_out):
        index.add(items.ids[split.held_out], np.asarray(items.vectors[split.held_out], dtype=np.float32))
    record = _record(options, items, split, goal, measured, place, clock)
    if busy > _BUSY:
        line = (
            f"Other work kept the machine {busy:.0f} % busy at the start: on a quiet one, less would have met the goal."
        )
        record = dataclasses.replace(record, advice=(*record.advice, line))
    return _save(workspace, index, record, items)


def _read(options: IndexTuneOptions) -> tuple[Items, np.ndarray | None, str]:
    """Items, queries, and where the queries are from; None where they are yet to be held out."""
    items, towers = read_source(options)
    if options.queries is not None:
        return items, read_queries(options.queries, "--queries", items.card.width), options.queries
    if towers is None:
        return items, None, ""
    queries = asked(towers, options.holdout, options.seed)
    return items, queries, f"{len(queries):,} histories of users of {options.towers}"


def _kinds(text: str) -> tuple[str, ...]:
    names = KINDS if text == "all" else tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise SettingError(f"--kinds names {unknown[0]!r}; there are {', '.join(KINDS)}, and all.")
    return names


def _digest(path: str | None) -> str:
    return "" if path is None else digest(Path(path).expanduser())


def _stage(place: int) -> str:
    return f"candidate-{place}"


def _split(items: Items, queries: np.ndarray | None, source: str, options: IndexTuneOptions, folder: Path) -> _Split:
    """Queries as given, or drawn from the vectors, which are then copied without them into a mapped file."""
    none = np.zeros(0, dtype=np.int64)
    if queries is not None:
        if len(queries) < _FEW_QUERIES:
            reporter().warn(f"{len(queries)} queries are few: intervals will be wide, and a 99th percentile uncertain.")
        return _Split(items.ids, items.vectors, queries, none, source)
    rows = len(items.ids)
    held = min(options.holdout, rows // 10)
    if held < 1:
        raise DataError(
            f"{rows} vectors are too few to hold queries out of", remedy="Give --queries.", file=options.vectors
        )
    chosen = np.sort(np.random.default_rng(options.seed).choice(rows, held, replace=False))
    rest = np.setdiff1d(np.arange(rows), chosen, assume_unique=True)
    shape = (len(rest), items.card.width)
    copy = np.lib.format.open_memmap(folder / "rest.npy", mode="w+", dtype=items.vectors.dtype, shape=shape)
    for start in range(0, len(rest), _BLOCK):
        copy[start : start + _BLOCK] = items.vectors[rest[start : start + _BLOCK]]
    drawn = np.ascontiguousarray(items.vectors[chosen], dtype=np.float32)
    return _Split(items.ids[rest], copy, drawn, chosen, f"{held:,} of the vectors, held out")


def _measure_all(
    workspace: Workspace, split: _Split, goal: Goal, kinds: tuple[str, ...], seed: int, clock: Clock
) -> list[Candidate]:
    """Measure every plan; the best index so far stays in the run's folder, and what was measured in its record."""
    reporter().say(f"{len(split.ids):,} vectors, {len(split.queries):,} queries: the exact answer …")
    if goal.at >= len(split.ids):
        reporter().warn(
            f"--at is {goal.at:,}, and there are {len(split.ids):,} vectors: all are nearest, recall says nothing."
        )
    answer = ExactAnswer(split.queries, split.ids, split.vectors, goal.at)
    measured: list[Candidate] = []
    for place, plan in enumerate(candidates(len(split.ids), kinds)):
        known = workspace.recall(_stage(place))
        if known is not None:
            measured.append(Candidate.from_dict(known))
            continue
        if clock.left() <= 0.0:
            measured.append(Candidate(plan, 0, 0.0, note="not built: the time budget ran out"))
            continue
        with reporter().bar(f"Building {plan.name}") as bar:
            found = measure(plan, split.ids, split.vectors, answer, goal, clock, seed, bar)
        before = cheapest(measured)
        measured.append(found.candidate)
        if found.index is not None and cheapest(measured) == place:
            shutil.rmtree(workspace.folder / _stage(place), ignore_errors=True)
            write_index(found.index, workspace.stage(_stage(place)))
        workspace.remember(_stage(place), found.candidate.to_dict(), clock.spent())
        if before is not None and cheapest(measured) == place:
            shutil.rmtree(workspace.folder / _stage(before), ignore_errors=True)
        reporter().say(_line(found.candidate, goal))
    return measured


def _line(candidate: Candidate, goal: Goal) -> str:
    head = f"{candidate.plan.name}: {show_bytes(candidate.memory_bytes)}, built in {candidate.build_seconds:.1f} s"
    point = candidate.chosen
    if point is not None:
        return f"{head}; recall@{goal.at} {point.recall:.4f}, p99 {point.p99_ms:.2f} ms at effort {point.effort.name}"
    return f"{head}; does not meet the goal" if candidate.points else f"{candidate.plan.name}: {candidate.note}"


def _record(
    options: IndexTuneOptions,
    items: Items,
    split: _Split,
    goal: Goal,
    measured: list[Candidate],
    place: int,
    clock: Clock,
) -> TuneRecord:
    return TuneRecord(
        verb="index tune",
        created=facts.now(),
        data=items.card,
        queries=len(split.queries),
        queries_source=split.source,
        goal=goal,
        candidates=tuple(measured),
        chosen=place,
        seconds=clock.spent(),
        peak_memory_mb=peak_memory_mb(),
        versions=versions(),
        machine=facts.machine(torch.device("cpu")),
        command=facts.command_line("index tune", options),
        advice=_advice(split, items, measured, _kinds(options.kinds)),
    )


def _advice(split: _Split, items: Items, measured: list[Candidate], kinds: tuple[str, ...]) -> tuple[str, ...]:
    """What to know before the index is relied on."""
    found = []
    if len(split.held_out):
        found.append(
            "The queries were held out of the vectors. Where real queries are of another kind, give --queries."
        )
    if not items.card.unit_length and any(c.plan.kind.startswith("hnsw") for c in measured):
        found.append("The vectors are not of unit length; a graph of links (hnsw…) finds less among such vectors.")
    left = [candidate.plan.name for candidate in measured if candidate.note]
    if left:
        found.append(f"Not tried: {', '.join(left)}; a larger --time-budget may find a cheaper index.")
    untried = set(KINDS) - {candidate.plan.kind for candidate in measured}
    if kinds == KINDS and untried:
        few = f"With {len(split.ids):,} vectors a scan is quick"
        found.append(f"{few}: {', '.join(sorted(untried))} were not tried; --kinds names them.")
    return tuple(found)


def _save(workspace: Workspace, index: FaissIndex, record: TuneRecord, items: Items) -> IndexTuneResult:
    staged = workspace.staging()
    write_index(index, staged)
    save_names(items, staged)
    write_text(staged / "report.html", render_tune(TuneRecord.from_json(record.to_json())))
    whole = dataclasses.replace(record, files=digests(staged, RESULTS))
    write_text(staged / RESULTS, whole.to_json())
    folder = workspace.publish()
    return IndexTuneResult(str(folder), str(folder / "report.html"), whole)
