"""`index build`: an index of a given kind, without measuring it."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import torch

from warmstart.core.files import digests, write_text
from warmstart.core.index import BuildRecord, IndexPlan
from warmstart.core.index_options import IndexBuildOptions
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.records import Record
from warmstart.neighbours.building import build
from warmstart.neighbours.folder import write_index
from warmstart.neighbours.plans import usual_kind, whole
from warmstart.verbs import facts
from warmstart.verbs.index_input import effort_of, save_names, versions
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.towers_input import read_source
from warmstart.verbs.workspace import Workspace


@dataclass(frozen=True)
class IndexBuildResult(Record):
    """Where the index is, and what it is."""

    output_dir: str
    record: BuildRecord


@verb(IndexBuildOptions)
def index_build(options: IndexBuildOptions) -> IndexBuildResult:
    """Build an index of vectors.

    Raises:
        UserError: something in the call or the files must change; nothing was written.
    """
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=False)
    workspace.check()
    items, _ = read_source(options)
    kind = usual_kind(len(items.ids)) if options.kind == "auto" else options.kind
    given = IndexPlan(kind, *(value or 0 for value in (options.nlist, options.m, options.ef_construction)))
    plan = whole(given, len(items.ids))
    reporter().say(f"{items.card.vectors:,} vectors of width {items.card.width}: {plan.name}")
    start = time.perf_counter()
    with reporter().bar("Building") as bar:
        index = build(plan, items.ids, items.vectors, options.seed, bar)
    assert index is not None
    seconds = time.perf_counter() - start
    index.effort = effort_of(index, options)
    record = BuildRecord(
        verb="index build",
        created=facts.now(),
        data=items.card,
        plan=plan,
        effort=index.effort,
        memory_bytes=index.memory_bytes(),
        build_seconds=seconds,
        versions=versions(),
        machine=facts.machine(torch.device("cpu")),
        command=facts.command_line("index build", options),
    )
    workspace.begin(dataclasses.asdict(options), {"vectors": items.card.digest} | items.card.towers)
    try:
        staged = workspace.staging()
        write_index(index, staged)
        save_names(items, staged)
        record = dataclasses.replace(record, files=digests(staged, RESULTS))
        write_text(staged / RESULTS, record.to_json())
        workspace.publish()
    except BaseException:
        workspace.abandon()
        raise
    return IndexBuildResult(str(workspace.output), record)
