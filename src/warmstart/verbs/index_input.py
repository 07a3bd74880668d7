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

from warmstart.core.errors import DataError, OutputError, ResultError, SettingError
from warmstart.core.files import check_digests, digest, digests, write_text
from warmstart.core.index import Effort, EncoderCard, VectorsCard
from warmstart.core.index_options import EffortOptions
from warmstart.core.progress import reporter
from warmstart.core.vector_rows import VectorRows
from warmstart.data.item_numbers import ItemNumbers, load_numbers, read_names, save_numbers
from warmstart.data.vector_store import VectorStore
from warmstart.data.vectors import ids_beside, read_ids, read_vectors, unit_length
from warmstart.neighbours.faiss_index import REBUILD_SHARE, FaissIndex
from warmstart.neighbours.folder import load_index, write_index
from warmstart.neighbours.ids import check_ids
from warmstart.neighbours.plans import is_cells, is_graph
from warmstart.verbs import facts
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.workspace import Workspace

NAMES = "items.parquet"  # beside an index of encoded items: what its ids stand for


@dataclass(frozen=True)
class Items:
    """Vectors and their ids."""

    ids: np.ndarray  # (rows,)
    vectors: VectorRows  # (rows, width), maybe mapped
    card: VectorsCard
    named: ItemNumbers | None = None  # what the ids stand for, of encoded items; row for row


def read_items(vectors: str, ids: str | None) -> Items:
    """Read vectors and ids, and check that they fit.

    Raises:
        DataError: a file is not fit, lengths differ, or an id is there twice.
        ResultError: a folder of encoded items was altered.
        SettingError: ids are given for a folder that has its own.
    """
    if Path(vectors).expanduser().is_dir():
        if ids is not None:
            raise SettingError(f"--ids goes with a file of vectors; the items in {vectors} have numbers of their own.")
        return _encoded(vectors)
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
        _warn_of_lengths()
    return Items(
        numbers, found, VectorsCard(vectors, len(found), found.shape[1], unit, digest(Path(vectors).expanduser()))
    )


def _encoded(folder: str) -> Items:
    stored = VectorStore(Path(folder).expanduser()).read()
    if not stored.unit_length:
        _warn_of_lengths()
    card = VectorsCard(
        source=folder,
        vectors=len(stored.items),
        width=stored.vectors.shape[1],
        unit_length=stored.unit_length,
        digest=stored.digest,
        encoder=encoder_card(stored.about, folder),
    )
    return Items(stored.items.numbers, stored.vectors, card, stored.items)


def _warn_of_lengths() -> None:
    reporter().warn(
        "The vectors are not of unit length: the nearest are those of the largest inner product. "
        "Divide them by their length for cosines."
    )


def encoder_card(about: dict[str, Any], folder: str | Path) -> EncoderCard:
    """What made the vectors of a folder.

    Raises:
        ResultError: the folder does not say.
    """
    try:
        return EncoderCard.from_dict(about["encoder"])
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{folder} does not say what encoded its items.") from error


def encoder_of(index: str | Path) -> EncoderCard | None:
    """What encoded the items of an index; None where it does not know."""
    found = read_results(Path(index).expanduser()).get("data", {}).get("encoder")
    return None if found is None else EncoderCard.from_dict(found)


def save_names(items: Items, folder: Path) -> None:
    """Put what the ids stand for beside an index, where it is known."""
    if items.named is not None:
        save_numbers(folder / NAMES, items.named)


def read_names_of(folder: str | Path) -> ItemNumbers | None:
    """What the ids of an index stand for; None where they stand for themselves.

    Raises:
        ResultError: the file was altered.
    """
    place = Path(folder).expanduser()
    if not (place / NAMES).is_file():
        return None
    check_digests(place, {NAMES: str(read_results(place).get("files", {}).get(NAMES))})
    return load_numbers(place / NAMES)


def read_results(place: Path) -> dict[str, Any]:
    """The record of an index, as it stands; empty where there is none."""
    path = place / RESULTS
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def ids_of(path: str, names: ItemNumbers | None) -> np.ndarray:
    """Ids out of a file as the index knows them.

    Raises:
        DataError: the file is not fit, or names an item that is not there.
    """
    return read_ids(path) if names is None else names.find(read_names(path), path)


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
    if read_results(Path(folder).expanduser()).get("data", {}).get("towers"):
        raise SettingError(
            f"{folder} holds the items of two towers: `index encode --towers` makes towers with the new items; build "
            "the index of these."
        )


def change(
    folder: str, alter: Callable[[FaissIndex], int], names: Callable[[FaissIndex], ItemNumbers | None] | None = None
) -> Change:
    """Load an index, alter it, and put the altered one in its place in one step.

    Args:
        folder: of the index.
        alter: changes it, and says how many vectors it changed.
        names: what its ids stand for afterwards; by default what they stood for, without those that are gone.

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
        left = _left(folder, index) if names is None else names(index)
        if left is not None:
            save_numbers(staged / NAMES, left)
        record = read_results(workspace.output)
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


def _left(folder: str, index: FaissIndex) -> ItemNumbers | None:
    names = read_names_of(folder)
    return None if names is None else names.take(np.flatnonzero(np.isin(names.numbers, index.ids())).tolist())
