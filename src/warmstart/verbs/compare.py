"""`compare`: the strategies side by side, each with the same seconds, on the same seeds and test rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.core.clock import Clock
from warmstart.core.errors import SettingError, StrategyNotPossibleError
from warmstart.core.files import digest, write_text
from warmstart.core.option import verb
from warmstart.core.options import STRATEGIES, CompareOptions
from warmstart.core.records import Floor, PairedDifference, Plan, Record, RunRecord, StrategyRun
from warmstart.core.statistics import paired_difference
from warmstart.report.html import render_report
from warmstart.strategies.protocol import Settings
from warmstart.strategies.table import TRAINED, settings_for
from warmstart.train.fit import peak_memory_mb
from warmstart.verbs import facts
from warmstart.verbs.advice import advice_for
from warmstart.verbs.ledger import keep_score
from warmstart.verbs.planning import Measured, forgetting_seconds, make, measure, seconds_to_search
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.reference import add_reference
from warmstart.verbs.scoring import confident_mistakes
from warmstart.verbs.situation import Situation, prepare
from warmstart.verbs.strategies import Bench, Finished, check_strategies, run_strategy, skipped
from warmstart.verbs.workspace import Workspace

_RATES = (1 / 3, 1.0, 3.0)  # times the starting rate: what is tried before the seeds are run


@dataclass(frozen=True)
class CompareResult(Record):
    """Where the report is, and everything that was seen."""

    output_dir: str
    report: str
    record: RunRecord


@verb(CompareOptions)
def compare(options: CompareOptions) -> CompareResult:
    """Run every named strategy on every seed, and write one table with intervals.

    `--time-budget` is what each strategy may spend, its tuning and all its seeds included.

    Raises:
        UserError: something in the call, the data or the machine must change; nothing was written.
    """
    names = chosen_strategies(options.strategies)
    clock = Clock()
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    workspace.check()
    situation = prepare(options, options, options.reference_data)
    check_strategies(names, situation, options)
    fingerprints = {"data": situation.task.card.fingerprint, "weights": situation.backbone.card.digest}
    workspace.begin(dataclasses.asdict(options), fingerprints)
    clock.add(workspace.spent())
    measured = measure(situation, options, options.validation_size, options.seed)
    plan = make(situation, measured, options, float("inf"), None)
    if set(names) & set(TRAINED):
        add_reference(situation, options.reference_data, options.time_budget, options.seed)
    seeds = [options.seed + number for number in range(options.seeds)]
    entries: dict[str, list[Finished]] = {}
    for name in names:
        entries[name] = _Strategy(name, workspace, situation, measured, options, clock).run(seeds)
    if all(runs[0].run.status == "skipped" for runs in entries.values()):
        workspace.abandon()
        raise StrategyNotPossibleError(f"None of the strategies could run: {entries[names[-1]][0].run.note}")
    record = _record(options, situation, plan, measured.floors, entries, clock)
    staging = workspace.staging()
    write_text(staging / "report.html", render_report(record))
    record = dataclasses.replace(record, files={"report.html": digest(staging / "report.html")})
    write_text(staging / RESULTS, record.to_json())
    folder = workspace.publish()
    keep_score(record, options.cache_dir)
    return CompareResult(str(folder), str(folder / "report.html"), record)


def chosen_strategies(text: str) -> tuple[str, ...]:
    """The strategies named in an option.

    Raises:
        SettingError: for a name that is not one.
    """
    if text == "all":
        return STRATEGIES
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in STRATEGIES:
            raise SettingError(f"--strategies: {name!r} is not one of {', '.join(STRATEGIES)}.")
    if not names:
        raise SettingError(f"--strategies is empty; name some of {', '.join(STRATEGIES)}, or all.")
    return names


@dataclass
class _Strategy:
    """One strategy over all seeds, inside its seconds; finished parts are kept for a resumed run."""

    name: str
    workspace: Workspace
    situation: Situation
    measured: Measured
    options: CompareOptions
    clock: Clock

    def run(self, seeds: list[int]) -> list[Finished]:
        """Tune on the first seed, or find a rate there, then run the others with what was best."""
        budget = self.options.time_budget
        clock = Clock(budget, float(self.workspace.recall(f"spent/{self.name}") or 0.0))
        if self.name not in TRAINED:
            return [self._one(seed, self._settings(1.0, None), clock, 0.0) for seed in seeds]
        epochs = self._epochs(len(seeds))
        if epochs is None:
            why = f"{budget:g} s do not hold one epoch for each of its {self._trainings(len(seeds))} trainings"
            return [skipped(self.name, seed, why) for seed in seeds]
        best, tuning = self._tune(seeds[0], epochs, clock, len(seeds))
        rest = []
        for number, seed in enumerate(seeds[1:], start=1):
            reserve = clock.left() * (1 - 1 / (len(seeds) - number)) if budget is not None else 0.0
            rest.append(self._one(seed, self._found(best, epochs), clock, reserve))
        shared = tuning / len(seeds)
        return [_add_seconds(entry, shared) for entry in (best.finished, *rest)]

    def _trainings(self, seeds: int) -> int:
        fixed = self.options.learning_rate is not None
        return seeds if fixed else seeds + len(_RATES) - 1

    def _epochs(self, seeds: int) -> float | None:
        """Epochs of each training such that all fit; None when not even one does."""
        wanted = self._settings(1.0, None).num_train_epochs
        budget = self.options.time_budget
        if budget is None or self.options.max_steps is not None:
            return wanted
        evidence = self.measured.evidence
        each = 0.9 * budget / self._trainings(seeds) - self._afterwards()
        each -= seconds_to_search(self.options, evidence, max(0.0, each))
        epoch = evidence.seconds_train * len(self.measured.fit)
        epoch += evidence.seconds_forward * len(self.measured.validation) + 1.0
        fitting = each / epoch
        return min(wanted, float(int(fitting))) if fitting >= 1 else None

    def _afterwards(self) -> float:
        """Seconds that follow each training: scoring the test rows, and measuring what was forgotten."""
        scoring = self.measured.evidence.seconds_forward * len(self.situation.test.labels)
        return scoring + (forgetting_seconds(self.situation) if self.name in TRAINED else 0.0)

    def _settings(self, rate: float, epochs: float | None) -> Settings:
        settings = settings_for(
            self.name,
            self.situation.task.card.modality,
            self.options,
            fast_bf16=self.situation.fast_bf16,
            epochs=epochs,
        )
        if self.options.learning_rate is not None:
            return settings
        return dataclasses.replace(settings, learning_rate=settings.learning_rate * rate)

    def _found(self, best: _Tuned, epochs: float) -> Settings:
        """The settings of the best training on the first seed, with the rate that was found in it."""
        settings, search = self._settings(best.rate, epochs), best.finished.run.rate_search
        if search is None:
            return settings
        return dataclasses.replace(settings, find_rate=False, learning_rate=search.learning_rate)

    def _tune(self, seed: int, epochs: float, clock: Clock, seeds: int) -> tuple[_Tuned, float]:
        """The best of the rates on the first seed's validation rows, and the seconds of those not kept."""
        rates = (1.0,) if self.options.learning_rate is not None else _RATES
        tried = []
        for number, rate in enumerate(rates):
            share = 1 / (len(rates) - number + seeds - 1)
            reserve = clock.left() * (1 - share) if self.options.time_budget is not None else 0.0
            found = self._one(seed, self._settings(rate, epochs), clock, reserve, tag=f"-rate{number}")
            tried.append(_Tuned(rate, found))
        best = max(tried, key=lambda entry: (entry.finished.run.validation, -abs(np.log(entry.rate))))
        return best, sum(entry.finished.run.seconds for entry in tried if entry is not best)

    def _one(self, seed: int, settings: Settings, clock: Clock, reserve: float, tag: str = "") -> Finished:
        """One training, or what an interrupted run kept of it."""
        key = f"{self.name}-seed{seed}{tag}"
        kept = self._kept(key)
        if kept is not None:
            return kept
        places = self.situation.split_places(self.options.validation_size, seed)
        bench = Bench(
            situation=self.situation,
            fit=self.situation.labelled.take(places[0]),
            validation=self.situation.labelled.take(places[1]),
            seed=seed,
            clock=clock,
            reserve=reserve + self._afterwards(),
            stage=lambda name: self.workspace.stage(key),
        )
        rate = "to be found" if settings.find_rate else f"{settings.learning_rate:.1e}"
        title = f"{self.name}, seed {seed}, rate {rate}" if self.name in TRAINED else self.name
        found = run_strategy(bench, self.name, settings, title)
        self._keep(key, found, clock)
        return found

    def _keep(self, key: str, found: Finished, clock: Clock) -> None:
        folder = self.workspace.stage(key)
        np.save(folder / "test.npy", found.test_logits, allow_pickle=False)
        self.workspace.clear_checkpoints(key)
        values: dict[str, Any] = {"run": found.run.to_dict(), "temperature": found.temperature}
        self.workspace.remember(f"spent/{self.name}", clock.spent(), self.clock.spent())
        self.workspace.remember(f"done/{key}", values, self.clock.spent())

    def _kept(self, key: str) -> Finished | None:
        values = self.workspace.recall(f"done/{key}")
        if values is None:
            return None
        logits = np.load(self.workspace.stage(key) / "test.npy", allow_pickle=False)
        return Finished(StrategyRun.from_dict(values["run"]), None, np.zeros((0, 0)), logits, values["temperature"])


