"""Vectors of items in a folder that can be filled some at a time, gone on with after a kill, and brought up to date.

    FOLDER/shards/000001/ …    vectors with the ids and digests of their rows (`shards`)
    FOLDER/items-000001.parquet  the items that count: shard, row, number, id, digest, and perhaps a title
    FOLDER/vectors.json        the manifest, written last: which shards and table count, and the digest of each

A vector belongs to an id and a digest of all that it depends on. So whatever shard is there is used, and nothing is
made twice; what the manifest does not name does not count. The manifest is replaced in one step: before it the folder
is the old one, after it the new one. How texts and images become vectors is left to others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from warmstart.core.errors import OutputError, ResultError
from warmstart.core.files import digest, exclusive, read_sealed, sync, write_sealed
from warmstart.core.vector_rows import VectorRows
from warmstart.data.item_numbers import ItemNumbers, from_columns
from warmstart.data.sharded_vectors import ShardedVectors
from warmstart.data.shards import Shards, write_parquet

MANIFEST = "vectors.json"
_FORMAT = 1
_SPARSE = 0.5  # of a full shard's rows; shards with fewer that count are put together
_NOWHERE = -1


@dataclass(frozen=True)
class ItemList:
    """The items that a folder is to hold, in the order of their file.

    Attributes:
        ids: (items,), each once.
        digests: (items,), of 16 bytes: of all that an item's vector depends on.
        titles: (items,), or None.
    """

    ids: Sequence[str]
    digests: Sequence[bytes]
    titles: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Stored:
    """A whole folder.

    Attributes:
        items: row for row.
        vectors: (items, width), mapped.
        about: what the writer noted.
        unit_length: whether every vector has length 1.
        digest: of the manifest.
    """

    items: ItemNumbers
    vectors: VectorRows
    about: dict[str, Any]
    unit_length: bool
    digest: str


@dataclass(frozen=True)
class _Known:
    """What the manifest names: items, and the shard and row of each."""

    items: ItemNumbers
    places: np.ndarray  # (items, 2)


@dataclass(frozen=True)
class VectorStore:
    """Vectors in a folder.

    Attributes:
        folder: where they are.
    """

    folder: Path

    @property
    def shards(self) -> Shards:
        """All shards, those that do not count included."""
        return Shards(self.folder / "shards")

    def is_whole(self) -> bool:
        """Whether something was finished here."""
        return (self.folder / MANIFEST).is_file()

    def has_more(self) -> bool:
        """Whether shards are here that do not count yet: of an unfinished update."""
        return set(self.shards.numbers()) > {int(name) for name in self.manifest()["shards"]}

    def manifest(self) -> dict[str, Any]:
        """What counts.

        Raises:
            ResultError: there is none, it is damaged, or of a later version.
        """
        if not self.is_whole():
            raise ResultError(f"{self.folder} holds no encoded items: there is no {MANIFEST}.")
        found = read_sealed(self.folder / MANIFEST)
        if found["format"] != _FORMAT:
            raise ResultError(f"{self.folder} was written by a later warmstart (format {found['format']}).")
        return found

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all others from changing anything meanwhile.

        Raises:
            OutputError: another process is at it, or it cannot be written.
        """
        with exclusive(self.folder / ".lock"):
            yield

    def begin(self, items: ItemList) -> Filling:
        """Compare what is there with what is wanted; call it, and all that follows, with the lock held.

        Raises:
            ResultError: what is there is damaged.
        """
        self.shards.sweep()
        for path in self.folder.glob("*.part"):
            path.unlink(missing_ok=True)
        return Filling(self, items)

    def read(self) -> Stored:
        """The whole folder, after checking every byte of it.

        Raises:
            ResultError: it is none, or a file is missing or altered.
        """
        manifest = self.manifest()
        known = self._known(manifest)
        parts, chosen = [], []
        for name in sorted(manifest["shards"], key=int):
            number = int(name)
            if self.shards.seal(number) != manifest["shards"][name]:
                raise ResultError(f"{self.shards.place(number)} was altered after it was written. Encode again.")
            total = self.shards.check(number)
            rows = known.places[known.places[:, 0] == number, 1]
            parts.append(self.shards.vectors(number))
            chosen.append(None if len(rows) == total else rows)
        one = len(parts) == 1 and chosen[0] is None
        vectors: VectorRows = parts[0] if one else ShardedVectors(parts, chosen)
        return Stored(known.items, vectors, manifest["about"], manifest["unit_length"], digest(self.folder / MANIFEST))

    def _known(self, manifest: dict[str, Any]) -> _Known:
        path = self.folder / manifest["table"]["file"]
        if not path.is_file() or digest(path) != manifest["table"]["sha256"]:
            raise ResultError(f"{path} is missing or was altered after it was written. Encode again.")
        table = pq.read_table(path)
        places = np.stack([table.column(name).to_numpy() for name in ("shard", "row")], axis=1)
        return _Known(from_columns(table), places.astype(np.int64))


