"""`index add`: more vectors into an index, without building it anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from warmstart.core.errors import SettingError
from warmstart.core.index_options import IndexAddOptions
from warmstart.core.option import verb
from warmstart.core.records import Record
from warmstart.data.vectors import ids_beside
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.verbs.index_input import change, read_items, refuse_towers


@dataclass(frozen=True)
class AddSummary(Record):
    """What the index holds now."""

    index: str
    added: int
    updated: int
    vectors: int
    rebuild_due: bool


@verb(IndexAddOptions)
def index_add(options: IndexAddOptions) -> AddSummary:
    """Add vectors to an index; with `update`, replace those whose ids are there already.

    Raises:
        UserError: something in the call or the files must change; the index is as it was.
    """
    if options.ids is None and ids_beside(options.vectors) is None:
        raise SettingError("--ids is needed: rows of --vectors would get ids that the index has already.")
    refuse_towers(options.index)
    items = read_items(options.vectors, options.ids)
    replaced = 0

    def alter(index: FaissIndex) -> int:
        nonlocal replaced
        vectors = np.asarray(items.vectors, dtype=np.float32)
        there = index.table.find(items.ids) >= 0 if options.update else np.zeros(len(items.ids), dtype=bool)
        replaced = int(there.sum())
        index.update(items.ids[there], vectors[there])
        index.add(items.ids[~there], vectors[~there])
        return len(items.ids)

    done = change(options.index, alter)
    return AddSummary(options.index, done.changed - replaced, replaced, done.vectors, done.rebuild_due)
