"""`index publish`: towers, their index and perhaps a ranker become the bundle that serves, in one step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.core.errors import OutputError, ResultError
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.records import Record
from warmstart.core.serving import BundleManifest, ServingSettings
from warmstart.core.serving_options import IndexPublishOptions
from warmstart.neighbours.folder import load_index
from warmstart.neighbours.measure import ExactAnswer
from warmstart.retrieve import bundle
from warmstart.retrieve.item_table import ItemTable, save_items
from warmstart.retrieve.versions import Serving
from warmstart.verbs import facts
from warmstart.verbs.index_input import versions
from warmstart.verbs.recommender import check_fit, load_bundle
from warmstart.verbs.towers_input import asked
from warmstart.verbs.two_tower_folder import TwoTowers, load_two_tower, read_record

_QUERIES = 200  # users whose answers are compared with the exact ones
_USUAL = 100  # items that the index gives
_POOR = 0.9  # recall below which it is said


@dataclass(frozen=True)
class PublishResult(Record):
    """What serves now."""

    serving: str
    version: str
    before: tuple[str, ...]  # versions to go back to, the latest first
    bundle: str
    manifest: BundleManifest


@verb(IndexPublishOptions)
def index_publish(options: IndexPublishOptions) -> PublishResult:
    """Put a bundle together, check it by loading it and asking it, and make it the one that serves.

    Raises:
        UserError: a part is missing, altered or made for other towers, or the folder cannot be written; what served
            before still does.
    """
    serving = Serving(Path(options.to).expanduser())
    _check_target(serving)
    parts = {bundle.TOWERS: Path(options.towers).expanduser(), bundle.INDEX: Path(options.index).expanduser()}
    if options.ranker is not None:
        parts[bundle.RANKER] = Path(options.ranker).expanduser()
    towers = load_two_tower(parts[bundle.TOWERS])
    identity = read_record(parts[bundle.TOWERS]).identity()
    for name in list(parts)[1:]:
        bundle.check_belongs(parts[name], name, identity)
    table = ItemTable(towers.items.ids, towers.titles, towers.attributes)
    manifest = _manifest(towers, parts, table, options)
    if manifest.recall < _POOR:
        reporter().warn(
            f"The index finds {manifest.recall:.0%} of the {manifest.settings.retrieve:,} nearest items: "
            "`index tune` makes one that finds more."
        )

    def fill(folder: Path) -> None:
        bundle.copy_parts(folder, parts)
        save_items(folder / bundle.ITEMS, table)
        bundle.seal(folder, manifest)

    with serving.lock():
        version = serving.publish(fill, try_bundle, options.keep)
        now = serving.pointer()
    place = serving.place(version)
    return PublishResult(str(serving.folder), version, now.before, str(place), bundle.read_manifest(place))


def try_bundle(folder: Path) -> None:
    """Load a bundle and ask it once.

    Raises:
        ResultError: it cannot be loaded, or answers nothing.
    """
    recommender = load_bundle(folder)
    users = (user for user, history in enumerate(recommender.towers.histories) if len(history))
    user = next(users, None)
    if user is None:
        return
    found = recommender.recommend(recommender.towers.users.ids[user], k=1, include_seen=True, min_score=-1.0)
    if not found.items:
        raise ResultError(f"The bundle answers nothing: the index in {folder} is empty.")


def _check_target(serving: Serving) -> None:
    folder = serving.folder
    if folder.is_symlink() and not folder.exists():
        raise OutputError(f"{folder} is a link that leads nowhere.")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; --to must name a folder.")
    if (folder / bundle.MANIFEST).is_file():
        raise OutputError(f"{folder} is one version of a bundle; --to must name the folder that serves.")
    if folder.is_dir() and any(folder.iterdir()) and not serving.is_one() and not serving.is_unfinished():
        raise OutputError(f"{folder} holds something that was not published; --to must name a new or an empty folder.")


def _manifest(
    towers: TwoTowers, parts: dict[str, Path], table: ItemTable, options: IndexPublishOptions
) -> BundleManifest:
    """What the bundle is, but for the digests of its files; the index is measured for it."""
    index = load_index(parts[bundle.INDEX])
    check_fit(towers, index, table, parts[bundle.INDEX])
    numbers = index.ids()
    if not len(numbers):
        raise ResultError(f"The index in {parts[bundle.INDEX]} is empty.")
    vectors = towers.vectors.numpy()[numbers]
    retrieve = _retrieve(parts) if options.retrieve is None else options.retrieve
    answer = ExactAnswer(asked(towers, _QUERIES, 0), numbers, vectors, retrieve)
    return BundleManifest(
        format=bundle.FORMAT,
        created=facts.now(),
        items=len(towers.items),
        vectors=len(numbers),
        users=len(towers.users),
        ranker=bundle.RANKER in parts,
        recall=float(np.mean(answer.recall(index))),
        settings=ServingSettings(retrieve, options.min_score, options.diversity),
        versions=versions(),
    )


def _retrieve(parts: dict[str, Path]) -> int:
    """As many items as the ranker learned to order, else the usual number."""
    if bundle.RANKER not in parts:
        return _USUAL
    settings = bundle.part_record(parts[bundle.RANKER], bundle.RANKER).get("settings", {})
    return int(settings.get("candidates", _USUAL))
