"""What following `advise` costs against knowing the best strategy, over data sets and numbers of labels.

Women's reviews, AG News, fifty intents of CLINC150 and tweet emotion with MiniLM, satellite scenes with
EfficientNet-Lite0 at 96 pixels; 4, 16, 64 and 256 labels a class where the data allow, two seeds. A `-tune` cell finds
each strategy's peak rate at 16 a class on 400 rows of their own. A cell named by a strategy trains it in full; an
`-evidence` cell measures what `advise` does, with zero-shot, the probe, and pilots within a fifth of the forecast cost,
what was measured before included. The reference rows are embedded once a model and kept; those seconds are told apart.
`scratch` is trained at the largest size only: below 20,000 rows `advise` never considers it, and its seconds are not
part of the exhaustive cost.

The score is accuracy on the test rows, each class counting as much as it does among the rows that are learned from,
which is the same for all: with as many labels of each class there, other shares in the test rows would measure that
change. Regret: the score of the best strategy minus that of the chosen one, the best picked on one half of the test
rows and both judged on the other, averaged over both ways. Coefficients and the tie are fitted on all data sets but the
one that is judged. The starting values of the coefficients were reasoned from reviews, scenes and emotions, so for
those they are not blind. Without labels there is one strategy, and no regret: those rows are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import math
import string
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import advise_data as sets
import contract
import numpy as np

from warmstart.core.clock import Clock
from warmstart.core.decision import Evidence, Forecast, PilotRun
from warmstart.core.ledger import LedgerEntry
from warmstart.core.options import AdviseOptions
from warmstart.core.record import Interval
from warmstart.decide.choice import TIE, Question, choose
from warmstart.decide.expected import Epochs, expected_scores, pilot_gain, probe_level, regressors
from warmstart.decide.forecast import StrategyCost
from warmstart.decide.logit import to_logit
from warmstart.decide.response import Observation, Response
from warmstart.decide.scorecard import CLOSE, covered
from warmstart.strategies.table import TRAINED, settings_for, start_of
from warmstart.verbs.advise import measured_for_advice
from warmstart.verbs.domain import domain_evidence
from warmstart.verbs.pilots import exhaustive_seconds, run_pilots
from warmstart.verbs.planning import strategy_costs
from warmstart.verbs.scoring import frozen_logits
from warmstart.verbs.situation import Situation, encode_task, load_for, read_task
from warmstart.verbs.strategies import Bench, run_strategy

SEEDS = (0, 1)
TIMED = 1  # the seed whose seconds are told: a case's advice and trainings must be timed in one session to be compared
LEARNERS = ("fine_tune", "progressive", "lora")
FACTORS = (1 / 3, 1.0, 3.0)  # of the starting rate: what is tried
TUNED_AT = 16  # labels a class
PILOT_SHARE = 0.2
TIES = (0.0, 0.0025, 0.005, 0.01)
CLASSES = string.ascii_letters  # one letter a class
_TUNING_ROWS = 400
_REFERENCE_OFF = "none"


def prepared(
    name: str,
    labels: int,
    seed: int,
    args: argparse.Namespace,
    place: Path,
    embedded: Any,
    test_rows: int | None = None,
) -> tuple[Situation, AdviseOptions]:
    """A data set at one size, as `advise` sees it."""
    setup = sets.SETUPS[name]
    pool = setup.load(args.data)
    learn, test = sets.draw(pool.learn, labels, seed), pool.test
    if test_rows is not None:  # rows that are neither learned from nor judged by
        rest = pool.learn.drop(learn.index)
        test = rest.sample(min(test_rows, len(rest)), random_state=seed)
    files = sets.write(learn, test, setup.modality, place)
    options = AdviseOptions(
        **files,  # type: ignore[arg-type]
        model=setup.model,
        image_size=setup.image_size,
        seed=seed,
        cache_dir=str(place / "cache"),
        reference_data=None if embedded == "all" else _REFERENCE_OFF,
    )
    task = read_task(options)
    return encode_task(task, load_for(task, setup.model, options), options, embedded), options


def trained(situation: Situation, options: AdviseOptions, strategy: str, rate: float, place: Path) -> dict[str, Any]:
    """Train one strategy in full; which test rows are right, seconds and memory."""
    fit, validation = situation.split(options.validation_size, options.seed)
    modality = situation.task.card.modality
    settings = settings_for(strategy, modality, options, fast_bf16=situation.fast_bf16)
    settings = dataclasses.replace(settings, learning_rate=rate)
    bench = Bench(situation, fit, validation, options.seed, Clock(), 0.0, lambda name: place / name)
    found = run_strategy(bench, strategy, settings)
    run = found.run
    return {
        "status": run.status,
        "right": marks(found.test_logits, situation.test.labels),
        "validation": run.validation,
        "seconds": run.seconds,
        "memory_mb": run.peak_memory_mb,
        "rate": rate,
        "epochs": settings.num_train_epochs,
    }


def marks(logits: np.ndarray, labels: np.ndarray) -> str:
    """Which rows are right, as a string of 0 and 1."""
    return "".join("1" if hit else "0" for hit in logits.argmax(1) == labels)


def tuned_rates(name: str) -> dict[str, float]:
    """Peak rates by strategy, from the data set's tuning cell; starting rates for `scratch`."""
    path = contract.RESULTS / "advise_regret" / f"{name}-tune.json"
    found: dict[str, float] = json.loads(path.read_text())["rates"]
    return {**found, "scratch": start_of("scratch", sets.SETUPS[name].modality).learning_rate}


