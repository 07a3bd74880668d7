"""The frozen-trunk cache against training without it: outputs, gradients, final weights, and when it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from torch import nn

from warmstart.train.activations import ActivationFile
from warmstart.train.fit import Trained, fit
from warmstart.train.frozen_trunk import Cuts, FrozenTrunk, NotCacheableError, _skippable
from warmstart.train.job import Rows
from warmstart.train.rates import RatePlan
from warmstart.train.trainer import WarmstartTrainer
from warmstart.train.unfreezing import Unfreezing

KINDS = ["bert", "roberta", "distilbert", "mpnet", "deberta_v2", "modernbert", "vit", "dinov2", "convnext", "resnet",
         "llama", "gemma3", "qwen3", "efficientnet_lite"]  # fmt: skip
MANY = 2**30


def still(model: nn.Module) -> nn.Module:
    """Without dropout, so that two runs may differ by the cache only."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_without_it(kind: str, tmp_path: Path) -> None:
    task = toy.task(kind, 12, 6)
    model = still(task.classifier()).train()
    groups = toy.groups_of(model)
    places = list(range(len(groups) - 2, -1, -1))
    cuts = Cuts(model, groups, places, task.train.batch(range(4)))
    assert model.training
    places = [place for place in places if place in cuts]
    assert len(places) >= len(groups) - 2
    for place in places:
        trunk = FrozenTrunk(tmp_path / str(place), "train", task.train, cuts, MANY)
        trunk.enter_stage([at for at in places if at <= place])
        model.requires_grad_(True)
        for group in groups[: place + 1]:
            for name in group.parameters:
                model.get_parameter(name).requires_grad_(False)
        _freeze(model, groups[: place + 1])
        for rows in ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]):
            _step(model, trunk, task, rows)
        rows = [10, 3, 7, 0]  # other neighbours than before, so other paddings
        plain = _step(model, None, task, rows)
        kept = _step(model, trunk, task, rows, forbidden=_deep(model, groups, place))
        assert torch.allclose(kept[0], plain[0], rtol=1e-4, atol=1e-5)
        assert kept[1].keys() == plain[1].keys()
        for name in plain[1]:
            assert torch.allclose(kept[1][name], plain[1][name], rtol=1e-3, atol=1e-5), name


def _freeze(model: nn.Module, groups) -> None:
    for group in groups:
        for path in group.modules:
            model.get_submodule(path).eval()


def _deep(model: nn.Module, groups, place: int) -> list[nn.Module]:
    """Modules inside closed groups, which must not run when the cache answers."""
    names = [path for group in groups[: place + 1] for path in _skippable(model, group)]
    return [child for path in names for child in model.get_submodule(path).children()]


def _step(model, trunk, task, rows, forbidden=()):
    model.zero_grad()
    batch = task.train.batch(rows)
    ran: list[nn.Module] = []
    handles = [module.register_forward_hook(lambda m, i, o: ran.append(m)) for module in forbidden]
    if trunk is None:
        logits = model(**batch).logits
    else:
        with trunk.around(model, rows, batch):
            logits = model(**batch).logits
    for handle in handles:
        handle.remove()
    assert not ran
    logits.logsumexp(-1).sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def run(task: toy.Task, folder: Path, cache_bytes: int, unfreezing: Unfreezing, **changes) -> tuple[nn.Module, Trained]:
    model = still(task.classifier())
    plan = RatePlan(2e-3, 0.8, 5e-3, unfreezing=unfreezing)
    job = toy.job(task, model, plan, cache_bytes=cache_bytes, **changes)
    return model, fit(model, toy.arguments(folder, len(task.train_labels), epochs=6), job)


@pytest.mark.parametrize("kind", ["bert", "vit", "efficientnet_lite"])
@pytest.mark.parametrize("schedule", ["stages", "plateau"])
def test_training_gives_the_same_weights(kind: str, schedule: str, tmp_path: Path, monkeypatch) -> None:
    task = toy.task(kind, 20, 8)
    unfreezing = Unfreezing(schedule)
    plain, without = run(task, tmp_path / "plain", 0, unfreezing)
    reads = []
    original = ActivationFile.read
    monkeypatch.setattr(ActivationFile, "read", lambda self, *a: reads.append(1) or original(self, *a))
    kept, found = run(task, tmp_path / "kept", MANY, unfreezing)
    assert len(reads) >= 8
    assert without.cache == ""
    assert found.cache.startswith("used, ")
    assert found.opened == without.opened
    start, first, second = toy.weights(still(task.classifier())), toy.weights(plain), toy.weights(kept)
    moved = sum(float((first[name].float() - start[name].float()).norm() ** 2) for name in first)
    apart = sum(float((first[name].float() - second[name].float()).norm() ** 2) for name in first)
    assert (apart / moved) ** 0.5 < 0.02
    assert not list((tmp_path / "kept").glob("frozen-trunk*"))


def test_every_row_goes_through_the_closed_groups_once(tmp_path: Path, monkeypatch) -> None:
    task = toy.task("bert", 16, 8)
    model = task.classifier()
    passed: list[int] = []
    low = model.backbone.encoder.layer[0].attention
    low.register_forward_hook(lambda module, given, output: passed.append(len(output[0])) if module is low else None)
    opens = toy.given(model, (1.0, 1.0, 1.0, 1.0, 0.0)[-len(toy.groups_of(model)) :])
    job = toy.job(task, model, RatePlan(1e-3, unfreezing=opens), cache_bytes=MANY)
    fit(model, toy.arguments(tmp_path, 16, epochs=5), job)
    assert sum(passed) <= 16 + 3 * 4  # once each, and the four rows of the trial


