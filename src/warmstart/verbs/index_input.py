"""What the index verbs read: vectors with their ids, queries, lists of ids; and how a changed index takes its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from warmstart.core.errors import DataError, OutputError, SettingError
from warmstart.core.files import digest, digests, write_text
from warmstart.core.index import Effort, VectorsCard
from warmstart.core.index_options import EffortOptions
from warmstart.core.progress import reporter
from warmstart.data.vectors import ids_beside, read_ids, read_vectors, unit_length
from warmstart.neighbours.faiss_index import REBUILD_SHARE, FaissIndex
from warmstart.neighbours.folder import load_index, write_index
from warmstart.neighbours.ids import check_ids
from warmstart.neighbours.plans import is_cells, is_graph
from warmstart.verbs import facts
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.workspace import Workspace


@dataclass(frozen=True)
class Items:
    """Vectors and their ids."""

    ids: np.ndarray  # (rows,)
    vectors: np.ndarray  # (rows, width), maybe mapped
    card: VectorsCard


def read_items(vectors: str, ids: str | None) -> Items:
    """Read vectors and ids, and check that they fit.

    Raises:
        DataError: a file is not fit, lengths differ, or an id is there twice.
    """
    found = read_vectors(vectors, "--vectors")
    given = read_ids(ids) if ids is not None else ids_beside(vectors)
    numbers = np.arange(len(found)) if given is None else given
    if len(numbers) != len(found):
        raise DataError(f"there are {len(numbers)} ids and {len(found)} vectors", file=ids)
    try:
        check_ids(numbers, len(found))
    except SettingError as error:
        raise DataError(str(error).rstrip("."), file=ids if ids is not None else vectors) from None
    unit = unit_length(found)
    if not unit:
        reporter().warn(
            "The vectors are not of unit length: the nearest are those of the largest inner product. "
            "Divide them by their length for cosines."
        )
    return Items(
        numbers, found, VectorsCard(vectors, len(found), found.shape[1], unit, digest(Path(vectors).expanduser()))
    )


def read_queries(path: str, name: str, width: int) -> np.ndarray:
    """Read queries, (queries, width), float32.

    Raises:
        DataError: the file is not fit, or they are of another width.
    """
    found = read_vectors(path, name)
    if found.shape[1] != width:
        raise DataError(f"the queries have width {found.shape[1]}, and the indexed vectors {width}", file=path)
    return np.ascontiguousarray(found, dtype=np.float32)


def effort_of(index: FaissIndex, options: EffortOptions) -> Effort:
    """The index's effort, with what was given in its place.

    Raises:
        SettingError: what was given means nothing to this kind of index.
    """
    fits = {"nprobe": is_cells(index.plan), "ef_search": is_graph(index.plan), "k_factor": index.plan.kind == "ivfpq"}
    for name, fit in fits.items():
        if getattr(options, name) is not None and not fit:
            raise SettingError(f"--{name.replace('_', '-')} means nothing to an index of kind {index.plan.kind}.")
    given = {name: getattr(options, name) for name in fits if getattr(options, name) is not None}
    return Effort(**{**index.effort.to_dict(), **given})


def versions() -> dict[str, str]:
    """Versions of what an index depends on."""
    return {**facts.versions(), "faiss": faiss.__version__}


@dataclass(frozen=True)
class Change:
    """How many vectors an index has after a change."""

    vectors: int
    changed: int
    rebuild_due: bool


def refuse_towers(folder: str) -> None:
    """Refuse to put vectors into an index of towers' items: its numbers are theirs, and it would no longer fit them.

    Raises:
        SettingError: it is one.
    """
    path = Path(folder).expanduser() / RESULTS
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if record.get("data", {}).get("towers"):
        raise SettingError(f"{folder} holds the items of two towers: train them with the new items and build it anew.")


def change(folder: str, alter: Callable[[FaissIndex], int]) -> Change:
    """Load an index, alter it, and put the altered one in its place in one step.

    Args:
        folder: of the index.
        alter: changes it, and says how many vectors it changed.

    Raises:
        UserError: the folder holds no index or an altered one, or the change is not possible; it is then as it was.
    """
    workspace = Workspace(folder, overwrite=True, resume=False)
    index = load_index(folder)
    if not (workspace.output / RESULTS).is_file():
        raise OutputError(f"{folder} was not written by index build or index tune; load and save it from Python.")
    workspace.check()
    workspace.begin({"verb": "index change"}, {})
    try:
        changed = alter(index)
        staged = workspace.staging()
        write_index(index, staged)
        if (workspace.output / "report.html").is_file():
            shutil.copy2(workspace.output / "report.html", staged)
        record: dict[str, Any] = json.loads((workspace.output / RESULTS).read_text(encoding="utf-8"))
        write_text(staged / RESULTS, json.dumps({**record, "files": digests(staged, RESULTS)}, indent=1))
        workspace.publish()
    except BaseException:
        workspace.abandon()
        raise
    if index.rebuild_due:
        reporter().warn(
            f"More than {REBUILD_SHARE:.0%} of the index is tombstones, which take memory and time: build it anew."
        )
    return Change(len(index), changed, index.rebuild_due)
