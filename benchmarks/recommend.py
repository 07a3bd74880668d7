"""Two towers beside popularity, item-kNN, EASE and iALS: what each user takes next, among all items not seen.

MovieLens-100k (out of the sample package) on five seeds, with ablations and with cold items; Amazon Video Games (in
--data) on one. Leave-last-one-out, times tied are broken by the row in the file. Every arm is tuned on the second last
item and judged on the last; the towers run on their defaults, which were chosen on MovieLens' second last items.
iALS is `implicit`'s, and its cells say so where that package is not installed.

The ranker's cells need towers as a result folder. Cells called `…-kept-…` train it, into `results/recommend/work`, and
go on where they were stopped; the ranker learns from second last items and is judged, like the towers, on the last.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import contract
import numpy as np

from warmstart.contrastive.two_tower import new_model, train_two_tower
from warmstart.core.clock import Clock
from warmstart.core.recommend import RankingScores, TwoTowerRecord
from warmstart.core.records import Interval
from warmstart.core.statistics import bootstrap_interval
from warmstart.core.two_tower_options import ContrastTwoTowerOptions
from warmstart.data.histories import Asked
from warmstart.retrieve.baselines import matrix
from warmstart.retrieve.ranking import Ranked, ndcg, rank
from warmstart.verbs.contrast_two_tower import contrast_two_tower, judge, scored, validation_score
from warmstart.verbs.item_reading import wanted_readers
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.ranker import ranker
from warmstart.verbs.two_tower_data import TwoTowerData, item_content, load_two_tower_data
from warmstart.verbs.two_tower_floors import floors

KEPT = contract.RESULTS / "recommend" / "work"
SEEDS = (0, 1, 2, 3, 4)
MOVIES = {"interactions": "sample:movielens-ratings", "items": "sample:movielens-items"}
COLD = 0.05  # of the items: 84
GAMES_EPOCHS = 24.0  # after 10 passes it still rises; docs/lab-notes.md
ABLATION: dict[str, dict[str, Any]] = {
    "in_batch": {"negatives": "in_batch", "no_log_q": True, "items": None},
    "uniform": {"negatives": "uniform", "no_log_q": True, "num_negatives": 512, "items": None},
    "mixed": {"negatives": "mixed", "no_log_q": True, "num_negatives": 512, "items": None},
    "mixed_log_q": {"negatives": "mixed", "num_negatives": 512, "items": None},
    "mixed_log_q_content": {"negatives": "mixed", "num_negatives": 512},
    "catalogue": {"items": None},
}
FACTORS, REGULARISATIONS, ALPHAS = 64, (1.0, 5.0), (5.0, 10.0, 20.0)


def options_of(name: str, folder: Path, **changes: Any) -> ContrastTwoTowerOptions:
    games = {
        "interactions": str(folder / "amazon_video_games" / "sequences.txt"),
        "max_history": 50,
        "per_device_train_batch_size": 128,
        "num_train_epochs": GAMES_EPOCHS,
    }
    return ContrastTwoTowerOptions(**{**(MOVIES if name == "movies" else games), "output_dir": "unused", **changes})


def told(scores: RankingScores) -> dict[str, Any]:
    return {
        "HR@10": scores.hit_10.value,
        "HR@100": scores.hit_100.value,
        "NDCG@10": scores.ndcg_10.value,
        "MRR": scores.reciprocal_rank.value,
        "coverage": scores.coverage_10,
        "novelty": scores.novelty_10,
        "popular": scores.popular_10,
    }


def towers_cell(name: str, **changes: Any) -> contract.Cell:
    """Towers trained once; ranks of the test items, and of the cold ones among themselves."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        options = options_of(name, args.data, **changes)
        data = load_two_tower_data(options)
        content = item_content(data.items, wanted_readers(options, data.items))
        model = new_model(options, len(data.items.ids), data.learnt(), content, None, options.seed)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as place:
            outcome = train_two_tower(
                model,
                data.split.train,
                lambda towers: validation_score(towers, data.split.validation),
                options,
                seed=options.seed,
                work=Path(place),
                clock=Clock(),
                reserve=0.0,
            )
        seconds = time.perf_counter() - start
        found = judge(outcome.model, data.split.test)
        values = {
            **told(scored(found, data, data.split.test)),
            "seconds": seconds,
            "validation": max(p.validation_score for p in outcome.history if p.validation_score is not None),
            "ranks": found.ranks.tolist(),
        }
        if len(data.split.cold):
            asked = dataclasses.replace(data.split.test, among=data.split.cold)
            alone = scored(judge(outcome.model, asked), data, asked)
            chance = {"HR@10": 10 / len(data.split.cold), "HR@100": 100 / len(data.items.ids)}
            values |= {"among_themselves": told(alone), "chance": chance}
        return values

    return measure


def floors_cell(name: str) -> contract.Cell:
    def measure(args: argparse.Namespace) -> dict[str, Any]:
        data = load_two_tower_data(options_of(name, args.data))
        return {"rows": [{"name": row.name, **row.settings, **told(row.test)} for row in floors(data)]}

    return measure


