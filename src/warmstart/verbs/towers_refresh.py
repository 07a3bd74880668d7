"""Towers that learn of new items, users and events without being trained: `index encode --towers`.

The numbers of items and users stay; new ones follow them. A new item is its content, as in training whenever its id is
left out; an item whose content is the same keeps its vector to the bit. The weights are the same ones.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmstart.contrastive.item_tower import Content, content_of
from warmstart.contrastive.two_tower_model import TwoTower
from warmstart.core.encode_options import IndexEncodeOptions
from warmstart.core.errors import DataError, SettingError
from warmstart.core.progress import reporter
from warmstart.core.recommend import TowersUpdate, TwoTowerRecord
from warmstart.core.two_tower_options import InteractionOptions
from warmstart.data.attributes import words_array
from warmstart.data.catalogue import ItemTableRows, read_item_table
from warmstart.data.features import Features
from warmstart.data.ids import IdMap
from warmstart.data.interactions import load_interactions
from warmstart.data.samples import cache_folder
from warmstart.verbs import facts
from warmstart.verbs.contrast_two_tower import save_result
from warmstart.verbs.item_reading import input_digests
from warmstart.verbs.two_tower_folder import TwoTowers, load_two_tower, read_record
from warmstart.verbs.workspace import Workspace


@dataclass(frozen=True)
class _Merged:
    """Items by number, old ones first, after a table was read."""

    ids: IdMap
    content: Content
    titles: tuple[str, ...]
    attributes: dict[str, np.ndarray]
    input_digests: tuple[str, ...]
    rows: np.ndarray  # (some,), numbers of items whose content is new or another
    absent: int


def refresh_towers(options: IndexEncodeOptions) -> TowersUpdate:
    """Write towers that know a table of items and some events more than those they come from.

    Raises:
        UserError: something in the call, the files or the towers must change; nothing was written.
        RoundTripError: the saved towers differ when they are loaded; there is no result folder.
    """
    assert options.towers is not None
    start = time.perf_counter()
    workspace = Workspace(options.output_dir, overwrite=options.overwrite, resume=options.resume)
    workspace.check()
    if Path(options.towers).expanduser().resolve() == workspace.output.resolve():
        raise SettingError("--output-dir is the folder of --towers: name another one.")
    before = load_two_tower(options.towers)
    record = read_record(Path(options.towers).expanduser())
    towers, changed, absent = before, 0, 0
    if options.items is not None:
        merged = _merge(before, record, options)
        towers = _with_items(before, merged)
        changed, absent = int((merged.rows < len(before.items)).sum()), merged.absent
    added = unknown = 0
    if options.interactions is not None:
        towers, added, unknown = _with_events(towers, record, options)
    new = len(towers.items) - len(before.items)
    update = TowersUpdate(
        items=len(towers.items),
        new=new,
        changed=changed,
        kept=len(before.items) - changed,
        absent=absent,
        users=len(towers.users),
        new_users=len(towers.users) - len(before.users),
        new_events=added,
        unknown_events=unknown,
        seconds=time.perf_counter() - start,
    )
    _show(update, options)
    workspace.begin(dataclasses.asdict(options), record.identity())
    try:
        save_result(workspace, towers, _noted(record, update, options))
    except BaseException:
        workspace.abandon()
        raise
    return update


def _merge(towers: TwoTowers, record: TwoTowerRecord, options: IndexEncodeOptions) -> _Merged:
    """Old items as they were, or as the table now has them; and behind them the new ones."""
    assert options.items is not None
    old = towers.model.item_content
    if old is None or towers.model.items.content is None:
        raise SettingError(f"{options.towers} was trained without --items: a new item has nothing to go by.")
    columns = record.data.item_columns
    id_column = options.id_column or columns["id"]
    table = read_item_table(
        options.items, "--items", id_column, columns.get("title"), towers.plan, drop_invalid=options.drop_invalid
    )
    if table.broken_pictures:
        reporter().warn(f"{table.broken_pictures:,} pictures cannot be used and count as none.")
    features = table.features
    known = towers.items.find(table.ids)
    ids = IdMap(towers.items.kind, (*towers.items.ids, *(n for n, k in zip(table.ids, known, strict=True) if k < 0)))
    numbers = ids.numbers(table.ids)
    told = input_digests(features)
    different = np.array(
        [
            number >= len(old) or _differs(towers, old, features, told, line, number)
            for line, number in enumerate(numbers.tolist())
        ],
        dtype=bool,
    )
    fresh = np.array(
        [
            number >= len(old) or not _same_inputs(towers, told[line], number)
            for line, number in enumerate(numbers.tolist())
        ],
        dtype=bool,
    )
    read = np.flatnonzero(fresh)
    if towers.text_model and not towers.input_digests:
        reporter().say(f"{options.towers} does not say which texts it was made of: all of them are read again.")
    inputs = np.zeros((len(ids), old.shape[0]), dtype=np.float32)
    inputs[: len(old)] = old.inputs.numpy()
    if len(read):
        inputs[numbers[read]] = towers.readers().read(features.take(read), cache_folder())
    return _Merged(
        ids=ids,
        content=_content(old, features, numbers, inputs),
        titles=_placed(towers.titles, table.titles, numbers, len(ids)),
        attributes=_attributes(towers.attributes, table, numbers, len(ids)),
        input_digests=_placed(towers.input_digests or ("",) * len(old), told, numbers, len(ids)),
        rows=np.sort(numbers[different]),
        absent=len(old) - int((known >= 0).sum()),
    )


def _same_inputs(towers: TwoTowers, told: str, number: int) -> bool:
    return bool(towers.input_digests) and towers.input_digests[number] == told


def _differs(
    towers: TwoTowers, old: Content, features: Features, told: tuple[str, ...], line: int, number: int
) -> bool:
    """Whether the content of a known item is another than it was."""
    bag = old.values[old.starts[number] : old.starts[number + 1]].numpy()
    return not (
        np.array_equal(bag, features.bags[line])
        and np.array_equal(old.numbers[number].numpy(), features.numbers[line])
        and (not (towers.text_model or towers.image_model) or _same_inputs(towers, told[line], number))
    )


def _content(old: Content, features: Features, numbers: np.ndarray, inputs: np.ndarray) -> Content:
    """The content of all items: the table's where it has the item, else as it was."""
    bags = [old.values[old.starts[item] : old.starts[item + 1]].numpy() for item in range(len(old))]
    bags += [np.zeros(0, dtype=np.int64)] * (len(inputs) - len(old))
    values = np.zeros((len(inputs), old.shape[2]), dtype=np.float32)
    values[: len(old)] = old.numbers.numpy()
    values[numbers] = features.numbers
    for line, number in enumerate(numbers.tolist()):
        bags[number] = features.bags[line]
    return content_of(Features(("",) * len(inputs), tuple(bags), values), inputs, old.vocabulary)


