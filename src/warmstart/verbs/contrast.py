"""`contrast`: train encoders by contrast, from data and a model to a result folder that adapts further."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from warmstart.backbones.embed import best_device
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.text_inputs import TextPreprocessor
from warmstart.contrastive.fitting import ContrastOutcome
from warmstart.contrastive.sentences import Judge, check_training, train_sentences, with_hard_negatives
from warmstart.contrastive.settings import ContrastSettings, mining_plan, parse_dimensions, settings_from
from warmstart.core.clock import Clock
from warmstart.core.contrast import ContrastRecord, PairsCard, RankScores
from warmstart.core.contrast_options import ContrastSentencesOptions
from warmstart.core.errors import DataError, ModelError
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.records import Record
from warmstart.data.pairs import Pairs, PairTask, load_pairs, questions
from warmstart.train.fit import peak_memory_mb
from warmstart.verbs import facts
from warmstart.verbs.advice import course_advice
from warmstart.verbs.contrast_saving import save_sentences
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.processes import Processes
from warmstart.verbs.workspace import Workspace

_HARDER = {
    "contrast sentences": "--num-negatives",
    "contrast simclr": "a stronger --augmentation",
    "contrast clip": "images that are more alike",
}
_WIDE = 0.05  # half an interval of recall@10 that is worth a remark
_CHECKED = 8  # texts that are encoded again in a new process
_RESERVE_SHARE = 1.5  # of the seconds that ranking the test pairs took before, kept for what follows training
_RESERVE_LEAST = 20.0  # seconds: saving, and loading again in a new process


@dataclass(frozen=True)
class ContrastResult(Record):
    """Where the result is, and everything that was seen."""

    output_dir: str
    report: str
    record: ContrastRecord


@verb(ContrastSentencesOptions)
def contrast_sentences(options: ContrastSentencesOptions) -> ContrastResult:
    """Train a sentence encoder on pairs, triplets or labelled groups of texts.

    The result is a sentence-transformers model. Under torchrun every process trains on its share of each batch, and the
    first one writes.

    Raises:
        UserError: something in the call, the data or the machine must change; nothing was written.
        ContrastError: training diverged.
        RoundTripError: the saved model differs from the tested one; there is no result folder.
    """
    clock = Clock(options.time_budget)
    device = best_device()
    processes = Processes(device)
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    if processes.is_main:
        workspace.check()
    settings = settings_from(options, options.seed, device)
    plan = mining_plan(options)
    task = load_pairs(options)
    _show(task.card)
    backbone = _load(options)
    dimensions = parse_dimensions(options.matryoshka_dims, backbone.card.features)
    pairs = task.train
    if plan is not None:
        pairs = _mined(with_hard_negatives(pairs, backbone, plan, options.seed), len(pairs), plan.num_negatives)
    card = _learned_from(task, pairs)
    check_training(backbone, len(pairs), settings, processes.world)
    begin(workspace, processes, clock, options, {"data": task.card.fingerprint, "weights": backbone.card.digest})
    score = Judge(questions(task.test), backbone.preprocessor)
    start = clock.spent()
    before, shorter = score.cut(backbone.encoder, dimensions)
    reserve = max(_RESERVE_LEAST, _RESERVE_SHARE * (clock.spent() - start))
    show_scores("Before", before)
    with reporter().bar(f"Contrast, {len(pairs):,} pairs") as bar:
        outcome = train_sentences(
            backbone,
            pairs,
            questions(task.validation),
            settings,
            dimensions=dimensions,
            work=workspace.stage("training"),
            clock=clock,
            reserve=reserve,
            progress=bar,
        )
    processes.tell()
    if processes.is_main:
        after, by_dimension = score.cut(outcome.encoder, dimensions)
        show_scores("After", after)
        record = dataclasses.replace(
            contrast_record("contrast sentences", options, card, backbone, settings, outcome, before, after, clock),
            by_dimension=by_dimension,
            before_by_dimension=shorter,
        )
        _save(workspace, options, backbone, outcome, record, task)
    processes.wait()
    return result_of(workspace)


def begin(workspace: Workspace, processes: Processes, clock: Clock, options: Any, fingerprints: dict[str, str]) -> None:
    """Make the run's folder, or take up an unfinished run: one process does, and the others wait for it."""
    processes.wait()
    if processes.is_main:
        workspace.begin(dataclasses.asdict(options) | {"processes": processes.world}, fingerprints)
        clock.add(workspace.spent())
    processes.wait()


def result_of(workspace: Workspace) -> ContrastResult:
    """What a finished run tells, read from its folder."""
    folder = workspace.output
    record = ContrastRecord.from_json((folder / RESULTS).read_text(encoding="utf-8"))
    return ContrastResult(str(folder), str(folder / "report.html"), record)


def _load(options: ContrastSentencesOptions) -> Backbone:
    backbone = load_backbone(
        options.model,
        revision=options.revision,
        pooling=options.pooling,
        max_length=options.max_length,
        trust_remote_code=options.trust_remote_code,
    )
    if backbone.kind != "text":
        raise ModelError(f"{options.model} reads {backbone.kind}s, but pairs are texts. Choose another --model.")
    if backbone.config.pooling == "pooler":
        raise ModelError("A sentence-transformers model cannot pool by its pooler: use --pooling mean or cls.")
    reporter().say(f"Model: {backbone.card.name}, {backbone.card.parameters:,} parameters, from {backbone.card.source}")
    return backbone


