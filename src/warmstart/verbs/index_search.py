"""`index search`: the nearest vectors of each query, into a file or shown; queries are vectors, words or images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from warmstart.core.errors import DataError, SettingError
from warmstart.core.index_options import IndexSearchOptions
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.records import Record
from warmstart.core.vector_rows import as_float32
from warmstart.data.item_numbers import ItemNumbers
from warmstart.data.items import load_queries
from warmstart.data.writing import check_table_path, write_table
from warmstart.neighbours.folder import load_index
from warmstart.neighbours.ids import Filter
from warmstart.verbs.encoders import query_encoder
from warmstart.verbs.index_input import effort_of, encoder_of, ids_of, read_names_of, read_queries

_SHOWN = 20  # queries whose answers are shown


@dataclass(frozen=True)
class SearchAnswer(Record):
    """One answer: the query's text or row, its place from 1, and what was found."""

    query: str
    rank: int
    id: str
    score: float
    title: str = ""


@dataclass(frozen=True)
class SearchSummary(Record):
    """What was written, or the answers themselves where there is no file."""

    output: str
    queries: int
    answers: int  # of each query
    shown: tuple[SearchAnswer, ...] = ()


@dataclass(frozen=True)
class _Queries:
    vectors: np.ndarray  # (queries, width)
    texts: list[str] | None  # (queries,), where they are words


@verb(IndexSearchOptions)
def index_search(options: IndexSearchOptions) -> SearchSummary:
    """Find the nearest vectors of each query: query (row, from 0), its text, rank (from 1), id, score and title.

    Raises:
        UserError: something in the call or the files must change; nothing was written.
    """
    if options.output is not None:
        check_table_path(options.output, options.overwrite)
    index = load_index(options.index, mmap=options.mmap)
    names = read_names_of(options.index)
    queries = _queries(options, index.width)
    if options.output is None and len(queries.vectors) > _SHOWN:
        raise SettingError(f"--output is needed for the answers to {len(queries.vectors):,} queries.")
    index.effort = effort_of(index, options)
    where = Filter(
        None if options.allow is None else ids_of(options.allow, names),
        None if options.block is None else ids_of(options.block, names),
    )
    found = index.search(queries.vectors, options.k, where)
    rows, k = found.ids.shape
    frame = _frame(found.ids, found.scores, names, queries.texts)
    if options.output is None:
        return SearchSummary("", rows, k, _shown(frame))
    write_table(frame, options.output, options.overwrite)
    return SearchSummary(options.output, rows, k)


def _queries(options: IndexSearchOptions, width: int) -> _Queries:
    texts = (options.text,) if isinstance(options.text, str) else options.text
    given = [name for name in ("vectors", "text", "data") if getattr(options, name)]
    if len(given) != 1:
        raise SettingError("Give the queries as one of --vectors, --text or --data.")
    if options.vectors is not None:
        return _Queries(read_queries(options.vectors, "--vectors", width), None)
    if any(not text.strip() for text in texts):
        raise SettingError("--text is empty.")
    rows: Mapping[str, Sequence[Any]] = {"text": list(texts)}
    if options.data is not None:
        rows = load_queries(options.data, options.text_column, options.image_column)
    return _encoded(options, rows, width)


def _encoded(options: IndexSearchOptions, rows: Mapping[str, Sequence[Any]], width: int) -> _Queries:
    card = encoder_of(options.index)
    if card is None:
        raise SettingError(f"{options.index} was not built of encoded items: give queries as --vectors.")
    encoder = query_encoder(card, "image" if "image" in rows else "text", options.prompt)
    total = len(next(iter(rows.values())))
    with reporter().bar(f"Encoding {total:,} queries") as bar:
        vectors = encoder.encode(rows, lambda done, every: bar(done, every, ""))
    if encoder.width != width:
        raise DataError(f"the queries have width {encoder.width}, and the indexed vectors {width}", file=options.index)
    return _Queries(as_float32(vectors), list(rows["text"]) if "text" in rows else None)


def _frame(ids: np.ndarray, scores: np.ndarray, names: ItemNumbers | None, texts: list[str] | None) -> pd.DataFrame:
    rows, k = ids.shape
    columns: dict[str, Any] = {"query": np.repeat(np.arange(rows), k)}
    if texts is not None:
        columns["text"] = [text for text in texts for _ in range(k)]
    columns |= {"rank": np.tile(np.arange(1, k + 1), rows), "id": ids.ravel(), "score": scores.ravel()}
    if names is not None:
        columns["id"], titles = names.named(ids.ravel())
        columns |= {} if titles is None else {"title": titles}
    return pd.DataFrame(columns)


def _shown(frame: pd.DataFrame) -> tuple[SearchAnswer, ...]:
    return tuple(
        SearchAnswer(
            str(row["text"] if "text" in row else row["query"]),
            int(row["rank"]),
            str(row["id"]),
            float(row["score"]),
            str(row.get("title", "")),
        )
        for row in frame.to_dict("records")
    )
