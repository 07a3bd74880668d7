"""Options of `contrast`: sentences, clip and simclr. Those of two-tower are in `two_tower_options.py`."""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.errors import SettingError
from warmstart.core.option import check_options, option, required
from warmstart.core.options import LoraOptions, ModelOptions, OutputOptions


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
class ContrastCoreOptions(LoraOptions):
    """How to train by contrast, whoever looks for whom."""

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
    weight_decay: float = option(0.01, "Decoupled weight decay; never on norms, biases and the temperature.")
    warmup_steps: float = option(0.1, "Warm-up: a fraction below 1 of each group's steps, or a count.")
    dropout: float | None = option(
        None,
        "Dropout of the encoders while they learn. Default: the models' own. At 0 several processes see the losses "
        "of one with their whole batch; otherwise each draws its own.",
    )
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
class ContrastTrainOptions(ContrastCoreOptions):
    """How to train by contrast where queries and candidates are of two kinds."""

    direction: str = option(
        "symmetric",
        "Who looks for whom: anchors for positives, positives for anchors, or both.",
        choices=("forward", "backward", "symmetric"),
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
class CaptionDataOptions:
    """Where the captioned images are. Sizes count images: an image is on one side of every split."""

    captions: str = required(
        "CSV, TSV, JSONL or Parquet file, or `datasets` name, with a column of images and one of captions; an image "
        "may have several."
    )
    images: str | None = option(
        None, "Folder that the image names start from. Default: the folder of the captions' file."
    )
    image_column: str | None = option(None, "Column with the images. Guessed, and shown, when not given.")
    caption_column: str | None = option(None, "Column with the captions. Guessed, and shown, when not given.")
    train_size: float | None = option(
        None, "Images to learn from: a count, or a fraction below 1. Default: all that --test-size leaves."
    )
    test_size: float = option(0.1, "Images to judge by: a count, or a fraction below 1.")
    validation_size: float = option(0.1, "Images kept for choosing the checkpoint: a count, or a fraction below 1.")
    drop_invalid: bool = option(
        False, "Leave out rows whose image cannot be read or whose caption is empty; they are counted."
    )
    seed: int = option(42, "Seed of the splits, the batches, the new heads and the training.")


LOCKS = ("none", "vision", "text", "both")


@dataclass(frozen=True, kw_only=True)
class PairModelOptions:
    """The two towers to start from, or a pair that is one already."""

    vision_model: str | None = option(None, "Hub name, folder, or packaged model that reads images.")
    text_model: str | None = option(None, "Hub name, folder, or packaged model that reads texts.")
    model: str | None = option(
        None, "Instead of the two: a CLIP-like model, or a result of contrast clip, to go on with."
    )
    lock: str = option(
        "none",
        "Which tower keeps its weights: it is in evaluation mode, and what it gives for each row is computed once. A "
        "new head on it still learns.",
        choices=LOCKS,
    )
    projection: str = option(
        "linear", "What is put on each tower: a linear layer, or one with a hidden layer.", choices=("linear", "mlp")
    )
    projection_dim: int = option(512, "Width of the space that images and texts share.")
    vision_pooling: str | None = option(
        None, "How an image tower's output becomes one vector.", choices=("mean", "cls", "max", "pooler")
    )
    text_pooling: str | None = option(
        None,
        "How token vectors become one: overrides what the text model states.",
        choices=("mean", "cls", "max", "lasttoken"),
    )
    max_length: int | None = option(
        None, "Longest caption, in tokens; longer ones are cut. Default: what the model states, at most 256."
    )
    image_size: int | None = option(
        None, "Side of the square that images are resized to, in pixels. Default: what the model states."
    )
    trust_remote_code: bool = option(
        False, "Run code that comes with a model. Only for models whose code you have read."
    )
    cache_dir: str | None = option(
        None, "Folder of what locked towers give. Default: $WARMSTART_CACHE or ~/.cache/warmstart."
    )


@dataclass(frozen=True, kw_only=True)
class ContrastClipOptions(OutputOptions, ContrastTrainOptions, PairModelOptions, CaptionDataOptions):
    """Options of `contrast clip`."""

    learning_rate: float = option(2e-4, "Peak rate of the last group of layers below the new heads.")
    head_learning_rate: float = option(1e-3, "Peak rate of the new heads, and of a learnt temperature.")
    per_device_train_batch_size: int = option(
        256, "Pairs per step and process: the pool in which each caption looks for its image."
    )
    mini_batch_size: int = option(
        64, "Rows of one forward pass. Memory grows with it, not with the batch (gradient caching)."
    )
    temperature: float | None = option(  # type: ignore[assignment]
        None,
        "What cosines are divided by at the start. Lower looks at the hardest only. Default: 0.07, or that of --model.",
    )
    learn_temperature: bool = option(True, "Train the temperature, between 0.01 and 1.")
    direction: str = option(
        "symmetric",
        "Who looks for whom: images for captions, captions for images, or both.",
        choices=("forward", "backward", "symmetric"),
    )
    augment: str = option(
        "auto",
        "Random crops and flips of training images (auto: on where the image tower is not locked).",
        choices=("auto", "true", "false"),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.lora and self.lock == "both":
            raise SettingError(
                "--lora adapts towers that learn, and --lock both leaves none: lock one, or leave out --lora."
            )


@dataclass(frozen=True, kw_only=True)
class ImageDataOptions:
    """Where images without labels are."""

    images: str = required(
        "Folder of images (folders within it are looked through), a table with a column of paths, a .txt file with a "
        "path a line, or a `datasets` name. Labels are not needed."
    )
    image_column: str | None = option(None, "Column with image paths, for tables. Guessed when not given.")
    labels: bool = option(
        False, "Also measure, before and after, how well nearest neighbours name the folder that each image lies in."
    )
    label_column: str | None = option(None, "The same for tables: the column with the classes.")
    train_size: float | None = option(
        None, "Images to learn from: a count, or a fraction below 1. Default: all that --test-size leaves."
    )
    test_size: float = option(0.1, "Images to judge by: a count, or a fraction below 1.")
    validation_size: float = option(0.1, "Images kept for choosing the checkpoint: a count, or a fraction below 1.")
    drop_invalid: bool = option(False, "Leave out images that cannot be read; they are counted.")
    seed: int = option(42, "Seed of the splits, the views and the training.")


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How two views of an image are made."""

    augmentation: str = option(
        "simclr",
        "How much views differ: simclr (as on ImageNet), cifar (small images: half the colour, no blur), or mild.",
        choices=("simclr", "cifar", "mild"),
    )
    crop_scale: float | None = option(None, "Smallest share of an image's area that a view shows.")
    color_jitter: float | None = option(
        None, "Strength s: brightness, contrast and saturation change by up to 0.8 s, hue by up to 0.2 s. 0: none."
    )
    grayscale: float | None = option(None, "Share of views without colour.")
    blur: float | None = option(None, "Share of views that are blurred.")


@dataclass(frozen=True, kw_only=True)
class ContrastSimclrOptions(OutputOptions, ViewOptions, ContrastCoreOptions, ModelOptions, ImageDataOptions):
    """Options of `contrast simclr`."""

    model: str = option(
        "EfficientNet-Lite0",
        "Hub name, folder, or packaged model to start from; with --from-scratch also a configuration file.",
    )
    from_scratch: bool = option(False, "Use the model's architecture with random weights.")
    projection_dim: int = option(128, "Width of the projection head's output; the head is dropped at the end.")
    projection_norm: str = option("batch", "Normalisation inside of the projection head.", choices=("batch", "none"))
    learning_rate: float | None = option(  # type: ignore[assignment]
        None, "Peak rate of the last group of layers. Default: 1e-4 from pretrained weights, 1e-3 from random ones."
    )
    layer_decay: float = option(
        0.9, "Each group's rate is this times the rate of the group above it (0 to 1]. Not used --from-scratch."
    )
    head_learning_rate: float = option(1e-3, "Peak rate of the projection head, and of a learnt temperature.")
    num_train_epochs: float = option(10.0, "Passes over the training images.")
    per_device_train_batch_size: int = option(
        256, "Images per step and process: each view looks for its other view among all views of these."
    )
    mini_batch_size: int = option(
        64,
        "Images of one forward pass. Memory grows with it, not with the batch (gradient caching). Quickest is a whole "
        "batch.",
    )
    temperature: float = option(0.1, "What cosines are divided by. Lower looks at the hardest negatives only.")

    def __post_init__(self) -> None:
        check_options(self)
