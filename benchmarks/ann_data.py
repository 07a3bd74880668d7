"""Vectors for `ann`: really encoded titles in 64 dimensions, resampled with local noise to a million and ten millions.

Texts are AG News titles, CLINC150 utterances and Flickr8k captions, and recombinations of them: the first half of one
with the second half of another of the same set. MiniLM encodes them (`encode`); a principal component analysis keeps 64
of 384 dimensions; vectors have length 1. A resampled vector is one of these, moved in a random direction by half the
distance to its tenth neighbour. Every hundredth title is left out of it, and is a query.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd

from warmstart.data.vector_store import VectorStore

TITLES, WIDTH = 200_000, 64
QUERY_EVERY = 100
_NEIGHBOURS, _NOISE = 10, 0.5
_BLOCK = 1 << 17
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def cache() -> Path:
    """Where encoded titles and resampled vectors are kept; large, and made again when missing."""
    folder = Path(os.environ.get("WARMSTART_CACHE", "~/.cache/warmstart")).expanduser() / "benchmarks" / "ann"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def encoded_folder() -> Path:
    """Where `encode` keeps items and encoded folders between its cells."""
    folder = cache().parent / "encode"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def titles(data: Path) -> list[str]:
    """200,000 different texts, the same ones every time."""
    news = pd.read_csv(data / "ag_news" / "test.csv", names=["class", "title", "description"])["title"]
    intents = json.loads((data / "clinc150" / "data_full.json").read_text())
    captions = pd.read_csv(data / "flickr8k" / "captions.tsv", sep="\t")["caption"]
    sets = [list(news), [text for rows in intents.values() for text, _ in rows], list(captions.str.strip())]
    found = dict.fromkeys(text for texts in sets for text in texts)
    draw = np.random.default_rng(0)
    while len(found) < TITLES:
        texts = sets[int(draw.integers(len(sets)))]
        head, tail = (texts[int(place)].split() for place in draw.integers(len(texts), size=2))
        found[" ".join([*head[: (len(head) + 1) // 2], *tail[len(tail) // 2 :]])] = None
    chosen = list(found)[:TITLES]
    return [chosen[int(place)] for place in draw.permutation(TITLES)]


def encoded() -> np.ndarray:
    """All titles as `encode`'s cell `ours` left them, (titles, 64), of length 1, in the order of `titles`."""
    folder = encoded_folder() / "whole"
    if not VectorStore(folder).is_whole():
        raise SystemExit("The titles are not encoded yet: python benchmarks/encode.py --data FOLDER --cell ours")
    found = VectorStore(folder).read()
    places = np.argsort([int(name.removeprefix("t")) for name in found.items.ids])
    vectors = np.asarray(found.vectors[places], dtype=np.float32)
    vectors -= vectors.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(vectors.T))
    return unit(vectors @ axes[:, ::-1][:, :WIDTH].astype(np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return found


def resample(rows: int) -> dict[str, Any]:
    """Write `rows` vectors and the queries into the cache."""
    whole = encoded()
    held = np.arange(len(whole)) % QUERY_EVERY == 0
    titles, queries = np.ascontiguousarray(whole[~held]), whole[held]
    graph = faiss.IndexHNSWFlat(WIDTH, 16, faiss.METRIC_INNER_PRODUCT)
    graph.add(titles)
    tenth = graph.search(titles, _NEIGHBOURS + 1)[0][:, -1]  # cosines
    reach = _NOISE * np.sqrt(np.maximum(0.0, 2.0 - 2.0 * tenth))
    draw = np.random.default_rng(1)
    part = cache() / f"vectors-{rows}.part.npy"
    out = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=(rows, WIDTH))
    for start in range(0, rows, _BLOCK):
        size = min(_BLOCK, rows - start)
        places = draw.integers(len(titles), size=size)
        noise = unit(draw.standard_normal((size, WIDTH), dtype=np.float32))
        out[start : start + size] = unit(titles[places] + reach[places, None] * noise)
    out.flush()
    part.replace(cache() / f"vectors-{rows}.npy")
    np.save(cache() / "queries.npy", queries)
    return {"vectors": rows, "queries": len(queries), "median_reach": float(np.median(reach))}