def test_too_little_room_is_said(tmp_path: Path) -> None:
    task = toy.task("bert", 20, 8)
    unfreezing = Unfreezing("stages")
    plain, _ = run(task, tmp_path / "plain", 0, unfreezing)
    model, found = run(task, tmp_path / "kept", 100, unfreezing)
    assert found.cache.startswith("not used: the lower layers' activations take ")
    assert "--cache-gb allows" in found.cache
    toy.assert_same(toy.weights(plain), toy.weights(model))


def test_room_for_one_cut_is_used_for_the_one_in_force(tmp_path: Path, monkeypatch) -> None:
    task = toy.task("bert", 20, 8)
    tokens = int(task.train.lengths.sum())
    width = task.backbone.config.backbone["hidden_size"]
    sizes: list[int] = []
    original = FrozenTrunk._keep

    def spy(self, *args):
        original(self, *args)
        sizes.append(sum(path.stat().st_size for path in self._folder.glob("*.bin")))

    monkeypatch.setattr(FrozenTrunk, "_keep", spy)
    limit = int(1.5 * (tokens + task.validation.lengths.sum()) * width * 4)
    _, found = run(task, tmp_path, limit, Unfreezing("stages"))
    assert found.cache.startswith("used")
    assert 0 < max(sizes) <= limit  # of the training and the validation rows together


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch) -> None:
    class Full:
        free = 0

    monkeypatch.setattr("warmstart.train.frozen_trunk.shutil.disk_usage", lambda _: Full)
    _, found = run(toy.task("bert", 20, 8), tmp_path, MANY, Unfreezing("stages"))
    assert found.cache.endswith("and the disk has no room")


def test_augmented_rows_refuse_it(tmp_path: Path) -> None:
    task = toy.task("efficientnet_lite", 12, 6)
    rows = Rows(task.train, task.train_labels, augment=True, seed=1)
    _, found = run(task, tmp_path, MANY, Unfreezing("stages"), train=rows)
    assert found.cache.startswith("not used: training images are augmented")


def test_gradient_checkpointing_refuses_it(tmp_path: Path) -> None:
    task = toy.task("bert", 12, 6)
    model = task.classifier()
    job = toy.job(task, model, RatePlan(1e-3, unfreezing=Unfreezing("stages")), cache_bytes=MANY)
    found = fit(model, toy.arguments(tmp_path, 12, gradient_checkpointing=True), job)
    assert found.cache == "not used: gradient checkpointing computes layers a second time"


class Skips(nn.Module):
    """Its last layer also reads what its first one gave."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        first = self.layers[0](x)
        last = self.layers[2](self.layers[1](first)) + first
        return type("Output", (), {"logits": self.head(last.mean(1))})


def test_a_model_that_reads_lower_layers_elsewhere_is_refused() -> None:
    from warmstart.backbones.groups import Group

    model = Skips()
    groups = [Group("", f"layers.{n}", n, (f"layers.{n}",), ()) for n in range(3)] + [
        Group("", "head", 3, ("head",), ())
    ]
    with pytest.raises(NotCacheableError, match="reads its lower groups in other places as well"):
        Cuts(model, groups, [1], {"x": torch.randn(2, 3, 4)})
    Cuts(model, groups, [0], {"x": torch.randn(2, 3, 4)})  # cut below the skip, all is well
    assert "forward" not in model.layers[1].__dict__


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_activation_files_round_trip(dtype: torch.dtype, tmp_path: Path) -> None:
    lengths = np.array([3, 1, 2])
    batch = torch.randn(3, 3, 5).to(dtype)
    file = ActivationFile(tmp_path / "a.bin", lengths, batch, by_token=True)
    file.create()
    assert not file.has([0])
    file.write([2, 0], batch[:2])
    assert file.has([0, 2])
    assert not file.has([0, 1])
    file.save(tmp_path / "a.json")
    for again in (file, ActivationFile.reopen(tmp_path / "a.bin", tmp_path / "a.json", lengths)):
        assert again is not None
        assert again.has([0, 2])
        assert not again.has([1])
        read = again.read([0, 2], 4)
        assert read.dtype == dtype
        assert torch.equal(read[0, :3], batch[1])
        assert torch.equal(read[1, :2], batch[0, :2])
        assert not read[1, 2:].any()
    (tmp_path / "a.bin").write_bytes(b"short")
    assert ActivationFile.reopen(tmp_path / "a.bin", tmp_path / "a.json", lengths) is None


def test_what_the_evaluations_see_is_cached_too(tmp_path: Path) -> None:
    task = toy.task("bert", 12, 8)
    model = still(task.classifier())
    job = toy.job(task, model, RatePlan(1e-3, unfreezing=Unfreezing("stages")), cache_bytes=MANY)
    trainer = WarmstartTrainer(model, toy.arguments(tmp_path, 12), job)
    trainer.begin(None)
    plain = trainer._logits(job.validation)
    trainer.open_groups(0, 100)
    filled = trainer._logits(job.validation)
    low = model.backbone.encoder.layer[0].attention
    handle = low.register_forward_hook(lambda *_: pytest.fail("a closed layer ran"))
    read = trainer._logits(job.validation)
    handle.remove()
    assert np.allclose(plain, filled)
    assert np.allclose(plain, read, atol=2e-2)
