"""Which column plays which role: named by the user, or guessed from the values and shown.

A guess is only made where one column stands out; where two might be meant, the error lists them and the flag that
decides. Whether the values of a chosen column are any good is left to `checks`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from warmstart.core.errors import DataError, SettingError
from warmstart.core.option import flag
from warmstart.core.options import DataOptions
from warmstart.core.records import Modality, TaskCard
from warmstart.data.cells import NUMBER, cells
from warmstart.data.folders import ENDINGS as IMAGE_ENDINGS
from warmstart.data.sources import Source

_CAPTION_NAMES = ("caption", "captions", "sentence", "text")
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "y")
_STRUCTURES = (list, tuple, dict, set, bytes, np.ndarray)
_SAMPLED = 5000  # rows that a guess looks at, spread evenly


@dataclass(frozen=True)
class Roles:
    """The modality, the column of each role, and which of them were guessed."""

    modality: Modality
    columns: dict[str, str]
    guessed: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The roles that a model sees, in order."""
        return tuple(role for role in ("text", "text_pair", "image") if role in self.columns)


@dataclass(frozen=True)
class _Profile:
    name: str
    filled: int
    distinct: int
    length: float  # mean characters
    words: float  # mean words
    numeric: bool
    images: bool  # paths of images


def assign_roles(source: Source, options: DataOptions, defaults: dict[str, str]) -> Roles:
    """Take the named columns, and guess the input and the label where none is named.

    Args:
        source: the rows to learn from.
        options: the names given.
        defaults: a sample's own columns, which stand in for names that are not given.

    Raises:
        SettingError: when two roles are given the same column, or roles do not go together.
        DataError: when a named column is not there, or no column stands out.
    """
    named = {role: getattr(options, f"{role}_column") for role in ("text", "text_pair", "image", "label", "group")}
    if named["image"] is None:
        named = {role: defaults.get(role) if column is None else column for role, column in named.items()}
    columns = {role: column for role, column in named.items() if column is not None}
    _check_named(columns, source)
    guessed: list[str] = []
    profiles = [] if {"text", "label"} <= set(columns) else _profiles(source)
    if not {"text", "image"} & set(columns):
        image = _guess_image(profiles, source)
        if image is not None:
            columns["image"] = image
            guessed.append("image")
    if "label" not in columns:
        columns["label"] = _guess_label(_free(profiles, columns), source)
        guessed.append("label")
    if not {"text", "image"} & set(columns):
        columns["text"] = _guess_text(_free(profiles, columns), source)
        guessed.append("text")
    return Roles(_modality(columns), columns, tuple(guessed))


def input_roles(source: Source, named: dict[str, str | None], taken: str) -> Roles:
    """The columns that an encoder reads: the named ones, else one that is guessed.

    Args:
        source: the rows.
        named: "text", "text_pair" and "image" → column, or None.
        taken: a column that is none of them.

    Raises:
        SettingError: roles are given the same column, or do not go together.
        DataError: a named column is not there, or no column stands out.
    """
    columns = {role: column for role, column in named.items() if column is not None}
    _check_named({**columns, "id": taken} if taken in columns.values() else columns, source)
    if columns:
        return Roles(_modality(columns), columns)
    profiles = [profile for profile in _profiles(source) if profile.name != taken or profile.images]
    image = _guess_image(profiles, source)
    role, column = ("text", _guess_text(profiles, source)) if image is None else ("image", image)
    return Roles(_modality({role: column}), {role: column}, (role,))


def roles_of(card: TaskCard, *, labelled: bool) -> Roles:
    """The roles that a task had, with its label and group columns or with its inputs only."""
    wanted = ("text", "text_pair", "image", *(("label", "group") if labelled else ()))
    return Roles(card.modality, {role: column for role, column in card.columns.items() if role in wanted})


