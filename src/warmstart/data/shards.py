"""One shard: some vectors with the ids and digests of their rows, there whole or not at all.

    FOLDER/000001/vectors.npy   (rows, width)
    FOLDER/000001/rows.parquet  id and digest of each row
    FOLDER/000001/shard.json    how many, how wide, and the digests of both files

It is written under another name, brought to the disk, and gets its own by one rename. Which shards count is
`vector_store`'s.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from warmstart.core.errors import OutputError, ResultError
from warmstart.core.files import check_digests, digest, read_sealed, settle, share, sync, write_sealed

_VECTORS, _ROWS, _SEAL = "vectors.npy", "rows.parquet", "shard.json"
_NAME = re.compile(r"\d{6,}")
_HALF = ".part"


@dataclass(frozen=True)
class Shards:
    """The shards of a folder.

    Attributes:
        folder: of all of them.
    """

    folder: Path

    def numbers(self) -> list[int]:
        """Every whole shard, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def place(self, number: int) -> Path:
        """Where a shard is."""
        return self.folder / f"{number:06d}"

    def write(self, vectors: np.ndarray, ids: Sequence[str], row_digests: Sequence[bytes]) -> int:
        """Add a shard.

        Args:
            vectors: (rows, width), in the type that they are kept in.
            ids: (rows,).
            row_digests: (rows,), of 16 bytes.

        Returns:
            Its number.

        Raises:
            OutputError: it cannot be written.
        """
        number = max(self.numbers(), default=0) + 1
        half = self.folder / (self.place(number).name + _HALF)
        try:
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            np.save(half / _VECTORS, vectors, allow_pickle=False)
            table = pa.table({"id": pa.array(ids, pa.string()), "digest": pa.array(row_digests, pa.binary(16))})
            write_parquet(half / _ROWS, table)
            files = {name: digest(half / name) for name in (_VECTORS, _ROWS)}
            write_sealed(half / _SEAL, {"rows": len(ids), "width": vectors.shape[1], "files": files})
            share(half)
            settle(half)
            half.rename(self.place(number))
            sync(self.folder)
        except OSError as error:
            raise OutputError(f"{half} cannot be written: {error.strerror or error}.") from error
        return number

    def seal(self, number: int) -> str:
        """The digest of what a shard says of itself, its files' digests included.

        Raises:
            ResultError: it is missing.
        """
        path = self.place(number) / _SEAL
        if not path.is_file():
            raise ResultError(f"{self.place(number)} is missing or not whole: encode the items again.")
        return digest(path)

    def check(self, number: int) -> int:
        """Compare every byte of a shard with what was written; its number of rows.

        Raises:
            ResultError: a file is missing or altered.
        """
        stated = read_sealed(self.place(number) / _SEAL)
        check_digests(self.place(number), stated["files"])
        return int(stated["rows"])

    def rows(self, number: int) -> Iterator[tuple[str, bytes]]:
        """Id and digest of each row."""
        table = pq.read_table(self.place(number) / _ROWS)
        return zip(table.column("id").to_pylist(), table.column("digest").to_pylist(), strict=True)

    def vectors(self, number: int) -> np.ndarray:
        """The vectors, mapped, (rows, width).

        Raises:
            ResultError: the file is damaged.
        """
        try:
            found: np.ndarray = np.load(self.place(number) / _VECTORS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ResultError(f"{self.place(number)} is missing or damaged: encode the items again.") from error
        return found

    def remove(self, number: int) -> None:
        """Remove a shard; killed on the way, it is no shard any more."""
        gone = self.folder / (self.place(number).name + _HALF)
        shutil.rmtree(gone, ignore_errors=True)
        self.place(number).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed process left half written or half removed."""
        for path in self.folder.glob(f"*{_HALF}") if self.folder.is_dir() else ():
            shutil.rmtree(path, ignore_errors=True)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table through Python's own file."""
    with path.open("wb") as file:
        pq.write_table(table, file)