class Filling:
    """One bringing up to date of a folder.

    Args:
        store: the folder.
        items: what it is to hold.

    Attributes:
        items: the same.
        places: (items, 2), shard and row of each item's vector; −1 where there is none yet.
        new, changed, removed, kept: items beside those that counted before.
        found: vectors of new and changed items that an unfinished run had made already.
    """

    def __init__(self, store: VectorStore, items: ItemList) -> None:
        self._store, self.items = store, items
        self._manifest = store.manifest() if store.is_whole() else None
        self._before = None if self._manifest is None else store._known(self._manifest)
        self.places = np.full((len(items), 2), _NOWHERE, dtype=np.int64)
        self._number_of: dict[str, int] = {}
        wanted = {name: place for place, name in enumerate(items.ids)}
        self.new, self.changed, self.removed, self.kept = len(items), 0, 0, 0
        if self._before is not None:
            self._compare(self._before, wanted)
        self.found = self._take_up(wanted)

    @property
    def missing(self) -> np.ndarray:
        """Items without a vector, ascending."""
        return np.flatnonzero(self.places[:, 0] == _NOWHERE)

    def _compare(self, before: _Known, wanted: dict[str, int]) -> None:
        for row, name in enumerate(before.items.ids):
            place = wanted.get(name)
            if place is None:
                self.removed += 1
                continue
            self.new -= 1
            self._number_of[name] = int(before.items.numbers[row])
            if before.items.digests[row] == self.items.digests[place]:
                self.kept += 1
                self.places[place] = before.places[row]
            else:
                self.changed += 1

    def _take_up(self, wanted: dict[str, int]) -> int:
        """Use what shards hold that no manifest names; remove those that are damaged."""
        named = set() if self._manifest is None else {int(name) for name in self._manifest["shards"]}
        found = 0
        for number in self._store.shards.numbers():
            if number in named:
                continue
            try:
                self._store.shards.check(number)
            except ResultError:
                self._store.shards.remove(number)
                continue
            for row, (name, row_digest) in enumerate(self._store.shards.rows(number)):
                place = wanted.get(name, _NOWHERE)
                fits = place != _NOWHERE and self.places[place, 0] == _NOWHERE
                if fits and self.items.digests[place] == row_digest:
                    self.places[place] = number, row
                    found += 1
        return found

    def append(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Keep the vectors of some items; once this returns, no kill loses them.

        Args:
            rows: (some,), places among the items.
            vectors: (some, width), in the type that they are kept in.

        Raises:
            OutputError: they cannot be written.
        """
        ids = [self.items.ids[row] for row in rows.tolist()]
        row_digests = [self.items.digests[row] for row in rows.tolist()]
        number = self._store.shards.write(vectors, ids, row_digests)
        self.places[rows] = np.stack([np.full(len(rows), number), np.arange(len(rows))], axis=1)

    def finish(self, about: dict[str, Any], *, unit_length: bool, shard_rows: int) -> int:
        """Make the folder hold the items and no others, in one step.

        Args:
            about: what to note.
            unit_length: whether every vector has length 1.
            shard_rows: vectors in a shard, at most.

        Returns:
            How many shards it has.

        Raises:
            OutputError: it cannot be written; the folder is then as it was.
        """
        assert not len(self.missing)
        self._condense(shard_rows)
        used = np.unique(self.places[:, 0]).tolist()
        try:
            table, following = self._write_table()
            manifest = {
                "format": _FORMAT,
                "about": about,
                "unit_length": unit_length,
                "items": len(self.items),
                "next_number": following,
                "table": {"file": table.name, "sha256": digest(table)},
                "shards": {str(number): self._store.shards.seal(number) for number in used},
            }
            write_sealed(self._store.folder / MANIFEST, manifest)
            sync(self._store.folder)
        except OSError as error:
            raise OutputError(f"{self._store.folder} cannot be written: {error.strerror or error}.") from error
        for path in self._store.folder.glob("items-*.parquet"):
            if path != table:
                path.unlink()
        for number in self._store.shards.numbers():
            if number not in used:
                self._store.shards.remove(number)
        return len(used)

    def _condense(self, shard_rows: int) -> None:
        """Move the rows of small shards, and of those of which few rows count, into fewer ones."""
        numbers, counts = np.unique(self.places[:, 0], return_counts=True)
        sparse = numbers[counts < _SPARSE * shard_rows].tolist()
        if len(sparse) < 2:
            return
        moving = np.flatnonzero(np.isin(self.places[:, 0], sparse))
        moving = moving[np.lexsort((self.places[moving, 1], self.places[moving, 0]))]
        mapped = {number: self._store.shards.vectors(number) for number in sparse}
        for start in range(0, len(moving), shard_rows):
            rows = moving[start : start + shard_rows]
            vectors = np.stack([mapped[shard][row] for shard, row in self.places[rows].tolist()])
            self.append(rows, vectors)

    def _write_table(self) -> tuple[Path, int]:
        """The table of items by shard and row, and the number that the next new item will get."""
        first = 0 if self._manifest is None else int(self._manifest["next_number"])
        numbers = np.zeros(len(self.items), dtype=np.int64)
        for place, name in enumerate(self.items.ids):
            known = self._number_of.get(name)
            numbers[place] = first if known is None else known
            first += known is None
        order = np.lexsort((self.places[:, 1], self.places[:, 0]))
        titles = self.items.titles
        every = ItemNumbers(
            numbers, list(self.items.ids), list(self.items.digests), None if titles is None else list(titles)
        )
        columns = {"shard": pa.array(self.places[order, 0]), "row": pa.array(self.places[order, 1])}
        table = pa.table({**columns, **every.take(order.tolist()).columns()})
        before = [int(path.stem.removeprefix("items-")) for path in self._store.folder.glob("items-*.parquet")]
        path = self._store.folder / f"items-{max(before, default=0) + 1:06d}.parquet"
        part = path.with_name(path.name + ".part")
        write_parquet(part, table)
        sync(part)
        part.rename(path)
        return path, first