def tune(name: str) -> contract.Cell:
    """Each strategy's best of three rates on rows that no other cell judges by."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        tried: dict[str, dict[str, float]] = {}
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            situation, options = prepared(name, TUNED_AT, 100, args, place, "labelled", _TUNING_ROWS)
            for strategy in LEARNERS:
                start = start_of(strategy, sets.SETUPS[name].modality).learning_rate
                tried[strategy] = {}
                for number, factor in enumerate(FACTORS):
                    found = trained(situation, options, strategy, factor * start, place / str(number))
                    tried[strategy][f"{factor * start:g}"] = found["right"].count("1") / len(found["right"])
        return {"tried": tried, "rates": {s: float(max(r, key=r.__getitem__)) for s, r in tried.items()}}

    return measure


def full(name: str, labels: int, seed: int, strategy: str) -> contract.Cell:
    """One strategy, trained in full at its tuned rate."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        rate = tuned_rates(name)[strategy]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            situation, options = prepared(name, labels, seed, args, place, "labelled")
            return trained(situation, options, strategy, rate, place)

    return measure


def evidence(name: str, labels: int, seed: int) -> contract.Cell:
    """What `advise --effort pilot` measures, and what the strategies that train nothing answer to the test rows."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        rates = tuned_rates(name)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            situation, options = prepared(name, labels, seed, args, place, "all")
            begun = time.perf_counter()
            domain_evidence(situation, options.reference_data, options.seed)
            cold = time.perf_counter() - begun
            begun = time.perf_counter()
            found = measured_for_advice(situation, options, "probe")
            seconds = time.perf_counter() - begun + situation.seconds_forward * len(situation.labelled.labels)
            costs = strategy_costs(situation, found, options, math.inf)
            question = Question(found.evidence, costs, situation.task.card.modality, Response())
            budget = PILOT_SHARE * exhaustive_seconds(costs) - seconds
            begun = time.perf_counter()
            pilots = run_pilots(situation, found, question, options, budget, rates) if budget > 0 else ()
            pilot_seconds = time.perf_counter() - begun
            head = found.probe
            probe = situation.test.features @ head.weight.T + head.bias
            return {
                "evidence": found.evidence.to_dict(),
                "forecasts": [cost.forecast.to_dict() for cost in costs],
                "pilots": [pilot.to_dict() for pilot in pilots],
                "seconds": seconds,
                "reference_seconds": cold,
                "pilot_seconds": pilot_seconds,
                "pilot_budget": budget,
                "truth": "".join(CLASSES[label] for label in situation.test.labels),
                "right": {
                    "linear_probe": marks(probe, situation.test.labels),
                    **_zero_shot(situation, options, place),
                },
                "probe_seconds": found.probe_seconds,
            }

    return measure


def _zero_shot(situation: Situation, options: AdviseOptions, place: Path) -> dict[str, str]:
    fit, validation = situation.split(options.validation_size, options.seed)
    settings = settings_for("zero_shot", situation.task.card.modality, options, fast_bf16=situation.fast_bf16)
    bench = Bench(situation, fit, validation, options.seed, Clock(), 0.0, lambda name: place / name)
    found = run_strategy(bench, "zero_shot", settings)
    if found.outcome is None:
        return {}
    return {"zero_shot": marks(frozen_logits(found.outcome.model, situation.test.features), situation.test.labels)}


@dataclasses.dataclass(frozen=True)
class Case:
    """One data set at one size and seed, with every strategy's outcome."""

    name: str
    labels: int
    seed: int
    evidence: Evidence
    forecasts: tuple[Forecast, ...]
    pilots: tuple[PilotRun, ...]
    right: dict[str, np.ndarray]  # strategy → (test rows,) of booleans
    weights: np.ndarray  # (test rows,), of mean 1: every class counts the same
    seconds: dict[str, float]  # of each trained strategy
    advice_seconds: float
    pilot_seconds: float
    reference_seconds: float

    @property
    def exhaustive_seconds(self) -> float:
        """Of training every strategy that could be chosen."""
        return sum(seconds for name, seconds in self.seconds.items() if name in LEARNERS)

    @property
    def modality(self) -> Any:
        """Text or image."""
        return sets.SETUPS[self.name].modality

    def costs(self) -> tuple[StrategyCost, ...]:
        """What a choice looks at."""
        return tuple(
            StrategyCost(f, f.epochs, f.epochs, never=not f.allowed) for f in self.forecasts if f.strategy in self.right
        )

    def accuracy(self, strategy: str, half: int | None = None) -> float:
        """On all test rows, or on the even or odd ones."""
        part = slice(None) if half is None else slice(half, None, 2)
        return float(np.average(self.right[strategy][part], weights=self.weights[part]))

    @property
    def rows(self) -> float:
        """Test rows of equal weight that would know a score as well."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    def regret(self, chosen: str) -> float:
        """Best minus chosen, the best picked on one half and both judged on the other, both ways."""
        gaps = []
        for half in (0, 1):
            best = max(self.right, key=lambda name: self.accuracy(name, half))
            gaps.append(self.accuracy(best, 1 - half) - self.accuracy(chosen, 1 - half))
        return float(np.mean(gaps))


def cases(found: dict[str, dict[str, Any]]) -> list[Case]:
    """All sizes and seeds whose evidence and trained strategies are there."""
    complete = []
    for name, setup in sets.SETUPS.items():
        for labels in setup.sizes:
            for seed in SEEDS:
                key = f"{name}-{labels}-seed{seed}"
                own = found.get(f"{key}-evidence")
                runs = {s: found[f"{key}-{s}"] for s in TRAINED if f"{key}-{s}" in found}
                if own is None or not set(LEARNERS) <= set(runs):
                    continue
                right = own["right"] | {s: run["right"] for s, run in runs.items() if run["right"]}
                complete.append(
                    Case(
                        name,
                        labels,
                        seed,
                        Evidence.from_dict(own["evidence"]),
                        tuple(Forecast.from_dict(f) for f in own["forecasts"]),
                        tuple(PilotRun.from_dict(p) for p in own["pilots"]),
                        {s: np.array([mark == "1" for mark in text]) for s, text in right.items()},
                        _even_weights(own["truth"]),
                        {s: run["seconds"] for s, run in runs.items()},
                        own["seconds"],
                        own["pilot_seconds"],
                        own["reference_seconds"],
                    )
                )
    return complete


def _even_weights(truth: str) -> np.ndarray:
    """(rows,) of mean 1, by which every class counts the same."""
    _, place, counts = np.unique(list(truth), return_inverse=True, return_counts=True)
    found: np.ndarray = len(truth) / len(counts) / counts[place]
    return found


def observations(done: Sequence[Case]) -> tuple[Observation, ...]:
    """What forecasts are fitted on: every strategy against the probe, and the probe against its own estimate."""
    found = []
    for case in done:
        x = regressors(case.evidence, case.modality)
        for strategy in case.right:
            if strategy == "linear_probe":
                level, doubt = probe_level(case.evidence)
                gain, error = to_logit(case.accuracy(strategy)) - level, doubt
            else:
                gain, error = _paired(case, strategy)
            found.append(Observation(case.name, strategy, x, float(case.labels), gain, error))
    return tuple(found)


def _paired(case: Case, strategy: str) -> tuple[float, float]:
    """Gain over the probe on the same rows and its error, as if of a pilot that was judged on so many rows."""
    mine, probe = case.right[strategy], case.right["linear_probe"]
    parts = (np.ones(len(mine)), mine, probe, mine & ~probe, probe & ~mine)
    every, *counts = (round(case.rows * float(np.average(part, weights=case.weights))) for part in parts)
    return pilot_gain([PilotRun(strategy, 0, case.labels, 0.0, every, *counts, 0.0)])


Policy = Callable[[Case], str]


def advised(done: Sequence[Case], effort: str) -> Policy:
    """`advise` at an effort, coefficients and tie from the other data sets."""
    response = Response(observations(done))
    without = functools.cache(response.without)

    def pick(case: Case, tie: float, judge: Response) -> str:
        pilots = case.pilots if effort == "pilot" else ()
        seen = _unseen(case.evidence) if effort == "rules" else case.evidence
        return choose(Question(seen, case.costs(), case.modality, judge, pilots, tie)).strategy

    @functools.cache
    def tie_for(name: str) -> float:
        others = [case for case in done if case.name != name]
        judge = without(name)
        return min(TIES, key=lambda tie: sum(case.regret(pick(case, tie, judge)) for case in others))

    return lambda case: pick(case, tie_for(case.name), without(case.name))


def as_shipped(response: Response, *, pilots: bool) -> Policy:
    """`advise` with its own tie; coefficients from the other data sets."""
    without = functools.cache(response.without)

    def pick(case: Case) -> str:
        seen = case.pilots if pilots else ()
        return choose(Question(case.evidence, case.costs(), case.modality, without(case.name), seen, TIE)).strategy

    return pick


def _unseen(seen: Evidence) -> Evidence:
    """The evidence of effort `rules`: nothing of the features."""
    unknown = Interval(math.nan, 0.0, 1.0)
    zero = None if seen.zero_shot is None else unknown
    return dataclasses.replace(seen, probe=unknown, knn=unknown, zero_shot=zero, domain=None, labels=None)


def constants(done: Sequence[Case]) -> dict[str, Policy]:
    """Always the same strategy, where every case has it."""
    shared = set.intersection(*(set(case.right) for case in done))
    return {name: lambda case, name=name: name for name in sorted(shared)}  # type: ignore[misc]


def by_count(done: Sequence[Case]) -> dict[str, Policy]:
    """The probe below so many labels a class, a strategy that trains from there on."""
    return {
        f"{name} from {least} labels a class": (
            lambda case, name=name, least=least: name if case.labels >= least else "linear_probe"
        )
        for name in LEARNERS
        for least in (4, 16, 64, 256, 1024)
    }  # type: ignore[misc]


def by_probe(done: Sequence[Case]) -> dict[str, Policy]:
    """The better of zero-shot and probe as measured, unless the probe is below a score: then a strategy that trains."""

    def policy(name: str, least: float) -> Policy:
        def pick(case: Case) -> str:
            probe, zero = case.evidence.probe.value, case.evidence.zero_shot
            if probe < least:
                return name
            above = zero is not None and "zero_shot" in case.right and zero.value > probe
            return "zero_shot" if above else "linear_probe"

        return pick

    return {
        f"{name} where the probe is below {least:g}": policy(name, least)
        for name in LEARNERS
        for least in (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
    }


def best_of(done: Sequence[Case], policies: dict[str, Policy]) -> tuple[str, Policy]:
    """The one with the least mean regret, in hindsight."""
    name = min(policies, key=lambda key: np.mean([case.regret(policies[key](case)) for case in done]))
    return name, policies[name]


def report(found: dict[str, dict[str, Any]]) -> str:
    done = cases(found)
    if not done:
        return "No case is complete yet: its evidence cell and those of its strategies are needed."
    timed = [case for case in done if case.seed == TIMED]
    exhaustive = sum(case.exhaustive_seconds for case in timed) or math.nan
    probe_cost = sum(case.advice_seconds for case in timed)
    pilot_cost = probe_cost + sum(case.pilot_seconds for case in timed)
    shipped = Response(observations(done))
    rivals = [
        ("best constant in hindsight", best_of(done, constants(done))),
        ("best rule on label count in hindsight", best_of(done, by_count(done))),
        ("best rule on the probe's score in hindsight", best_of(done, by_probe(done))),
    ]
    rows = [
        _row("advise, rules", advised(done, "rules"), done, math.nan),
        _row("advise, probe", advised(done, "probe"), done, probe_cost / exhaustive),
        _row("advise, pilot", advised(done, "pilot"), done, pilot_cost / exhaustive),
        _row(f"advise, probe, tie {TIE:g}", as_shipped(shipped, pilots=False), done, probe_cost / exhaustive),
        _row(f"advise, pilot, tie {TIE:g}", as_shipped(shipped, pilots=True), done, pilot_cost / exhaustive),
        *(_row(f"{kind}: {name}", policy, done, math.nan) for kind, (name, policy) in rivals),
    ]
    head = ["policy", "mean regret, points", "95th percentile", "share of exhaustive cost"]
    policies = {effort: advised(done, effort) for effort in ("rules", "probe", "pilot")}
    policies |= {f"{kind}: {name}": policy for kind, (name, policy) in rivals}
    sizes = _by_size(done, policies)
    return "\n\n".join((contract.table(head, rows), sizes, _costs(timed), _choices(done), _forecasts(done)))


def _by_size(done: Sequence[Case], policies: dict[str, Policy]) -> str:
    """Mean regret at each size, and its 95th percentile where there is more than the least."""
    sizes = sorted({case.labels for case in done})
    rows = []
    for name, policy in policies.items():
        regrets = [(case.labels, 100 * case.regret(policy(case))) for case in done]
        means = [np.mean([regret for labels, regret in regrets if labels == size]) for size in sizes]
        more = [regret for labels, regret in regrets if labels > sizes[0]]
        ends = [f"{np.mean(more):.2f}", f"{np.quantile(more, 0.95):.2f}"] if more else ["–", "–"]
        rows.append([name, *(f"{mean:.2f}" for mean in means), *ends])
    head = ["mean regret at labels a class", *(str(size) for size in sizes)]
    return contract.table([*head, f"above {sizes[0]}", "95th percentile there"], rows)


def _costs(done: Sequence[Case]) -> str:
    """What advice costs at each size, against training everything."""
    rows = []
    for labels in sorted({case.labels for case in done}):
        own = [case for case in done if case.labels == labels]
        every = sum(case.exhaustive_seconds for case in own)
        probe, pilots, cold = (
            sum(getattr(case, name) for case in own)
            for name in ("advice_seconds", "pilot_seconds", "reference_seconds")
        )
        shares = (f"{100 * part / every:.0f} %" for part in (probe, probe + pilots))
        rows.append([str(labels), str(len(own)), f"{every / len(own):.0f}", *shares, f"{cold / len(own):.1f}"])
    head = [
        "labels a class",
        "cases",
        "seconds of all trainings",
        "probe",
        "pilot",
        "reference, the first time, seconds",
    ]
    return contract.table(head, rows)


def _row(name: str, policy: Policy, done: Sequence[Case], cost: float) -> list[str]:
    regrets = [100 * case.regret(policy(case)) for case in done]
    share = "–" if math.isnan(cost) else f"{100 * cost:.0f} %"
    return [name, f"{np.mean(regrets):.2f}", f"{np.quantile(regrets, 0.95):.2f}", share]


def _choices(done: Sequence[Case]) -> str:
    policies = {effort: advised(done, effort) for effort in ("rules", "probe", "pilot")}
    rows = []
    for case in done:
        scores = ", ".join(f"{name} {case.accuracy(name):.3f}" for name in case.right)
        picks = [f"{pick(case)} ({100 * case.regret(pick(case)):+.1f})" for pick in policies.values()]
        rows.append([case.name, str(case.labels), str(case.seed), *picks, scores])
    return contract.table(["data", "labels a class", "seed", *policies, "test accuracy"], rows)


def _forecasts(done: Sequence[Case]) -> str:
    """How honest the intervals are, and how far the seconds are off."""
    response = Response(observations(done))
    inside: dict[str, list[bool]] = {"probe": [], "pilot": []}
    ratios = []
    for case in done:
        judge = response.without(case.name)
        for effort, kept in inside.items():
            pilots = case.pilots if effort == "pilot" else ()
            lengths = {f.strategy: Epochs(f.epochs, f.epochs) for f in case.forecasts}
            expected = expected_scores(case.evidence, case.modality, case.right, judge, pilots, lengths)
            for strategy, forecast in expected.items():
                hit = covered(_entry(case, strategy, forecast.score))
                kept += [] if hit is None else [hit]
        for forecast_ in case.forecasts if case.seed == TIMED else ():
            actual = case.seconds.get(forecast_.strategy)
            if actual is not None and forecast_.learning_seconds > 0:
                ratios.append(actual / forecast_.learning_seconds)
    coverage = ", ".join(f"{effort} {100 * np.mean(kept):.0f} %" for effort, kept in inside.items())
    told = f"Outcomes inside their 90 % interval: {coverage} of {len(inside['probe'])}."
    if not ratios:
        return told
    close = np.mean([abs(ratio - 1.0) <= CLOSE for ratio in ratios])
    return (
        f"{told} Actual over forecast seconds: "
        f"median {np.median(ratios):.2f}, median error {100 * np.median([abs(r - 1.0) for r in ratios]):.0f} %, "
        f"{100 * close:.0f} % of {len(ratios)} trainings within 25 %."
    )


def _entry(case: Case, strategy: str, score: Interval) -> LedgerEntry:
    nan = math.nan
    return LedgerEntry(
        "", "", case.name, "", "", "", strategy, case.seed, False, False, float(case.labels), case.evidence.classes,
        round(case.rows), score, case.accuracy(strategy), nan, nan, nan, nan,
    )  # fmt: skip


CELLS: dict[str, contract.Cell] = {}
for _name, _setup in sets.SETUPS.items():
    CELLS[f"{_name}-tune"] = tune(_name)
    for _labels in _setup.sizes:
        for _seed in SEEDS:
            _key = f"{_name}-{_labels}-seed{_seed}"
            CELLS[f"{_key}-evidence"] = evidence(_name, _labels, _seed)
            _strategies = (*LEARNERS, "scratch") if _labels == _setup.sizes[-1] and _seed == 0 else LEARNERS
            CELLS |= {f"{_key}-{_strategy}": full(_name, _labels, _seed, _strategy) for _strategy in _strategies}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run("advise_regret", CELLS, report, __doc__)
