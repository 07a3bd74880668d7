"""Token batches against transformers' own padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from saved import TEXTS, decoder_tokenizer, tokenizer
from transformers import AutoTokenizer

from warmstart.backbones.text_inputs import TextPreprocessor
from warmstart.core.errors import ModelError


def test_batches_equal_the_tokenizer_s_own_padding():
    inputs = TextPreprocessor(tokenizer(), 6).encode({"text": TEXTS})
    wanted = tokenizer()(TEXTS, padding=True, truncation=True, max_length=6, return_tensors="pt")
    found = inputs.batch(range(len(TEXTS)))
    assert set(found) == {"input_ids", "attention_mask"}
    for name in found:
        assert torch.equal(found[name], wanted[name])
    assert inputs.lengths.tolist() == wanted["attention_mask"].sum(1).tolist()
    assert len(inputs) == len(TEXTS)
    some = inputs.batch([4, 1])["input_ids"]
    assert torch.equal(some, wanted["input_ids"][[4, 1], : some.shape[1]])


def test_pairs_are_two_segments():
    own = tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    rows = {"text": ["the dress fits", "a"], "text_pair": ["so well", "too small"]}
    found = TextPreprocessor(own, 12, prompt="return ").encode(rows).batch([0, 1])
    prompted = ["return the dress fits", "return a"]
    wanted = own(prompted, rows["text_pair"], padding=True, return_tensors="pt")
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(found[name], wanted[name])


def test_padding_stands_at_the_end_whatever_the_tokenizer_says():
    left = TextPreprocessor(decoder_tokenizer("left"), 20).encode({"text": TEXTS}).batch(range(len(TEXTS)))
    right = TextPreprocessor(decoder_tokenizer("right"), 20).encode({"text": TEXTS}).batch(range(len(TEXTS)))
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert left["attention_mask"][:, 0].all()


def test_nothing_to_encode():
    inputs = TextPreprocessor(tokenizer(), 6).encode({"text": []})
    assert (len(inputs), inputs.lengths.tolist()) == (0, [])


def test_an_empty_row_gets_one_token():
    inputs = TextPreprocessor(decoder_tokenizer(), 6).encode({"text": ["", "a b"]})
    assert inputs.lengths.tolist() == [1, 2]
    assert inputs.batch([0])["attention_mask"].tolist() == [[1]]
    pairs = TextPreprocessor(decoder_tokenizer(), 6).encode({"text": [""], "text_pair": [""]})
    assert pairs.batch([0])["input_ids"].shape == (1, 1)


def test_what_is_not_text_is_written_out():
    own = TextPreprocessor(tokenizer(), 6)
    assert own.encode({"text": [5, None]}).lengths.tolist() == [3, 3]


def test_a_tokenizer_without_any_special_token():
    own = decoder_tokenizer()
    assert own.pad_token is None
    assert TextPreprocessor(own, 5).tokenizer.pad_token == "</s>"
    bare = decoder_tokenizer()
    bare.eos_token = None
    assert TextPreprocessor(bare, 5).tokenizer.pad_token == "<s>"
    bare = decoder_tokenizer()
    bare.eos_token = bare.bos_token = bare.unk_token = None
    with pytest.raises(ModelError, match="no padding token"):
        TextPreprocessor(bare, 5)


def test_saving_keeps_the_length(tmp_path):
    TextPreprocessor(tokenizer(), 7).save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == 7
    assert again("the dress")["input_ids"] == tokenizer()("the dress")["input_ids"]


def test_descriptions_tell_what_changes_the_encoding():
    def described(**settings: object) -> dict:
        values = {"tokenizer": tokenizer(), "max_length": 7, "prompt": "", **settings}
        return TextPreprocessor(**values).describe()

    plain = described()
    assert plain == described()
    swapped = tokenizer(pad=1, cls=0)  # the same class and size, another vocabulary
    for other in ({"max_length": 8}, {"prompt": "q: "}, {"tokenizer": swapped}, {"tokenizer": tokenizer(lower=False)}):
        assert described(**other) != plain
    used = TextPreprocessor(tokenizer(), 7)
    used.encode({"text": TEXTS})
    used.tokenizer(TEXTS, padding=True, truncation=True, max_length=3)
    assert used.describe() == plain
    np.testing.assert_array_equal(used.encode({"text": TEXTS}).lengths, [5, 3, 7, 5, 3, 5])
