"""Options of the verbs, typed once: the Python arguments and the command line are both made from these classes.

Names are those of transformers' TrainingArguments and peft's LoraConfig. Those of other verbs
are in `contrast_options.py`, `two_tower_options.py`, `index_options.py` and their like.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.errors import SettingError
from warmstart.core.option import check_options, option, required
from warmstart.core.sizes import read_bytes

STRATEGIES = ("zero_shot", "linear_probe", "fine_tune", "progressive", "lora", "scratch")
EFFORTS = ("rules", "probe", "pilot")
METRICS = ("accuracy", "macro_f1", "log_loss")
AUTO = "auto"  # as a learning rate: find one


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
class ReadOptions:
    """How to read a pretrained model, whichever it is."""

    revision: str | None = option(None, "Branch, tag or commit on the Hub.")
    pooling: str | None = option(
        None,
        "How token vectors become one. Default: what the model states; where that is the mean, labelled texts may show "
        "that cls+mean is better.",
        choices=("mean", "cls", "max", "lasttoken", "cls+mean"),
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


@dataclass(frozen=True, kw_only=True)
class LoadOptions(ReadOptions):
    """The same, and where to keep what it gave."""

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
class ZeroShotOptions:
    """How label names become sentences."""

    template: str | tuple[str, ...] = option(
        (),
        "Sentence around a label's name for zero-shot, with {} for the name; more than one are averaged. Default: "
        "three neutral ones. Say what your rows are, such as 'I bought {}.' or 'a satellite photo of {}.'.",
        many=True,
    )

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates, each once; none for the default ones."""
        return tuple(dict.fromkeys((self.template,) if isinstance(self.template, str) else self.template))


def check_templates(templates: tuple[str, ...]) -> None:
    """Whether each says once where the name goes.

    Raises:
        SettingError: naming the one that does not.
    """
    for template in templates:
        if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
            raise SettingError(f"--template is {template!r}; it must have {{}} once, where the name of the label goes.")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(LoraOptions, ZeroShotOptions):
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
    overwrite: bool = option(
        False,
        "Replace an existing result, or start an unfinished run again. A folder of anything else is never replaced.",
    )
    resume: bool = option(False, "Go on with an unfinished run from its last whole checkpoint.")


@dataclass(frozen=True, kw_only=True)
class AdaptOptions(OutputOptions, ReferenceOptions, TrainOptions, ModelOptions, DataOptions):
    """Options of `adapt`."""

    strategy: str = option("auto", "How to adapt.", choices=("auto", *STRATEGIES))

    def __post_init__(self) -> None:
        check_options(self)
        check_templates(self.templates)


@dataclass(frozen=True, kw_only=True)
class CompareOptions(OutputOptions, ReferenceOptions, TrainOptions, ModelOptions, DataOptions):
    """Options of `compare`."""

    strategies: str = option("all", f"Comma-separated: {', '.join(STRATEGIES)}; or all.")
    seeds: int = option(3, "Paired seeds: each draws its own validation rows, order and initial values.")

    def __post_init__(self) -> None:
        check_options(self)
        check_templates(self.templates)


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
        check_options(self)
        check_templates(self.templates)
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
