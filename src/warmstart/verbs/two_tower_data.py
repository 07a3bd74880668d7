"""What `contrast two-tower` learns from: events, catalogue, users and their split; and vectors of the items' texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.backbones.embed import best_device, fast_dtype, forward
from warmstart.backbones.feature_cache import FeatureCache
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.contrastive.item_tower import Content, content_of
from warmstart.core.contrast_options import ContrastTwoTowerOptions, InteractionOptions
from warmstart.core.errors import ModelError
from warmstart.core.progress import reporter
from warmstart.core.recommend import InteractionsCard
from warmstart.data.catalogue import Catalogue, Columns, bare_catalogue, load_catalogue
from warmstart.data.histories import HistorySplit, split_histories
from warmstart.data.interactions import Interactions, load_interactions
from warmstart.data.samples import cache_folder


@dataclass(frozen=True)
class TwoTowerData:
    """Everything that was read."""

    events: Interactions
    items: Catalogue
    users: Catalogue
    split: HistorySplit
    card: InteractionsCard

    def learnt(self) -> np.ndarray:
        """Which items training meets, (items,)."""
        found = np.zeros(len(self.items.ids), dtype=bool)
        for history in self.split.train:
            found[history] = True
        return found


def load_two_tower_data(options: InteractionOptions) -> TwoTowerData:
    """Read, check and split; what was guessed and what is odd is said.

    Raises:
        UserError: something cannot be read or used.
    """
    events = load_interactions(options)
    items, users = bare_catalogue(events.items), bare_catalogue(events.users)
    if options.items is not None:
        named = Columns(
            options.items_id_column,
            options.title_column,
            _names(options.text_columns),
            _names(options.category_columns),
            _names(options.number_columns),
        )
        items = load_catalogue(options.items, "--items", events.items, named, events.columns["item"], add=True)
    if options.users is not None:
        named = Columns(options.users_id_column)
        users = load_catalogue(options.users, "--users", events.users, named, events.columns["user"], add=False)
    split = split_histories(events, options.split, options.test_size, options.seed)
    card = _card(options, events, items, users, split)
    _show(card)
    return TwoTowerData(events, items, users, split, card)


def item_content(catalogue: Catalogue, backbone: Backbone | None, cache: Path | None) -> Content | None:
    """What is known of the items as tensors; None where nothing is.

    Args:
        catalogue: the items.
        backbone: reads their texts; None leaves texts out.
        cache: folder of cached features; None for the usual one.
    """
    if not catalogue.source:
        return None
    texts = np.zeros((len(catalogue.ids), 0), dtype=np.float32)
    if backbone is not None:
        texts = text_vectors(catalogue.features.texts, backbone, cache_folder() if cache is None else cache)
    found = content_of(catalogue.features, texts, len(catalogue.plan.values))
    return found if any(found.shape) else None


def user_content(catalogue: Catalogue) -> Content | None:
    """Categories and numbers of users as tensors; None where nothing is known."""
    if not catalogue.source:
        return None
    found = content_of(
        catalogue.features, np.zeros((len(catalogue.ids), 0), dtype=np.float32), len(catalogue.plan.values)
    )
    return found if any(found.shape) else None


def text_backbone(options: ContrastTwoTowerOptions, catalogue: Catalogue) -> Backbone | None:
    """The frozen encoder of texts, where there are texts and it is wanted.

    Raises:
        ModelError: it is none of texts.
    """
    if not catalogue.plan.texts or options.model == "none":
        return None
    backbone = load_backbone(options.model)
    if backbone.kind != "text":
        raise ModelError(f"{options.model} reads {backbone.kind}s, but items have texts. Choose another --model.")
    return backbone


def text_vectors(texts: tuple[str, ...], backbone: Backbone, cache: Path | None = None) -> np.ndarray:
    """Vectors of unit length, zeros for empty texts, (texts, width); kept in the cache where one is given."""
    dtype = fast_dtype(best_device())
    store = None if cache is None else FeatureCache(cache)
    key = ""
    if store is not None:
        parts = {"weights": backbone.card.digest, "inputs": backbone.preprocessor.describe()}
        key = store.key(parts | {"item_texts": list(texts), "precision": str(dtype)})
        kept = store.get(key)
        if kept is not None:
            return kept
    with reporter().bar(f"Reading {len(texts):,} texts") as bar:
        inputs = backbone.preprocessor.encode({"text": list(texts)})
        found = forward(
            backbone.encoder, inputs, dtype=dtype, progress=lambda done, total: bar(done, total, "")
        ).features
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    vectors = np.where(lengths > 0, found / np.maximum(lengths, 1e-12), 0.0).astype(np.float32)
    vectors[[not text for text in texts]] = 0.0
    if store is not None:
        store.put(key, vectors)
    return vectors


def text_digests(texts: Sequence[str]) -> tuple[str, ...]:
    """What tells a text from others, (texts,)."""
    return tuple(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for text in texts)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _card(
    options: InteractionOptions, events: Interactions, items: Catalogue, users: Catalogue, split: HistorySplit
) -> InteractionsCard:
    return InteractionsCard(
        source=events.source,
        columns=events.columns,
        guessed=events.guessed,
        users=len(events.users),
        items=len(items.ids),
        counts=events.counts | {"learned": sum(len(history) for history in split.train)},
        item_source=items.source,
        item_columns=items.columns,
        item_counts=items.counts,
        user_source=users.source,
        user_columns=users.columns,
        split=options.split,
        questions={"validation": len(split.validation), "test": len(split.test)},
        left_out=split.left_out,
        cold=len(split.cold),
        seed=options.seed,
        fingerprint=events.fingerprint,
        wanted={name: value for name in ("events", "min_weight") if (value := getattr(options, name)) is not None},
    )


def _show(card: InteractionsCard) -> None:
    say, warn = reporter().say, reporter().warn

    def roles(columns: dict[str, str], guessed: tuple[str, ...] = ()) -> str:
        return ", ".join(
            f"{role} = {name!r}{' (guessed)' if role in guessed else ''}" for role, name in columns.items()
        )

    say(
        f"Events: {card.source} ({roles(card.columns, card.guessed)}): {card.counts['events']:,} of {card.users:,} "
        f"users with {card.items:,} items"
    )
    if card.item_source:
        say(f"Items: {card.item_source} ({roles(card.item_columns)})")
    if card.user_source:
        say(f"Users: {card.user_source} ({roles(card.user_columns)})")
    say(
        f"Split: {card.split}, {card.questions['validation']:,} questions to choose by, "
        f"{card.questions['test']:,} to judge by"
    )
    if "time" not in card.columns:
        warn("There is no column of times: the order of the file is taken for it.")
    told = {
        "empty": "rows without user, item or time were left out",
        "not_wanted": "rows of other events or lower weights were left out",
        "repeated": "events repeat a user and an item; the first one counts",
        "users_tied_at_the_end": "users have two last events of one time; the later row in the file is the last",
    }
    for name, text in told.items():
        if card.counts.get(name):
            warn(f"{card.counts[name]:,} {text}.")
    if card.left_out:
        warn(f"{card.left_out:,} users have too few events to be asked about.")
    if card.item_counts.get("not_in_table"):
        warn(f"{card.item_counts['not_in_table']:,} items have no row in {card.item_source}.")
    if card.item_counts.get("without_events"):
        warn(
            f"{card.item_counts['without_events']:,} items of {card.item_source} have no event: known by content alone."
        )
