"""Options of `index encode`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from warmstart.core.errors import SettingError
from warmstart.core.option import check_options, flag, option
from warmstart.core.options import DEFAULT_MODEL, OutputOptions, ReadOptions

_OF_TOWERS = (
    "towers",
    "items",
    "interactions",
    "id_column",
    "drop_invalid",
    "output_dir",
    "overwrite",
    "resume",
)


@dataclass(frozen=True, kw_only=True)
class IndexEncodeOptions(OutputOptions, ReadOptions):
    """Options of `index encode`."""

    data: str | None = option(
        None,
        "Items: CSV, TSV, JSONL or Parquet file, image folder, `datasets` name, or sample:movielens-items.",
    )
    towers: str | None = option(
        None,
        "Result of contrast two-tower, in place of --data: a new one is written that knows the items of --items and "
        "the events of --interactions; nothing is trained.",
    )
    items: str | None = option(None, "Table of items for --towers, with the columns that they were trained with.")
    interactions: str | None = option(
        None,
        "Events for --towers, with the columns that they were trained with: those that are not known yet are added to "
        "the histories, and new users with them.",
    )
    model: str = option(
        DEFAULT_MODEL,
        "Encoder: Hub name, packaged model, or the result of adapt, contrast sentences, contrast clip or contrast "
        "simclr.",
    )
    id_column: str | None = option(None, "Column with the item's id. Guessed by its name, and shown, when not given.")
    text_column: str | None = option(None, "Column with the text. Guessed, and shown, when not given.")
    text_pair_column: str | None = option(None, "Column with a second text, which the encoder reads with the first.")
    image_column: str | None = option(None, "Column with image paths (relative to the table), in place of texts.")
    title_column: str | None = option(
        None, "Column with what to call an item in answers. Default: a column with a name such as title, if any."
    )
    drop_invalid: bool = option(False, "Leave out the rows that would stop the run; they are counted and listed.")
    prompt: str | None = option(None, "Text put before every text. Default: what the model states.")
    normalize: bool = option(True, "Bring vectors to unit length, so that inner products are cosines.")
    bf16: str = option(
        "auto",
        "bfloat16 arithmetic: auto uses it where this machine does it in hardware.",
        choices=("auto", "true", "false"),
    )
    dtype: str = option("float32", "How vectors are kept.", choices=("float32", "float16"))
    shard_rows: int = option(8192, "Vectors in a file. At most so many are lost when the run is killed.")
    update: bool = option(
        False,
        "Bring an existing folder up to date: only new and changed items are encoded, others are kept, those that are "
        "gone are dropped. Encodes everything where there is no folder yet.",
    )
    time_budget: float | None = option(None, "Seconds for this call; what does not fit is left to --resume.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.update and self.overwrite:
            raise SettingError("--update and --overwrite contradict each other; give one of them.")
        if self.data is not None and self.towers is not None:
            raise SettingError("Give either --data or --towers.")
        if self.towers is None:
            if self.items is not None or self.interactions is not None:
                raise SettingError("--items and --interactions go with --towers; items to encode are --data.")
            return
        if self.items is None and self.interactions is None:
            raise SettingError("--towers needs --items, --interactions, or both: what is new.")
        for spec in dataclasses.fields(self):
            if spec.name not in _OF_TOWERS and getattr(self, spec.name) != spec.default:
                raise SettingError(
                    f"{flag(spec.name)} goes with --data; --towers are read, and read items, as they were trained."
                )
