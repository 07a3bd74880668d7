"""One suite of behaviour for every strategy, on tiny backbones and toy tasks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.load import load_backbone
from warmstart.core.clock import Clock
from warmstart.core.errors import SettingError, StrategyNotPossibleError
from warmstart.core.options import AdviseOptions
from warmstart.strategies import rate_search
from warmstart.strategies.protocol import Outcome, Rows, Settings
from warmstart.strategies.table import STRATEGY, TRAINED, settings_for
from warmstart.train.forgetting import take_reference
from warmstart.train.unfreezing import Unfreezing
from warmstart.verbs.scoring import frozen_logits

LEARNING = ("linear_probe", *TRAINED)
_TASKS: dict[str, toy.Task] = {}
_DONE: dict[tuple[str, str], Outcome] = {}


def task(name: str) -> toy.Task:
    if name not in _TASKS:
        _TASKS[name] = toy.task(name)
    return _TASKS[name]


def outcome(strategy: str, name: str, tmp_path_factory) -> Outcome:
    """Each strategy once on each backbone."""
    if (strategy, name) not in _DONE:
        made = toy.context(task(name), tmp_path_factory.mktemp("run"))
        _DONE[strategy, name] = STRATEGY[strategy](made)
    return _DONE[strategy, name]


def accuracy(model: Classifier, toy_task: toy.Task) -> float:
    logits = forward(model, toy_task.validation, dtype=torch.float32, device=toy.CPU).logits
    return float((logits.argmax(1) == toy_task.validation_labels).mean())


@pytest.fixture(params=["bert", "efficientnet_lite"])
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("strategy", LEARNING)
def test_learns_and_gives_a_plain_classifier(strategy: str, name: str, tmp_path_factory) -> None:
    pristine = toy.weights(task(name).backbone.encoder)
    found = outcome(strategy, name, tmp_path_factory)
    toy.assert_same(pristine, toy.weights(task(name).backbone.encoder))
    model = found.model
    assert type(model) is Classifier
    assert not any(module.training for module in model.modules())
    assert set(model.state_dict()) == set(task(name).classifier().state_dict())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert not any({"forward", "_original_forward"} & set(module.__dict__) for module in model.modules())
    assert list(model.config.id2label.values()) == list(toy.LABELS)
    assert accuracy(model, task(name)) > 0.6  # a third by chance
    assert (found.note, found.stopped) == ("", False)


@pytest.mark.parametrize("strategy", TRAINED)
def test_tells_how_it_came_about(strategy: str, name: str, tmp_path_factory) -> None:
    found = outcome(strategy, name, tmp_path_factory)
    learning = {row.group for row in found.groups if row.trainable}
    assert learning
    assert all(set(point.rates) == learning for point in found.history)
    scores = [point for point in found.history if point.validation_score is not None]
    assert [point.step for point in scores] == [6, 12, 18, 24]
    assert all(
        earlier.seconds <= later.seconds for earlier, later in zip(found.history, found.history[1:], strict=False)
    )
    assert found.settings["steps"] == 24
    total = sum(parameter.numel() for parameter in found.model.parameters())
    if strategy == "lora":
        counted = [p.numel() for n, p in found.adapter.named_parameters() if "lora_" in n or "modules_to_save" in n]
        assert found.trainable == sum(counted) < total
    else:
        assert found.trainable == total
        assert [row.group for row in found.groups][-1] == "head"
        assert sum(row.parameters for row in found.groups) == total
        named = [name for row in found.groups for name in row.names]
        assert sorted(named) == sorted(name for name, _ in found.model.named_parameters())


@pytest.mark.parametrize("strategy", TRAINED)
def test_batch_norm_keeps_the_pretrained_statistics(strategy: str, tmp_path_factory) -> None:
    before = toy.weights(task("efficientnet_lite").backbone.encoder)
    after = outcome(strategy, "efficientnet_lite", tmp_path_factory).model.state_dict()
    statistics = [name for name in before if "running" in name]
    assert statistics
    kept = [torch.equal(before[name], after[name]) for name in statistics]
    assert not any(kept) if strategy == "scratch" else all(kept)


@pytest.mark.parametrize("strategy", LEARNING)
def test_same_seed_same_bits(strategy: str, tmp_path_factory) -> None:
    def run(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(int(np.random.default_rng().integers(1000)))  # must not matter
        made = toy.context(task("bert"), tmp_path_factory.mktemp("run"), seed=seed, max_steps=4, num_train_epochs=1)
        return toy.weights(STRATEGY[strategy](made).model)

    first = run(5)
    toy.assert_same(first, run(5))
    if strategy in TRAINED:
        other = run(6)
        assert any(not torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("strategy", LEARNING)
@pytest.mark.parametrize("weigh", ["none", "balanced"])
def test_a_class_without_rows(strategy: str, weigh: str, tmp_path: Path) -> None:
    some = toy.task("bert", 20, 9)
    some.train_labels = some.train_labels % 2
    found = STRATEGY[strategy](toy.context(some, tmp_path, class_weights=weigh, num_train_epochs=1))
    logits = forward(found.model, some.validation, dtype=torch.float32, device=toy.CPU).logits
    assert logits.shape == (9, 3)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("strategy", TRAINED)
def test_every_switch_at_once(strategy: str, tmp_path: Path) -> None:
    found = STRATEGY[strategy](
        toy.context(
            task("bert"),
            tmp_path,
            bf16=True,
            gradient_checkpointing=True,
            gradient_accumulation_steps=2,
            label_smoothing_factor=0.1,
            class_weights="balanced",
            early_stopping_patience=1,
            num_train_epochs=2,
            metric="macro_f1",
        )
    )
    output = found.model(**task("bert").validation.batch(range(5)))
    assert output.logits.dtype == torch.float32
    assert output.logits.isfinite().all()
    assert not any(getattr(module, "gradient_checkpointing", False) for module in found.model.modules())


@pytest.mark.parametrize("strategy", TRAINED)
def test_time_budget(strategy: str, tmp_path: Path) -> None:
    made = toy.context(task("bert"), tmp_path, clock=Clock(1.0), num_train_epochs=5000)
    found = STRATEGY[strategy](made)
    assert made.clock.spent() < 2.5
    assert found.stopped
    assert "time budget ended training at step" in found.note
    assert not found.model.training


@pytest.mark.parametrize("strategy", ["fine_tune", "lora"])
def test_a_spent_budget_gives_the_probe(strategy: str, tmp_path_factory) -> None:
    made = toy.context(task("bert"), tmp_path_factory.mktemp("run"), clock=Clock(1.0, spent=2.0))
    found = STRATEGY[strategy](made)
    assert found.stopped
    assert "before training began" in found.note
    probe = outcome("linear_probe", "bert", tmp_path_factory).model
    batch = task("bert").validation.batch(range(9))
    assert torch.allclose(found.model(**batch).logits, probe(**batch).logits, atol=1e-5)


@pytest.mark.parametrize("strategy", TRAINED)
def test_a_found_rate_trains_as_if_it_had_been_given(strategy: str, name: str, tmp_path: Path) -> None:
    """The search leaves no trace in the training that follows."""
    pristine = toy.weights(task(name).backbone.encoder)
    found = STRATEGY[strategy](toy.context(task(name), tmp_path / "a", find_rate=True, max_steps=4))
    toy.assert_same(pristine, toy.weights(task(name).backbone.encoder))
    search = found.rate_search
    assert search.runs == 3
    assert found.settings["learning_rate"] == search.learning_rate
    assert max(row.learning_rate for row in found.groups if row.group != "head") == pytest.approx(search.learning_rate)
    given = toy.context(task(name), tmp_path / "b", learning_rate=search.learning_rate, max_steps=4)
    toy.assert_same(toy.weights(found.model), toy.weights(STRATEGY[strategy](given).model))


def test_a_resumed_training_keeps_the_rate_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = STRATEGY["fine_tune"](toy.context(task("bert"), tmp_path, find_rate=True, max_steps=4))
    assert list(tmp_path.glob("checkpoint-*"))
    assert not list(tmp_path.glob("*.part"))
    monkeypatch.setattr(rate_search, "find_rate", None)  # must not be called again
    again = STRATEGY["fine_tune"](toy.context(task("bert"), tmp_path, find_rate=True, max_steps=4))
    assert again.rate_search == first.rate_search
    toy.assert_same(toy.weights(first.model), toy.weights(again.model))


def test_a_search_takes_its_share_of_the_time_left(tmp_path: Path) -> None:
    made = toy.context(task("bert"), tmp_path, find_rate=True, clock=Clock(1.0, spent=2.0))
    found = STRATEGY["fine_tune"](made)
    assert found.rate_search.runs == 0
    assert found.rate_search.learning_rate == made.settings.learning_rate
    assert "before training began" in found.note


def test_auto_becomes_a_search_from_the_starting_rate() -> None:
    def made(**options: object) -> Settings:
        return settings_for("lora", "text", AdviseOptions(data="x", **options), fast_bf16=False)

    plain, found, given = made(), made(learning_rate="auto"), made(learning_rate=0.25)
    assert (plain.find_rate, found.find_rate, given.find_rate) == (False, True, False)
    assert plain.learning_rate == found.learning_rate
    assert given.learning_rate == 0.25


@pytest.mark.parametrize(("strategy", "name"), [("fine_tune", "convnext"), ("lora", "vit"), ("lora", "convnext")])
def test_other_backbones_with_augmentation(strategy: str, name: str, tmp_path: Path) -> None:
    found = STRATEGY[strategy](toy.context(task(name), tmp_path, augment=True, num_train_epochs=2))
    assert accuracy(found.model, task(name)) > 0.6


def test_lora_names(tmp_path: Path) -> None:
    found = STRATEGY["lora"](toy.context(task("bert"), tmp_path, target_modules="query,value", max_steps=1))
    assert len(found.settings["target_modules"]) == 6
    assert found.trainable == 6 * 2 * 4 * 16 + 3 * 17
    with pytest.raises(SettingError, match="--target-modules"):
        STRATEGY["lora"](toy.context(task("bert"), tmp_path, target_modules="nonsense"))


def test_lora_merged_equals_its_adapter(name: str, tmp_path_factory) -> None:
    found = outcome("lora", name, tmp_path_factory)
    batch = task(name).validation.batch(range(6))
    with torch.no_grad():
        assert torch.allclose(found.model(**batch).logits, found.adapter.eval()(**batch).logits, atol=1e-4)


@pytest.mark.parametrize("templates", [(), ("the {} of red",), ("w3 {}", "{} w4")])
def test_zero_shot_is_cosine_to_the_names(templates: tuple[str, ...], tmp_path: Path) -> None:
    made = toy.context(task("bert"), tmp_path, templates=templates)
    found = STRATEGY["zero_shot"](made)
    assert (found.trainable, found.history) == (0, ())
    assert not found.model.training
    embed = task("bert").backbone.embed_labels
    text = embed(["the w1 of red", "w5"])
    used = templates if templates else ("{}", "This is about {}.", "The topic is {}.")
    named = torch.stack([embed([sentence.format(n) for sentence in used]).mean(0) for n in toy.LABELS])
    named = named / named.norm(dim=1, keepdim=True)
    inputs = task("bert").backbone.preprocessor.encode({"text": ["the w1 of red", "w5"]})
    logits = found.model(**inputs.batch(range(2))).logits
    assert torch.allclose(logits, task("bert").backbone.logit_scale * text @ named.T, atol=1e-4)
    assert found.settings == {"templates": list(used)}


FEELINGS = {
    "anger": (
        "How dare they charge me twice for this!",
        "I am sick of being lied to by that company.",
        "He slammed the door and shouted at everyone.",
        "Stop calling me, this is outrageous.",
        "She could not forgive such an insult.",
        "The driver cursed at the car in front.",
        "They broke my bike and did not even apologise.",
        "I want a refund and I want it now!",
    ),
    "fear": (
        "I heard steps behind me in the dark street.",
        "What if the test comes back positive?",
        "She trembled as the storm came closer.",
        "He did not dare to open the letter.",
        "I cannot sleep, something is in the attic.",
        "The dog hides under the bed when there is thunder.",
        "We were terrified that the ice would break.",
        "My hands shake before every flight.",
    ),
    "joy": (
        "We danced until the sun came up.",
        "I got the job, I could hug the whole world!",
        "The children laughed at the puppy in the snow.",
        "What a wonderful surprise to see you here.",
        "She smiled all day after the good news.",
        "Best holiday ever, we did not want to leave.",
        "He sang in the shower, as happy as can be.",
        "At last our team has won the cup!",
    ),
}


def test_a_probe_of_few_rows_starts_from_the_label_names(tmp_path: Path) -> None:
    backbone = load_backbone("sentence-transformers/all-MiniLM-L6-v2")
    names = tuple(FEELINGS)

    def rows(part: slice) -> Rows:
        texts = [(text, place) for place, name in enumerate(names) for text in FEELINGS[name][part]]
        inputs = backbone.preprocessor.encode({"text": [text for text, _ in texts]})
        features = forward(backbone.encoder, inputs, dtype=torch.float32, device=toy.CPU).features
        return Rows(inputs, np.array([place for _, place in texts]), features)

    test = rows(slice(2, None))
    made = dataclasses.replace(toy.context(task("bert"), tmp_path), backbone=backbone, modality="text")
    right = {}
    for labels in (names, ("0", "1", "2")):
        found = STRATEGY["linear_probe"](dataclasses.replace(made, labels=labels, fit=rows(slice(0, 2))))
        assert (found.settings["label_names"] > 0) == (labels == names)
        right[labels] = int((frozen_logits(found.model, test.features).argmax(1) == test.labels).sum())
    assert right[names] >= right["0", "1", "2"] + 2, right  # of 18


def test_zero_shot_refuses(tmp_path: Path) -> None:
    with pytest.raises(StrategyNotPossibleError, match="embeds texts"):
        STRATEGY["zero_shot"](toy.context(task("efficientnet_lite"), tmp_path))
    numbers = dataclasses.replace(toy.context(task("bert"), tmp_path), labels=("0", "-1", "2.5"))
    with pytest.raises(StrategyNotPossibleError, match="bare numbers"):
        STRATEGY["zero_shot"](numbers)


# ---- remedies against forgetting


def test_interpolation_with_a_fixed_share(tmp_path: Path) -> None:
    plain = STRATEGY["fine_tune"](toy.context(task("bert"), tmp_path / "plain"))
    half = STRATEGY["fine_tune"](toy.context(task("bert"), tmp_path / "half", wise_alpha=0.5))
    none = STRATEGY["fine_tune"](toy.context(task("bert"), tmp_path / "none", wise_alpha=0.0))
    start, end = toy.weights(none.model), toy.weights(plain.model)
    original = toy.weights(task("bert").backbone.encoder)
    for name, value in toy.weights(half.model).items():
        assert torch.allclose(value, (start[name] + end[name]) / 2, atol=1e-6), name
        if not name.startswith("head"):
            assert torch.equal(start[name], original[name])
    (found,) = half.remedies
    assert (found.name, found.setting, found.kept_with) == ("weight interpolation", 0.5, None)
    assert [point.alpha for point in found.curve] == [0.5, 1.0]
    assert plain.remedies == ()


@pytest.mark.parametrize("strategy", ["fine_tune", "lora"])
def test_a_bound_on_forgetting_is_kept(strategy: str, tmp_path: Path) -> None:
    made = task("bert")
    reference = take_reference(made.backbone, toy.task("bert", 40, 4).train, "other rows")
    rates = {"learning_rate": 1e-1, "num_train_epochs": 8}  # rough enough to forget something
    free = STRATEGY[strategy](toy.context(made, tmp_path / "free", **rates))
    assert reference.kept_by(free.model) < 0.95
    context = dataclasses.replace(
        toy.context(made, tmp_path / "bound", find_alpha=True, max_forgetting=0.05, **rates), reference=reference
    )
    bound = STRATEGY[strategy](context)
    assert reference.kept_by(bound.model) >= 0.95 - 1e-9
    (found,) = bound.remedies
    assert found.kept_with is not None
    assert found.kept_with >= 0.95 - 1e-9
    assert found.kept_without == pytest.approx(reference.kept_by(free.model), abs=0.03)
    assert found.setting < 1


def test_what_an_average_and_l2_sp_bought(tmp_path: Path) -> None:
    found = STRATEGY["fine_tune"](toy.context(task("bert"), tmp_path, ema_decay=0.9, l2_sp=0.5))
    drawn, averaged = found.remedies
    assert (drawn.name, drawn.setting, drawn.validation_with) == ("L2-SP", 0.5, None)
    assert (averaged.name, averaged.setting) == ("moving average", 0.9)
    assert averaged.validation_with is not None
    assert averaged.validation_without is not None


def test_scratch_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    found = STRATEGY["scratch"](toy.context(task("bert"), tmp_path, wise_alpha=0.5, l2_sp=1.0))
    assert found.remedies == ()
    assert found.settings is not None
    assert found.settings["l2_sp"] == 0


# ---- unfreezing


def test_progressive_opens_as_given_and_says_so(tmp_path: Path) -> None:
    given = Unfreezing("given", opens_at={"head": 0.0, "layer.1": 0.5})
    found = STRATEGY["progressive"](toy.context(task("bert"), tmp_path, unfreezing=given, cache_gb=1.0))
    assert {row.group: row.opens_at for row in found.groups} == {
        row.group: {"head": 0.0, "layer.1": 0.5}.get(row.group, 1.0) for row in found.groups
    }
    assert found.settings is not None
    assert found.settings["frozen_trunk_cache"].startswith("used")
    assert found.trainable < sum(row.parameters for row in found.groups)


def test_progressive_by_plateaus_says_when_groups_opened(tmp_path: Path) -> None:
    found = STRATEGY["progressive"](toy.context(task("bert"), tmp_path, unfreezing=Unfreezing("plateau")))
    opens = [row.opens_at for row in found.groups]
    assert opens == sorted(opens, reverse=True)
    assert opens[-1] == 0.0
    assert all(0 <= at <= 1 for at in opens)


def test_rates_by_group_are_used_and_shown(tmp_path: Path) -> None:
    found = STRATEGY["fine_tune"](toy.context(task("bert"), tmp_path, group_rates={"layer.0": 1e-9}))
    rates = {row.group: row.learning_rate for row in found.groups}
    assert rates["layer.0"] == 1e-9
    assert rates["layer.1"] > 1e-9
