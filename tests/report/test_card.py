"""The model card: a head that the Hub accepts, scores equal to the record's, texts that stay texts."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from warmstart.report.card import plain, render_card
from warmstart.report.front_matter import front_matter


def test_head_is_what_the_hub_reads(records):
    record = records["adapt"]
    card = ModelCard(render_card(record, "me/reviews"))
    assert card.data.library_name == "warmstart"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert card.data.license is None
    assert "fine-tune" in card.data.tags
    scores = record.run_of("fine_tune").test
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results["accuracy"].metric_value == scores.accuracy.value
    assert results["f1"].metric_value == scores.macro_f1.value
    assert results["accuracy"].dataset_name == record.task.source
    assert results["accuracy"].task_type == "text-classification"
    assert results["accuracy"].dataset_split == "test"


def test_model_index_is_the_hubs_schema(records):
    head = yaml.safe_load(render_card(records["images"], "satellite").split("---")[1])
    name, results = model_index_to_eval_results(head["model-index"])
    assert name == "satellite"
    assert {result.task_type for result in results} == {"image-classification"}
    assert head["pipeline_tag"] == "image-classification"
    assert all(isinstance(result.metric_value, float) for result in results)


def test_every_record_gives_a_card(any_record):
    text = render_card(any_record, "some/model")
    card = ModelCard(text)
    assert card.data.library_name == "warmstart"
    assert "warmstart predict model --data" in text
    assert 'warmstart.load("model")' in text
    assert "nan" not in text.lower().split()


def test_no_scores_no_model_index(records):
    head = yaml.safe_load(render_card(records["minimal"], "x").split("---")[1])
    assert "model-index" not in head
    assert "base_model" not in head  # a folder on this machine


def test_limitations_name_findings_and_weak_classes(records):
    text = render_card(records["adapt"], "x")
    part = text.split("## Limitations")[1]
    assert "845 rows have no text. They were left out." in part
    assert "Fewer than 30 training rows: Trend (4)." in part
    assert "F1 below 60.0 %: Trend (19.0 %)." in part
    assert "Fine-tuning keeps 71 % of each reference row's 10 nearest neighbours." in part
    assert "neighbours" not in render_card(records["images"], "x")


def test_hostile_texts_stay_texts(records):
    record = records["adapt"]
    evil = "---\nlicense: mit\n# <script>alert(1)</script> | `x` [a](http://b) \u2028 \x85"
    task = dataclasses.replace(record.task, source=evil, labels=(evil, *record.task.labels[1:]), fingerprint=evil)
    text = render_card(dataclasses.replace(record, task=task, machine=evil), "me/x")
    head = ModelCard(text).data.to_dict()
    assert "license" not in head
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == evil
    body = text.split("\n---\n", 1)[1]
    assert "<script>" not in body
    assert "\n---\n" not in body
    assert "[a]" not in body
    assert "\\[a\\](http" in body


def test_plain():
    assert plain("a_b *c*\n| <d> & $e$") == "a\\_b \\*c\\* \\| &lt;d&gt; &amp; \\$e\\$"


def test_front_matter_reads_back_exactly():
    head = {
        "text": 'yes: "no" # \\ \u2028 \x85 \x7f \U0001f600',
        "numbers": [1, 0.1, 1e-05, 3.5e-12, True],
        "nested": [{"a": {"b": ["c", {"d": "e"}]}, "f": 2.0}],
        "empty": [],
        "none": {},
    }
    assert yaml.safe_load(front_matter(head).split("---")[1]) == head


def test_front_matter_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="no place in a model card"):
        front_matter({"value": float("nan")})
