import dataclasses
import inspect
import typing
from pathlib import Path

import pytest

from warmstart.core import (
    contrast_options,
    encode_options,
    index_options,
    option,
    options,
    ranker_options,
    serving_options,
    two_tower_options,
)
from warmstart.core.errors import SettingError, UserError
from warmstart.core.option import verb
from warmstart.core.options import AdaptOptions

ROOMS = (options, contrast_options, encode_options, index_options, ranker_options, serving_options, two_tower_options)
CLASSES = [c for room in ROOMS for c in vars(room).values() if isinstance(c, type) and hasattr(c, "__post_init__")]


@verb(AdaptOptions)
def adapt(given) -> AdaptOptions:
    """Adapt.

    Raises:
        UserError: something must change.
    """
    return given


def call(**given):
    return adapt(data="x.csv", output_dir="out", **given)


def test_a_verb_hands_over_its_options():
    got = call(learning_rate=1e-4, strategy="lora")
    assert isinstance(got, AdaptOptions)
    assert (got.learning_rate, got.strategy, got.seed) == (1e-4, "lora", 42)
    assert adapt.__name__ == "adapt"
    assert adapt.__doc__.startswith("Adapt.\n\nArgs:\n    data: CSV")
    assert adapt.__doc__.endswith("\n\nRaises:\n    UserError: something must change.")
    assert adapt.__doc__.count("\n    learning_rate: Peak rate") == 1
    assert inspect.signature(adapt).return_annotation is AdaptOptions
    assert "learning_rate" in inspect.signature(adapt).parameters


def test_what_python_callers_write_in_another_way():
    assert call(bf16=True).bf16 == "true"
    assert call(bf16=False).bf16 == "false"
    assert call(model=Path("a")).model == "a"
    given = {"data": "x.csv", "anchor_column": "a", "positive_column": "b", "output_dir": "out"}
    sentences = contrast_options.ContrastSentencesOptions
    assert sentences(**given, matryoshka_dims=[64, 32]).matryoshka_dims == "64,32"
    with pytest.raises(SettingError, match="--temperature is 'hot'; it must be a number"):
        sentences(**given, temperature="hot")


def test_lora_needs_a_tower_that_learns():
    given = {"images": "i", "captions": "c.tsv", "output_dir": "out", "lora": True}
    with pytest.raises(SettingError, match="--lock both leaves none"):
        contrast_options.ContrastClipOptions(**given, lock="both")
    assert contrast_options.ContrastClipOptions(**given, lock="text").lora


def test_unknown_option_names_the_nearest():
    with pytest.raises(SettingError, match=r"adapt has no option 'learning_rat'; did you mean 'learning_rate'\?"):
        call(learning_rat=1)
    with pytest.raises(SettingError, match=r"adapt has no option 'zzz'$"):
        call(zzz=1)


def test_missing_and_positional_options():
    with pytest.raises(SettingError, match="adapt needs output_dir"):
        adapt(data="x.csv")
    with pytest.raises(SettingError, match="data, output_dir"):
        adapt()
    with pytest.raises(SettingError, match="keyword arguments only"):
        adapt("x.csv")


def test_a_bad_setting_exits_with_two():
    assert issubclass(SettingError, UserError)
    assert SettingError.exit_code == 2


def test_paths_become_text():
    assert call(cache_dir=Path("a") / "b").cache_dir == "a/b"


BAD = {
    "strategy": ["magic"],
    "metric_for_best_model": ["f2"],
    "bf16": ["yes"],
    "class_weights": ["heavy"],
    "pooling": ["median"],
    "learning_rate": [0, -1e-3, 11, float("nan"), "automatic", "", "1e-4"],
    "head_learning_rate": [0],
    "layer_decay": [0, 1.01],
    "num_train_epochs": [0, -1, float("inf")],
    "max_steps": [0],
    "time_budget": [0, -5, float("inf")],
    "test_size": [0, -0.1],
    "train_size": [0],
    "validation_size": [0],
    "max_length": [1],
    "image_size": [15, 5000],
    "per_device_train_batch_size": [0],
    "gradient_accumulation_steps": [0],
    "early_stopping_patience": [0],
    "r": [0],
    "lora_alpha": [0],
    "weight_decay": [-0.1, float("inf")],
    "warmup_steps": [-1],
    "label_smoothing_factor": [-0.1, 1.0],
    "lora_dropout": [1.0],
    "seed": [-1, 2**32, 10**400],
}
GOOD = {
    "layer_decay": [0.01, 1],
    "learning_rate": [None, 10, "auto"],
    "seed": [0, 2**32 - 1],
    "label_smoothing_factor": [0, 0.99],
    "weight_decay": [0],
    "image_size": [16, 4096],
    "max_length": [2],
    "time_budget": [None, 0.5],
    "pooling": [None, "cls"],
    "strategy": ["auto", *options.STRATEGIES],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in BAD.items() for v in vs])
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(SettingError) as caught:
        call(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{option.flag(name)} is ")
    assert "it must be" in message
    assert str(value) in message


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in GOOD.items() for v in vs])
def test_values_at_the_edge_are_taken(name, value):
    assert getattr(call(**{name: value}), name) == value


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_option_is_explained_and_its_default_is_valid(kind):
    needed = {f.name: "x" for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    made = kind(**needed)
    hints = typing.get_type_hints(kind)
    for spec in dataclasses.fields(kind):
        assert spec.metadata["help"].endswith(".")
        assert spec.name in hints
        choices, value = spec.metadata["choices"], getattr(made, spec.name)
        assert not choices or value is None or value in choices
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.data = "y"


def test_ranges_speak_of_options_that_exist():
    names = {f.name for kind in CLASSES for f in dataclasses.fields(kind)}
    assert set(option._RANGES) <= names
    assert set(option._FROM_ZERO) <= names


def test_every_verb_has_options():
    assert {"AdaptOptions", "CompareOptions", "AdviseOptions", "PredictOptions", "PushOptions", "GroupsOptions"} <= {
        c.__name__ for c in CLASSES
    }


def test_flags():
    assert option.flag("time_budget") == "--time-budget"


def test_templates_may_be_one_or_many():
    assert call().templates == ()
    assert call(template="a {}").templates == ("a {}",)
    given = call(template=["a {}", "b {}", "a {}"])
    assert (given.template, given.templates) == (("a {}", "b {}", "a {}"), ("a {}", "b {}"))
    for wrong in ("none", "{} {}", "{0}", "{} {x}"):
        with pytest.raises(SettingError, match="--template"):
            call(template=("a {}", wrong))
