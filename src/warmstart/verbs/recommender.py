"""A bundle that was loaded: recommendations for users by id, and for histories by ids and titles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.core.errors import DataError, ResultError, SettingError
from warmstart.core.serving import BundleManifest, Recommendations, RecommendedItem
from warmstart.data.ids import listed
from warmstart.neighbours.faiss_index import FaissIndex
from warmstart.neighbours.folder import read_index
from warmstart.retrieve.bundle import INDEX, ITEMS, MANIFEST, RANKER, TOWERS, check_bundle
from warmstart.retrieve.item_names import ItemNames
from warmstart.retrieve.item_table import ItemTable, load_items
from warmstart.retrieve.pipeline import Answer, Pipeline, Ranker, Request
from warmstart.retrieve.versions import Serving
from warmstart.verbs.ranker_folder import load_ranker
from warmstart.verbs.two_tower_folder import TwoTowers, read_folder


@dataclass(frozen=True)
class Wanted:
    """Which items may be shown to anyone, and how; the defaults are those of the bundle."""

    k: int = 10
    retrieve: int | None = None
    where: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    include_seen: bool = False
    min_score: float | None = None
    diversity: float | None = None
    ranker: bool = True


@dataclass
class Recommender:
    """A bundle in memory.

    Attributes:
        folder: of the bundle.
        manifest: what it is made of.
        towers: encode histories; they also hold those of the users.
        index: of the items.
        items: ids, titles and attributes.
        names: finds items by id or title.
        ranker: None where the bundle has none.
    """

    folder: Path
    manifest: BundleManifest
    towers: TwoTowers
    index: FaissIndex
    items: ItemTable
    names: ItemNames
    ranker: Ranker | None = None

    def recommend(
        self,
        user: str | int | None = None,
        history: str | int | Sequence[str | int] | None = None,
        k: int = 10,
        *,
        retrieve: int | None = None,
        where: str | Sequence[str] = (),
        only: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        include_seen: bool = False,
        min_score: float | None = None,
        diversity: float | None = None,
        ranker: bool = True,
    ) -> Recommendations:
        """The best items for a user of the events, or for somebody new by a history.

        Args:
            user: an id; the user's own history is read, unless one is given.
            history: ids or titles, one item each, oldest first.
            k: how many.
            retrieve: how many the index gives to choose from; None as published.
            where: conditions such as "genre=Drama"; all must be met.
            only: the only items that may come, by id or title.
            exclude: items that may not.
            include_seen: whether items of the history may come.
            min_score: least cosine with the query; None as published.
            diversity: weight of being unlike the items before, 0 to 1; None as published.
            ranker: whether the bundle's ranker, if any, orders what was retrieved.

        Raises:
            DataError: a user or an item is not known, or the history is empty.
            SettingError: neither a user nor a history is given, or a value is out of range.
        """
        conditions, allowed, blocked = (tuple(map(str, listed(texts))) for texts in (where, only, exclude))
        wanted = Wanted(k, retrieve, conditions, allowed, blocked, include_seen, min_score, diversity, ranker)
        numbers = None if history is None else [self.names.one(str(item), "history") for item in listed(history)]
        return self.answer(user, numbers, wanted)

    def answer(self, user: str | int | None, history: Sequence[int] | None, wanted: Wanted) -> Recommendations:
        """As `recommend`, with the history as numbers of items."""
        if user is None and history is None:
            raise SettingError("Give a user, or a history.")
        number = -1 if user is None else self.towers.users.number(str(user))
        own = self.towers.histories[number] if number >= 0 else np.zeros(0, dtype=np.int64)
        read = own if history is None else np.array(history, dtype=np.int64)
        if len(read) == 0:
            raise DataError("the history is empty: there is nothing to recommend by")
        return self._answers([number], [read], [own], wanted)[0]

    def answers(self, users: Sequence[int], wanted: Wanted) -> list[Recommendations]:
        """Answers for users of the events by number, each by their own history; those without any are passed over.

        Raises:
            SettingError: a value is out of range.
        """
        asking = [user for user in users if len(self.towers.histories[user])]
        own = [self.towers.histories[user] for user in asking]
        return self._answers(asking, own, own, wanted)

    def timed(self, user: int, wanted: Wanted) -> tuple[Recommendations, tuple[float, float, float]]:
        """The answer for one user by number, and its seconds; see `Pipeline.timed`."""
        own = self.towers.histories[user]
        answer, seconds = self._pipeline(wanted).timed(self._requests([user], [own], [own], wanted)[0])
        return self._told(user, own, answer), seconds

    def _answers(
        self, users: Sequence[int], histories: Sequence[np.ndarray], own: Sequence[np.ndarray], wanted: Wanted
    ) -> list[Recommendations]:
        found = self._pipeline(wanted).run(self._requests(users, histories, own, wanted))
        return [self._told(user, history, one) for user, history, one in zip(users, histories, found, strict=True)]

    def _pipeline(self, wanted: Wanted) -> Pipeline:
        ranker = self.ranker if wanted.ranker else None
        return Pipeline(self._encode, self.index, self.towers.vectors.numpy(), ranker)

    def _requests(
        self, users: Sequence[int], histories: Sequence[np.ndarray], own: Sequence[np.ndarray], wanted: Wanted
    ) -> list[Request]:
        allow, exclude = self._allowed(wanted), self._named(wanted.exclude, "--exclude")
        settings = self.manifest.settings
        diversity = settings.diversity if wanted.diversity is None else wanted.diversity
        retrieve = settings.retrieve if wanted.retrieve is None else wanted.retrieve
        _check(wanted.k, retrieve, diversity)
        requests = []
        for user, history, taken in zip(users, histories, own, strict=True):
            block = exclude if wanted.include_seen else np.unique(np.concatenate([exclude, history, taken]))
            least = settings.min_score if wanted.min_score is None else wanted.min_score
            requests.append(Request(history, wanted.k, retrieve, user, block, allow, least, diversity))
        return requests

    def _encode(self, histories: Sequence[np.ndarray], users: np.ndarray) -> np.ndarray:
        found = np.zeros((len(histories), self.towers.model.shape.dim), dtype=np.float32)
        for known in (True, False):
            rows = np.flatnonzero((users >= 0) == known).tolist()
            if rows:
                vectors = self.towers.vectors
                some = [histories[row] for row in rows]
                found[rows] = self.towers.model.encode(vectors, some, users[rows] if known else None).numpy()
        return found

    def _allowed(self, wanted: Wanted) -> np.ndarray | None:
        if not (wanted.where or wanted.only):
            return None
        met = self.items.matching(wanted.where)
        return np.intersect1d(met, self._named(wanted.only, "--only")) if wanted.only else met

    def _named(self, texts: Sequence[str], option: str) -> np.ndarray:
        return np.array([item for text in texts for item in self.read(text, option)], dtype=np.int64)

    def read(self, text: str, option: str) -> list[int]:
        """Numbers of the items that a text names: separated by commas, or one a line of a file, `@FILE`.

        Raises:
            UserError: the file is not there, or a name is unknown or ambiguous.
        """
        if not text.startswith("@"):
            return self.names.read(text, option)
        path = Path(text[1:]).expanduser()
        if not path.is_file():
            raise DataError(f"{option}: there is no file {str(path)!r}")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [self.names.one(line, f"{option} {text}") for line in lines if line.strip()]

    def _told(self, user: int, history: np.ndarray, answer: Answer) -> Recommendations:
        rows = tuple(
            RecommendedItem(
                rank=place + 1,
                item=self.items.ids[item],
                title=self.items.titles[item],
                score=float(answer.retrieved[place]),
                ranker=None if answer.ranked is None else float(answer.ranked[place]),
                penalty=None if answer.penalties is None else float(answer.penalties[place]),
            )
            for place, item in enumerate(answer.items.tolist())
        )
        name = None if user < 0 else self.towers.users.ids[user]
        return Recommendations(name, tuple(self.items.titles[item] for item in history.tolist()), rows, answer.funnel)


def load_recommender(source: str | Path, *, mmap: bool = False) -> Recommender:
    """Load the current version of a folder that serves, or one bundle, after checking every byte of it.

    Args:
        source: where `index publish` published to, or a bundle.
        mmap: leave the vectors of the index in their file.

    Raises:
        ResultError: it is none; a part is missing, altered, or belongs to other towers.
    """
    folder = Path(source).expanduser()
    serving = Serving(folder)
    if (folder / MANIFEST).is_file() or not serving.is_one():
        return load_bundle(folder, mmap=mmap)
    version = serving.pointer().current
    try:
        return load_bundle(serving.place(version), mmap=mmap)
    except (ResultError, OSError):
        later = serving.pointer().current
        if later == version:
            raise
        return load_bundle(serving.place(later), mmap=mmap)  # others published meanwhile, and removed the first


def load_bundle(folder: Path, *, mmap: bool = False) -> Recommender:
    """Load one bundle; see `load_recommender`."""
    if not (folder / MANIFEST).is_file() and (folder / "results.json").is_file():
        raise ResultError(f"{folder} is one part of a bundle; `warmstart index publish` puts one together.")
    manifest = check_bundle(folder)
    towers, index, items = (
        read_folder(folder / TOWERS),
        read_index(folder / INDEX, mmap=mmap),
        load_items(folder / ITEMS),
    )
    check_fit(towers, index, items, folder)
    ranker = load_ranker(folder / RANKER) if manifest.ranker else None
    return Recommender(folder, manifest, towers, index, items, ItemNames(items.ids, items.titles), ranker)


def check_fit(towers: TwoTowers, index: FaissIndex, items: ItemTable, place: Path) -> None:
    """Whether numbers mean the same items in every part.

    Raises:
        ResultError: they do not.
    """
    numbers = index.ids()
    if index.width != towers.model.shape.dim or (len(numbers) and int(numbers.max()) >= len(towers.items)):
        raise ResultError(f"The index in {place} holds vectors that are none of the towers' items.")
    if items.ids != towers.items.ids or items.titles != towers.titles:
        raise ResultError(f"The table of items in {place} lists other items than the towers know.")


def _check(k: int, retrieve: int, diversity: float) -> None:
    if k < 1 or retrieve < 1:
        raise SettingError(f"k is {k} and retrieve is {retrieve}; both must be at least 1.")
    if not 0 <= diversity <= 1:
        raise SettingError(f"diversity is {diversity}; it must be from 0 to 1.")