@dataclass(frozen=True)
class _Tuned:
    rate: float
    finished: Finished


def _add_seconds(entry: Finished, seconds: float) -> Finished:
    run = entry.run
    settings = {**run.settings, "tuning_seconds": round(seconds, 1)}
    return dataclasses.replace(entry, run=dataclasses.replace(run, seconds=run.seconds + seconds, settings=settings))


def _record(
    options: CompareOptions,
    situation: Situation,
    plan: Plan,
    floors: tuple[Floor, ...],
    entries: dict[str, list[Finished]],
    clock: Clock,
) -> RunRecord:
    labels = situation.test.labels
    done = {name: runs for name, runs in entries.items() if runs[0].run.status != "skipped"}
    best = max(done, key=lambda name: float(np.mean([run.run.validation for run in done[name]])))
    right = {name: np.stack([run.test_logits.argmax(1) == labels for run in runs]) for name, runs in done.items()}
    first = done[best][0]
    record = RunRecord(
        verb="compare",
        created=facts.now(),
        metric=options.metric_for_best_model,
        task=situation.task.card,
        backbone=situation.backbone.card,
        plan=plan,
        floors=floors,
        runs=tuple(run.run for runs in entries.values() for run in runs),
        chosen=best,
        differences=tuple(
            PairedDifference(best, name, paired_difference(right[best], right[name], options.seed))
            for name in done
            if name != best
        ),
        mistakes=confident_mistakes(
            first.test_logits, labels, situation.labels, situation.task.test, first.temperature
        ),
        temperature=first.temperature,
        seconds=clock.spent(),
        peak_memory_mb=peak_memory_mb(),
        versions=facts.versions(),
        machine=facts.machine(situation.device),
        command=facts.command_line("compare", options),
    )
    return dataclasses.replace(record, advice=(*_keep_it(record, options), *advice_for(record)))


def _keep_it(record: RunRecord, options: CompareOptions) -> tuple[str, ...]:
    """How to get the best strategy as a model: compare keeps none."""
    rate = record.run_of(record.chosen).settings.get("learning_rate")
    more = f" --learning-rate {rate:.3g}" if isinstance(rate, float) else ""
    source = Path(options.data).name
    return (f"To keep a model: warmstart adapt --data {source} --strategy {record.chosen}{more} …",)
