"""`index add`: more vectors into an index, without building it anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.core.errors import SettingError
from warmstart.core.index import EncoderCard
from warmstart.core.index_options import IndexAddOptions
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.records import Record
from warmstart.core.vector_rows import as_float32
from warmstart.data.item_numbers import ItemNumbers
from warmstart.data.vectors import ids_beside
from warmstart.neighbours.building import ROWS
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.verbs.index_input import Items, change, encoder_of, read_items, read_names_of, refuse_towers


@dataclass(frozen=True)
class AddSummary(Record):
    """What the index holds now."""

    index: str
    added: int
    updated: int
    vectors: int
    rebuild_due: bool
    deleted: int = 0


@verb(IndexAddOptions)
def index_add(options: IndexAddOptions) -> AddSummary:
    """Add vectors to an index; with `update`, replace those whose ids are there already.

    Raises:
        UserError: something in the call or the files must change; the index is as it was.
    """
    folder = Path(options.vectors).expanduser().is_dir()
    if options.ids is None and not folder and ids_beside(options.vectors) is None:
        raise SettingError("--ids is needed: rows of --vectors would get ids that the index has already.")
    refuse_towers(options.index)
    names = read_names_of(options.index)
    if (names is not None) != folder:
        raise SettingError(
            f"{options.index} holds encoded items: add from the folder that `index encode` wrote."
            if names is not None
            else f"{options.index} holds vectors with ids of their own, and no encoded items: build an index of "
            f"{options.vectors}."
        )
    items = read_items(options.vectors, options.ids)
    if names is not None:
        return _add_encoded(options, items, names)
    replaced = 0

    def alter(index: FaissIndex) -> int:
        nonlocal replaced
        vectors = as_float32(items.vectors[:])
        there = index.table.find(items.ids) >= 0 if options.update else np.zeros(len(items.ids), dtype=bool)
        replaced = int(there.sum())
        index.update(items.ids[there], vectors[there])
        index.add(items.ids[~there], vectors[~there])
        return len(items.ids)

    done = change(options.index, alter)
    return AddSummary(options.index, done.changed - replaced, replaced, done.vectors, done.rebuild_due)


def _add_encoded(options: IndexAddOptions, items: Items, names: ItemNumbers) -> AddSummary:
    """Add what is new in a folder of encoded items; with `update`, make the index hold what the folder holds."""
    assert items.named is not None
    now = items.named
    _check_same(options, items.card.encoder, now, names)
    new = np.array([number not in names.row_of for number in now.numbers.tolist()], dtype=bool)
    changed = np.array(
        [
            not fresh and names.digests[names.row_of[number]] != row_digest
            for fresh, number, row_digest in zip(new.tolist(), now.numbers.tolist(), now.digests, strict=True)
        ],
        dtype=bool,
    )
    gone = names.numbers[~np.isin(names.numbers, now.numbers)]
    if not options.update:
        if changed.any() or len(gone):
            reporter().warn(
                f"{int(changed.sum()):,} items changed and {len(gone):,} are gone: --update follows them in the index."
            )
        changed[:] = False
        gone = gone[:0]

    def alter(index: FaissIndex) -> int:
        index.delete(gone)
        for rows, put in ((np.flatnonzero(changed), index.update), (np.flatnonzero(new), index.add)):
            for start in range(0, len(rows), ROWS):
                some = rows[start : start + ROWS]
                put(items.ids[some], as_float32(items.vectors[some]))
        return len(gone)

    def named(index: FaissIndex) -> ItemNumbers:
        return now if options.update else names.joined(now.take(np.flatnonzero(new).tolist()))

    done = change(options.index, alter, named)
    added, updated = int(new.sum()), int(changed.sum())
    return AddSummary(options.index, added, updated, done.vectors, done.rebuild_due, len(gone))


def _check_same(options: IndexAddOptions, encoder: EncoderCard | None, now: ItemNumbers, names: ItemNumbers) -> None:
    """Whether vectors are comparable, and a number means one item in both.

    Raises:
        SettingError: they are not, or it does not.
    """
    own = encoder_of(options.index)
    if own is None or encoder is None or own.settings() != encoder.settings():
        raise SettingError(f"{options.vectors} was encoded by another model or with other settings than the index.")
    both = [
        (name, names.row_of[number])
        for name, number in zip(now.ids, now.numbers.tolist(), strict=True)
        if number in names.row_of
    ]
    if any(names.ids[row] != name for name, row in both):
        raise SettingError(
            f"{options.vectors} is not the folder that the index was built of: its items have other numbers. "
            "Build the index anew."
        )
