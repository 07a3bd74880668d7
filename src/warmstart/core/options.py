"""Options of the verbs, typed once: the Python arguments and the command line are both made from these classes.

Names are those of transformers' TrainingArguments and peft's LoraConfig. Checks that need data or a model live with
what they check.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from warmstart.core.errors import SettingError
from warmstart.core.sizes import read_bytes

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741 - the options
R = TypeVar("R")

STRATEGIES = ("zero_shot", "linear_probe", "fine_tune", "progressive", "lora", "scratch")
EFFORTS = ("rules", "probe", "pilot")
METRICS = ("accuracy", "macro_f1", "log_loss")


AUTO = "auto"  # as a learning rate: find one


def option(
    default: Any,
    text: str,
    *,
    short: str = "",
    choices: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    many: bool = False,
) -> Any:
    """A field with its help text, an optional one-letter flag and the values it may take.

    `words` are what a field may hold that is otherwise a number; `many` is for what may be given more than once.
    """
    metadata = {"help": text, "short": short, "choices": choices, "words": words, "many": many}
    return field(default=default, metadata=metadata)


def required(text: str, *, argument: bool = False) -> Any:
    """A field without a default; on the command line an option, or a bare argument."""
    return field(metadata={"help": text, "short": "", "choices": (), "argument": argument})


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the rows are and what their columns mean."""

    data: str = required(
        "CSV, TSV, JSONL or Parquet file, image folder (one folder per class), `datasets` name, or sample:reviews."
    )
    text_column: str | None = option(None, "Column with the text. Guessed, and shown, when not given.")
    text_pair_column: str | None = option(None, "Column with the second text, for pairs.")
    image_column: str | None = option(None, "Column with image paths (relative to the table) for tables of images.")
    label_column: str | None = option(None, "Column with the label. Guessed, and shown, when not given.")
    group_column: str | None = option(
        None, "Rows that share a value here (one customer, say) stay on one side of every split."
    )
    test_data: str | None = option(None, "A separate file to judge by, instead of a split of --data.")
    train_size: float | None = option(
        None, "Labelled rows to learn from: a count, or a fraction below 1. Default: all that --test-size leaves."
    )
    test_size: float = option(0.2, "Rows to judge by: a count, or a fraction below 1.")
    validation_size: float = option(
        0.15, "Share of the labelled rows kept for choosing settings: a count, or a fraction below 1."
    )
    drop_invalid: bool = option(False, "Leave out the rows that would stop the run; they are counted and listed.")
    seed: int = option(42, "Seed of the splits, the batches and the training.")


DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How to read a pretrained model, whichever it is."""

    revision: str | None = option(None, "Branch, tag or commit on the Hub.")
    pooling: str | None = option(
        None,
        "How token vectors become one: overrides what the model states.",
        choices=("mean", "cls", "max", "lasttoken"),
    )
    max_length: int | None = option(
        None, "Longest text, in tokens; longer texts are cut. Default: what the model states, at most 256."
    )
    image_size: int | None = option(
        None, "Side of the square that images are resized to, in pixels. Default: what the model states."
    )
    trust_remote_code: bool = option(
        False, "Run code that comes with the model. Only for models whose code you have read."
    )
    cache_dir: str | None = option(
        None, "Folder of cached features and of the ledger. Default: $WARMSTART_CACHE or ~/.cache/warmstart."
    )


@dataclass(frozen=True, kw_only=True)
class ModelOptions(LoadOptions):
    """Which pretrained model to start from."""

    model: str = option(DEFAULT_MODEL, "Hub name, folder, or packaged model to start from.")


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Low-rank adapters."""

    r: int = option(8, "LoRA rank.")
    lora_alpha: int = option(16, "LoRA scaling numerator.")
    lora_dropout: float = option(0.05, "LoRA dropout.")
    target_modules: str = option("all-linear", "Modules that get LoRA, comma-separated, or all-linear.")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(LoraOptions):
    """How to train. What is not given is chosen by the plan."""

    learning_rate: float | str | None = option(
        None, "Peak rate of the last group below the head; auto finds one by a range test.", words=(AUTO,)
    )
    layer_decay: float | None = option(None, "Each group's rate is this times the rate of the group above it (0 to 1].")
    head_learning_rate: float | None = option(None, "Peak rate of the head.")
    group_rates: str | None = option(
        None, "Peak rates of some groups, as `warmstart groups` names them: embeddings=1e-6,layer.0=1e-5."
    )
    unfreeze: str = option(
        "stages",
        "When --strategy progressive opens groups: stages (equal, last to first), plateau (the next one when the "
        "validation score has stopped rising), or fractions of training: head=0,layer.5=0.2,layer.4=0.4.",
    )
    unfreeze_patience: int = option(1, "Evaluations without a better score after which a plateau opens a group.")
    num_train_epochs: float | None = option(None, "Passes over the training rows.")
    max_steps: int | None = option(None, "Optimizer steps, instead of --num-train-epochs.")
    per_device_train_batch_size: int = option(16, "Rows per step and device.")
    gradient_accumulation_steps: int = option(1, "Steps whose gradients are summed before an update.")
    weight_decay: float = option(0.01, "Decoupled weight decay; never on norms and biases.")
    l2_sp: float = option(
        0.0, "Pull of the pretrained weights back to where they started (L2-SP), in place of their weight decay."
    )
    ema_decay: float | None = option(
        None, "Decay per step of a moving average of the weights, which is judged and kept in their place; 0: none."
    )
    wise_alpha: float | str | None = option(
        None,
        "Share of the adapted weights in the result, the rest being the original ones (WiSE-FT); auto chooses it on "
        "the validation rows. Default: 0.7 for fine_tune on texts, else 1.",
        words=(AUTO,),
    )
    max_forgetting: float | None = option(
        None,
        "Share of each reference row's ten nearest neighbours that may be lost; --wise-alpha is chosen to keep to it.",
    )
    warmup_steps: float = option(0.1, "Warm-up: a fraction below 1 of each group's steps, or a count.")
    label_smoothing_factor: float | None = option(None, "Label smoothing, from 0 to below 1.")
    class_weights: str = option("none", "Weigh classes by inverse frequency.", choices=("none", "balanced"))
    early_stopping_patience: int | None = option(None, "Stop after this many evaluations without improvement.")
    metric_for_best_model: str = option("accuracy", "What selects checkpoints and strategies.", choices=METRICS)
    bf16: str = option(
        "auto",
        "bfloat16 autocast: auto uses it where this machine is faster with it.",
        choices=("auto", "true", "false"),
    )
    gradient_checkpointing: bool = option(False, "Trade time for memory.")
    cache_gb: float = option(
        2.0, "Disk that may hold what frozen lower layers give for each row, so that it is computed once. 0: none."
    )
    augment: str = option(
        "auto", "Random crops and flips of training images (auto: on for images).", choices=("auto", "true", "false")
    )
    report_to: str = option("none", "Trainer's experiment trackers, comma-separated.")
    time_budget: float | None = option(
        None, "Seconds for the whole run; training stops inside it and keeps the best checkpoint."
    )


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions:
    """On which rows to measure what a trained strategy forgets."""

    reference_data: str | None = option(
        None,
        "Rows unlike --data to measure forgetting on; the same kinds of files, labels are not needed. `none` measures "
        "nothing. Default: rows of a sample package.",
    )


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the result goes."""

    output_dir: str = required("Folder for the result. It appears only when the result is complete.")
    overwrite: bool = option(False, "Replace an existing result, or start an unfinished run again.")
    resume: bool = option(False, "Go on with an unfinished run from its last whole checkpoint.")


@dataclass(frozen=True, kw_only=True)
class AdaptOptions(OutputOptions, ReferenceOptions, TrainOptions, ModelOptions, DataOptions):
    """Options of `adapt`."""

    strategy: str = option("auto", "How to adapt.", choices=("auto", *STRATEGIES))

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class CompareOptions(OutputOptions, ReferenceOptions, TrainOptions, ModelOptions, DataOptions):
    """Options of `compare`."""

    strategies: str = option("all", f"Comma-separated: {', '.join(STRATEGIES)}; or all.")
    seeds: int = option(3, "Paired seeds: each draws its own validation rows, order and initial values.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class AdviseOptions(TrainOptions, LoadOptions, DataOptions):
    """Options of `advise`."""

    data: str = option(
        "",
        "CSV, TSV, JSONL or Parquet file, image folder (one folder per class), `datasets` name, or sample:reviews. "
        "Needed, but with --scorecard.",
    )
    model: str | tuple[str, ...] = option(
        DEFAULT_MODEL,
        "Hub name, folder, packaged model, or a configuration file without weights. Given more than once, the models "
        "are ranked.",
        many=True,
    )
    effort: str | None = option(
        None,
        "What may be spent on the answer: rules (seconds: counts, words and timings), probe (one pass over the "
        "labelled rows), or pilot (then short trainings). Default: probe, and rules where there are no weights.",
        choices=EFFORTS,
    )
    pilot_share: float = option(
        0.2, "Most that --effort pilot spends on short trainings: a share of --time-budget, or of training everything."
    )
    device_memory: str | None = option(
        None, "Memory to train in, such as 24GB; what needs more is ruled out. Default: what this machine has."
    )
    reference_data: str | None = option(
        None,
        "Rows of the model's own domain, to tell how far --data is from it; labels are not needed. `none` measures no "
        "distance. Default: rows of a sample package.",
    )
    scorecard: bool = option(
        False, "Instead of advice: how far the forecasts of past runs were off, from the ledger of adapt and compare."
    )

    def __post_init__(self) -> None:
        if not isinstance(self.model, str):
            object.__setattr__(self, "model", tuple(self.model))  # a list is as good
        check_options(self)
        if not self.models:
            raise SettingError("--model is empty; name at least one.")
        self.device_bytes()

    @property
    def models(self) -> tuple[str, ...]:
        """The models, each once."""
        return tuple(dict.fromkeys((self.model,) if isinstance(self.model, str) else self.model))

    def device_bytes(self) -> int | None:
        """`device_memory` in bytes; None when it was not given.

        Raises:
            SettingError: when it is no size.
        """
        return None if self.device_memory is None else read_bytes(self.device_memory, "--device-memory")


@dataclass(frozen=True, kw_only=True)
class PairDataOptions:
    """Where the pairs are and what their columns mean."""

    data: str = required("CSV, TSV, JSONL or Parquet file, `datasets` name, or sample:reviews.")
    anchor_column: str | None = option(None, "Column with the first text of a pair, or with the texts of groups.")
    positive_column: str | None = option(None, "Column with the text that belongs to it.")
    negative_column: str | None = option(None, "Column with a text that does not belong to it, for triplets.")
    label_column: str | None = option(None, "Column whose values make groups: texts that share one belong together.")
    train_size: float | None = option(
        None, "Pairs to learn from: a count, or a fraction below 1. Default: all that --test-size leaves."
    )
    test_size: float = option(0.1, "Pairs to judge by: a count, or a fraction below 1.")
    validation_size: float = option(0.1, "Pairs kept for choosing the checkpoint: a count, or a fraction below 1.")
    drop_invalid: bool = option(False, "Leave out rows with an empty text; they are counted.")
    seed: int = option(42, "Seed of the splits, the batches and the training.")


@dataclass(frozen=True, kw_only=True)
class ContrastTrainOptions(LoraOptions):
    """How to train by contrast."""

    learning_rate: float = option(5e-5, "Peak rate of the last group of layers.")
    layer_decay: float = option(0.9, "Each group's rate is this times the rate of the group above it (0 to 1].")
    head_learning_rate: float = option(1e-3, "Peak rate of a learnt temperature.")
    group_rates: str | None = option(
        None, "Peak rates of some groups, as `warmstart groups` names them: embeddings=1e-6,layer.0=1e-5."
    )
    unfreeze: str = option(
        "all",
        "When groups open: all from the start, stages (equal, last to first), plateau, or fractions of training: "
        "layer.5=0,layer.4=0.3.",
    )
    unfreeze_patience: int = option(1, "Evaluations without a better score after which a plateau opens a group.")
    num_train_epochs: float = option(1.0, "Passes over the training pairs.")
    max_steps: int | None = option(None, "Optimizer steps, instead of --num-train-epochs.")
    per_device_train_batch_size: int = option(
        128, "Pairs per step and process: the pool in which each anchor looks for its positive."
    )
    mini_batch_size: int = option(
        32, "Rows of one forward pass. Memory grows with it, not with the batch (gradient caching)."
    )
    temperature: float = option(0.05, "What cosines are divided by. Lower looks at the hardest negatives only.")
    learn_temperature: bool = option(False, "Train the temperature, between 0.01 and 1.")
    direction: str = option(
        "symmetric",
        "Who looks for whom: anchors for positives, positives for anchors, or both.",
        choices=("forward", "backward", "symmetric"),
    )
    weight_decay: float = option(0.01, "Decoupled weight decay; never on norms, biases and the temperature.")
    warmup_steps: float = option(0.1, "Warm-up: a fraction below 1 of each group's steps, or a count.")
    early_stopping_patience: int | None = option(None, "Stop after this many evaluations without improvement.")
    evaluations: int = option(5, "How often to judge by the validation pairs, and to keep a checkpoint.")
    bf16: str = option(
        "auto",
        "bfloat16 autocast: auto uses it where this machine is faster with it.",
        choices=("auto", "true", "false"),
    )
    lora: bool = option(False, "Train LoRA adapters only, and merge them into the result.")
    report_to: str = option("none", "Trainer's experiment trackers, comma-separated.")
    time_budget: float | None = option(
        None, "Seconds for the whole run; training stops inside it and keeps the best checkpoint."
    )


@dataclass(frozen=True, kw_only=True)
class MiningOptions:
    """Hard negatives, searched for with the model as it is before training."""

    num_negatives: int = option(0, "Hard negatives of each anchor, from the training rows' own candidates. 0: none.")
    range_min: int = option(10, "How many of the nearest candidates are passed over: likely unlabelled answers.")
    range_max: int = option(100, "How far down the list of nearest candidates is looked.")
    absolute_margin: float | None = option(None, "A negative scores at least this much below the positive.")
    relative_margin: float | None = option(0.05, "A negative scores at most (1 − this) of the positive.")


@dataclass(frozen=True, kw_only=True)
class ContrastSentencesOptions(OutputOptions, MiningOptions, ContrastTrainOptions, ModelOptions, PairDataOptions):
    """Options of `contrast sentences`."""

    matryoshka_dims: str | None = option(
        None, "Shorter vectors to train for as well, comma-separated: 256,128,64 (Matryoshka)."
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class InteractionOptions:
    """Where the events are, what is known of items and users, and how to judge."""

    interactions: str = required(
        "CSV, TSV, JSONL or Parquet file of user, item and time; .txt lines of user and item, oldest first; or "
        "sample:movielens-ratings."
    )
    items: str | None = option(None, "Table with one row for each item: texts, categories, numbers.")
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
    split: str = option(
        "last",
        "What to judge by: each user's last item, the events after a moment, or items that training never sees.",
        choices=("last", "temporal", "cold_items"),
    )
    test_size: float = option(
        0.1, "Share of the events (temporal) or of the items (cold_items) that is judged by; below 1."
    )
    drop_invalid: bool = option(False, "Leave out rows without user, item or time; they are counted.")
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
    no_floors: bool = option(False, "Do not judge the baselines (popularity, item-kNN, EASE) beside the towers.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.dim % self.heads:
            raise SettingError(f"--dim is {self.dim}; it must be a multiple of --heads, {self.heads}.")
        if self.split != "last" and not self.test_size < 1:
            raise SettingError(f"--test-size is {self.test_size:g}; for --split {self.split} it is a share below 1.")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options of `predict`."""

    result: str = required("Folder that adapt wrote.", argument=True)
    data: str = required("CSV, TSV, JSONL or Parquet file, or image folder, to predict.")
    output: str | None = option(
        None, "File to write: .csv, .tsv, .jsonl or .parquet. Default: next to --data, named …-predictions."
    )
    probabilities: bool = option(False, "Also write one column per label.")
    batch_size: int = option(64, "Rows at a time.")
    overwrite: bool = option(False, "Replace the output file if it exists.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Options of `push`."""

    result: str = required("Folder that adapt wrote.", argument=True)
    repo_id: str = required("Where on the Hub, as user/name.", argument=True)
    private: bool = option(False, "Make the repository private.")
    commit_message: str = option("Adapted with warmstart", "Message of the commit on the Hub.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class GroupsOptions(ModelOptions):
    """Options of `groups`."""

    model: str = required("Hub name, folder, or packaged model.", argument=True)
    learning_rate: float = option(1e-4, "Peak rate of the last group, for the table.")
    layer_decay: float = option(0.8, "Each group's rate is this times the rate of the group above it (0 to 1].")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of `sample`."""

    name: str = required("Which sample: reviews, movielens-ratings, movielens-items or movielens-users.", argument=True)
    output: str = required("File to write: .csv, .tsv, .jsonl or .parquet.")
    rows: int | None = option(None, "Only so many rows, drawn with --seed.")
    seed: int = option(42, "Seed of the draw.")
    overwrite: bool = option(False, "Replace the output file if it exists.")

    def __post_init__(self) -> None:
        check_options(self)


def verb(options: Callable[P, O]) -> Callable[[Callable[[O], R]], Callable[P, R]]:
    """Make a function of an options object callable with the options themselves as keyword arguments.

    Raises:
        SettingError: for an unknown or missing option.
    """

    def decorate(function: Callable[[O], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if args:
                raise SettingError(f"{function.__name__} takes keyword arguments only, such as data=… and model=…")
            known = inspect.signature(options).parameters
            for name in kwargs:
                if name not in known:
                    raise SettingError(f"{function.__name__} has no option {name!r}{_nearest(name, known)}")
            missing = [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in kwargs]
            if missing:
                raise SettingError(f"{function.__name__} needs {', '.join(missing)}")
            if not isinstance(kwargs.get("data", ""), (str, Path)):
                kwargs["data"] = _hand_over(kwargs["data"])
            return function(options(*args, **kwargs))

        call.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
        return call

    return decorate


_handed: dict[str, object] = {}  # rows that a Python caller gave as an object, by the name that options carry


def _hand_over(rows: object) -> str:
    name = f"memory:{type(rows).__name__}"
    _handed[name] = rows
    return name


def handed_over(name: str) -> Any:
    """The object that was given as `data`, or None when it was a name."""
    return _handed.get(name)


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


_RANGES: dict[str, tuple[float, float, str]] = {
    "test_size": (0, float("inf"), "above 0: a count, or a fraction below 1"),
    "train_size": (0, float("inf"), "above 0: a count, or a fraction below 1"),
    "validation_size": (0, float("inf"), "above 0: a count, or a fraction below 1"),
    "learning_rate": (0, 10, "above 0 and at most 10"),
    "head_learning_rate": (0, 10, "above 0 and at most 10"),
    "layer_decay": (0, 1, "above 0 and at most 1"),
    "num_train_epochs": (0, float("inf"), "above 0"),
    "time_budget": (0, float("inf"), "above 0 seconds"),
    "max_steps": (0, float("inf"), "above 0"),
    "max_length": (1, float("inf"), "at least 2 tokens"),
    "image_size": (15, 4096, "between 16 and 4096 pixels"),
    "per_device_train_batch_size": (0, float("inf"), "at least 1"),
    "gradient_accumulation_steps": (0, float("inf"), "at least 1"),
    "early_stopping_patience": (0, float("inf"), "at least 1"),
    "unfreeze_patience": (0, float("inf"), "at least 1"),
    "r": (0, float("inf"), "at least 1"),
    "lora_alpha": (0, float("inf"), "above 0"),
    "mini_batch_size": (0, float("inf"), "at least 1"),
    "temperature": (0, 100, "above 0 and at most 100"),
    "evaluations": (0, float("inf"), "at least 1"),
    "range_max": (0, float("inf"), "at least 1"),
    "batch_size": (0, float("inf"), "at least 1"),
    "rows": (0, float("inf"), "at least 1"),
    "dim": (0, 4096, "between 1 and 4096"),
    "layers": (0, 64, "between 1 and 64"),
    "heads": (0, 64, "between 1 and 64"),
    "max_history": (0, 10_000, "between 1 and 10,000"),
    "seeds": (0, 100, "between 1 and 100"),
    "pilot_share": (0, 1, "above 0 and at most 1"),
}
_FROM_ZERO: dict[str, tuple[float, str]] = {
    "weight_decay": (float("inf"), "0 or more"),
    "num_negatives": (float("inf"), "0 or more"),
    "range_min": (float("inf"), "0 or more"),
    "absolute_margin": (2.0, "at least 0 and below 2"),
    "relative_margin": (1.0, "at least 0 and below 1"),
    "l2_sp": (float("inf"), "0 or more"),
    "ema_decay": (1.0, "at least 0 and below 1"),
    "wise_alpha": (1.0000001, "from 0 to 1"),
    "max_forgetting": (1.0, "at least 0 and below 1"),
    "cache_gb": (float("inf"), "0 or more gigabytes"),
    "warmup_steps": (float("inf"), "0 or more: a count, or a fraction below 1"),
    "label_smoothing_factor": (1.0, "at least 0 and below 1"),
    "lora_dropout": (1.0, "at least 0 and below 1"),
    "dropout": (1.0, "at least 0 and below 1"),
    "id_dropout": (1.0, "at least 0 and below 1"),
    "seed": (2**32, "at least 0 and below 2**32"),
}


def flag(name: str) -> str:
    """The command line's spelling of an option: `time_budget` → `--time-budget`."""
    return "--" + name.replace("_", "-")


def check_options(options: Any) -> None:
    """Check every value on its own.

    Raises:
        SettingError: naming the option, its value and what it may be.
    """
    for spec in dataclasses.fields(options):
        value = getattr(options, spec.name)
        if isinstance(value, Path):
            object.__setattr__(options, spec.name, str(value))
            continue
        choices = spec.metadata.get("choices", ())
        if value is not None and choices and value not in choices:
            raise SettingError(f"{flag(spec.name)} is {value!r}; it must be one of: {', '.join(choices)}.")
        words = spec.metadata.get("words", ())
        low, high, text = _RANGES.get(spec.name, (-float("inf"), float("inf"), ""))
        if isinstance(value, str) and words and value not in words:
            raise SettingError(f"{flag(spec.name)} is {value!r}; it must be a number {text}, or {', '.join(words)}.")
        if value is None or isinstance(value, (str, bool, tuple)):
            continue
        bad = not low < value <= high
        if spec.name in _FROM_ZERO:
            high, text = _FROM_ZERO[spec.name]
            bad = not 0 <= value < high
        if bad:
            raise SettingError(f"{flag(spec.name)} is {value}; it must be {text}.")
