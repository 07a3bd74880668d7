"""SimCLR (arXiv 2002.05709): two views of every image of a batch → (first views, second views), and who is trained."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from warmstart.backbones.embed import best_device
from warmstart.backbones.groups import JOINT, Group, batch_norms
from warmstart.backbones.image_inputs import ImagePreprocessor
from warmstart.backbones.load import Backbone
from warmstart.contrastive.fitting import ContrastOutcome, check_groups, fit_towers
from warmstart.contrastive.projection import ProjectedLoss, Projector
from warmstart.contrastive.settings import ContrastSettings
from warmstart.contrastive.temperature import Temperature
from warmstart.contrastive.towers import Towers, tower_groups
from warmstart.contrastive.trainer import ContrastJob, ContrastTrainer
from warmstart.contrastive.view_rows import ViewJudge, ViewRows, ViewSource
from warmstart.core.clock import Clock
from warmstart.core.contrast_options import ContrastSimclrOptions
from warmstart.core.errors import SettingError
from warmstart.train.job import LossPlan

NAME = "image"
_RANDOM_RANK = 1.0  # random weights have no rank worth keeping: an alarm is only that vectors coincide


class ViewTower(Towers):
    """One image encoder with its projection head.

    Args:
        encoder: plain, or with adapters.
        temperature: of the loss.
        projector: the head.
        fixed_statistics: whether the encoder's batch norms keep their statistics; if not, they take those of each
            forward pass.
    """

    def __init__(
        self, encoder: nn.Module, temperature: Temperature, projector: Projector, *, fixed_statistics: bool
    ) -> None:
        super().__init__({NAME: encoder}, temperature)
        self.projector = projector
        self._norms = batch_norms(self.encoders)
        self._fixed = fixed_statistics

    def train(self, mode: bool = True) -> ViewTower:
        """Training mode, but for batch norms whose statistics are fixed."""
        super().train(mode)
        if self._fixed:
            for norm in self._norms:
                norm.eval()
        return self

    def encode(self, name: str, batch: dict[str, Tensor]) -> Tensor:
        """See `Towers`. A pass without gradients will be repeated with them, so it leaves the statistics alone."""
        with contextlib.nullcontext() if torch.is_grad_enabled() else self._statistics_kept():
            return super().encode(name, batch)

    @contextlib.contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        norms = [cast("Any", norm) for norm in self._norms if norm.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def view_groups(model: ViewTower) -> tuple[Group, ...]:
    """The groups of the encoder; the projection head and a learnt temperature are the head."""
    layers = [group for group in tower_groups(model) if group.name != "head"]
    inside = [f"projector.{name}" for name, _ in model.projector.named_parameters()]
    inside += [f"temperature.{name}" for name, _ in model.temperature.named_parameters()]
    tower = JOINT if any(group.tower for group in layers) else ""
    return (*layers, Group(tower, "head", len(layers), ("projector", "temperature"), tuple(inside)))


class SimclrTrainer(ContrastTrainer):
    """Makes the views of a batch where the model is."""

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = super()._prepare_inputs(inputs)
        rows = cast("ViewRows", self.job.pairs)
        return {**found, "sides": rows.sides_of(found["pixels"], found["draws"], found["places"])}


def make_tower(backbone: Backbone, settings: ContrastSettings, *, pretrained: bool) -> ViewTower:
    """A copy of the backbone's encoder, open or inside of LoRA, with a fresh head."""
    options = _options(settings)
    encoder = copy.deepcopy(backbone.encoder)
    encoder.requires_grad_(requires_grad=True)
    torch.manual_seed(settings.seed)
    projector = Projector(encoder.feature_size, options.projection_dim, norm=options.projection_norm == "batch")
    fixed = pretrained or options.lora
    return ViewTower(settings.adapted(encoder), settings.temperature(), projector, fixed_statistics=fixed)


def check_training(backbone: Backbone, rows: int, settings: ContrastSettings, world: int, *, pretrained: bool) -> None:
    """Find the mistakes that only a loaded model and a number of images show, before anything is written.

    Raises:
        SettingError: rates or openings for groups, or LoRA for modules, that the model does not have; too few images
            in a batch; or too few in a forward pass for the encoder's batch norms.
    """
    tower = make_tower(backbone, settings, pretrained=pretrained)
    batches = check_groups(view_groups(tower), rows, settings, world)
    least = rows // len(batches) // world  # images of the smallest batch of a process
    if tower.train()._norms and any(norm.training for norm in tower._norms):
        part = settings.options.mini_batch_size
        if min(part, least % part or part) < 2:
            raise SettingError(
                f"--mini-batch-size {part} leaves a forward pass with one image: batch norms cannot learn from it. "
                "Use another."
            )


def train_simclr(
    backbone: Backbone,
    rows: ViewRows,
    validation: ViewSource,
    settings: ContrastSettings,
    *,
    pretrained: bool,
    work: Path,
    clock: Clock,
    reserve: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> ContrastOutcome:
    """Train a copy of the backbone's encoder on views of images.

    Args:
        backbone: the model to start from.
        rows: images to learn from.
        validation: images that checkpoints are chosen by.
        settings: how.
        pretrained: whether the backbone carries knowledge: if so, its batch norms keep their statistics.
        work: folder of the checkpoints; what is there already is gone on from.
        clock: seconds spent and left.
        reserve: seconds to keep for what follows.
        progress: told after every step.

    Raises:
        SettingError: settings do not fit the model or the number of images.
        ContrastError: training diverged.
    """
    tower = make_tower(backbone, settings, pretrained=pretrained)
    score = ViewJudge(validation)
    args = settings.arguments(work, len(rows), best_device())
    job = ContrastJob(
        train=rows,
        validation=score.rows(),
        groups=view_groups(tower),
        rates=settings.rates,
        loss=LossPlan(),
        metric="reciprocal_rank",
        clock=clock,
        reserve=reserve,
        progress=progress,
        sides=(NAME, NAME),
        pair_loss=ProjectedLoss("two_view", gather=args.world_size > 1, projector=tower.projector),
        score=lambda model: score(model.encoder(NAME)),
        start_rank=score(backbone.encoder).geometry.effective_rank if pretrained else _RANDOM_RANK,
    )
    return fit_towers(SimclrTrainer(tower, args, job, settings.options.early_stopping_patience))


def preprocessor_of(backbone: Backbone) -> ImagePreprocessor:
    """The image processor of an image backbone."""
    return cast("ImagePreprocessor", backbone.preprocessor)


def _options(settings: ContrastSettings) -> ContrastSimclrOptions:
    return cast("ContrastSimclrOptions", settings.options)
