"""What `contrast two-tower` learns from: events, catalogue, users and their split; and content as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmstart.contrastive.item_tower import Content, content_of
from warmstart.core.errors import SettingError
from warmstart.core.progress import reporter
from warmstart.core.recommend import InteractionsCard
from warmstart.core.two_tower_options import ContrastTwoTowerOptions
from warmstart.data.catalogue import Catalogue, Columns, bare_catalogue, load_catalogue
from warmstart.data.histories import HistorySplit, split_histories
from warmstart.data.interactions import Interactions, load_interactions
from warmstart.data.samples import cache_folder
from warmstart.verbs.item_reading import NONE, Readers


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


def load_two_tower_data(options: ContrastTwoTowerOptions) -> TwoTowerData:
    """Read, check and split; what was guessed and what is odd is said.

    Raises:
        UserError: something cannot be read or used.
    """
    image = options.image_column
    if options.image_model == NONE:
        if image is not None:
            raise SettingError("--image-column names pictures, and --image-model none leaves them out.")
        image = ""
    events = load_interactions(options)
    items, users = bare_catalogue(events.items), bare_catalogue(events.users)
    if options.items is not None:
        named = Columns(
            options.items_id_column,
            options.title_column,
            _names(options.text_columns),
            _names(options.category_columns),
            _names(options.number_columns),
            image,
        )
        column, drop = events.columns["item"], options.drop_invalid
        items = load_catalogue(options.items, "--items", events.items, named, column, add=True, drop_invalid=drop)
    if options.users is not None:
        named = Columns(options.users_id_column, image="")
        users = load_catalogue(options.users, "--users", events.users, named, events.columns["user"], add=False)
    split = split_histories(events, options.split, options.test_size, options.seed)
    card = _card(options, events, items, users, split)
    _show(card)
    return TwoTowerData(events, items, users, split, card)


def item_content(catalogue: Catalogue, readers: Readers, cache: Path | None = None) -> Content | None:
    """What is known of the items as tensors; None where nothing is.

    Args:
        catalogue: the items.
        readers: of their texts and pictures.
        cache: folder of cached features; None for the usual one.
    """
    if not catalogue.source:
        return None
    inputs = readers.read(catalogue.features, cache_folder() if cache is None else cache)
    found = content_of(catalogue.features, inputs, len(catalogue.plan.values))
    return found if any(found.shape) else None


def user_content(catalogue: Catalogue) -> Content | None:
    """Categories and numbers of users as tensors; None where nothing is known."""
    if not catalogue.source:
        return None
    found = content_of(
        catalogue.features, np.zeros((len(catalogue.ids), 0), dtype=np.float32), len(catalogue.plan.values)
    )
    return found if any(found.shape) else None


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _card(
    options: ContrastTwoTowerOptions, events: Interactions, items: Catalogue, users: Catalogue, split: HistorySplit
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
        warn("No column has a name that says it is the time: the order of the file is taken for it, or --time-column.")
    told = {
        "empty": "rows without a user, an item or a time that can be read were left out",
        "not_wanted": "rows of other events or lower weights were left out",
        "repeated": "events repeat a user and an item; the first one counts",
        "users_tied_at_the_end": "users have two last events of one time; the later row in the file is the last",
        "too_few_events": "users have too few events to be asked about",
        "not_in_table": f"items have no row in {card.item_source}",
        "without_events": f"items of {card.item_source} have no event: known by content alone",
        "broken_pictures": "pictures cannot be used and count as none",
    }
    counts = card.counts | card.item_counts | {"too_few_events": card.left_out}
    for name, text in told.items():
        if counts.get(name):
            warn(f"{counts[name]:,} {text}.")
