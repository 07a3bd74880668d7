"""Pairs, triplets and labelled groups of texts → pairs to learn from, to choose by and to judge by.

Pairs that share a text stay on one side of every split, so that no text that is judged by was learned from. Single
texts with labels are `task`'s; what a model makes of pairs is left to other rooms.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from warmstart.core.contrast import PairsCard
from warmstart.core.contrast_options import PairDataOptions
from warmstart.core.errors import DataError, SettingError
from warmstart.data.cells import Where, cells, label_strings, text_strings
from warmstart.data.columns import require
from warmstart.data.duplicates import fold, numbered, unite
from warmstart.data.reading import read_one
from warmstart.data.sources import Source
from warmstart.data.splits import as_count, choose

Ids = NDArray[np.int64]
_SHOWN = 5  # row numbers in a message


@dataclass(frozen=True)
class Pairs:
    """Rows of anchors with their positives.

    Attributes:
        anchors: (rows,).
        positives: (rows,).
        negatives: columns of hard negatives, (rows,) each.
        anchor_ids: (rows,), equal for anchors with the same answers.
        positive_ids: (rows,), equal for candidates that answer the same; numbered together with `negative_ids`.
        negative_ids: of each column of hard negatives, (rows,).
        labelled: whether anchors and positives are texts of one kind that share a label: a text is then a candidate
            for others, and never its own answer.
    """

    anchors: tuple[str, ...]
    positives: tuple[str, ...]
    negatives: tuple[tuple[str, ...], ...]
    anchor_ids: Ids
    positive_ids: Ids
    negative_ids: tuple[Ids, ...] = ()
    labelled: bool = False

    def __len__(self) -> int:
        return len(self.anchors)

    def take(self, places: Ids) -> Pairs:
        """The pairs at some places."""

        def some(texts: Sequence[str]) -> tuple[str, ...]:
            return tuple(texts[place] for place in places.tolist())

        return Pairs(
            some(self.anchors),
            some(self.positives),
            tuple(some(column) for column in self.negatives),
            self.anchor_ids[places],
            self.positive_ids[places],
            tuple(ids[places] for ids in self.negative_ids),
            self.labelled,
        )

    def known(self) -> dict[int, Ids]:
        """The ids of all positives of each anchor that has more than one, by the anchor's id."""
        found: dict[int, set[int]] = defaultdict(set)
        for anchor, positive in zip(self.anchor_ids.tolist(), self.positive_ids.tolist(), strict=True):
            found[anchor].add(positive)
        return {anchor: np.array(sorted(ids), dtype=np.int64) for anchor, ids in found.items() if len(ids) > 1}


@dataclass(frozen=True)
class Questions:
    """Pairs as questions: each query once, all candidates once, and which candidates answer it.

    Attributes:
        queries: (queries,).
        candidates: (candidates,).
        positives: the places of each query's answers among the candidates.
        own: the place of each query itself among the candidates, or −1.
    """

    queries: tuple[str, ...]
    candidates: tuple[str, ...]
    positives: tuple[frozenset[int], ...]
    own: Ids


@dataclass(frozen=True)
class PairTask:
    """Pairs by split, and the card that says what they are."""

    card: PairsCard
    train: Pairs
    validation: Pairs
    test: Pairs
    columns: dict[str, str] = field(default_factory=dict)


def load_pairs(options: PairDataOptions) -> PairTask:
    """Read, check and split.

    Raises:
        DataError: rows cannot be used, or columns are not there.
        SettingError: the columns that are named do not go together, or there are too few rows.
    """
    columns = _columns(options)
    source = read_one(options.data)
    require(columns.values(), source)
    texts = {role: _texts(source, role, column) for role, column in columns.items()}
    kept, dropped = _filled(source, columns, texts, drop=options.drop_invalid)
    if "label" in columns:
        pairs = _grouped(texts["anchor"], texts["label"], kept, options.seed)
        dropped += len(kept) - len(pairs)
    else:
        pairs = _paired(texts, kept)
    train, validation, test = _split(pairs, options)
    anchors = [fold(text) for part in (train, validation, test) for text in part.anchors]
    card = PairsCard(
        source=source.name,
        columns=columns,
        sizes={"train": len(train), "validation": len(validation), "test": len(test)},
        repeated=len(anchors) - len(set(anchors)),
        dropped=dropped,
        seed=options.seed,
        fingerprint=_fingerprint(columns, train, validation, test),
    )
    return PairTask(card, train, validation, test, columns)


