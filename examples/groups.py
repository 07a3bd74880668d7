"""The layer groups of a model, and the rate that each would have. `python examples/groups.py [MODEL]`."""

from __future__ import annotations

import sys

import warmstart


def main(model: str) -> None:
    """Print the groups from input to output."""
    table = warmstart.groups(model=model, learning_rate=3e-4, layer_decay=0.85)
    print(f"{table.backbone.name}: {table.backbone.architecture}, from {table.backbone.source}")
    for row in table.rows:
        print(f"{row.tower:8} {row.depth:3} {row.group:12} {row.parameters:12,} {row.learning_rate:.2e}")
    print(f"{sum(row.parameters for row in table.rows):,} parameters, each in exactly one group")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sentence-transformers/all-MiniLM-L6-v2")
