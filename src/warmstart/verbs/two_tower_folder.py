"""The result of `contrast two-tower` on disk and in use: towers, item vectors, ids, histories, and recommendations."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from warmstart.contrastive.item_tower import Content, content_of
from warmstart.contrastive.two_tower_model import TwoTower, TwoTowerConfig
from warmstart.core.errors import DataError, ResultError, SettingError
from warmstart.core.files import check_digests, write_text
from warmstart.core.recommend import TwoTowerRecord
from warmstart.core.record import Record
from warmstart.data.attributes import load_attributes, save_attributes
from warmstart.data.features import FeaturePlan, apply_plan, given_rows
from warmstart.data.ids import IdMap, listed, load_maps, save_maps
from warmstart.data.item_pictures import item_pictures
from warmstart.verbs.item_reading import Readers, readers_again
from warmstart.verbs.predict import RESULTS

CONFIG, WEIGHTS, IDS = "config.json", "model.safetensors", "ids.json"
CONTENT, VECTORS, HISTORIES, FEATURES, ATTRIBUTES = (
    "content.safetensors",
    "items.safetensors",
    "histories.safetensors",
    "features.json",
    "attributes.parquet",  # not in folders of the first versions
)


@dataclass(frozen=True)
class Recommendation(Record):
    """An item, what it is called, and its cosine with the query."""

    item: str
    title: str
    score: float


@dataclass
class TwoTowers:
    """Trained towers with everything that is needed to recommend.

    Attributes:
        model: the towers.
        items: ids of the items.
        users: ids of the users.
        titles: (items,).
        histories: of every user, all items, oldest first.
        plan: how a new item becomes features.
        vectors: (items, dim), of unit length.
        text_model: name and digest of the frozen encoder of texts; empty without one.
        attributes: what items can be filtered by, column → (items,), as in `data.attributes`.
        image_model: the same of pictures.
        input_digests: (items,), of text and picture of each; empty in folders of the first versions.
    """

    model: TwoTower
    items: IdMap
    users: IdMap
    titles: tuple[str, ...]
    histories: tuple[np.ndarray, ...]
    plan: FeaturePlan
    vectors: Tensor
    text_model: dict[str, str]
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    image_model: dict[str, str] = field(default_factory=dict)
    input_digests: tuple[str, ...] = ()
    _readers: Readers | None = field(default=None, repr=False, compare=False)

    def recommend(
        self,
        user: str | int | None = None,
        history: str | int | Sequence[str | int] | None = None,
        k: int = 10,
        *,
        seen: bool = False,
        blocked: str | int | Sequence[str | int] = (),
    ) -> list[Recommendation]:
        """The best items for a user of the events, or for a history of item ids, oldest first.

        Args:
            user: an id (42 is "42"); the user's own history is read, unless one is given.
            history: item ids, read in place of the user's own; without a user, those of someone new.
            k: how many.
            seen: whether items of the history may be recommended.
            blocked: item ids that may not.

        Raises:
            DataError: an id is not known, or the history is empty.
            SettingError: neither a user nor a history is given, or k is below 1.
        """
        if user is None and history is None:
            raise SettingError("Give a user, or a history of item ids.")
        if k < 1:
            raise SettingError(f"k is {k}; it must be at least 1.")
        known = None if user is None else np.array([self.users.number(str(user))])
        if history is None:
            assert known is not None
            read = self.histories[int(known[0])]
        else:
            read = self.items.numbers([str(item) for item in listed(history)])
        if len(read) == 0:
            raise DataError("the history is empty: there is nothing to recommend by")
        scores = (self.model.encode(self.vectors, [read], known) @ self.vectors.T)[0].numpy().copy()
        if not seen:
            scores[read] = -np.inf
        scores[self.items.numbers([str(item) for item in listed(blocked)])] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k].tolist()
        return [
            Recommendation(self.items.ids[item], self.titles[item], float(scores[item]))
            for item in best
            if np.isfinite(scores[item])
        ]

    def query_vectors(self, histories: Sequence[Sequence[str]], users: Sequence[str] | None = None) -> np.ndarray:
        """Queries of histories of item ids, of unit length, (histories, dim)."""
        read = [self.items.numbers(list(history)) for history in histories]
        known = None if users is None else self.users.numbers(list(users))
        return np.asarray(self.model.encode(self.vectors, read, known).numpy())

    def item_vectors(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Vectors of new items by their content, of unit length, (rows, dim).

        Args:
            rows: column → value, the columns those of the items table; a picture is a path, bytes or a Pillow image.

        Raises:
            DataError: a number is none, or a picture cannot be opened.
            SettingError: the towers were trained without content, or a row holds nothing that they know.
        """
        tower = self.model.items.content
        if tower is None:
            raise SettingError("These towers were trained without an items table: a new item has nothing to go by.")
        if isinstance(rows, Mapping):
            raise SettingError("Give a list of rows: [{…}], each a new item.")
        if not rows:
            return np.zeros((0, self.model.shape.dim), dtype=np.float32)
        self._check_keys(rows)
        features = apply_plan(self.plan, rows)
        if self.plan.image:
            where = replace(given_rows(len(rows)), column=self.plan.image)
            pictures, _ = item_pictures([row.get(self.plan.image) for row in rows], where, None, remedy="")
            features = replace(features, pictures=pictures)
        inputs = self.readers().read(features, None)
        with torch.no_grad():
            found = tower(content_of(features, inputs, len(self.plan.values)))
        lengths = found.norm(dim=-1)
        if bool((lengths == 0).any()):
            line = int((lengths == 0).nonzero()[0])
            raise SettingError(f"Row {line + 1} holds nothing that is known: {', '.join(self.plan.columns)} are read.")
        return np.asarray(torch.nn.functional.normalize(found, dim=-1).numpy())

    def readers(self) -> Readers:
        """The frozen encoders of items' texts and pictures, loaded when they are first asked for.

        Raises:
            ResultError: a model of that name has other weights.
        """
        if self._readers is None:
            self._readers = readers_again(self.text_model, self.image_model)
        return self._readers

    def _check_keys(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Other columns of the table may be there; one that is nearly a known one is a slip."""
        for line, row in enumerate(rows):
            for key in (key for key in row if key not in self.plan.columns):
                meant = difflib.get_close_matches(str(key), [c for c in self.plan.columns if c not in row], 1, 0.75)
                if meant:
                    raise SettingError(f"Row {line + 1} has {key!r}, which is not read. Did you mean {meant[0]!r}?")


def save_two_towers(folder: Path, towers: TwoTowers) -> None:
    """Write everything but the record into an empty folder."""
    write_text(folder / CONFIG, towers.model.shape.to_json())
    save_file({name: value.contiguous() for name, value in towers.model.state_dict().items()}, folder / WEIGHTS)
    save_maps(folder / IDS, (towers.items, towers.users))
    content = _tensors("items", towers.model.item_content) | _tensors("users", towers.model.user_content)
    save_file(content | {"none": torch.zeros(1)}, folder / CONTENT)
    save_file({"vectors": towers.vectors.contiguous()}, folder / VECTORS)
    starts = np.concatenate([[0], np.cumsum([len(history) for history in towers.histories])])
    items = np.concatenate([*towers.histories, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    save_file(
        {"items": torch.from_numpy(items), "starts": torch.from_numpy(starts.astype(np.int64))}, folder / HISTORIES
    )
    features = {
        "plan": towers.plan.to_dict(),
        "titles": list(towers.titles),
        "text_model": towers.text_model,
        "image_model": towers.image_model,
        "input_digests": list(towers.input_digests),
    }
    write_text(folder / FEATURES, json.dumps(features, ensure_ascii=False))
    if towers.attributes:
        save_attributes(folder / ATTRIBUTES, towers.attributes)


def load_two_tower(result: str | Path) -> TwoTowers:
    """Load a result of `contrast two-tower`.

    Raises:
        ResultError: the folder is none, is incomplete, or was altered.
    """
    folder = Path(result).expanduser()
    check_digests(folder, read_record(folder).files)
    return read_folder(folder)


def read_record(folder: Path) -> TwoTowerRecord:
    """The record of a result of `contrast two-tower`.

    Raises:
        ResultError: the folder is none.
    """
    if not (folder / RESULTS).is_file():
        raise ResultError(f"{folder} holds no result: {RESULTS} is not there.")
    try:
        return TwoTowerRecord.from_json((folder / RESULTS).read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"{folder} is no result of contrast two-tower.") from error


def read_folder(folder: Path) -> TwoTowers:
    """What `save_two_towers` wrote, unchecked."""
    try:
        config = TwoTowerConfig.from_json((folder / CONFIG).read_text(encoding="utf-8"))
        weights, content, kept = (load_file(folder / name) for name in (WEIGHTS, CONTENT, HISTORIES))
        features = json.loads((folder / FEATURES).read_text(encoding="utf-8"))
        vectors = load_file(folder / VECTORS)["vectors"]
        maps = load_maps(folder / IDS)
        model = TwoTower(
            config,
            weights["items.learnt"],
            _content("items", content, config.item_shape),
            _content("users", content, config.user_shape),
        )
        model.load_state_dict(weights)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ResultError(f"{folder} cannot be read ({str(error).splitlines()[0]}).") from error
    ends = kept["starts"].numpy()
    histories = tuple(kept["items"].numpy()[a:b] for a, b in pairwise(ends))
    return TwoTowers(
        model.eval(),
        maps["item"],
        maps["user"],
        tuple(features["titles"]),
        histories,
        FeaturePlan.from_dict(features["plan"]),
        vectors,
        dict(features["text_model"]),
        load_attributes(folder / ATTRIBUTES) if (folder / ATTRIBUTES).is_file() else {},
        dict(features.get("image_model", {})),
        tuple(features.get("input_digests", features.get("text_digests", ()))),
    )


def _tensors(name: str, content: Content | None) -> dict[str, Tensor]:
    if content is None:
        return {}
    return {
        f"{name}.inputs": content.inputs.contiguous(),
        f"{name}.values": content.values,
        f"{name}.starts": content.starts,
        f"{name}.numbers": content.numbers.contiguous(),
    }


def _content(name: str, tensors: dict[str, Tensor], shape: tuple[int, ...]) -> Content | None:
    if not shape:
        return None
    old = f"{name}.texts"  # what folders of the first versions call the inputs
    inputs = tensors[old] if old in tensors else tensors[f"{name}.inputs"]
    values, starts, numbers = (tensors[f"{name}.{part}"] for part in ("values", "starts", "numbers"))
    return Content(inputs, values, starts, numbers, shape[1])
