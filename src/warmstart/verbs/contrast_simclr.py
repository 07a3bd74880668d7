"""`contrast simclr`: train an image encoder on images without labels, to a result folder that adapts further."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import datasets
import numpy as np

from warmstart.backbones.embed import best_device, forward
from warmstart.backbones.image_inputs import ImagePreprocessor
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.outline import is_outline
from warmstart.backbones.random_start import random_backbone
from warmstart.contrastive.settings import ContrastSettings, settings_from
from warmstart.contrastive.simclr import check_training, train_simclr
from warmstart.contrastive.view_rows import ViewJudge, ViewRows, ViewSource
from warmstart.contrastive.views import ViewPlan, view_plan
from warmstart.core.clock import Clock
from warmstart.core.contrast import ContrastRecord
from warmstart.core.contrast_options import ContrastSimclrOptions
from warmstart.core.errors import ModelError, SettingError
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.records import Interval
from warmstart.core.statistics import wilson_interval
from warmstart.data.checks import describe
from warmstart.data.decoded import DecodedImages, working_size
from warmstart.data.images import Images, ImageTask, load_images
from warmstart.train.knn import knn_predict
from warmstart.verbs.contrast import ContrastResult, begin, contrast_record, result_of, show_scores
from warmstart.verbs.processes import Processes
from warmstart.verbs.simclr_saving import save_images
from warmstart.verbs.view_grid import view_grid
from warmstart.verbs.workspace import Workspace

_VERB = "contrast simclr"
_CHECKED = 8  # images that are encoded again in a new process
_RESERVE_SHARE = 1.5  # of the seconds that judging took before, kept for what follows training
_RESERVE_LEAST = 20.0  # seconds: saving, and loading again in a new process
_NEIGHBOURS = 5000  # labelled images that vote, at most
_PRETRAINED_RATE, _RANDOM_RATE = 1e-4, 1e-3


@verb(ContrastSimclrOptions)
def contrast_simclr(options: ContrastSimclrOptions) -> ContrastResult:
    """Train an image encoder so that two random views of an image lie together.

    The result is the encoder in transformers' format. Under torchrun every process trains on its share of each batch,
    and the first one writes.

    Raises:
        UserError: something in the call, the data or the machine must change; nothing was written.
        ContrastError: training diverged.
        RoundTripError: the saved model differs from the tested one; there is no result folder.
    """
    clock = Clock(options.time_budget)
    processes = Processes(best_device())
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    if processes.is_main:
        workspace.check()
    plan = view_plan(options.augmentation, options.crop_scale, options.color_jitter, options.grayscale, options.blur)
    settings = _settings(options)
    task = load_images(options)
    _show(task)
    backbone = _load(options)
    pretrained = not options.from_scratch
    settings = _fitting(settings, backbone)
    check_training(backbone, len(task.train), settings, processes.world, pretrained=pretrained)
    begin(workspace, processes, clock, options, {"data": task.card.fingerprint, "weights": backbone.card.digest})
    train, validation, test = (
        _source(part, backbone, plan, options.seed, workspace.stage(f"{name}-images"))
        for name, part in (("train", task.train), ("validation", task.validation), ("test", task.test))
    )
    score = ViewJudge(test)
    start = clock.spent()
    before, knn_before = score(backbone.encoder), _knn(backbone, task)
    reserve = max(_RESERVE_LEAST, _RESERVE_SHARE * (clock.spent() - start))
    show_scores("Before", before)
    with reporter().bar(f"Contrast, {len(train):,} images") as bar:
        outcome = train_simclr(
            backbone,
            ViewRows(train, options.mini_batch_size),
            validation,
            settings,
            pretrained=pretrained,
            work=workspace.stage("training"),
            clock=clock,
            reserve=reserve,
            progress=bar,
        )
    processes.tell()
    if processes.is_main:
        after = score(outcome.encoder)
        show_scores("After", after)
        trained = dataclasses.replace(backbone, encoder=outcome.encoder)
        record = dataclasses.replace(
            contrast_record(_VERB, options, task.card, backbone, settings, outcome, before, after, clock),
            settings=_shown(settings, plan, backbone),
            knn_before=knn_before,
            knn_after=_knn(trained, task),
            views=view_grid(train),
        )
        _save(workspace, options, trained, record, test)
    processes.wait()
    return result_of(workspace)


def _settings(options: ContrastSimclrOptions) -> ContrastSettings:
    """Settings with the rates that suit where the weights come from."""
    if options.lora and options.from_scratch:
        raise SettingError("--lora keeps the weights as they are, and --from-scratch makes them random: use one.")
    if options.max_length is not None:
        raise SettingError("--max-length is for texts; the size of images is --image-size.")
    rate = options.learning_rate
    if rate is None:
        rate = _RANDOM_RATE if options.from_scratch else _PRETRAINED_RATE
    decay = 1.0 if options.from_scratch else options.layer_decay
    chosen = dataclasses.replace(options, learning_rate=rate, layer_decay=decay)
    return settings_from(chosen, options.seed, best_device())


def _fitting(settings: ContrastSettings, backbone: Backbone) -> ContrastSettings:
    """On a processor, bfloat16 slows convolutions down: only a transformer is trained in it unasked."""
    is_cnn = getattr(backbone.encoder.backbone.config, "num_attention_heads", None) is None
    if settings.options.bf16 == "auto" and is_cnn and best_device().type == "cpu":
        return dataclasses.replace(settings, bf16=False)
    return settings


def _load(options: ContrastSimclrOptions) -> Backbone:
    if options.from_scratch:
        backbone = random_backbone(
            options.model,
            options.seed,
            revision=options.revision,
            pooling=options.pooling,
            image_size=options.image_size,
            trust_remote_code=options.trust_remote_code,
        )
    else:
        if is_outline(options.model):
            raise ModelError(f"{options.model} is a configuration without weights: --from-scratch draws them.")
        backbone = load_backbone(
            options.model,
            revision=options.revision,
            pooling=options.pooling,
            image_size=options.image_size,
            trust_remote_code=options.trust_remote_code,
        )
    if not isinstance(backbone.preprocessor, ImagePreprocessor):
        raise ModelError(f"{options.model} reads {backbone.kind}s, not images. Choose another --model.")
    if backbone.config.projections:
        raise ModelError(f"{options.model} is one tower of two, with a projection; its vision model alone is needed.")
    reporter().say(f"Model: {backbone.card.name}, {backbone.card.parameters:,} parameters, from {backbone.card.source}")
    return backbone


def _source(images: Images, backbone: Backbone, plan: ViewPlan, seed: int, folder: Path) -> ViewSource:
    preprocessor = backbone.preprocessor
    assert isinstance(preprocessor, ImagePreprocessor)
    decoded = DecodedImages(images.pictures, working_size(preprocessor.size), folder)
    return ViewSource(decoded, images.ids, preprocessor, plan, seed)


def _knn(backbone: Backbone, task: ImageTask) -> Interval | None:
    """Accuracy on the test images of a vote of their nearest training images; None without labels."""
    if task.train.labels is None or task.test.labels is None:
        return None
    chosen = np.random.default_rng(0).permutation(len(task.train))[:_NEIGHBOURS]
    voters = task.train.take(np.sort(chosen))
    first, second = (
        forward(backbone.encoder, backbone.preprocessor.encode({"image": _pictures(part)})).features
        for part in (voters, task.test)
    )
    found = knn_predict(first, _labels(voters), second, len(task.classes)).argmax(1)
    return wilson_interval(int((found == task.test.labels).sum()), len(found))


def _labels(images: Images) -> np.ndarray:
    assert images.labels is not None
    return images.labels


def _pictures(images: Images) -> datasets.arrow_dataset.Column:
    return images.pictures.cast_column("image", datasets.Image())["image"]


def _shown(settings: ContrastSettings, plan: ViewPlan, backbone: Backbone) -> dict[str, object]:
    size = backbone.card.preprocessing["size"]
    return {**settings.shown(), **dataclasses.asdict(plan), "image_size": size}


def _show(task: ImageTask) -> None:
    sizes = ", ".join(f"{size:,} {name}" for name, size in task.card.sizes.items())
    reporter().say(f"Data: {task.card.source}: {sizes} images")
    for finding in task.findings:
        reporter().warn(f"Left out: {describe(finding)}")
    if task.card.repeated:
        reporter().say(f"{task.card.repeated:,} images look like another one; each set is on one side of every split.")


def _save(
    workspace: Workspace,
    options: ContrastSimclrOptions,
    trained: Backbone,
    record: ContrastRecord,
    test: ViewSource,
) -> None:
    reporter().say("Saving, and loading again in a new process …")
    images = test.images.rows(list(range(min(_CHECKED, len(test)))))
    save_images(workspace.staging(), Path(options.output_dir).name, trained, record, images)
    workspace.publish()
