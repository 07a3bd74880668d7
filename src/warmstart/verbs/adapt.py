"""`adapt`: decide, adapt, prove, report. One call from a table or a folder of images to a model that reloads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.backbones.embed import best_device
from warmstart.core.clock import Clock
from warmstart.core.errors import StrategyNotPossibleError
from warmstart.core.metrics import fit_temperature, score
from warmstart.core.option import verb
from warmstart.core.options import AdaptOptions
from warmstart.core.progress import reporter
from warmstart.core.records import PairedDifference, Plan, Record, RunRecord
from warmstart.core.statistics import paired_difference
from warmstart.decide.choice import NONE
from warmstart.strategies.linear_probe import set_head
from warmstart.strategies.protocol import Settings
from warmstart.strategies.table import TRAINED, settings_for
from warmstart.train.fit import peak_memory_mb
from warmstart.verbs import facts
from warmstart.verbs.advice import advice_for
from warmstart.verbs.ledger import keep_score
from warmstart.verbs.planning import Measured, expected_mixing, make, measure, reserve_seconds
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.processes import Processes
from warmstart.verbs.reference import add_reference, expected_seconds
from warmstart.verbs.saving import save_result
from warmstart.verbs.scoring import confident_mistakes, frozen_logits, keeps_plan
from warmstart.verbs.situation import Situation, prepare
from warmstart.verbs.strategies import Bench, Finished, check_strategies, run_strategy, train_only
from warmstart.verbs.workspace import Workspace


@dataclass(frozen=True)
class AdaptResult(Record):
    """Where the result is, and everything that was seen."""

    output_dir: str
    report: str
    record: RunRecord


@verb(AdaptOptions)
def adapt(options: AdaptOptions) -> AdaptResult:
    """Adapt a pretrained model to labelled rows, and write a result folder with its proof.

    Under torchrun every process trains on its share of each batch; the first one decides, judges and writes.

    Raises:
        UserError: something in the call, the data or the machine must change; nothing was written.
        RoundTripError: the saved model differs from the tested one; there is no result folder.
    """
    clock = Clock(options.time_budget)
    processes = Processes(best_device())
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    if not processes.is_main:
        return _train_along(options, clock, workspace, processes)
    workspace.check()
    situation = prepare(options, options, options.reference_data)
    check_strategies([options.strategy], situation, options)
    fingerprints = {"data": situation.task.card.fingerprint, "weights": situation.backbone.card.digest}
    workspace.begin(dataclasses.asdict(options) | {"processes": processes.world}, fingerprints)
    clock.add(workspace.spent())
    measured = measure(situation, options, options.validation_size, options.seed)
    plan = _plan(workspace, clock, situation, measured, options)
    if plan.strategy == NONE:
        workspace.abandon()
        raise StrategyNotPossibleError(" ".join(plan.reasons))
    reporter().say(f"Plan: {plan.strategy}")
    if plan.strategy in TRAINED:
        add_reference(situation, options.reference_data, options.time_budget, options.seed)
    processes.wait()  # for the plan, which the others read
    finished = _run(workspace, clock, situation, measured, plan, options)
    if plan.strategy in TRAINED:
        processes.tell()
    chosen = _choose(finished, plan, options.strategy, situation, measured)
    winner = finished[chosen]
    if winner.outcome is None:
        workspace.abandon()
        raise StrategyNotPossibleError(winner.run.note)
    record = _record(clock, situation, measured, plan, finished, chosen, options, processes)
    reporter().say("Saving, and loading again in a new process …")
    name = Path(options.output_dir).name
    staging = workspace.staging()
    record = save_result(staging, name, situation, winner.outcome, situation.backbone.preprocessor, record, clock)
    folder = workspace.publish()
    keep_score(record, options.cache_dir)
    processes.wait()
    return AdaptResult(str(folder), str(folder / "report.html"), record)


def _train_along(options: AdaptOptions, clock: Clock, workspace: Workspace, processes: Processes) -> AdaptResult:
    """What a process does that neither decides nor writes: its share of the planned training."""
    processes.wait()  # for the plan; and the features are in the cache by now
    workspace.follow()
    clock.add(workspace.spent())
    plan = Plan.from_dict(workspace.recall("plan"))
    if plan.strategy in TRAINED:
        situation = prepare(options, options, options.reference_data)
        add_reference(situation, options.reference_data, options.time_budget, options.seed)
        fit, validation = situation.split_places(options.validation_size, options.seed)
        bench = _bench(workspace, clock, situation, fit, validation, options.seed)
        train_only(bench, plan.strategy, _settings(plan.strategy, plan, situation, options))
    processes.wait()
    record = RunRecord.from_json((workspace.output / RESULTS).read_text(encoding="utf-8"))
    return AdaptResult(str(workspace.output), str(workspace.output / "report.html"), record)


def _plan(workspace: Workspace, clock: Clock, situation: Situation, measured: Measured, options: AdaptOptions) -> Plan:
    """The plan of the interrupted run, or a new one."""
    kept = workspace.recall("plan")
    if kept is not None:
        return Plan.from_dict(kept)
    asked = None if options.strategy == "auto" else options.strategy
    aside = expected_seconds(situation, options.reference_data, options.time_budget)
    aside += expected_mixing(situation, options, len(measured.validation), aside)
    plan = make(situation, measured, options, clock.left(), asked, aside)
    workspace.remember("plan", plan.to_dict(), clock.spent())
    return plan


def _run(
    workspace: Workspace, clock: Clock, situation: Situation, measured: Measured, plan: Plan, options: AdaptOptions
) -> dict[str, Finished]:
    """Zero-shot and the probe, which cost next to nothing, and the planned strategy."""
    bench = _bench(workspace, clock, situation, measured.fit, measured.validation, options.seed)
    finished: dict[str, Finished] = {}
    names = dict.fromkeys(("zero_shot", "linear_probe", plan.strategy))
    for name in names:
        title = f"{name}, {len(bench.fit.labels):,} rows"
        finished[name] = run_strategy(bench, name, _settings(name, plan, situation, options), title)
    finished["linear_probe"] = _probe_on_all(finished["linear_probe"], situation, measured)
    return finished


def _bench(
    workspace: Workspace, clock: Clock, situation: Situation, fit: np.ndarray, validation: np.ndarray, seed: int
) -> Bench:
    return Bench(
        situation=situation,
        fit=situation.labelled.take(fit),
        validation=situation.labelled.take(validation),
        seed=seed,
        clock=clock,
        reserve=reserve_seconds(situation),
        stage=workspace.stage,
    )


def _settings(name: str, plan: Plan, situation: Situation, options: AdaptOptions) -> Settings:
    epochs = plan.settings.get("num_train_epochs") if name == plan.strategy else None
    return settings_for(name, situation.task.card.modality, options, fast_bf16=situation.fast_bf16, epochs=epochs)


def _probe_on_all(probe: Finished, situation: Situation, measured: Measured) -> Finished:
    """The probe as it would be used: solved on every labelled row, calibrated on its out-of-fold answers.

    Its validation score stays that of the probe which did not see the validation rows.
    """
    if probe.outcome is None:
        return probe
    model = situation.backbone.classifier(situation.labels, situation.task.card.modality)
    set_head(model, measured.probe)
    temperature = fit_temperature(measured.probe.cross_validated_logits, situation.labelled.labels)
    logits = frozen_logits(model, situation.test.features)
    run = dataclasses.replace(
        probe.run,
        test=score(logits, situation.test.labels, situation.labels, temperature),
        seconds=probe.run.seconds + measured.probe_seconds,
        settings={**probe.run.settings, "C": measured.probe.c, "label_names": measured.probe.names_weight},
    )
    outcome = dataclasses.replace(probe.outcome, model=model.eval())
    return dataclasses.replace(probe, run=run, outcome=outcome, test_logits=logits, temperature=temperature)


def _choose(finished: dict[str, Finished], plan: Plan, asked: str, situation: Situation, measured: Measured) -> str:
    """The planned strategy, unless `auto` finds on the validation rows that the probe is better."""
    planned = finished[plan.strategy]
    if asked != "auto":
        return plan.strategy
    if planned.outcome is None:
        return "linear_probe"
    if plan.strategy not in TRAINED:
        return plan.strategy
    probe = finished["linear_probe"]
    validation = situation.labelled.take(measured.validation)
    if keeps_plan(planned.validation_logits, probe.validation_logits, validation.labels):
        return plan.strategy
    reporter().warn(f"On the validation rows the probe is at least as good as {plan.strategy}: the probe is kept.")
    return "linear_probe"


def _record(
    clock: Clock,
    situation: Situation,
    measured: Measured,
    plan: Plan,
    finished: dict[str, Finished],
    chosen: str,
    options: AdaptOptions,
    processes: Processes,
) -> RunRecord:
    winner = finished[chosen]
    record = RunRecord(
        verb="adapt",
        created=facts.now(),
        metric=options.metric_for_best_model,
        task=situation.task.card,
        backbone=situation.backbone.card,
        plan=plan,
        floors=measured.floors,
        runs=tuple(entry.run for entry in finished.values()),
        chosen=chosen,
        differences=_differences(finished, chosen, situation.test.labels, options.seed),
        mistakes=confident_mistakes(
            winner.test_logits, situation.test.labels, situation.labels, situation.task.test, winner.temperature
        ),
        temperature=winner.temperature,
        seconds=clock.spent(),
        peak_memory_mb=peak_memory_mb(),
        versions=facts.versions(),
        machine=facts.machine(situation.device, processes.world),
        command=facts.command_line("adapt", options),
    )
    return dataclasses.replace(record, advice=advice_for(record))


def _differences(
    finished: dict[str, Finished], chosen: str, labels: np.ndarray, seed: int
) -> tuple[PairedDifference, ...]:
    """The chosen strategy against each of the others, on the same test rows."""
    right = {name: entry.test_logits.argmax(1) == labels for name, entry in finished.items() if entry.outcome}
    return tuple(
        PairedDifference(chosen, name, paired_difference(right[chosen][None], right[name][None], seed))
        for name in right
        if name != chosen and chosen in right
    )
