"""The options of `contrast two-tower`: the events, what is known of items and users, and the two towers."""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.errors import SettingError
from warmstart.core.option import check_options, option, required
from warmstart.core.options import DEFAULT_MODEL, OutputOptions


@dataclass(frozen=True, kw_only=True)
class InteractionOptions:
    """Where the events are, what is known of items and users, and how to judge."""

    interactions: str = required(
        "CSV, TSV, JSONL or Parquet file of user, item and time; .txt lines of user and item, oldest first; or "
        "sample:movielens-ratings."
    )
    items: str | None = option(None, "Table with one row for each item: texts, categories, numbers, pictures.")
    users: str | None = option(None, "Table with one row for each user: categories, numbers.")
    user_column: str | None = option(None, "Column with the user. Guessed by its name, and shown, when not given.")
    item_column: str | None = option(None, "Column with the item. Guessed by its name, and shown, when not given.")
    time_column: str | None = option(
        None, "Column with the time: a number or a date. Without one, the order of the file counts."
    )
    weight_column: str | None = option(None, "Column with a rating or another weight, for --min-weight.")
    event_column: str | None = option(None, "Column with the kind of event, for --events.")
    min_weight: float | None = option(None, "Leave out events of a lower weight.")
    events: str | None = option(None, "Only these kinds of events, comma-separated.")
    items_id_column: str | None = option(None, "Column of --items with the id. Default: named like --item-column.")
    users_id_column: str | None = option(None, "Column of --users with the id. Default: named like --user-column.")
    title_column: str | None = option(None, "Column of --items with what to call an item in the report.")
    text_columns: str | None = option(
        None,
        "Columns of --items whose texts are read, comma-separated. Texts, categories and numbers are guessed, and "
        "shown, when none of them is given.",
    )
    category_columns: str | None = option(
        None, "Columns of --items with one category, or several separated by | or ;. Comma-separated."
    )
    number_columns: str | None = option(None, "Columns of --items with numbers, comma-separated.")
    image_column: str | None = option(
        None,
        "Column of --items with the path of a picture, from the table's folder on. Guessed, and shown, when none of "
        "these columns is named.",
    )
    split: str = option(
        "last",
        "What to judge by: each user's last item, the events after a moment, or items that training never sees.",
        choices=("last", "temporal", "cold_items"),
    )
    test_size: float = option(
        0.1, "Share of the events (temporal) or of the items (cold_items) that is judged by; below 1."
    )
    drop_invalid: bool = option(
        False,
        "Leave out rows without a user, an item or a time that can be read, and pictures that cannot be used; they are "
        "counted.",
    )
    seed: int = option(42, "Seed of the split, the batches and the training.")


@dataclass(frozen=True, kw_only=True)
class TwoTowerTrainOptions:
    """How to build and train two towers."""

    dim: int = option(64, "Length of the vectors of users and items.")
    layers: int = option(2, "Blocks of the transformer that reads a history.")
    heads: int = option(2, "Attention heads of a block.")
    max_history: int = option(100, "How many of the latest items of a history are read.")
    dropout: float = option(0.2, "Dropout in the user tower.")
    id_dropout: float = option(
        0.1, "How often an item is shown by its content alone in training, so that new items have good vectors."
    )
    negatives: str = option(
        "auto",
        "Whom the next item is told from: the whole catalogue, the items of the batch, or these mixed with uniform or "
        "popular draws. auto: the catalogue up to 4,096 items, above it mixed.",
        choices=("auto", "catalogue", "in_batch", "uniform", "popular", "mixed"),
    )
    num_negatives: int = option(2048, "Draws of one step, besides the items of the batch.")
    no_log_q: bool = option(False, "Leave out the correction for how often each candidate is drawn.")
    temperature: float = option(0.07, "What cosines are divided by.")
    learn_temperature: bool = option(False, "Train the temperature, between 0.01 and 1.")
    learning_rate: float = option(2e-3, "Peak rate.")
    head_learning_rate: float = option(1e-3, "Peak rate of a learnt temperature.")
    weight_decay: float = option(0.01, "Decoupled weight decay; never on norms, biases and the temperature.")
    warmup_steps: float = option(0.05, "Warm-up: a fraction of the steps below 1, or a count.")
    num_train_epochs: float = option(20.0, "Passes over the histories.")
    max_steps: int | None = option(None, "Optimizer steps, instead of --num-train-epochs.")
    per_device_train_batch_size: int = option(32, "Histories per step.")
    early_stopping_patience: int | None = option(None, "Stop after this many evaluations without improvement.")
    evaluations: int = option(10, "How often to judge by the validation questions, and to keep a checkpoint.")
    report_to: str = option("none", "Trainer's experiment trackers, comma-separated.")
    time_budget: float | None = option(
        None, "Seconds for the whole run; training stops inside it and keeps the best checkpoint."
    )


@dataclass(frozen=True, kw_only=True)
class ContrastTwoTowerOptions(OutputOptions, TwoTowerTrainOptions, InteractionOptions):
    """Options of `contrast two-tower`."""

    model: str = option(DEFAULT_MODEL, "Encoder of the items' texts, which stays as it is; none leaves texts out.")
    image_model: str = option(
        "EfficientNet-Lite0", "Encoder of the items' pictures, which stays as it is; none leaves pictures out."
    )
    no_floors: bool = option(False, "Do not judge the baselines (popularity, item-kNN, EASE) beside the towers.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.dim % self.heads:
            raise SettingError(f"--dim is {self.dim}; it must be a multiple of --heads, {self.heads}.")
        if self.split != "last" and not self.test_size < 1:
            raise SettingError(f"--test-size is {self.test_size:g}; for --split {self.split} it is a share below 1.")
