"""Learning-rate discipline: uniform rates against differential ones, tuned and guessed, in and out of distribution.

Arms: `uniform` (random head, one rate), `layer_decay` (rates fall by .8 a group), `progressive` (the same, groups
opening last to first), `lp_ft` (the probe's head, one rate), `lp_ft_wise` (the same training, then weight interpolation
with the coefficient chosen on the validation rows), `lora`. No arm averages its weights. A `-tune` cell finds each
arm's peak rate on the validation rows of seed 0, the same number of rates for all. A `-seed` cell trains each arm at
its own rate and at three times the uniform arm's: what a user who guessed would get. `kept` is the share of each
reference row's ten nearest neighbours that stay.
Reviews, emotions and headlines: MiniLM, 300 labels. Scenes: EfficientNet-Lite0, 448 labels, 96 pixels. Gemma: headlines
with Gemma 3 270M, three arms at one rate that was not tuned.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contract
import discipline_data as sets
import numpy as np

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.embed import forward
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.text_inputs import Inputs
from warmstart.core.clock import Clock
from warmstart.core.options import TrainOptions
from warmstart.core.statistics import paired_difference
from warmstart.strategies.fine_tune import warm_classifier
from warmstart.strategies.lora import lora
from warmstart.strategies.protocol import Context, Rows
from warmstart.strategies.table import settings_for
from warmstart.strategies.trained import classifier_groups, train
from warmstart.train.rates import RatePlan
from warmstart.train.similarity import neighbours_kept
from warmstart.train.unfreezing import ALL_OPEN, Unfreezing
from warmstart.train.wise import GRID, Line, interpolate

ARMS = ("uniform", "layer_decay", "progressive", "lp_ft", "lp_ft_wise", "lora")
SEEDS = (0, 1, 2)
_TIMES = 3.0  # the uniform arm's tuned rate, for the user who guessed


@dataclass(frozen=True)
class Setup:
    """A data set with its model, arms, rates to try (one: nothing is tuned), and length."""

    load: Callable[[Path, int], sets.Data]
    model: str
    kind: str
    rates: tuple[float, ...]
    lora_rates: tuple[float, ...]
    epochs: float
    image_size: int | None = None
    arms: tuple[str, ...] = ARMS


MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_TEXT = {"model": MINILM, "kind": "text", "rates": (3e-5, 1e-4, 3e-4), "lora_rates": (3e-4, 1e-3, 3e-3), "epochs": 3}
SETUPS = {
    "reviews": Setup(sets.reviews, **_TEXT),  # type: ignore[arg-type]
    "emotion": Setup(sets.emotion, **_TEXT),  # type: ignore[arg-type]
    "headlines": Setup(sets.headlines, **_TEXT),  # type: ignore[arg-type]
    "scenes": Setup(
        sets.scenes, "EfficientNet-Lite0", "image", (3e-4, 1e-3, 3e-3), (1e-3, 3e-3, 1e-2), 5, image_size=96
    ),
    "gemma": Setup(
        sets.headlines,
        "google/gemma-3-270m",
        "text",
        (1e-4,),
        (1e-4,),
        2,
        arms=("uniform", "layer_decay", "lora"),
    ),
}


class Bench:
    """One seed of a data set, encoded, with the pretrained model's answers to the reference rows."""

    def __init__(self, setup: Setup, folder: Path, seed: int) -> None:
        self.setup, self.seed = setup, seed
        self.data = setup.load(folder, seed)
        self.backbone: Backbone = load_backbone(model=setup.model, image_size=setup.image_size)
        encode = self.backbone.preprocessor.encode
        self.fit = self._rows(self.data.fit)
        self.validation = self._rows(self.data.validation)
        self.tests = {"test": encode(self.data.test.rows)}
        self.tests |= {name: encode(side.rows) for name, side in self.data.shifts.items()}
        self.reference: Inputs = encode(self.data.reference)
        self.before = forward(self.backbone.encoder, self.reference).features
        self._judged: dict[tuple[str, float], dict[str, Any]] = {}

    def _rows(self, side: sets.Side) -> Rows:
        inputs = self.backbone.preprocessor.encode(side.rows)
        return Rows(inputs, side.labels, forward(self.backbone.encoder, inputs).features)

    def context(self, arm: str, rate: float, place: Path) -> Context:
        """What a strategy is given."""
        strategy = "lora" if arm == "lora" else "fine_tune"
        options = TrainOptions(
            learning_rate=rate, head_learning_rate=rate, num_train_epochs=self.setup.epochs, ema_decay=0.0
        )
        settings = settings_for(strategy, self.setup.kind, options, fast_bf16=self.setup.kind == "text")
        return Context(
            backbone=self.backbone,
            modality=self.setup.kind,  # type: ignore[arg-type]
            labels=self.data.labels,
            fit=self.fit,
            validation=self.validation,
            settings=dataclasses.replace(settings, augment=False, wise_alpha=None),
            seed=self.seed,
            work=place,
            clock=Clock(),
            reserve=0.0,
        )

    def train(self, arm: str, rate: float) -> tuple[Classifier, Line | None]:
        """The adapted model, and the line between where it started and where it ended."""
        with tempfile.TemporaryDirectory() as place:
            context = self.context(arm, rate, Path(place))
            if arm == "lora":
                return lora(context).model, None
            probed = arm == "lp_ft"
            model = warm_classifier(context) if probed else context.backbone.classifier(context.labels, self.setup.kind)
            line = Line(model)
            decayed = arm in ("layer_decay", "progressive")
            plan = RatePlan(
                rate,
                0.8 if decayed else 1.0,
                max(rate, 1e-3) if decayed else rate,
                unfreezing=Unfreezing("stages") if arm == "progressive" else ALL_OPEN,
            )
            start = "probe" if probed else "random head"
            train(context, model, classifier_groups(model), plan, {"start": start})
            return model, line

    def score(self, model: Classifier) -> float:
        """Validation accuracy."""
        logits = forward(model, self.validation.inputs).logits
        return float((logits.argmax(1) == self.validation.labels).mean())

    def judge(self, arm: str, rate: float) -> dict[str, Any]:
        """What an arm gives at a rate; one training serves `lp_ft` and `lp_ft_wise`."""
        if (arm, rate) not in self._judged:
            model, line = self.train("lp_ft" if arm == "lp_ft_wise" else arm, rate)
            self._judged[arm.removesuffix("_wise"), rate] = self._judge(model, {"rate": rate})
            if arm.startswith("lp_ft") and line is not None:
                line.end_here()
                points = interpolate(line, GRID, lambda: self.score(model), None)
                alpha = next(point.alpha for point in points if point.chosen)
                self._judged["lp_ft_wise", rate] = self._judge(model, {"rate": rate, "alpha": alpha})
        return self._judged[arm, rate]

    def _judge(self, model: Classifier, about: dict[str, Any]) -> dict[str, Any]:
        """Every test side: which rows are right, as a string of 0 and 1; and the neighbours kept."""
        right = {}
        for name, inputs in self.tests.items():
            truth = self.data.test.labels if name == "test" else self.data.shifts[name].labels
            hits = forward(model, inputs).logits.argmax(1) == truth
            right[name] = "".join("1" if hit else "0" for hit in hits)
        kept = neighbours_kept(self.before, forward(model, self.reference).features, 10)
        return {**about, "validation": self.score(model), "kept": kept, "right": right}


