"""Forgetting on tiny models of every architecture: nothing where nothing changed, and only where something did."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import saved
import torch
import toy
import transformers as tf
from tiny import CAUSAL, TEXT, TINY, make

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.text_inputs import Inputs, Subset, TokenInputs
from warmstart.train.forgetting import Reference, measure, take_reference, trunk_groups
from warmstart.train.snapshot import pooled, snapshot

ROWS = 40
_MADE: dict[str, tuple[Backbone, Inputs, Reference]] = {}


def backbone(name: str, folder: Path) -> Backbone:
    if name not in ("clip", "siglip"):
        return toy.backbone(name)
    saved.save(name, folder)
    return load_backbone(str(folder))


def tokens(rows: int) -> TokenInputs:
    """Rows of unequal length, with ids that no tiny model knows as special."""
    draw = np.random.default_rng(3)
    ids = [draw.integers(4, 40, draw.integers(3, 20)).tolist() for _ in range(rows)]
    return TokenInputs(ids, None, 0, np.array([len(line) for line in ids]))


def made(name: str, tmp_path_factory) -> tuple[Backbone, Inputs, Reference]:
    """Each architecture once."""
    if name not in _MADE:
        found = backbone(name, tmp_path_factory.mktemp(name))
        disturb(found.encoder, tuple(name for name, _ in found.encoder.named_parameters()), 0.2)  # some begin as zeros
        inputs = tokens(ROWS) if found.kind == "text" else found.preprocessor.encode(toy.images(ROWS, 3)[0])
        _MADE[name] = found, inputs, take_reference(found, inputs, "toys", device=toy.CPU)
    return _MADE[name]


def adapted(found: Backbone) -> Classifier:
    return found.classifier(toy.LABELS, found.kind).eval()


def disturb(model: Classifier, names: tuple[str, ...], size: float = 0.05) -> None:
    """Move some parameters by a share of their own length."""
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in names:
                parameter += size * (parameter.std(correction=0) + 0.01) * torch.randn(parameter.shape, generator=draw)


def hooks(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("name", sorted(TINY))
def test_an_unchanged_model_forgot_nothing(name: str, tmp_path_factory) -> None:
    found, inputs, reference = made(name, tmp_path_factory)
    assert np.array_equal(reference.features, forward(found.encoder, inputs, dtype=torch.float32).features)
    kept = measure(found.encoder, adapted(found), reference)
    assert kept.rows == ROWS
    assert kept.reference == "toys"
    assert kept.neighbours_kept == 1.0
    assert reference.kept_by(adapted(found)) == 1.0
    assert [(row.tower, row.group, row.depth) for row in kept.groups] == [
        (group.tower, group.name, group.depth) for group in reference.groups
    ]
    assert "head" not in {row.group for row in kept.groups}
    assert {row.cka for row in kept.groups} == {1.0}
    assert {row.weight_distance for row in kept.groups} == {0.0}


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_changed_model_has_finite_figures_for_every_group(name: str, tmp_path_factory) -> None:
    found, _, reference = made(name, tmp_path_factory)
    model = adapted(found)
    disturb(model, tuple(name for name, _ in model.named_parameters()))
    kept = measure(found.encoder, model, reference)
    assert 0.1 < kept.neighbours_kept <= 1
    for row in kept.groups:
        assert 0 < row.cka <= 1
        assert 1e-4 < row.weight_distance < 1
    assert hooks(model) == hooks(found.encoder) == 0
    untrained = measure(found.encoder, found.classifier(toy.LABELS, found.kind, pretrained=False).eval(), reference)
    assert all(math.isfinite(row.weight_distance) for row in untrained.groups)


@pytest.mark.parametrize("name", ["bert", "llama", "vit", "efficientnet_lite", "convnext", "clip"])
def test_one_changed_group_shows_only_there(name: str, tmp_path_factory) -> None:
    found, _, reference = made(name, tmp_path_factory)
    place = len(reference.groups) // 2
    model = adapted(found)
    disturb(model, reference.groups[place].parameters, 0.5)
    kept = measure(found.encoder, model, reference)
    assert [row.weight_distance > 0 for row in kept.groups] == [at == place for at in range(len(kept.groups))]
    assert all(row.cka == 1.0 for row in kept.groups[:place])
    assert all(row.cka < 1.0 for row in kept.groups[place:])
    assert kept.neighbours_kept < 1.0


def test_shared_layers_are_one_group(tmp_path_factory) -> None:
    found, _, reference = made("albert", tmp_path_factory)
    model = adapted(found)
    shared = [group for group in reference.groups if any("albert_layers" in name for name in group.parameters)]
    assert len(shared) == 1
    disturb(model, shared[0].parameters)
    kept = measure(found.encoder, model, reference)
    assert [row.group for row in kept.groups if row.weight_distance > 0] == [shared[0].name]
    counted = [name for group in reference.groups for name in group.parameters]
    assert len(counted) == len(set(counted)) == len(list(found.encoder.named_parameters())) - 2  # without the head


@pytest.mark.parametrize("name", ["bert", "llama", "deberta_v2", "vit", "convnext"])
def test_activations_of_a_row_do_not_depend_on_its_batch(name: str, tmp_path_factory) -> None:
    found, inputs, reference = made(name, tmp_path_factory)
    some = np.array([7, 2, 31])
    alone = snapshot(found.encoder, Subset(inputs, some), reference.groups, device=toy.CPU)
    assert set(alone.activations) == {group.label for group in reference.groups}
    for label, values in alone.activations.items():
        assert np.allclose(values, reference.original.activations[label][some], atol=1e-5), label


@pytest.mark.parametrize("name", ["bert", "gemma3", "efficientnet_lite"])
def test_low_precision_comes_out_as_float32(name: str, tmp_path_factory) -> None:
    found, inputs, reference = made(name, tmp_path_factory)
    low = snapshot(found.encoder, inputs, reference.groups, dtype=torch.bfloat16, device=toy.CPU)
    assert low.features.dtype == np.float32
    for label, values in low.activations.items():
        assert values.dtype == np.float32
        exact = reference.original.activations[label]
        assert 0 < np.abs(values - exact).max() < 0.1 * np.abs(exact).max()


def test_hooks_go_when_a_pass_fails(tmp_path_factory) -> None:
    found, inputs, reference = made("bert", tmp_path_factory)
    seen = []

    def fail(module: torch.nn.Module, arguments: object) -> None:
        seen.append(hooks(found.encoder))
        raise KeyboardInterrupt

    handle = found.encoder.backbone.encoder.layer[2].register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        snapshot(found.encoder, inputs, reference.groups, device=toy.CPU)
    assert seen[0] > 1
    handle.remove()
    assert hooks(found.encoder) == 0


def test_pooling_takes_what_belongs_to_single_rows() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    tokens = torch.arange(12, dtype=torch.bfloat16).reshape(2, 3, 2)
    assert pooled(tokens, 2, mask).tolist() == [[1.0, 2.0], [6.0, 7.0]]
    assert pooled(tokens, 2, None).tolist() == [[2.0, 3.0], [8.0, 9.0]]
    assert pooled(torch.ones(2, 5, 4, 3), 2, None).shape == (2, 5)
    assert pooled(torch.ones(2, 7), 2, mask).shape == (2, 7)
    for other in (torch.ones(2, 4, 3, 3), torch.ones(2, 4, 2), torch.ones(1, 3, 2), torch.ones(2), torch.tensor(1.0)):
        assert pooled(other, 2, mask) is None
    assert pooled(torch.ones(2, 3, 2, dtype=torch.long), 2, mask) is None


def language_model(folder: Path, name: str, **settings: object) -> tuple[Backbone, torch.nn.Module]:
    if name == "llama":
        model = make(tf.LlamaForCausalLM, tf.LlamaConfig(**CAUSAL, **settings)).eval()
        saved.decoder_tokenizer().save_pretrained(folder)
    else:
        model = make(tf.BertForMaskedLM, tf.BertConfig(**TEXT, **settings)).eval()
        saved.tokenizer(mask_token="z").save_pretrained(folder)
    model.save_pretrained(folder)
    return load_backbone(str(folder)), model


def reference_of(found: Backbone) -> Reference:
    texts = [*saved.TEXTS, "fits so well return", "b c d e f", "small dress", "g h i j k l m n", "too well so small"]
    return take_reference(found, found.preprocessor.encode({"text": texts}), "texts", seed=3, device=toy.CPU)


@pytest.mark.parametrize("tied", [False, True])
def test_perplexity_of_a_language_model(tied: bool, tmp_path: Path) -> None:
    found, model = language_model(tmp_path, "llama", tie_word_embeddings=tied)
    reference = reference_of(found)
    (test,) = reference.tests
    assert (test.name, test.higher_is_better, reference.notes) == ("perplexity", False, ())
    total, count = 0.0, 0
    for row in range(len(reference.inputs)):  # one by one, with the loss that transformers computes
        ids = reference.inputs.batch([row])["input_ids"]
        if ids.shape[1] > 1:
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    assert test.before == pytest.approx(math.exp(total / count), rel=1e-4)
    (same,) = measure(found.encoder, adapted(found), reference).abilities
    assert (same.before, same.after) == (test.before, test.before)
    worse = adapted(found)
    disturb(worse, tuple(name for name, _ in worse.named_parameters()), 2.0)
    (changed,) = measure(found.encoder, worse, reference).abilities
    assert math.isfinite(changed.after)
    assert changed.after != changed.before


def test_masked_token_loss_of_a_masked_model(tmp_path: Path) -> None:
    found, model = language_model(tmp_path, "bert")
    reference = reference_of(found)
    (test,) = reference.tests
    assert (test.name, test.higher_is_better, reference.notes) == ("masked-token loss", False, ())
    assert test.before == pytest.approx(math.log(40), abs=0.3)  # random weights know nothing of forty tokens
    head = found.pretraining_head()
    assert head.loss(found.encoder, reference.inputs, seed=3) == test.before
    assert head.loss(found.encoder, reference.inputs, seed=4) != test.before
    batch = reference.inputs.batch(range(5))
    chosen = head._chosen(batch["input_ids"].numpy(), batch["attention_mask"].numpy(), range(5), 3)
    assert chosen.sum(1).tolist() == [1, 1, 2, 1, 1]  # of 3, 1, 10, 3 and 1 tokens
    assert not chosen[:, 0].any()  # [CLS] is never hidden
    logits = model(**{**batch, "input_ids": batch["input_ids"].masked_fill(chosen, head.mask)}).logits
    expected = torch.nn.functional.cross_entropy(logits[chosen], batch["input_ids"][chosen], reduction="none")
    five = Subset(reference.inputs, np.arange(5))
    assert head.loss(found.encoder, five, seed=3) == pytest.approx(float(expected.mean()), abs=1e-5)
    (same,) = measure(found.encoder, adapted(found), reference).abilities
    assert same.after == same.before


@pytest.mark.parametrize(("name", "start"), [("llama", "lm_head"), ("bert", "cls.")])
def test_a_head_that_is_not_there_is_not_made_up(name: str, start: str, tmp_path: Path) -> None:
    found, _ = language_model(tmp_path, name, tie_word_embeddings=False)
    assert saved.drop_weights(tmp_path, start)
    reference = reference_of(found)
    assert reference.tests == ()
    assert "lacks weights of the head" in reference.notes[0]
    assert measure(found.encoder, adapted(found), reference).notes == reference.notes


def test_a_masked_model_without_a_mask_is_told(tmp_path: Path) -> None:
    found, _ = language_model(tmp_path, "bert")
    saved.tokenizer().save_pretrained(tmp_path)
    found = load_backbone(str(tmp_path))
    assert "no mask token" in reference_of(found).notes[0]


def test_an_encoder_without_a_stated_head_has_neighbours_only(tmp_path_factory) -> None:
    found, _, reference = made("bert", tmp_path_factory)
    assert found.pretraining_head is None
    assert (reference.tests, reference.notes) == ((), ())


def test_zero_shot_accuracy_of_two_towers(tmp_path_factory) -> None:
    found, inputs, plain = made("clip", tmp_path_factory)
    assert plain.tests == ()  # rows without labels
    names = ("dress", "return", "small")
    reference = take_reference(found, inputs, "toys", names=names, labels=[None, *(names * ROWS)[: ROWS - 1]])
    (test,) = reference.tests
    assert (test.name, test.higher_is_better) == ("zero-shot accuracy", True)
    weights = found.embed_labels(["a photo of dress.", "a photo of a dress.", "an image of dress."]).mean(0)
    others = [
        found.embed_labels([f"a photo of {n}.", f"a photo of a {n}.", f"an image of {n}."]).mean(0) for n in names[1:]
    ]
    matrix = torch.nn.functional.normalize(torch.stack([weights, *others]), dim=1).numpy()
    answers = (reference.features[1:] @ matrix.T).argmax(1)
    assert test.before == pytest.approx((answers == np.arange(ROWS - 1) % 3).mean())
    (same,) = measure(found.encoder, adapted(found), reference).abilities
    assert same.after == same.before
    turned = adapted(found)
    with torch.no_grad():
        for parameter in turned.projections.parameters():
            parameter.neg_()
    right = take_reference(found, inputs, "toys", names=names, labels=[None, *(names[answer] for answer in answers)])
    (changed,) = measure(found.encoder, turned, right).abilities
    assert changed.before == 1.0 > changed.after
    numbers = take_reference(found, inputs, "toys", names=("0", "1"), labels=["0", "1"] * (ROWS // 2))
    assert numbers.tests == ()


def test_the_context_of_a_strategy_can_hold_a_reference(tmp_path: Path, tmp_path_factory) -> None:
    _, _, reference = made("bert", tmp_path_factory)
    context = toy.context(toy.task("bert", 12, 6), tmp_path)
    assert context.reference is None
    assert dataclasses.replace(context, reference=reference).reference.features.shape == (ROWS, 16)


def test_trunk_groups_leave_the_head_out(tmp_path_factory) -> None:
    found, _, _ = made("vit", tmp_path_factory)
    names = [name for group in trunk_groups(found.encoder) for name in group.parameters]
    assert sorted(names) == sorted(name for name, _ in found.encoder.named_parameters() if not name.startswith("head."))
