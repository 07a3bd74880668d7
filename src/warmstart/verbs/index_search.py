"""`index search`: the nearest vectors of each query, into a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from warmstart.core.index_options import IndexSearchOptions
from warmstart.core.option import verb
from warmstart.core.records import Record
from warmstart.data.vectors import read_ids
from warmstart.data.writing import check_table_path, write_table
from warmstart.neighbours.folder import load_index
from warmstart.neighbours.ids import Filter
from warmstart.verbs.index_input import effort_of, read_queries


@dataclass(frozen=True)
class SearchSummary(Record):
    """What was written."""

    output: str
    queries: int
    answers: int  # of each query


@verb(IndexSearchOptions)
def index_search(options: IndexSearchOptions) -> SearchSummary:
    """Write the nearest vectors of each query: columns query (row, from 0), rank (from 1), id, score.

    Raises:
        UserError: something in the call or the files must change; nothing was written.
    """
    check_table_path(options.output, options.overwrite)
    index = load_index(options.index, mmap=options.mmap)
    queries = read_queries(options.vectors, "--vectors", index.width)
    index.effort = effort_of(index, options)
    where = Filter(
        None if options.allow is None else read_ids(options.allow),
        None if options.block is None else read_ids(options.block),
    )
    found = index.search(queries, options.k, where)
    rows, k = found.ids.shape
    frame = pd.DataFrame(
        {
            "query": np.repeat(np.arange(rows), k),
            "rank": np.tile(np.arange(1, k + 1), rows),
            "id": found.ids.ravel(),
            "score": found.scores.ravel(),
        }
    )
    write_table(frame, options.output, options.overwrite)
    return SearchSummary(options.output, rows, k)