def roles_of_reference(source: Source, card: TaskCard, defaults: dict[str, str]) -> Roles:
    """The roles of rows that serve as a reference: the task's columns where they are there, else guessed.

    Args:
        source: the rows.
        card: the task, which fixes what is read: texts or images.
        defaults: a sample's own columns.

    Raises:
        DataError: when no column stands out as the input.
    """
    there = {role: name for role, name in card.columns.items() if name in source.columns and role != "group"}
    columns = {**defaults, **there}
    if not {"text", "text_pair"} <= set(columns):
        columns.pop("text_pair", None)
    profiles = _profiles(source)
    if "label" not in columns:
        labels = [profile.name for profile in profiles if profile.name.strip().lower() in _LABEL_NAMES]
        columns |= {"label": labels[0]} if labels else {}
    if card.modality != "image":
        if "text" not in columns:
            columns["text"] = _guess_text(_free(profiles, columns), source)
        return Roles(_modality(columns), columns)
    image = columns["image"] if "image" in columns else _guess_image(profiles, source)
    if image is None:
        raise _none("holds images", "--image-column", source)
    return Roles("image", {role: name for role, name in columns.items() if role == "label"} | {"image": image})


def caption_roles(source: Source, image: str | None, caption: str | None) -> Roles:
    """The columns of images and captions: the named ones, the others guessed.

    Raises:
        SettingError: when both roles are given the same column.
        DataError: when a named column is not there, or no column stands out.
    """
    columns = {role: name for role, name in (("image", image), ("caption", caption)) if name is not None}
    if image is not None and image == caption:
        raise SettingError(f"--image-column and --caption-column both name {image!r}; each needs a column of its own.")
    require(columns.values(), source)
    profiles = [] if len(columns) == 2 else _profiles(source)
    guessed = tuple(role for role in ("image", "caption") if role not in columns)
    if "image" in guessed:
        found = _guess_image(_free(profiles, columns), source)
        if found is None:
            raise _none("holds image files", "--image-column", source)
        columns["image"] = found
    if "caption" in guessed:
        free = _free(profiles, columns)
        named = {profile.name.strip().lower(): profile.name for profile in free if not profile.numeric}
        known = [named[name] for name in _CAPTION_NAMES if name in named]
        columns["caption"] = known[0] if known else _guess_text(free, source, "caption", "--caption-column")
    return Roles("image", {role: columns[role] for role in ("image", "caption")}, guessed)


def find_image(source: Source, among: Iterable[str]) -> str | None:
    """The one column among some that holds images; None when there is none.

    Raises:
        DataError: when more than one does.
    """
    names = set(among)
    return _guess_image([profile for profile in _profiles(source) if profile.name in names], source)


def guess_image(source: Source) -> str:
    """The one column with images.

    Raises:
        DataError: when no column, or more than one, holds images.
    """
    found = _guess_image(_profiles(source), source)
    if found is None:
        there = ", ".join(map(repr, source.columns))
        raise DataError(
            f"no column holds images (there are {there})", remedy="Name it: --image-column.", file=source.name
        )
    return found


def require(columns: Iterable[str], source: Source) -> None:
    """Refuse a source that lacks a column.

    Raises:
        DataError: naming the missing column, the closest name, and the columns there are.
    """
    there = source.columns
    for column in columns:
        if column not in there:
            close = difflib.get_close_matches(column, there, n=1)
            near = f"Did you mean {close[0]!r}? " if close else ""
            remedy = f"{near}Columns there: {', '.join(map(repr, there))}."
            raise DataError(f"there is no column {column!r}", remedy=remedy, file=source.name)


def _check_named(columns: dict[str, str], source: Source) -> None:
    if "image" in columns and ("text" in columns or "text_pair" in columns):
        raise SettingError("--image-column and --text-column exclude each other: a task has texts or images.")
    if "text_pair" in columns and "text" not in columns:
        raise SettingError("--text-pair-column needs --text-column: name both.")
    seen: dict[str, str] = {}
    for role, column in columns.items():
        if column in seen:
            raise SettingError(
                f"{flag(seen[column])}-column and {flag(role)}-column both name {column!r}; "
                "each needs a column of its own."
            )
        seen[column] = role
    require(columns.values(), source)


def _modality(columns: dict[str, str]) -> Modality:
    if "image" in columns:
        return "image"
    return "pair" if "text_pair" in columns else "text"


