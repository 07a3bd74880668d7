"""A toy shop whose customers walk along rings of items: what comes next follows from what came last."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

ITEMS, USERS, LENGTH = 24, 60, 9


def walks(seed: int = 0) -> list[list[int]]:
    """Each user starts anywhere and takes the next item of the ring, sometimes skipping one."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(USERS):
        item, items = int(draw.integers(ITEMS)), []
        while len(items) < LENGTH:
            items.append(item % ITEMS)
            item += 1 + int(draw.random() < 0.1)
        found.append(list(dict.fromkeys(items)))
    return found


def write_shop(folder: Path) -> tuple[Path, Path]:
    """`events.csv` (customer, product, when) in no order of time, and `products.csv` with one product nobody took."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        (f"u{user}", f"p{item}", 1000 * place + user)
        for user, items in enumerate(walks())
        for place, item in enumerate(items)
    ]
    np.random.default_rng(1).shuffle(rows)
    events, products = folder / "events.csv", folder / "products.csv"
    with events.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["customer", "product", "timestamp"])
        writer.writerows(rows)
    with products.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["product", "title", "aisle", "angle"])
        for item in range(ITEMS):
            writer.writerow([f"p{item}", f"thing number {item}", f"aisle{item // 6}|shop", f"{item / ITEMS:.3f}"])
        writer.writerow(["p-new", "thing number new", "aisle2|shop", "0.55"])
    return events, products
