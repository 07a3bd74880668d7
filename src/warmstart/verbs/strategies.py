"""Running one strategy on a situation: from a Context to a StrategyRun with its logits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.core.clock import Clock
from warmstart.core.errors import SettingError, StrategyNotPossibleError
from warmstart.core.metrics import fit_temperature, score, selection_value
from warmstart.core.options import TrainOptions
from warmstart.core.progress import reporter
from warmstart.core.records import Forgetting, StrategyRun
from warmstart.strategies.protocol import Context, Outcome, Rows, Settings
from warmstart.strategies.remedies import interpolation_seconds
from warmstart.strategies.table import STRATEGY, TRAINED
from warmstart.strategies.trained import classifier_groups
from warmstart.train.fit import peak_memory_mb
from warmstart.train.forgetting import measure
from warmstart.train.lora import choose_targets
from warmstart.train.unfreezing import named_groups, parse_group_rates, parse_unfreezing
from warmstart.verbs.scoring import logits_of
from warmstart.verbs.situation import REFERENCE_OFF, Situation


@dataclass(frozen=True)
class Finished:
    """A strategy's run, with what it answered on the validation and test rows, (rows, labels)."""

    run: StrategyRun
    outcome: Outcome | None
    validation_logits: np.ndarray
    test_logits: np.ndarray
    temperature: float


@dataclass(frozen=True)
class Bench:
    """What running strategies needs, apart from which one."""

    situation: Situation
    fit: Rows
    validation: Rows
    seed: int
    clock: Clock
    reserve: float
    stage: Callable[[str], Path]

    def context(self, name: str, settings: Settings, progress: Callable[[int, int, str], None] | None) -> Context:
        """The context of one strategy."""
        reference = self.situation.reference
        judging = self.situation.seconds_forward * len(self.validation.labels)
        mixing = interpolation_seconds(settings, judging, 0.0 if reference is None else reference.seconds)
        return Context(
            backbone=self.situation.backbone,
            modality=self.situation.task.card.modality,
            labels=self.situation.labels,
            fit=self.fit,
            validation=self.validation,
            settings=settings,
            seed=self.seed,
            work=self.stage(name),
            clock=self.clock,
            reserve=self.reserve + (mixing if name in TRAINED else 0.0),
            progress=progress,
            reference=self.situation.reference,
        )


def run_strategy(bench: Bench, name: str, settings: Settings, title: str = "") -> Finished:
    """Run a strategy and score it; one that is not possible here gives a run with status "skipped"."""
    start = time.perf_counter()
    try:
        with reporter().bar(title if title else f"Strategy {name}") as bar:
            outcome = STRATEGY[name](bench.context(name, settings, bar))
    except StrategyNotPossibleError as error:
        return skipped(name, bench.seed, str(error))
    adapted = time.perf_counter() - start
    if outcome.rate_search is not None:
        found = outcome.rate_search
        reporter().say(f"{name}: learning rate {found.learning_rate:.2g}. {found.note}")
    frozen = name not in TRAINED
    validation_logits = logits_of(outcome.model, bench.validation, frozen=frozen)
    test_logits = logits_of(outcome.model, bench.situation.test, frozen=frozen)
    temperature = 1.0 if name == "zero_shot" else fit_temperature(validation_logits, bench.validation.labels)
    labels = bench.situation.labels
    run = StrategyRun(
        strategy=name,
        seed=bench.seed,
        status="stopped" if outcome.stopped else "done",
        note=outcome.note,
        settings={} if outcome.settings is None else outcome.settings,
        validation=selection_value(settings.metric, validation_logits, bench.validation.labels),
        test=score(test_logits, bench.situation.test.labels, labels, temperature),
        seconds=adapted,
        peak_memory_mb=peak_memory_mb(),
        trainable=outcome.trainable,
        history=outcome.history,
        groups=outcome.groups,
        remedies=outcome.remedies,
        forgetting=None if frozen else _forgetting(bench.situation, outcome),
        rate_search=outcome.rate_search,
    )
    return Finished(run, outcome, validation_logits, test_logits, temperature)


def train_only(bench: Bench, name: str, settings: Settings) -> None:
    """Take part in a training that another process judges; what is not possible here is not possible there either."""
    with contextlib.suppress(StrategyNotPossibleError):
        STRATEGY[name](bench.context(name, settings, None))


def _forgetting(situation: Situation, outcome: Outcome) -> Forgetting | None:
    """What a trained model kept of the original; None without rows to measure it on."""
    if situation.reference is None:
        return None
    return measure(situation.backbone.encoder, outcome.model, situation.reference)


def skipped(name: str, seed: int, why: str) -> Finished:
    """A strategy that was not run, and why."""
    run = StrategyRun(
        strategy=name,
        seed=seed,
        status="skipped",
        note=why,
        settings={},
        validation=float("nan"),
        test=None,
        seconds=0.0,
        peak_memory_mb=0.0,
        trainable=0,
    )
    return Finished(run, None, np.zeros((0, 0)), np.zeros((0, 0)), 1.0)


def check_strategies(names: Sequence[str], situation: Situation, options: TrainOptions) -> None:
    """Find the user's mistakes that only a loaded model shows, before anything is written.

    Raises:
        SettingError: LoRA was asked for on modules that the model does not have, or rates or openings for groups that
            it does not have; or openings for strategies that open all groups from the start; or a bound on forgetting
            without rows to measure it on.
    """
    rates = parse_group_rates(options.group_rates)
    unfreezing = parse_unfreezing(options.unfreeze, options.unfreeze_patience)
    if options.unfreeze != "stages" and "progressive" not in names:
        raise SettingError("--unfreeze is for the strategy progressive; name it with --strategy progressive.")
    if options.max_forgetting is not None and isinstance(options.wise_alpha, float):
        raise SettingError("--max-forgetting chooses --wise-alpha; give one of them.")
    if options.max_forgetting is not None and getattr(options, "reference_data", None) == REFERENCE_OFF:
        raise SettingError("--max-forgetting needs reference rows; leave out --reference-data none.")
    if rates or unfreezing.kind == "given":
        groups = classifier_groups(situation.backbone.classifier(situation.labels, situation.task.card.modality))
        named_groups(groups, rates, "--group-rates")
        unfreezing.fractions(groups)
    if options.target_modules != "all-linear" and {"lora", "auto"} & set(names):
        choose_targets(situation.backbone.encoder, options.target_modules)
