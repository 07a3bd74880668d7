"""`index delete`: vectors out of an index, without building it anew."""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.index_options import IndexDeleteOptions
from warmstart.core.option import verb
from warmstart.core.records import Record
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.verbs.index_input import change, ids_of, read_names_of


@dataclass(frozen=True)
class DeleteSummary(Record):
    """What the index holds now."""

    index: str
    deleted: int
    vectors: int
    rebuild_due: bool


@verb(IndexDeleteOptions)
def index_delete(options: IndexDeleteOptions) -> DeleteSummary:
    """Delete vectors from an index.

    Raises:
        UserError: an id is not there, or the index is not whole; it is then as it was.
    """
    ids = ids_of(options.ids, read_names_of(options.index))

    def alter(index: FaissIndex) -> int:
        index.delete(ids)
        return len(ids)

    done = change(options.index, alter)
    return DeleteSummary(options.index, done.changed, done.vectors, done.rebuild_due)
