"""`index publish`: towers, their index and perhaps a ranker become the bundle that serves, in one step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.core.errors import OutputError, ResultError
from warmstart.core.files import write_text
from warmstart.core.index import TuneRecord
from warmstart.core.option import verb
from warmstart.core.progress import reporter
from warmstart.core.recommend import RankerRecord
from warmstart.core.records import Record
from warmstart.core.serving import BundleManifest, ServingSettings
from warmstart.core.serving_options import IndexPublishOptions
from warmstart.neighbours.folder import load_index
from warmstart.neighbours.measure import ExactAnswer
from warmstart.report.serving import render_serving
from warmstart.retrieve import bundle
from warmstart.retrieve.item_names import ItemNames
from warmstart.retrieve.item_table import ItemTable, save_items
from warmstart.retrieve.versions import Serving
from warmstart.verbs import facts
from warmstart.verbs.index_input import versions
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.ranker_folder import load_ranker
from warmstart.verbs.recommender import Recommender, check_fit, load_bundle
from warmstart.verbs.serving_record import observe
from warmstart.verbs.towers_input import asked
from warmstart.verbs.two_tower_folder import TwoTowers, load_two_tower, read_record

REPORT = "report.html"
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
    report: str


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
    towers, record = load_two_tower(parts[bundle.TOWERS]), read_record(parts[bundle.TOWERS])
    for name in list(parts)[1:]:
        bundle.check_belongs(parts[name], name, record.identity())
    recommender = _recommender(towers, parts, options)
    manifest = recommender.manifest
    if manifest.recall < _POOR:
        reporter().warn(
            f"The index finds {manifest.recall:.0%} of the {manifest.settings.retrieve:,} nearest items: "
            "`index tune` makes one that finds more."
        )
    seen = observe(recommender, parts, options)
    report = render_serving(seen, record, _tuning(parts), _ranking(parts))

    def fill(folder: Path) -> None:
        bundle.copy_parts(folder, parts)
        save_items(folder / bundle.ITEMS, recommender.items)
        write_text(folder / RESULTS, seen.to_json())
        write_text(folder / REPORT, report)
        bundle.seal(folder, manifest)

    with serving.lock():
        version = serving.publish(fill, try_bundle, options.keep)
        now = serving.pointer()
    place = serving.place(version)
    return PublishResult(
        str(serving.folder), version, now.before, str(place), bundle.read_manifest(place), str(place / REPORT)
    )


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


def _recommender(towers: TwoTowers, parts: dict[str, Path], options: IndexPublishOptions) -> Recommender:
    """The parts as they will answer together, with the manifest but for the digests; the index is measured for it."""
    table = ItemTable(towers.items.ids, towers.titles, towers.attributes)
    index = load_index(parts[bundle.INDEX])
    check_fit(towers, index, table, parts[bundle.INDEX])
    numbers = index.ids()
    if not len(numbers):
        raise ResultError(f"The index in {parts[bundle.INDEX]} is empty.")
    vectors = towers.vectors.numpy()[numbers]
    retrieve = _retrieve(parts) if options.retrieve is None else options.retrieve
    answer = ExactAnswer(asked(towers, _QUERIES, 0), numbers, vectors, retrieve)
    manifest = BundleManifest(
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
    ranker = load_ranker(parts[bundle.RANKER]) if bundle.RANKER in parts else None
    names = ItemNames(table.ids, table.titles)
    return Recommender(parts[bundle.TOWERS], manifest, towers, index, table, names, ranker)


def _tuning(parts: dict[str, Path]) -> TuneRecord | None:
    """The tuning of the index; None where it was built without one."""
    path = parts[bundle.INDEX] / RESULTS
    try:
        return TuneRecord.from_json(path.read_text(encoding="utf-8"))
    except (KeyError, TypeError, ValueError):
        return None


def _ranking(parts: dict[str, Path]) -> RankerRecord | None:
    if bundle.RANKER not in parts:
        return None
    return RankerRecord.from_json((parts[bundle.RANKER] / RESULTS).read_text(encoding="utf-8"))


def _retrieve(parts: dict[str, Path]) -> int:
    """As many items as the ranker learned to order, else the usual number."""
    if bundle.RANKER not in parts:
        return _USUAL
    settings = bundle.part_record(parts[bundle.RANKER], bundle.RANKER).get("settings", {})
    return int(settings.get("candidates", _USUAL))