def tune(name: str) -> contract.Cell:
    """Each arm's best rate on the validation rows of seed 0."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        setup = SETUPS[name]
        bench = Bench(setup, args.data, 0)
        tried: dict[str, dict[str, float]] = {}
        for arm in ARMS:
            if arm != "lp_ft_wise":  # the training is that of lp_ft
                rates = setup.lora_rates if arm == "lora" else setup.rates
                tried[arm] = {f"{rate:g}": bench.score(bench.train(arm, rate)[0]) for rate in rates}
        tried["lp_ft_wise"] = tried["lp_ft"]
        return {
            "tried": tried,
            "rates": {arm: float(max(scores, key=scores.__getitem__)) for arm, scores in tried.items()},
        }

    return measure


def seeds(name: str, seed: int) -> contract.Cell:
    """Every arm at its own rate, and at three times the uniform arm's."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        setup = SETUPS[name]
        bench = Bench(setup, args.data, seed)
        if len(setup.rates) == 1:
            return {"one rate": {arm: bench.judge(arm, setup.rates[0]) for arm in setup.arms}}
        rates = json.loads((contract.RESULTS / "lr_discipline" / f"{name}-tune.json").read_text())["rates"]
        found: dict[str, Any] = {"own": {}, "times three": {}}
        for arm in setup.arms:
            found["own"][arm] = bench.judge(arm, rates[arm])
            found["times three"][arm] = bench.judge(arm, _TIMES * rates["uniform"])
        return found

    return measure


def hits(cells: list[dict[str, Any]], rate: str, arm: str, side: str) -> np.ndarray:
    """Which rows were right, (seeds, rows)."""
    return np.array([[mark == "1" for mark in cell[rate][arm]["right"][side]] for cell in cells])


def report(found: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, setup in SETUPS.items():
        cells = [values for cell, values in found.items() if cell.startswith(f"{name}-seed")]
        for rate in ("own", "times three", "one rate"):
            lines += [_line(name, cells, rate, arm) for arm in setup.arms if cells and rate in cells[0]]
    head = [
        "data",
        "rate",
        "arm",
        "peak",
        "test accuracy",
        "minus uniform [95 %]",
        "under shift",
        "minus uniform",
        "kept",
    ]
    return contract.table(head, lines)


def _line(name: str, cells: list[dict[str, Any]], rate: str, arm: str) -> list[str]:
    own = hits(cells, rate, arm, "test")
    gap = paired_difference(own, hits(cells, rate, "uniform", "test"), 0)
    shifts = [side for side in cells[0][rate][arm]["right"] if side != "test"]
    shifted = [float(hits(cells, rate, arm, side).mean()) for side in shifts]
    base = [float(hits(cells, rate, "uniform", side).mean()) for side in shifts]
    kept = float(np.mean([cell[rate][arm]["kept"] for cell in cells]))
    return [
        name,
        rate,
        arm,
        f"{cells[0][rate][arm]['rate']:.0e}",
        f"{own.mean():.3f}",
        f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]",
        f"{np.mean(shifted):.3f}" if shifts else "–",
        f"{100 * (np.mean(shifted) - np.mean(base)):+.1f}" if shifts else "–",
        f"{kept:.2f}",
    ]


CELLS: dict[str, contract.Cell] = {}
for _name, _setup in SETUPS.items():
    if len(_setup.rates) > 1:
        CELLS[f"{_name}-tune"] = tune(_name)
    CELLS |= {f"{_name}-seed{seed}": seeds(_name, seed) for seed in SEEDS}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run("lr_discipline", CELLS, report, __doc__, timed=False)
