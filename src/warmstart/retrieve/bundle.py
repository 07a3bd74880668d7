"""A bundle: towers, index, item table and perhaps a ranker in one folder, which belong together or are refused.

Digests tell whether a byte was changed. Whether parts belong together is told by the digests of the towers' files,
which every index and ranker noted when it was made. How a bundle becomes the one that serves is `versions`' business,
what it answers `pipeline`'s.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.core.errors import ResultError
from warmstart.core.files import check_digests, digests, read_sealed, write_sealed
from warmstart.core.serving import BundleManifest

MANIFEST = "bundle.json"
TOWERS, INDEX, RANKER, ITEMS = "towers", "index", "ranker", "items.parquet"
FORMAT = 1
_RESULTS = "results.json"
_ALTERED = "Publish anew, or go back with `warmstart index rollback`."


def part_record(folder: Path, name: str) -> dict[str, Any]:
    """What a part says of itself.

    Raises:
        ResultError: the folder is no result.
    """
    path = folder / _RESULTS
    if not path.is_file():
        raise ResultError(f"{folder} is no {name}: {_RESULTS} is not there.")
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} is damaged.") from error
    return values


def check_belongs(folder: Path, name: str, towers: Mapping[str, str]) -> None:
    """Whether an index or a ranker was made for these towers.

    Args:
        folder: the part; its record notes files of its towers with their digests, as `towers`, there or in its `data`.
        name: what to call it.
        towers: file of the towers → sha256.

    Raises:
        ResultError: it was made for others, or for none.
    """
    record = part_record(folder, name)
    noted = record.get("towers") or record.get("data", {}).get("towers")
    if not noted or not isinstance(noted, dict) or not all(isinstance(digest, str) for digest in noted.values()):
        raise ResultError(f"{folder} is no {name} of towers: make it with --towers.")
    if any(towers.get(file) != digest for file, digest in noted.items()):
        raise ResultError(
            f"{folder} is the {name} of other towers, or of these before they were trained again or brought up "
            f"to date: make the {name} anew, with --towers naming these."
        )


def copy_parts(folder: Path, parts: Mapping[str, Path]) -> None:
    """Copy parts into an empty bundle, so that nothing done to the originals can reach it."""
    for name, source in parts.items():
        shutil.copytree(source, folder / name)


def seal(folder: Path, manifest: BundleManifest) -> None:
    """Write the manifest, with the digest of every file, as the last file of a bundle."""
    values = manifest.to_dict() | {"files": digests(folder, MANIFEST)}
    write_sealed(folder / MANIFEST, values)


def check_bundle(folder: Path) -> BundleManifest:
    """Check every byte of a bundle, and that its parts belong together.

    Raises:
        ResultError: it is no bundle, of a later version; a file is missing, altered or unknown; or a part belongs to
            other towers.
    """
    manifest = read_manifest(folder)
    check_digests(folder, manifest.files, _ALTERED)
    unknown = sorted(set(names_of_files(folder)) - set(manifest.files))
    if unknown:
        raise ResultError(f"{folder / unknown[0]} does not belong to the bundle: publish it anew.")
    towers = _part_files(manifest, TOWERS)
    for place in (TOWERS, INDEX, *([RANKER] if manifest.ranker else [])):
        stated = part_record(folder / place, place).get("files", {})
        if any(_part_files(manifest, place).get(name) != digest for name, digest in stated.items()):
            raise ResultError(f"{folder / place} is put together of several {place}s: publish it anew.")
        if place != TOWERS:
            check_belongs(folder / place, place, towers)
    return manifest


def read_manifest(folder: Path) -> BundleManifest:
    """What a bundle says it is; its files are not looked at.

    Raises:
        ResultError: it is no bundle, its manifest was altered, or it is of a later version.
    """
    if not folder.is_dir():
        raise ResultError(f"There is no folder {folder}: name one that `warmstart index publish` published to.")
    if not (folder / MANIFEST).is_file():
        raise ResultError(f"{folder} is no bundle: it has no {MANIFEST}. `warmstart index publish` makes one.")
    values = read_sealed(folder / MANIFEST)
    if values.get("format") != FORMAT:
        raise ResultError(f"{folder} was written by a later warmstart (format {values.get('format')}).")
    try:
        return BundleManifest.from_dict(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ResultError(f"{folder / MANIFEST} cannot be read ({error}).") from error


def names_of_files(folder: Path) -> list[str]:
    """Every file of a bundle but its manifest, by its path in it; links to elsewhere too."""
    found = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return [str(path.relative_to(folder)) for path in found if path != folder / MANIFEST]


def _part_files(manifest: BundleManifest, part: str) -> dict[str, str]:
    """File of a part → sha256, by its path in the part."""
    head = f"{part}/"
    return {name.removeprefix(head): digest for name, digest in manifest.files.items() if name.startswith(head)}
