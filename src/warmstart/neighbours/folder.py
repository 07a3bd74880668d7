"""An index as a folder: FAISS's file, the ids, and a manifest with the digest of each. Nothing is pickled."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from warmstart.core.errors import OutputError, ResultError
from warmstart.core.files import check_digests, digest, read_sealed, write_sealed
from warmstart.core.index import Effort, IndexPlan
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.ids import IdTable

MANIFEST = "index.json"
_FORMAT = 1
_VECTORS, _IDS, _ALIVE = "index.faiss", "ids.npy", "alive.npy"


def write_index(index: FaissIndex, folder: Path) -> None:
    """Write an index into a folder that is there; the manifest last.

    Raises:
        OutputError: a file cannot be written.
    """
    try:
        faiss.write_index(index.inner, str(folder / _VECTORS))
        np.save(folder / _IDS, index.table.all_ids(), allow_pickle=False)
        np.save(folder / _ALIVE, index.table.bits, allow_pickle=False)
        manifest: dict[str, Any] = {
            "format": _FORMAT,
            "faiss": faiss.__version__,
            "plan": index.plan.to_dict(),
            "effort": index.effort.to_dict(),
            "width": index.width,
            "vectors": len(index),
            "deleted": index.table.deleted,
            "files": {name: digest(folder / name) for name in (_VECTORS, _IDS, _ALIVE)},
        }
        write_sealed(folder / MANIFEST, manifest)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"The index could not be written to {folder}: {_reason(error)}.") from error


def save_index(index: FaissIndex, folder: str | Path) -> Path:
    """Save an index as a new folder, which appears only when it is whole.

    Raises:
        OutputError: the folder exists, or cannot be written.
    """
    target = Path(folder).expanduser()
    if target.exists():
        raise OutputError(f"{target} exists; name a folder that does not.")
    part = target.with_name(target.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write_index(index, part)
        part.rename(target)
    except OSError as error:
        raise OutputError(f"The index could not be written to {target}: {_reason(error)}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def load_index(folder: str | Path, *, mmap: bool = False) -> FaissIndex:
    """Load an index that was saved, after checking every byte of it.

    Args:
        folder: where it is.
        mmap: leave the vectors in their file and read what a search needs; such an index takes no more vectors.

    Raises:
        ResultError: it is no index, a file is missing or altered, or it is of a later version.
    """
    place = Path(folder).expanduser()
    check_digests(place, _read_manifest(place)["files"])
    return read_index(place, mmap=mmap)


def read_index(place: Path, *, mmap: bool) -> FaissIndex:
    """Load an index whose files were checked already; only the manifest is.

    Raises:
        ResultError: it is no index, or of a later version.
    """
    manifest = _read_manifest(place)
    try:
        inner = faiss.read_index(str(place / _VECTORS), faiss.IO_FLAG_MMAP_IFC if mmap else 0)
        ids = np.load(place / _IDS, mmap_mode="r" if mmap else None, allow_pickle=False)
        bits = np.load(place / _ALIVE, allow_pickle=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ResultError(f"{place} cannot be read: {_reason(error)}.") from error
    table = IdTable()
    table.restore(ids, bits)
    index = FaissIndex.around(inner, IndexPlan.from_dict(manifest["plan"]), table, frozen=mmap)
    index.effort = Effort.from_dict(manifest["effort"])
    return index


def _read_manifest(place: Path) -> dict[str, Any]:
    if not place.is_dir():
        raise ResultError(f"There is no folder {place}.")
    if not (place / MANIFEST).is_file():
        raise ResultError(f"{place} is no index: it has no {MANIFEST}.")
    manifest = read_sealed(place / MANIFEST)
    if manifest["format"] != _FORMAT:
        raise ResultError(f"{place} was written by a later warmstart (format {manifest['format']}).")
    return manifest


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).strip().splitlines()[-1]