def _free(profiles: list[_Profile], columns: dict[str, str]) -> list[_Profile]:
    return [profile for profile in profiles if profile.name not in columns.values()]


def _profiles(source: Source) -> list[_Profile]:
    frame = source.frame
    spread = np.unique(np.linspace(0, len(frame) - 1, _SAMPLED).astype(np.int64))
    return [_profile(str(name), cells(frame[name].iloc[spread])) for name in frame.columns if str(name).strip()]


def _profile(name: str, values: list[object]) -> _Profile:
    filled = [value for value in values if value is not None and not isinstance(value, _STRUCTURES)]
    filled = [value for value in filled if str(value).strip()]
    texts = [str(value) for value in filled]
    count = max(len(texts), 1)
    return _Profile(
        name=name,
        filled=len(texts),
        distinct=len(set(texts)),
        length=sum(map(len, texts)) / count,
        words=sum(len(text.split()) for text in texts) / count,
        numeric=all(isinstance(v, (bool, int, float)) or NUMBER.fullmatch(str(v).strip()) for v in filled),
        images=_hold_images(values),
    )


def _hold_images(values: list[object]) -> bool:
    """Whether nine in ten are paths of images, or pictures as Parquet files of the Hub hold them."""
    given = [value for value in values if value is not None and value != ""]
    images = [
        "bytes" in value if isinstance(value, dict) else str(value).lower().endswith(IMAGE_ENDINGS) for value in given
    ]
    return bool(given) and sum(images) >= 0.9 * len(given)


def _guess_image(profiles: list[_Profile], source: Source) -> str | None:
    found = [profile.name for profile in profiles if profile.images]
    found += [] if source.pictures is None else list(source.pictures.column_names)
    if len(found) > 1:
        raise _ambiguous("hold images", found, "--image-column", source)
    return found[0] if found else None


def _guess_label(profiles: list[_Profile], source: Source) -> str:
    by_name = {profile.name.strip().lower(): profile.name for profile in profiles}
    if "label" in by_name:
        return by_name["label"]
    few = [profile for profile in profiles if _few_values(profile)]
    tiers = [
        [by_name[name] for name in _LABEL_NAMES if name in by_name],
        [profile.name for profile in few if set(re.split(r"[\W_]+", profile.name.lower())) & set(_LABEL_NAMES)],
        [profile.name for profile in few if not profile.numeric],
        [profile.name for profile in few],
    ]
    found = next((tier for tier in tiers if tier), [])
    if len(found) > 1:
        raise _ambiguous("might be the label", found, "--label-column", source)
    if not found:
        raise _none("looks like a label (few distinct values)", "--label-column", source)
    return found[0]


def _few_values(profile: _Profile) -> bool:
    most = min(100.0, max(profile.filled / 5, min(10.0, profile.filled / 2)))
    return 2 <= profile.distinct <= most and profile.words <= 5


def _guess_text(
    profiles: list[_Profile],
    source: Source,
    what: str = "text",
    which: str = "--text-column (and --text-pair-column for two texts)",
) -> str:
    words = [profile for profile in profiles if profile.filled and not profile.numeric]
    named = [profile.name for profile in words if profile.name.strip().lower() == "text"]
    if named:
        return named[0]
    found = [profile for profile in words if profile.words > 1.5] or words
    if not found:
        raise _none("holds texts", which.partition(" ")[0], source)
    longest = max(profile.length for profile in found)
    rivals = [profile.name for profile in found if profile.length >= longest / 2]
    if len(rivals) > 1:
        raise _ambiguous(f"might be the {what}", rivals, which, source)
    return rivals[0]


def _ambiguous(what: str, found: list[str], which: str, source: Source) -> DataError:
    names = ", ".join(map(repr, found))
    return DataError(f"several columns {what}: {names}", remedy=f"Choose with {which}.", file=source.name)


def _none(what: str, which: str, source: Source) -> DataError:
    names = ", ".join(map(repr, source.columns))
    return DataError(f"no column {what}", remedy=f"Name it with {which}; columns there: {names}.", file=source.name)
