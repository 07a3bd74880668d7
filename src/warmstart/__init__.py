"""warmstart: start from what a model already knows.

The public names load lazily: importing warmstart imports neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from warmstart.backbones.load import load_backbone as load_backbone
    from warmstart.core.errors import WarmstartError as WarmstartError
    from warmstart.verbs.adapt import adapt as adapt
    from warmstart.verbs.advise import advise as advise
    from warmstart.verbs.compare import compare as compare
    from warmstart.verbs.contrast import contrast_sentences as contrast_sentences
    from warmstart.verbs.contrast_clip import contrast_clip as contrast_clip
    from warmstart.verbs.contrast_simclr import contrast_simclr as contrast_simclr
    from warmstart.verbs.contrast_two_tower import contrast_two_tower as contrast_two_tower
    from warmstart.verbs.groups import groups as groups
    from warmstart.verbs.index_add import index_add as index_add
    from warmstart.verbs.index_build import index_build as index_build
    from warmstart.verbs.index_delete import index_delete as index_delete
    from warmstart.verbs.index_encode import index_encode as index_encode
    from warmstart.verbs.index_publish import index_publish as index_publish
    from warmstart.verbs.index_rollback import index_rollback as index_rollback
    from warmstart.verbs.index_search import index_search as index_search
    from warmstart.verbs.index_tune import index_tune as index_tune
    from warmstart.verbs.index_versions import index_versions as index_versions
    from warmstart.verbs.predict import load as load
    from warmstart.verbs.predict import predict as predict
    from warmstart.verbs.push import push as push
    from warmstart.verbs.ranker import ranker as ranker
    from warmstart.verbs.ranker_folder import load_ranker as load_ranker
    from warmstart.verbs.recommend import recommend as recommend
    from warmstart.verbs.recommender import load_recommender as load_recommender
    from warmstart.verbs.sample import sample as sample
    from warmstart.verbs.scorecard import scorecard as scorecard
    from warmstart.verbs.two_tower_folder import load_two_tower as load_two_tower

_HOMES = {
    "adapt": "warmstart.verbs.adapt",
    "advise": "warmstart.verbs.advise",
    "compare": "warmstart.verbs.compare",
    "contrast_clip": "warmstart.verbs.contrast_clip",
    "contrast_sentences": "warmstart.verbs.contrast",
    "contrast_simclr": "warmstart.verbs.contrast_simclr",
    "contrast_two_tower": "warmstart.verbs.contrast_two_tower",
    "groups": "warmstart.verbs.groups",
    "index_add": "warmstart.verbs.index_add",
    "index_build": "warmstart.verbs.index_build",
    "index_delete": "warmstart.verbs.index_delete",
    "index_encode": "warmstart.verbs.index_encode",
    "index_publish": "warmstart.verbs.index_publish",
    "index_rollback": "warmstart.verbs.index_rollback",
    "index_search": "warmstart.verbs.index_search",
    "index_tune": "warmstart.verbs.index_tune",
    "index_versions": "warmstart.verbs.index_versions",
    "load": "warmstart.verbs.predict",
    "predict": "warmstart.verbs.predict",
    "push": "warmstart.verbs.push",
    "recommend": "warmstart.verbs.recommend",
    "load_recommender": "warmstart.verbs.recommender",
    "ranker": "warmstart.verbs.ranker",
    "sample": "warmstart.verbs.sample",
    "scorecard": "warmstart.verbs.scorecard",
    "load_two_tower": "warmstart.verbs.two_tower_folder",
    "load_ranker": "warmstart.verbs.ranker_folder",
    "load_backbone": "warmstart.backbones.load",
    "WarmstartError": "warmstart.core.errors",
}
__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 - strings, made from the table above


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'warmstart' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