def questions(pairs: Pairs) -> Questions:
    """Each query and each candidate once, texts that are the same but for case and spaces taken for one."""
    if pairs.labelled:
        return _labelled_questions(pairs)
    candidate = numbered(map(fold, pairs.positives))
    query = numbered(map(fold, pairs.anchors))
    answers: dict[int, set[int]] = defaultdict(set)
    for one, other in zip(query.tolist(), candidate.tolist(), strict=True):
        answers[one].add(other)
    first_query, first_candidate = (np.unique(ids, return_index=True)[1] for ids in (query, candidate))
    return Questions(
        tuple(pairs.anchors[place] for place in first_query.tolist()),
        tuple(pairs.positives[place] for place in first_candidate.tolist()),
        tuple(frozenset(answers[one]) for one in range(len(first_query))),
        np.full(len(first_query), -1, dtype=np.int64),
    )


def _labelled_questions(pairs: Pairs) -> Questions:
    """Texts of the split look for others of their label; a text whose label stands alone in the split asks nothing."""
    first = np.unique(numbered(map(fold, pairs.anchors)), return_index=True)[1]
    texts = tuple(pairs.anchors[place] for place in first.tolist())
    labels = pairs.anchor_ids[first]
    members = {label: frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}
    asking = [place for place, label in enumerate(labels.tolist()) if len(members[label]) > 1]
    return Questions(
        tuple(texts[place] for place in asking),
        texts,
        tuple(members[int(labels[place])] - {place} for place in asking),
        np.array(asking, dtype=np.int64),
    )


def _columns(options: PairDataOptions) -> dict[str, str]:
    named = {
        "anchor": options.anchor_column,
        "positive": options.positive_column,
        "negative": options.negative_column,
        "label": options.label_column,
    }
    columns = {role: column for role, column in named.items() if column is not None}
    if "anchor" not in columns or ("positive" in columns) == ("label" in columns):
        raise SettingError(
            "Name --anchor-column and --positive-column for pairs (and --negative-column for triplets), or "
            "--anchor-column and --label-column for texts in labelled groups."
        )
    if "label" in columns and "negative" in columns:
        raise SettingError("--negative-column goes with pairs; in labelled groups other labels are the negatives.")
    if len(set(columns.values())) < len(columns):
        raise SettingError(f"One column is named twice: {', '.join(columns.values())}.")
    return columns


def _texts(source: Source, role: str, column: str) -> list[str]:
    where = Where(source.name, column, source.rows)
    values = cells(source.frame[column]) if column in source.frame.columns else None
    if values is None:
        raise DataError("the column holds images, where texts were expected", file=source.name, column=column)
    if role == "label":
        return [label or "" for label in label_strings(values, where)]
    return text_strings(values, where)


def _filled(
    source: Source, columns: dict[str, str], texts: dict[str, list[str]], *, drop: bool
) -> tuple[list[int], int]:
    """Places of the rows that have everything, and how many had not.

    Raises:
        DataError: some have not, and they are not to be left out; or none has.
    """
    kept = set(range(len(source.rows)))
    for role, column in columns.items():
        empty = [place for place, text in enumerate(texts[role]) if not text.strip()]
        if empty and not drop:
            rows = ", ".join(str(int(source.rows[place])) for place in empty[:_SHOWN])
            more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
            raise DataError(
                f"{len(empty)} rows are empty here (rows {rows}{more})",
                remedy="--drop-invalid leaves them out.",
                file=source.name,
                column=column,
            )
        kept -= set(empty)
    if not kept:
        raise DataError("no row has all of the columns filled", file=source.name)
    return sorted(kept), len(source.rows) - len(kept)


def _paired(texts: dict[str, list[str]], kept: list[int]) -> Pairs:
    """Pairs and triplets, each once."""
    roles = [role for role in ("anchor", "positive", "negative") if role in texts]
    rows = list(dict.fromkeys(tuple(texts[role][place] for role in roles) for place in kept))
    columns = [tuple(row[number] for row in rows) for number in range(len(roles))]
    candidates = numbered(fold(text) for column in columns[1:] for text in column)
    parts = candidates.reshape(len(roles) - 1, len(rows))
    return Pairs(
        columns[0], columns[1], tuple(columns[2:]), numbered(map(fold, columns[0])), parts[0], tuple(parts[1:])
    )


