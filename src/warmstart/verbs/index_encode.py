"""`index encode`: items become vectors in a folder that an index is built of, and that is brought up to date."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.backbones.embed import best_device
from warmstart.core.clock import Clock
from warmstart.core.encode_options import IndexEncodeOptions
from warmstart.core.errors import OutputError, SettingError, UnfinishedError
from warmstart.core.files import write_text
from warmstart.core.index import EncoderCard, EncodeRecord
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.recommend import TowersUpdate
from warmstart.core.records import Record
from warmstart.data.checks import describe
from warmstart.data.items import ItemRows, load_items
from warmstart.data.vector_store import Filling, ItemList, VectorStore
from warmstart.train.fit import peak_memory_mb
from warmstart.verbs import facts
from warmstart.verbs.encoders import Encoder, item_encoder
from warmstart.verbs.index_input import encoder_card
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.towers_refresh import refresh_towers
from warmstart.verbs.workspace import Workspace

_CALIBRATION = 256  # items of the first block where there is a time budget: they say how long others will take
_OVERHEAD = 16  # characters that a text costs besides its own


@dataclass(frozen=True)
class EncodeResult(Record):
    """Where the vectors or the towers are, and what was done."""

    output_dir: str
    record: EncodeRecord | TowersUpdate


@verb(IndexEncodeOptions)
def index_encode(options: IndexEncodeOptions) -> EncodeResult:
    """Encode items into a folder of vectors, or bring one up to date; or bring towers up to date.

    Raises:
        UserError: something in the call, the data or the machine must change; a finished folder is as it was.
        UnfinishedError: the time budget ran out; what was encoded is kept.
    """
    if options.towers is not None:
        update = refresh_towers(options)
        return EncodeResult(str(Path(options.output_dir).expanduser()), update)
    if options.data is None:
        raise SettingError("Give either --data or --towers.")
    clock = Clock(options.time_budget)
    target = _Target(options)
    items = load_items(options)
    _show(items)
    encoder = item_encoder(options, items.modality, items.columns)
    salt = hashlib.sha256(json.dumps(encoder.card.settings(), sort_keys=True).encode()).digest()
    with target.open(encoder.card) as store:
        filling = store.begin(ItemList(items.ids, items.digests(salt), items.titles))
        reporter().say(_line(filling))
        seconds, encoded = _fill(filling, items, encoder, options, clock)
        shards = filling.finish(
            {"encoder": encoder.card.to_dict()}, unit_length=options.normalize, shard_rows=options.shard_rows
        )
        record = EncodeRecord(
            verb="index encode",
            created=facts.now(),
            source=items.source,
            encoder=encoder.card,
            guessed=items.guessed,
            items=len(items),
            new=filling.new,
            changed=filling.changed,
            removed=filling.removed,
            kept=filling.kept,
            dropped=items.dropped,
            encoded=encoded,
            width=encoder.width,
            shards=shards,
            seconds=clock.spent(),
            items_per_second=encoded / seconds if encoded else 0.0,
            peak_memory_mb=peak_memory_mb(),
            versions=facts.versions(),
            machine=facts.machine(best_device()),
            command=facts.command_line("index encode", options),
        )
        write_text(store.folder / RESULTS, record.to_json())
        target.done()
    return EncodeResult(str(target.output), record)


class _Target:
    """Where vectors go: into a finished folder, which stays one, or into a new one beside where it will be."""

    def __init__(self, options: IndexEncodeOptions) -> None:
        self.output = Path(options.output_dir).expanduser()
        finished = VectorStore(self.output)
        running = self.output.with_name(self.output.name + ".running")
        self._in_place = finished.is_whole() and not options.overwrite
        if self._in_place:
            self._store = finished
            if not (options.update or options.resume):
                raise OutputError(
                    f"{self.output} holds encoded items. --update encodes what is new or changed, --overwrite all anew."
                )
            if options.resume and not options.update and not finished.has_more():
                raise OutputError(f"There is nothing to resume: {self.output} is finished. --update encodes new items.")
            return
        resume = options.resume or (options.update and running.is_dir())
        self._workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=resume)
        self._workspace.check()

    @contextlib.contextmanager
    def open(self, card: EncoderCard) -> Iterator[VectorStore]:
        """The folder to fill, held against others.

        Raises:
            OutputError: it holds vectors of another model or of other settings, or another process is at it.
        """
        if not self._in_place:
            self._workspace.begin(card.settings(), {})
            yield VectorStore(self._workspace.stage("result"))
            return
        with self._store.lock():
            _check_same(self.output, encoder_card(self._store.manifest()["about"], self.output), card)
            yield self._store

    def done(self) -> None:
        """A new folder gets its name."""
        if not self._in_place:
            self._workspace.publish()


def _check_same(folder: Path, was: EncoderCard, now: EncoderCard) -> None:
    before, after = was.settings(), now.settings()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        told = ", ".join(f"{name} (was {_short(before[name])}, now {_short(after[name])})" for name in changed)
        raise OutputError(
            f"{folder} was encoded by {was.model} with other settings: {told}. --overwrite encodes everything anew."
        )


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item!r}" for key, item in value.items())
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "…"


def _fill(
    filling: Filling, items: ItemRows, encoder: Encoder, options: IndexEncodeOptions, clock: Clock
) -> tuple[float, int]:
    """Encode what is missing, a shard at a time, the longest first; seconds that it took, and how many items.

    Raises:
        UnfinishedError: the time budget ran out.
    """
    todo = filling.missing
    todo = todo[np.argsort(-items.lengths[todo], kind="stable")]
    cost = np.concatenate([[0], np.cumsum(items.lengths[todo] + _OVERHEAD)])
    start, done = time.perf_counter(), 0
    with reporter().bar(f"Encoding {len(todo):,} items") as bar:
        while done < len(todo):
            rows = todo[done : done + _block(options, cost, done, time.perf_counter() - start, clock)]
            if not len(rows):
                raise UnfinishedError(
                    f"The time budget ran out: {len(items) - len(todo) + done:,} of {len(items):,} items are encoded. "
                    f"--resume goes on."
                )

            def progress(within: int, _: int, before: int = done) -> None:
                bar(before + within, len(todo), _pace(cost, before + within, time.perf_counter() - start))

            vectors = encoder.encode(items.read(rows), progress)
            filling.append(rows, vectors.astype(options.dtype, copy=False))
            done += len(rows)
    return time.perf_counter() - start, len(todo)


def _block(options: IndexEncodeOptions, cost: np.ndarray, done: int, seconds: float, clock: Clock) -> int:
    """How many items to encode next: a shard's, or as many as the time that is left allows."""
    if options.time_budget is None:
        return options.shard_rows
    if not done:
        return min(_CALIBRATION, options.shard_rows) if clock.left() > 0.0 else 0
    affordable = cost[done] * (1.0 + clock.left() / seconds)
    return min(options.shard_rows, int(np.searchsorted(cost, affordable, side="right")) - 1 - done)


def _pace(cost: np.ndarray, done: int, seconds: float) -> str:
    """Items a second so far, and the time that is left at the same cost of a character."""
    left = seconds * (cost[-1] / cost[done] - 1.0)
    told = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
    return f"{done / seconds:,.0f} items/s, {told} left"


def _show(items: ItemRows) -> None:
    roles = ", ".join(
        f"{role} = {column!r}{' (guessed)' if role in items.guessed else ''}" for role, column in items.columns.items()
    )
    reporter().say(f"Items: {items.source} ({roles}): {len(items):,}")
    for finding in items.findings:
        reporter().warn(describe(finding) + (" (left out)" if finding.dropped else ""))


def _line(filling: Filling) -> str:
    told = f"{filling.new:,} new, {filling.changed:,} changed, {filling.removed:,} removed, {filling.kept:,} kept"
    return told + (f"; {filling.found:,} were encoded before the run was interrupted" if filling.found else "")