def _show(card: PairsCard) -> None:
    roles = ", ".join(f"{role} = {column!r}" for role, column in card.columns.items())
    sizes = ", ".join(f"{size:,} {name}" for name, size in card.sizes.items())
    reporter().say(f"Data: {card.source} ({roles}): {sizes} pairs")
    if card.dropped:
        alone = ", or no other text of its label" if "label" in card.columns else ""
        reporter().warn(f"{card.dropped:,} rows were left out: an empty text{alone}.")


def show_scores(when: str, scores: RankScores) -> None:
    """One line of what was reached."""
    reporter().say(
        f"{when}: recall@1 {100 * scores.recall_at_1.value:.1f} %, recall@10 {100 * scores.recall_at_10.value:.1f} % "
        f"of {scores.queries:,} test queries among {scores.candidates:,} candidates"
    )


def _mined(found: Pairs, before: int, number: int) -> Pairs:
    if len(found) < 2:
        raise DataError(
            f"only {len(found)} of {before} anchors have {number} hard negatives that pass the filters",
            remedy="Lower --range-min or --relative-margin, or leave out --num-negatives.",
        )
    if len(found) < before:
        reporter().warn(f"{before - len(found):,} of {before:,} pairs have too few hard negatives, and are left out.")
    return found


def _learned_from(task: PairTask, pairs: Pairs) -> PairsCard:
    """The card of the data, with the pairs that are learned from once hard negatives have been searched for."""
    left_out = len(task.train) - len(pairs)
    return dataclasses.replace(task.card, sizes=task.card.sizes | {"train": len(pairs)}, without_negatives=left_out)


def contrast_record(
    verb: str,
    options: Any,
    card: PairsCard,
    backbone: Backbone,
    settings: ContrastSettings,
    outcome: ContrastOutcome,
    before: RankScores,
    after: RankScores,
    clock: Clock,
) -> ContrastRecord:
    """Everything about a run, but for what one verb alone has.

    Args:
        verb: as it is called on the command line.
        options: of the call.
        card: the data.
        backbone: the model that training started from.
        settings: how it was trained.
        outcome: what training gave.
        before: on the test rows, of the backbone.
        after: on the test rows, of the outcome.
        clock: of the run.
    """
    return ContrastRecord(
        verb=verb,
        created=facts.now(),
        data=card,
        backbone=backbone.card,
        settings=settings.shown(),
        before=before,
        after=after,
        by_dimension={},
        history=outcome.history,
        groups=outcome.groups,
        alarms=outcome.alarms,
        steps=outcome.steps,
        processes=outcome.processes,
        note=outcome.note,
        kept_step=outcome.kept_step,
        seconds=clock.spent(),
        peak_memory_mb=peak_memory_mb(),
        versions=facts.versions(),
        machine=facts.machine(best_device()),
        command=facts.command_line(verb, options),
        advice=_advice(before, after, outcome, _HARDER[verb], counted=options.max_steps is not None),
    )


def _advice(
    before: RankScores, after: RankScores, outcome: ContrastOutcome, harder: str, *, counted: bool
) -> tuple[str, ...]:
    """What to do next, in plain sentences."""
    found = []
    if after.reciprocal_rank.high < before.reciprocal_rank.value:
        found.append(
            "The model ranks worse than before: use a lower --learning-rate, or keep the model that you started from."
        )
    if before.recall_at_1.value == 1.0:
        found.append(
            "Every test query found its answer before training, so these rows cannot show what was learned: look "
            "whether they repeat, or answers are the same as their queries."
        )
    half = (after.recall_at_10.high - after.recall_at_10.low) / 2
    if half > _WIDE:
        found.append(
            f"With {after.queries:,} test queries recall@10 is known to ±{100 * half:.0f} points: a larger --test-size "
            "says more."
        )
    found += course_advice(outcome.note, outcome.history, counted=counted)
    last = next((point for point in reversed(outcome.history) if point.bound is not None), None)
    if last is not None and last.bound is not None and last.ceiling and last.bound > 0.95 * last.ceiling:
        found.append(
            f"The bound is within 5 % of its ceiling log N: a larger --per-device-train-batch-size, or {harder}, gives "
            "the model something harder to tell apart."
        )
    return tuple(found)


def _save(
    workspace: Workspace,
    options: ContrastSentencesOptions,
    backbone: Backbone,
    outcome: ContrastOutcome,
    record: ContrastRecord,
    task: PairTask,
) -> None:
    reporter().say("Saving, and loading again in a new process …")
    texts = list(dict.fromkeys([*task.test.anchors[:_CHECKED], *task.test.positives[:_CHECKED]]))
    name = Path(options.output_dir).name
    preprocessor = cast("TextPreprocessor", backbone.preprocessor)
    save_sentences(workspace.staging(), name, outcome.encoder, preprocessor, record, texts)
    workspace.publish()
