"""Publish two towers and their index, and ask for films; a taste. `python examples/recommend.py [FOLDER]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import warmstart


def main(folder: Path) -> None:
    """Train for a few steps, tune an index, publish, and recommend."""
    towers = warmstart.contrast_two_tower(
        interactions="sample:movielens-ratings",  # or a CSV, TSV, JSONL or Parquet file of user, item, time
        items="sample:movielens-items",
        no_floors=True,
        max_steps=60,  # a taste of training; leave it out for a real run
        output_dir=str(folder / "towers"),
    )
    index = warmstart.index_tune(
        towers=towers.output_dir,
        recall=0.95,
        at=100,
        p99_ms=50,  # loose, for a machine that does other work as well
        output_dir=str(folder / "index"),
    )
    serving = str(folder / "serving")
    published = warmstart.index_publish(towers=towers.output_dir, index=index.output_dir, to=serving)
    print(f"Version {published.version} serves; its index finds {published.manifest.recall:.3f} of the nearest films")

    recommender = warmstart.load_recommender(serving)
    for answer in (
        recommender.recommend(user=42, k=3),
        recommender.recommend(
            history=["Toy Story (1995)", "Aladdin (1992)"], k=3, where=["Animation=1"], diversity=0.2
        ),
    ):
        print(f"After {answer.history[-1]}: {', '.join(item.title for item in answer.items)}")
        print(f"{answer.funnel.allowed:,} films allowed, {answer.funnel.retrieved} retrieved")

    # Another version, and back.
    warmstart.index_publish(towers=towers.output_dir, index=index.output_dir, to=serving, diversity=0.5)
    back = warmstart.index_rollback(serving=serving)
    print(f"Version {back.version} serves again in place of {back.was}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
