"""Options of `index`: build, tune, search, add and delete."""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.index import KINDS
from warmstart.core.option import check_options, option, required
from warmstart.core.options import OutputOptions


@dataclass(frozen=True, kw_only=True)
class VectorOptions:
    """Which vectors go into an index."""

    vectors: str | None = option(
        None,
        "Vectors: .npy, .safetensors, .parquet with a column of lists or number columns, or a folder of index encode.",
    )
    towers: str | None = option(
        None, "Result of contrast two-tower, instead of --vectors: its items, by their numbers, asked for by its users."
    )
    ids: str | None = option(
        None,
        "Their ids, whole numbers: .npy, .txt (one per line), or a table with a column `id`. Default: the column `id` "
        "of a Parquet file of vectors, else the row, from 0.",
    )


@dataclass(frozen=True, kw_only=True)
class EffortOptions:
    """How hard an index searches."""

    nprobe: int | None = option(None, "Cells that a search looks into (ivf…).")
    ef_search: int | None = option(None, "Candidates that a search keeps on its way (hnsw…).")
    k_factor: float | None = option(None, "Candidates scored again on stored vectors, as a multiple of k (ivfpq).")


@dataclass(frozen=True, kw_only=True)
class IndexBuildOptions(EffortOptions, VectorOptions):
    """Options of `index build`."""

    output_dir: str = required("Folder for the index. It appears only when the index is complete.")
    overwrite: bool = option(False, "Replace an existing result.")
    kind: str = option(
        "auto", "Kind of index; auto: flat for up to 20,000 vectors, else ivfsq8.", choices=("auto", *KINDS)
    )
    nlist: int | None = option(None, "Cells (ivf…). Default: about 3√n.")
    m: int | None = option(None, "Links of each vector (hnsw…). Default: 32.")
    ef_construction: int | None = option(None, "Candidates looked at when a vector is linked (hnsw…). Default: 40.")
    seed: int = option(42, "Seed of the sample that the index is trained on.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class IndexTuneOptions(OutputOptions, VectorOptions):
    """Options of `index tune`."""

    queries: str | None = option(
        None,
        "Queries to measure with, like --vectors, 200 or more. Default: vectors that are held out meanwhile; of "
        "--towers, what its users' histories ask for.",
    )
    recall: float = option(0.95, "Share of the --at nearest that must be found.")
    at: int = option(100, "How many nearest.")
    p99_ms: float = option(10.0, "Milliseconds within which 99 of 100 single queries must be answered, on one thread.")
    kinds: str = option("all", f"Kinds to try, comma-separated: {', '.join(KINDS)}; or all.")
    holdout: int = option(
        1000,
        "Vectors held out as queries where --queries is not given, at most a tenth of all; of --towers, how many "
        "histories ask.",
    )
    seed: int = option(42, "Seed of the draw, of the samples that indexes are trained on, and of the intervals.")
    time_budget: float | None = option(None, "Seconds for the whole run; what does not fit is not tried.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class IndexSearchOptions(EffortOptions):
    """Options of `index search`."""

    index: str = required("Folder that index build or index tune wrote.", argument=True)
    vectors: str | None = option(None, "Queries: .npy, .safetensors or .parquet.")
    text: str | tuple[str, ...] = option(
        (), "A query in words, of an index of encoded items; may be given more than once.", many=True
    )
    data: str | None = option(None, "Queries of an index of encoded items: a table with a column of texts or images.")
    text_column: str | None = option(None, "Column of --data with the text. Guessed when not given.")
    image_column: str | None = option(None, "Column of --data with image paths, in place of texts.")
    prompt: str | None = option(None, "Text put before every query. Default: what was put before the items.")
    output: str | None = option(
        None, "File to write: .csv, .tsv, .jsonl or .parquet. Without it, the answers to up to 20 queries are shown."
    )
    k: int = option(10, "Answers to each query.")
    allow: str | None = option(None, "File of ids; only these may be answered.")
    block: str | None = option(None, "File of ids that must not be answered.")
    mmap: bool = option(False, "Leave the vectors in their file, and read what is needed.")
    overwrite: bool = option(False, "Replace the output file if it exists.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class IndexAddOptions:
    """Options of `index add`."""

    index: str = required("Folder that index build or index tune wrote.", argument=True)
    vectors: str = required("Vectors to add: .npy, .safetensors or .parquet; or the folder of index encode.")
    ids: str | None = option(None, "Their ids; needed, but for a Parquet file with a column `id` and for a folder.")
    update: bool = option(
        False,
        "Replace the vectors of ids that are there already; of a folder, those that changed, and delete what it no "
        "longer holds.",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class IndexDeleteOptions:
    """Options of `index delete`."""

    index: str = required("Folder that index build or index tune wrote.", argument=True)
    ids: str = required("File of ids to delete: .npy, .txt (one per line), or a table with a column `id`.")

    def __post_init__(self) -> None:
        check_options(self)
