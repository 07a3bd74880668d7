"""Encoding 200,000 titles offline with `warmstart index encode`, beside `SentenceTransformer.encode`, in one model.

The titles are those of `ann_data`: real ones, recombined. `ours` is the command on all of them; `killed` is the same,
killed with SIGKILL about half way and resumed, and its folder compared with that of `ours` vector by vector; `rounds`
are both sides in turn on equal subsets, for the ratio; `theirs` is the peer on a share of the texts that fits a cell;
`incremental` is `--update` with one title in a hundred changed and as many new ones. Rates are those of encoding, from
texts to vectors on the disk (ours) or in memory (theirs); seconds are those of the whole command. The peer runs at its
fastest batch size of three, in float32 and in bfloat16. Peak memory is that of each process.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ann_data
import contract
import numpy as np
import pandas as pd
from scipy.stats import t as student

from warmstart.core.index import EncodeRecord
from warmstart.core.sizes import show_bytes
from warmstart.data.vector_store import Stored, VectorStore

MODEL = ann_data.MODEL
ROUNDS, ROUND_ROWS = 7, 4000
THEIR_ROWS = {"fp32": 40_000, "bf16": 80_000}
BATCHES, BATCH_ROWS = (32, 64, 128), 2000
SHARE = 100  # one title in so many is changed, and as many are new


def titles(args: argparse.Namespace) -> list[str]:
    return ann_data.titles(args.data)[: args.rows]


def write_items(path: Path, texts: list[str], first: int = 0) -> Path:
    pd.DataFrame({"item_id": [f"t{first + place}" for place in range(len(texts))], "title": texts}).to_csv(
        path, index=False
    )
    return path


def command(items: Path, out: Path, *more: str) -> list[str]:
    begin = [sys.executable, "-m", "warmstart", "index", "encode", "--data", str(items), "--model", MODEL]
    return [*begin, "--id-column", "item_id", "--text-column", "title", "--output-dir", str(out), *more]


def encode(items: Path, out: Path, *more: str) -> tuple[EncodeRecord, float]:
    """Run the command; its record and its seconds, the start of Python included."""
    start = time.perf_counter()
    subprocess.run(command(items, out, *more), check=True)
    return EncodeRecord.from_json((out / "results.json").read_text()), time.perf_counter() - start


def told(record: EncodeRecord, seconds: float) -> dict[str, Any]:
    return {
        "titles": record.items,
        "encoded": record.encoded,
        "items_per_second": record.items_per_second,
        "seconds": seconds,
        "peak_memory_mb": record.peak_memory_mb,
        "bf16": record.encoder.bf16,
    }


def shard(args: argparse.Namespace) -> int:
    """Rows of a shard: the command's own number, or less where there are few titles."""
    return 8192 if args.rows is None else max(1, args.rows // 8)


def ours(args: argparse.Namespace) -> dict[str, Any]:
    """All titles, uninterrupted."""
    items = write_items(ann_data.encoded_folder() / "items.csv", titles(args))
    record, seconds = encode(
        items, ann_data.encoded_folder() / "whole", "--overwrite", "--shard-rows", str(shard(args))
    )
    size = sum(path.stat().st_size for path in (ann_data.encoded_folder() / "whole").rglob("*") if path.is_file())
    return told(record, seconds) | {"shards": record.shards, "bytes": size}


def killed(args: argparse.Namespace) -> dict[str, Any]:
    """Killed about half way, resumed, and compared with the folder of `ours`."""
    items, out = ann_data.encoded_folder() / "items.csv", ann_data.encoded_folder() / "killed"
    shutil.rmtree(out, ignore_errors=True)
    running = out.with_name("killed.running")
    shutil.rmtree(running, ignore_errors=True)
    rows = len(VectorStore(ann_data.encoded_folder() / "whole").read().items)
    same = ("--shard-rows", str(shard(args)))
    half = rows // (2 * shard(args))
    start = time.perf_counter()
    process = subprocess.Popen(command(items, out, *same))
    shards = running / "result" / "shards"
    while len([path for path in shards.glob("*") if path.name.isdecimal()]) < half:
        if process.poll() is not None:
            raise SystemExit("The run ended before it could be killed.")
        time.sleep(0.02)
    time.sleep(0.1)  # into the next shard
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = time.perf_counter() - start
    record, after = encode(items, out, *same, "--resume")
    return told(record, after) | {"seconds_before_the_kill": before} | compare(ann_data.encoded_folder() / "whole", out)


def compare(one: Path, two: Path) -> dict[str, Any]:
    """Items lost and doubled, and by how much any vector differs."""
    first, second = VectorStore(one).read(), VectorStore(two).read()
    a, b = set(first.items.ids), second.items.ids
    differs = (
        np.abs(vectors_of(first, first.items.ids) - vectors_of(second, first.items.ids)).max(1) if a == set(b) else []
    )
    return {
        "lost": len(a - set(b)),
        "doubled": len(b) - len(set(b)),
        "compared": len(differs),
        "different": int(np.sum(np.asarray(differs) > 0)),
        "largest_difference": float(np.max(differs, initial=0.0)),
    }


def vectors_of(stored: Stored, ids: list[str]) -> np.ndarray:
    row_of = {name: row for row, name in enumerate(stored.items.ids)}
    return np.asarray(stored.vectors[np.array([row_of[name] for name in ids])], dtype=np.float32)


def incremental(args: argparse.Namespace) -> dict[str, Any]:
    """One title in a hundred changed, and as many new."""
    out, texts = ann_data.encoded_folder() / "updated", titles(args)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(ann_data.encoded_folder() / "whole", out)
    count = max(1, len(texts) // SHARE)
    chosen = np.sort(np.random.default_rng(0).choice(len(texts), count, replace=False)).tolist()
    for place in chosen:
        texts[place] += " again"
    new = [f"{texts[place].removesuffix(' again')} anew" for place in chosen]
    items = write_items(ann_data.encoded_folder() / "changed.csv", [*texts, *new])
    record, seconds = encode(items, out, "--update")
    assert (record.new, record.changed, record.removed) == (count, count, 0)
    before, after = VectorStore(ann_data.encoded_folder() / "whole").read(), VectorStore(out).read()
    touched = {f"t{place}" for place in chosen}
    kept = [name for name in before.items.ids if name not in touched]
    same = (vectors_of(before, kept) == vectors_of(after, kept)).all()
    return told(record, seconds) | {
        "new": count,
        "changed": count,
        "kept": record.kept,
        "kept_are_the_same": bool(same),
    }


def rounds(args: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn on equal subsets; each time in a process of its own, after a warm-up."""
    texts = titles(args)
    size = ROUND_ROWS if args.rows is None else max(16, args.rows // 10)
    begin = [str(args.data), str(args.rows or 0)]
    batch = {dtype: measured("batches", *begin, dtype)["best"] for dtype in THEIR_ROWS}
    seconds: dict[str, list[float]] = {"warmstart": [], "peer fp32": [], "peer bf16": []}
    for number in range(ROUNDS if args.rows is None else 2):
        first = (number * size) % max(1, len(texts) - size)
        write_items(ann_data.encoded_folder() / "round.csv", texts[first : first + size], first)
        arms = list(seconds)
        for arm in arms if number % 2 == 0 else arms[::-1]:
            which = ("ours",) if arm == "warmstart" else ("theirs", *begin, arm[5:], str(batch[arm[5:]]))
            seconds[arm].append(measured(*which, str(first), str(size))["seconds"])
    return {
        "titles_a_round": size,
        "peer_batch": batch,
        "seconds": seconds,
        "items_per_second": {arm: size / statistics.median(taken) for arm, taken in seconds.items()},
        "ratio": {arm: ratio(seconds[arm], seconds["warmstart"]) for arm in seconds if arm != "warmstart"},
    }


def ratio(slow: list[float], quick: list[float]) -> dict[str, float]:
    """Geometric mean of the paired ratios, with the 95 % interval of Student's t on their logarithms."""
    logs = np.log(np.array(slow) / np.array(quick))
    half = float(student.ppf(0.975, len(logs) - 1)) * logs.std(ddof=1) / len(logs) ** 0.5
    middle = logs.mean()
    return {
        name: float(np.exp(value))
        for name, value in (("value", middle), ("low", middle - half), ("high", middle + half))
    }


def theirs(args: argparse.Namespace) -> dict[str, Any]:
    """The peer on the first titles, as many as fit a cell."""
    values = {}
    for dtype, rows in THEIR_ROWS.items():
        count = min(rows, args.rows or rows)
        begin = [str(args.data), str(args.rows or 0), dtype]
        batch = measured("batches", *begin)["best"]
        values[dtype] = measured("theirs", *begin, str(batch), "0", str(count)) | {"batch": batch, "titles": count}
    return values


def measured(what: str, *words: str) -> dict[str, Any]:
    """What a process of its own found out about the peer."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", what, *words], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_ours(first: str, size: str) -> dict[str, Any]:
    """The seconds of encoding one round's titles, after some others."""
    import warmstart

    common = {"id_column": "item_id", "text_column": "title", "model": MODEL, "overwrite": True}
    warm = write_items(
        ann_data.encoded_folder() / "warm.csv",
        pd.read_csv(ann_data.encoded_folder() / "round.csv")["title"].astype(str).to_list()[-64:],
    )
    warmstart.index_encode(data=str(warm), output_dir=str(ann_data.encoded_folder() / "warm"), **common)  # type: ignore[arg-type]
    found = warmstart.index_encode(
        data=str(ann_data.encoded_folder() / "round.csv"), output_dir=str(ann_data.encoded_folder() / "round"), **common
    )  # type: ignore[arg-type]
    assert found.record.encoded == int(size), first
    return {"seconds": int(size) / found.record.items_per_second}


def measure(what: str, data: str, rows: str, dtype: str, *words: str) -> dict[str, Any]:
    import torch
    from sentence_transformers import SentenceTransformer

    from warmstart.backbones.resolve import resolve

    texts = ann_data.titles(Path(data))[: int(rows) or None]
    peer = SentenceTransformer(str(resolve(MODEL).path), device="cpu")
    peer = peer.to(torch.bfloat16) if dtype == "bf16" else peer

    def seconds(some: list[str], batch: int) -> float:
        start = time.perf_counter()
        found = peer.encode(some, batch_size=batch, convert_to_tensor=True, show_progress_bar=False)
        assert len(found.float().cpu().numpy()) == len(some)
        return time.perf_counter() - start

    seconds(texts[-64:], 32)
    if what == "batches":
        tried = {batch: seconds(texts[-BATCH_ROWS:], batch) for batch in BATCHES}
        return {"best": min(tried, key=lambda batch: tried[batch]), "seconds": tried}
    batch, first, size = map(int, words)
    taken = seconds(texts[first : first + size], batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": taken, "items_per_second": size / taken, "peak_memory_mb": peak}


def report(found: dict[str, dict[str, Any]]) -> str:
    rows = []
    if "ours" in found:
        cell = found["ours"]
        rows.append([f"`index encode`, {cell['titles']:,} titles", *rate(cell), f"{cell['seconds']:.0f}"])
    if "theirs" in found:
        for dtype, cell in found["theirs"].items():
            if dtype in THEIR_ROWS:
                name = f"`SentenceTransformer.encode`, {dtype}, {cell['titles']:,} titles, batches of {cell['batch']}"
                rows.append([name, *rate(cell), f"{cell['seconds']:.0f}"])
    if "incremental" in found:
        cell = found["incremental"]
        name = f"`--update`, {cell['changed']:,} changed, {cell['new']:,} new, {cell['kept']:,} kept"
        rows.append([name, *rate(cell), f"{cell['seconds']:.0f}"])
    text = contract.table(["", "items/s", "peak memory", "seconds"], rows)
    if "rounds" in found:
        for arm, value in found["rounds"]["ratio"].items():
            text += f"\n\nRounds in turn: {value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}] × {arm}."
    if "killed" in found:
        cell = found["killed"]
        text += (
            f"\n\nKilled after {cell['seconds_before_the_kill']:.0f} s and resumed: {cell['encoded']:,} of "
            f"{cell['titles']:,} were left to encode, {cell['lost']} lost, {cell['doubled']} doubled, "
            f"{cell['different']} of {cell['compared']:,} vectors differ from those of the uninterrupted run."
        )
    return text


def rate(cell: dict[str, Any]) -> list[str]:
    return [f"{cell['items_per_second']:,.0f}", show_bytes(int(cell["peak_memory_mb"] * 2**20))]


CELLS: dict[str, contract.Cell] = {
    "ours": ours,
    "killed": killed,
    "rounds": rounds,
    "theirs": theirs,
    "incremental": incremental,
}

if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.disable(logging.WARNING)
    if sys.argv[1:2] == ["--measure"]:
        own = sys.argv[2] == "ours"
        print(json.dumps(measure_ours(*sys.argv[3:]) if own else measure(*sys.argv[2:])))
    else:
        contract.run("encode", CELLS, report, __doc__)
