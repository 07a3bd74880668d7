"""Shared by all tests: no hub, a cache of its own, and a tiny text model with a small separable task."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from kinds import FILLER, WORDS, write_rows

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer BERT of random weights and a tokenizer that knows the words above."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLER, *[w for group in WORDS.values() for w in group]]
    (folder / "vocab.txt").write_text("\n".join(known) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """120 rows of three kinds."""
    return write_rows(tmp_path / "reviews.csv", 120)


LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "dtype": "bfloat16",
}


@pytest.fixture
def llama_70b(tmp_path: Path) -> Path:
    """The configuration of a model of seventy billion parameters, without weights."""
    path = tmp_path / "llama-70b.json"
    path.write_text(json.dumps(LLAMA_70B))
    return path


@pytest.fixture(autouse=True)
def _own_cache(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features go to a folder of the test's own, and no sample is fetched; tests marked `real` use the real cache."""
    if request.node.get_closest_marker("real") is None:
        monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path_factory.mktemp("cache")))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
