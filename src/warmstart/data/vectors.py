"""Vectors and ids out of files: .npy, .safetensors and .parquet. Texts become vectors elsewhere.

Vectors in a .npy file stay in it, mapped, so that millions need no memory of their own. Nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from warmstart.core.errors import DataError
from warmstart.data.tables import not_found, read_table

ENDINGS = (".npy", ".safetensors", ".parquet")
_BLOCK = 1 << 18  # values looked at at a time


def read_vectors(path: str, name: str) -> np.ndarray:
    """The rows of a file, (rows, width); float32, or what a .npy file holds.

    Args:
        path: .npy with two dimensions; .safetensors with one tensor of two dimensions; .parquet with a column of lists,
            or with number columns (a column `id` is not among them).
        name: of the option, for messages.

    Raises:
        DataError: the file is not there or not whole, holds no such array, or a value that is not finite.
    """
    place = _existing(path)
    ending = place.suffix.lower()
    if ending == ".npy":
        found = _read_npy(place)
    elif ending == ".safetensors":
        found = _read_safetensors(place)
    elif ending == ".parquet":
        found = _read_parquet(place)
    else:
        raise DataError(f"not a kind of file that {name} reads ({', '.join(ENDINGS)})", file=str(place))
    if found.ndim != 2 or 0 in found.shape:
        raise DataError(
            f"the array has shape {found.shape}", remedy="Vectors are (rows, width), at least one of each.", file=path
        )
    if found.dtype.kind != "f":
        raise DataError(f"the values are {found.dtype}", remedy="Vectors are floating-point numbers.", file=path)
    _check_finite(found, path)
    return found


def read_ids(path: str) -> np.ndarray:
    """Ids out of a file, (rows,), int64: .npy, a table with a column `id`, or one number per line (.txt).

    Raises:
        DataError: the file is not there or not whole, or something in it is no whole number of 0 or more.
    """
    place = _existing(path)
    ending = place.suffix.lower()
    if ending == ".npy":
        found = _read_npy(place)
    elif ending == ".txt":
        lines = place.read_text(encoding="utf-8", errors="replace").split()
        found = np.array([_whole(line, path, row) for row, line in enumerate(lines, start=1)], dtype=np.int64)
    else:
        frame = read_table(place, path).frame
        if "id" not in frame.columns:
            raise DataError(f"there is no column 'id'; there are {', '.join(map(str, frame.columns))}", file=path)
        found = np.array([_whole(value, path, row) for row, value in enumerate(frame["id"], start=2)], dtype=np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise DataError(f"ids are whole numbers in one row; these are {found.dtype} of shape {found.shape}", file=path)
    if len(found) and found.min() < 0:
        raise DataError(f"id {found.min()} is negative", file=path, row=int(found.argmin()) + 1)
    return found.astype(np.int64)


def ids_beside(path: str) -> np.ndarray | None:
    """The column `id` of a Parquet file of vectors; None when the file has none."""
    if Path(path).suffix.lower() != ".parquet" or "id" not in pq.read_schema(_existing(path)).names:
        return None
    return read_ids(path)


def unit_length(vectors: np.ndarray) -> bool:
    """Whether all vectors have length 1, up to a thousandth; the first ten thousand and some others are looked at."""
    some = vectors[:: max(1, len(vectors) // 10_000)]
    return bool((np.abs(np.linalg.norm(np.asarray(some, dtype=np.float32), axis=1) - 1) < 1e-3).all())


def _existing(path: str) -> Path:
    place = Path(path).expanduser()
    if not place.is_file():
        raise not_found(place, str(place))
    return place


def _read_npy(place: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(place, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"not a whole .npy file of numbers ({str(error).splitlines()[0]})", file=str(place)) from None
    return found


def _read_safetensors(place: Path) -> np.ndarray:
    try:
        with safe_open(place, framework="numpy") as file:
            names = list(file.keys())
            if len(names) != 1:
                raise DataError(
                    f"there are {len(names)} tensors ({', '.join(names)})", remedy="Save one.", file=str(place)
                )
            found: np.ndarray = file.get_tensor(names[0])
    except (SafetensorError, OSError, TypeError) as error:
        raise DataError(f"not a whole safetensors file ({error})", file=str(place)) from None
    return found


def _read_parquet(place: Path) -> np.ndarray:
    try:
        table = pq.read_table(place)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file ({str(error).splitlines()[0]})", file=str(place)) from None
    lists = [
        field.name for field in table.schema if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    ]
    if len(lists) > 1:
        raise DataError(
            f"there are {len(lists)} columns of lists ({', '.join(lists)})", remedy="Keep one.", file=str(place)
        )
    if lists:
        return _stacked(table.column(lists[0]), place, lists[0])
    frame: pd.DataFrame = table.drop_columns(["id"] if "id" in table.column_names else []).to_pandas()
    wrong = [str(column) for column in frame if frame[column].dtype.kind not in "fiu"]
    if wrong:
        raise DataError("the column holds no numbers", file=str(place), column=wrong[0])
    return frame.to_numpy(dtype=np.float32)


def _stacked(column: pa.ChunkedArray, place: Path, name: str) -> np.ndarray:
    lengths = np.array([-1 if value is None else value for value in pa.compute.list_value_length(column).to_pylist()])
    if len(lengths) and (lengths != lengths[0]).any():
        row = int(np.flatnonzero(lengths != lengths[0])[0])
        what = f"the list has {max(0, lengths[row])} values, and the first row's has {lengths[0]}"
        raise DataError(what, file=str(place), row=row + 1, column=name)
    values = pa.compute.list_flatten(column).to_numpy()
    if values.dtype.kind not in "fiu":
        raise DataError("the lists hold no numbers", file=str(place), column=name)
    return np.asarray(values, dtype=np.float32).reshape(len(lengths), -1)


def _check_finite(vectors: np.ndarray, path: str) -> None:
    step = max(1, _BLOCK // vectors.shape[1])
    for start in range(0, len(vectors), step):
        fine = np.isfinite(vectors[start : start + step]).all(axis=1)
        if not fine.all():
            row = start + int(np.flatnonzero(~fine)[0]) + 1
            raise DataError(
                "the vector holds a value that is not finite", remedy="Mend it or leave it out.", file=path, row=row
            )


def _whole(value: object, path: str, row: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        raise DataError(f"{value!r} is no whole number", file=path, row=row) from None
    if number >= 2**63:
        raise DataError(f"{value} is too large for an id (below 2**63)", file=path, row=row)
    return number