def ials_cell(name: str) -> contract.Cell:
    """`implicit`'s iALS, tuned over penalty and confidence."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        if importlib.util.find_spec("implicit") is None:
            return {"missing": "implicit is not installed"}
        data = load_two_tower_data(options_of(name, args.data))
        tried = [(penalty, alpha) for penalty in REGULARISATIONS for alpha in ALPHAS]
        scores = [float(ndcg(ials(data, data.split.train, data.split.validation, *one).ranks).mean()) for one in tried]
        best = tried[int(np.argmax(scores))]
        found = ials(data, data.split.complete, data.split.test, *best)
        return {"penalty": best[0], "alpha": best[1], **told(scored(found, data, data.split.test))}

    return measure


def ials(data: TwoTowerData, histories: Any, asked: Asked, penalty: float, alpha: float) -> Ranked:
    from implicit.als import AlternatingLeastSquares

    items = len(data.items.ids)
    model = AlternatingLeastSquares(
        factors=FACTORS if items < 5000 else 2 * FACTORS,
        regularization=penalty,
        alpha=alpha,
        iterations=15,
        random_state=0,
        num_threads=1,
    )
    model.fit(matrix(histories, items), show_progress=False)

    def scorer(users: np.ndarray, some: Any) -> np.ndarray:
        return np.asarray(model.recalculate_user(np.arange(len(some)), matrix(some, items)) @ model.item_factors.T)

    return rank(scorer, asked.users, asked.histories, asked.targets, items, asked.among)


def kept(name: str, seed: int) -> Path:
    return KEPT / f"{name}-towers-seed{seed}"


def kept_cell(name: str, seed: int) -> contract.Cell:
    """Towers as a result folder; an unfinished one is gone on with."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        out = kept(name, seed)
        if not (out / RESULTS).is_file():
            resume = (out.with_name(f"{out.name}.running") / "run.json").is_file()
            options = options_of(name, args.data, seed=seed, output_dir=str(out), no_floors=True, resume=resume)
            contrast_two_tower(**dataclasses.asdict(options))
        record = TwoTowerRecord.from_json((out / RESULTS).read_text())
        return {**told(record.towers.test), "seconds": record.seconds}

    return measure


def ranker_cell(name: str, seed: int) -> contract.Cell:
    """The kept towers alone and with a ranker, on the test questions."""

    def measure(args: argparse.Namespace) -> dict[str, Any]:
        if not (kept(name, seed) / RESULTS).is_file():
            kept_cell(name, seed)(args)
        with tempfile.TemporaryDirectory() as place:
            record = ranker(towers=str(kept(name, seed)), output_dir=str(Path(place) / "ranker"), seed=seed).record
        before, after = record.before.test, record.after.test
        return {
            "towers": told(before),
            "ranker": told(after),
            "gains": {metric: gain.to_dict() for metric, gain in record.gains.items()},
            "relative": after.ndcg_10.value / before.ndcg_10.value - 1,
            "ceiling": record.ceiling.value,
            "chosen": [record.choose_before, record.choose_after],
            "helps": record.helps,
            "seconds": record.seconds,
            "milliseconds": record.milliseconds,
        }

    return measure


def ranker_lines(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for key in sorted(key for key in found if "-ranker-" in key):
        cell = found[key]
        gain = Interval(**cell["gains"]["NDCG@10"])
        lines.append(
            f"{key}: NDCG@10 {cell['towers']['NDCG@10']:.4f} → {cell['ranker']['NDCG@10']:.4f} "
            f"({100 * cell['relative']:+.1f} %), paired difference {gain:.4f}; {cell['milliseconds']:.1f} ms a user"
        )
    return lines


def report(found: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name in ("movies", "games"):
        keys = [f"{name}-{kind}-seed{seed}" for kind in ("towers", "kept") for seed in SEEDS]
        seeds = [found[key] for key in keys if key in found]
        if seeds:
            rows.append([name, f"two towers, {len(seeds)} seeds", *means(seeds)])
        rows += [[name, row["name"], *means([row])] for row in found.get(f"{name}-floors", {}).get("rows", [])]
        ials_row = found.get(f"{name}-ials", {})
        if "HR@10" in ials_row:
            rows.append([name, "iALS", *means([ials_row])])
    rows += [
        ["movies", f"ablation: {key}", *means([found[f"ablation-{key}"]])]
        for key in ABLATION
        if f"ablation-{key}" in found
    ]
    lines = [contract.table(["data", "arm", "HR@10", "HR@100", "NDCG@10", "coverage"], rows), ""]
    for seed in SEEDS:
        cell = found.get(f"movies-towers-seed{seed}")
        if cell:
            gain = bootstrap_interval(ndcg(np.array(cell["ranks"])), 0)
            lines.append(f"seed {seed}: NDCG@10 {gain:.4f}, {cell['seconds']:.0f} s")
    cold = found.get("cold-items")
    if cold:
        alone = cold["among_themselves"]["HR@10"]
        lines.append(
            f"cold items: HR@10 among themselves {alone:.3f} (chance {cold['chance']['HR@10']:.3f}), HR@100 in "
            f"the whole catalogue {cold['HR@100']:.3f} (chance {cold['chance']['HR@100']:.3f})"
        )
    return "\n".join([*lines, *ranker_lines(found)])


def means(cells: list[dict[str, Any]]) -> list[str]:
    return [
        f"{statistics.fmean(cell[key] for cell in cells):.4f}" for key in ("HR@10", "HR@100", "NDCG@10", "coverage")
    ]


CELLS: dict[str, contract.Cell] = {}
for _name in ("movies", "games"):
    CELLS[f"{_name}-floors"] = floors_cell(_name)
    CELLS[f"{_name}-ials"] = ials_cell(_name)
for _seed in SEEDS:
    CELLS[f"movies-towers-seed{_seed}"] = towers_cell("movies", seed=_seed)
for _seed in SEEDS:
    CELLS[f"movies-ranker-seed{_seed}"] = ranker_cell("movies", _seed)
CELLS["games-kept-seed0"] = kept_cell("games", 0)
CELLS["games-ranker-seed0"] = ranker_cell("games", 0)
CELLS["cold-items"] = towers_cell("movies", split="cold_items", test_size=COLD, seed=0)
for _key, _changes in ABLATION.items():
    CELLS[f"ablation-{_key}"] = towers_cell("movies", seed=0, **_changes)

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    contract.run("recommend", CELLS, report, __doc__, timed=False)