def _placed(old: tuple[str, ...], new: tuple[str, ...], numbers: np.ndarray, size: int) -> tuple[str, ...]:
    found = [*old, *[""] * (size - len(old))]
    for line, number in enumerate(numbers.tolist()):
        found[number] = new[line]
    return tuple(found)


def _attributes(
    old: dict[str, np.ndarray], table: ItemTableRows, numbers: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """The table's attributes by number; items that it lacks keep what they had, where it is of the same kind."""
    found = {}
    for name, values in table.attributes.items():
        kept = old.get(name)
        column = words_array([()] * size) if values.dtype.kind == "O" else np.full(size, np.nan)
        if kept is not None and kept.dtype.kind == column.dtype.kind:
            column[: len(kept)] = kept
        column[numbers] = values
        found[name] = column
    return found


def _with_items(towers: TwoTowers, merged: _Merged) -> TwoTowers:
    """The same towers with more rows: vectors are computed of new and changed content alone."""
    model = _grown(towers.model, merged)
    vectors = torch.zeros(len(merged.ids), model.shape.dim)
    vectors[: len(towers.items)] = towers.vectors
    rows = torch.from_numpy(merged.rows)
    with torch.no_grad():
        vectors[rows] = torch.nn.functional.normalize(model.item_vectors(rows), dim=-1)
    nothing = int((vectors[len(towers.items) :].norm(dim=-1) == 0).sum())
    if nothing:
        reporter().warn(f"{nothing:,} new items hold nothing that the towers know, and will not be found.")
    return dataclasses.replace(
        towers,
        model=model,
        items=merged.ids,
        titles=merged.titles,
        vectors=vectors,
        attributes=merged.attributes,
        input_digests=merged.input_digests,
    )


def _grown(model: TwoTower, merged: _Merged) -> TwoTower:
    """The model with the new content, and with rows of zeros for new ids, which count as never met."""
    more = len(merged.ids) - model.shape.items
    weights = model.state_dict()
    for name in ("items.ids.weight", "items.learnt"):
        weights[name] = _longer(weights[name], more)
    shape = dataclasses.replace(model.shape, items=len(merged.ids))
    grown = TwoTower(shape, weights["items.learnt"], merged.content, model.user_content)
    grown.load_state_dict(weights)
    return grown.eval()


def _longer(values: Tensor, more: int) -> Tensor:
    return torch.cat([values, values.new_zeros(more, *values.shape[1:])])


def _with_events(towers: TwoTowers, record: TwoTowerRecord, options: IndexEncodeOptions) -> tuple[TwoTowers, int, int]:
    """Histories with the events that are not in them yet; how many these are, and how many name an unknown item."""
    card = record.data
    if card.counts.get("not_wanted") and not card.wanted:
        raise SettingError(
            f"{options.towers} was trained on some of its events, and does not say on which: train it again."
        )
    roles = ["user", "item", "time"]
    roles += ["weight"] if "min_weight" in card.wanted else []
    roles += ["event"] if "events" in card.wanted else []
    named: dict[str, Any] = {f"{role}_column": card.columns[role] for role in roles if role in card.columns}
    assert options.interactions is not None
    events = load_interactions(
        InteractionOptions(interactions=options.interactions, drop_invalid=options.drop_invalid, **named, **card.wanted)
    )
    places = towers.items.find(events.items.ids)
    users = IdMap(towers.users.kind, (*towers.users.ids, *(u for u in events.users.ids if u not in towers.users)))
    histories = [list(history) for history in towers.histories] + [[] for _ in range(len(users) - len(towers.users))]
    seen = [set(history) for history in histories]
    numbers = users.numbers(events.users.ids)
    added = unknown = 0
    for user, item in zip(numbers[events.user].tolist(), places[events.item].tolist(), strict=True):
        if item < 0:
            unknown += 1
        elif item not in seen[user]:
            seen[user].add(item)
            histories[user].append(item)
            added += 1
    if not added and not len(events.user) > unknown:
        raise DataError("no event names an item that the towers or --items know", file=options.interactions)
    content = towers.model.user_content
    if content is not None:
        more = len(users) - len(towers.users)
        starts = torch.cat([content.starts, content.starts[-1:].repeat(more)])
        towers.model.user_content = dataclasses.replace(
            content, inputs=_longer(content.inputs, more), starts=starts, numbers=_longer(content.numbers, more)
        )
    kept = tuple(np.array(history, dtype=np.int64) for history in histories)
    return dataclasses.replace(towers, users=users, histories=kept), added, unknown


def _noted(record: TwoTowerRecord, update: TowersUpdate, options: IndexEncodeOptions) -> TwoTowerRecord:
    """The record of the training, which says that items and events came later."""
    line = (
        f"Brought up to date {facts.now()[:10]} without training: {update.new:,} new items, {update.changed:,} "
        f"changed, {update.new_users:,} new users, {update.new_events:,} new events. "
        "All scores are those of the training."
    )
    source = record.data.item_source if options.items is None else options.items
    data = dataclasses.replace(record.data, users=update.users, items=update.items, item_source=source)
    command = facts.command_line("index encode", options)
    return dataclasses.replace(record, data=data, advice=(line, *record.advice), command=command)


def _show(update: TowersUpdate, options: IndexEncodeOptions) -> None:
    say, warn = reporter().say, reporter().warn
    say(f"Items: {update.new:,} new, {update.changed:,} changed, {update.kept:,} kept")
    if update.absent:
        warn(f"{update.absent:,} items of the towers have no row in {options.items}: they stay as they were.")
    if options.interactions is not None:
        say(f"Events: {update.new_events:,} new, {update.new_users:,} new users")
    if update.unknown_events:
        warn(f"{update.unknown_events:,} events name an item that is not known; they were left out.")