def _grouped(texts: list[str], labels: list[str], kept: list[int], seed: int) -> Pairs:
    """Every text with another of its label: a circle through each label's texts, in an order by the seed.

    Raises:
        DataError: no label has two texts.
    """
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for place in kept:
        groups[labels[place]].setdefault(fold(texts[place]), texts[place])
    draw = np.random.default_rng(seed)
    anchors: list[str] = []
    positives: list[str] = []
    ids: list[int] = []
    for number, group in enumerate(groups.values()):
        members = list(group.values())
        if len(members) > 1:
            order = draw.permutation(len(members))
            anchors += [members[place] for place in order]
            positives += [members[place] for place in np.roll(order, 1)]
            ids += [number] * len(members)
    if not anchors:
        raise DataError("no label has two different texts", remedy="Groups need at least two texts each.")
    numbers = np.array(ids, dtype=np.int64)
    return Pairs(tuple(anchors), tuple(positives), (), numbers, numbers, labelled=True)


def _split(
    pairs: Pairs, options: PairDataOptions, united: str = "pairs that share a text"
) -> tuple[Pairs, Pairs, Pairs]:
    if pairs.labelled:
        return _split_groups(pairs, options)
    units = unite(pairs.anchor_ids, pairs.positive_ids)
    everything = np.arange(len(pairs))
    chosen = set_aside(units, options.test_size, options.seed, "test", united=united)
    rest = np.setdiff1d(everything, chosen)
    if options.train_size is not None:
        count = as_count(options.train_size, len(rest), "--train-size")
        rest = np.sort(np.random.default_rng([options.seed, 7]).permutation(rest)[:count])
    held = rest[set_aside(units[rest], options.validation_size, options.seed, "validation", united=united)]
    return pairs.take(np.setdiff1d(rest, held)), pairs.take(held), pairs.take(chosen)


def _split_groups(pairs: Pairs, options: PairDataOptions) -> tuple[Pairs, Pairs, Pairs]:
    """Whole labels go to one side: what is judged is whether texts of labels never seen find each other."""
    plain = Pairs(pairs.anchors, pairs.positives, (), pairs.anchor_ids, pairs.anchor_ids)
    found = _split(plain, options, "texts of one label")
    return tuple(  # type: ignore[return-value]
        Pairs(part.anchors, part.positives, (), part.anchor_ids, part.positive_ids, labelled=True) for part in found
    )


def set_aside(
    units: Ids, size: float, seed: int, name: str, what: str = "pairs", united: str = "pairs that share a text"
) -> Ids:
    """Places of what is set aside for a split, whole units at a time.

    Args:
        units: (rows,), equal for rows that stay together.
        size: a count, or a fraction below 1.
        seed: of the choice.
        name: "test" or "validation".
        what: what a row is, for messages.
        united: which rows stay together, for messages.

    Raises:
        SettingError: fewer than two rows would be on a side.
    """
    count = as_count(size, len(units), f"--{name}-size")
    start = f"{len(units)} different {what} cannot be split by --{name}-size {size:g}"
    if len(np.unique(units)) < 2:
        raise SettingError(f"{start}: {united} stay together, and here that is all of them.")
    most = len(units) - 2
    chosen = choose(np.zeros(len(units), dtype=np.int64), units, count, seed, name) if count <= most else np.arange(0)
    if len(chosen) < 2 or len(units) - len(chosen) < 2:
        raise SettingError(
            f"{start}, which is {count}: {united} stay together, and two {what} must be on either side. Use more rows "
            "or another size (a share is below 1)."
        )
    return np.asarray(chosen, dtype=np.int64)


def _fingerprint(columns: dict[str, str], *splits: Pairs) -> str:
    digest = hashlib.sha256(repr(sorted(columns.items())).encode())
    for pairs in splits:
        digest.update(str(len(pairs)).encode())
        for texts in (pairs.anchors, pairs.positives, *pairs.negatives):
            for text in texts:
                content = text.encode("utf-8", "surrogatepass")
                digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
