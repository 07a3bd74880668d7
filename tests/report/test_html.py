"""The page: complete, self-contained, escaped, and whole when pieces are missing."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from warmstart.core.records import Mistake, RunRecord
from warmstart.report import formats
from warmstart.report.html import render_report

VOID = {"meta", "link", "img", "br"}
HOSTILE = "<script>alert('x')</script> $x_1$ & \"q\""


class Page(HTMLParser):
    """Collects tags, attributes and text; fails on tags that are not closed in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.open: list[str] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.pieces))

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


def test_page_is_well_formed_and_fetches_nothing(any_page):
    _, markup = any_page
    page = Page(markup)
    assert "script" not in page.tags
    assert not {"iframe", "object", "embed", "form", "base"} & set(page.tags)
    for value in page.values("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
        assert value.startswith(("#", "data:")), value
    for target in re.findall(r"url\(([^)]*)\)", markup):
        assert target.startswith("#")
    assert "@import" not in markup
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "default-src 'none'" in markup


def test_identifiers_are_unique_and_every_reference_resolves(any_page):
    _, markup = any_page
    page = Page(markup)
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    wanted = {value[1:] for value in page.values("href") if value.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", markup))
    assert wanted <= set(identifiers)


def test_every_floor_and_strategy_is_in_the_page(any_page):
    record, markup = any_page
    text = Page(markup).text
    for floor in record.floors:
        assert floor.name in text
    for run in record.runs:
        assert formats.strategy_name(run.strategy) in text
        assert run.note in text


def test_no_stray_not_a_number(any_page):
    text = Page(any_page[1]).text
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", text)


def test_rebuilt_record_gives_the_same_page(records, pages):
    for name in ("adapt", "broken"):
        again = RunRecord.from_json(records[name].to_json())
        assert render_report(again) == pages[name]


def test_headline_states_chosen_accuracy_floor_and_seconds(pages):
    text = Page(pages["adapt"]).text
    assert "Fine-tuning reached 87.2 % test accuracy, 9.3 points above the best floor" in text
    assert "95 % interval 85.1\u201389.2" in text
    assert "TF-IDF + logistic regression with 77.9 %" in text
    assert "171 s for the chosen strategy" in text


def test_what_was_kept_of_the_original_is_told(pages, records):
    text = Page(pages["adapt"]).text
    assert "Fine-tuning keeps 71 % of each reference row's 10 nearest neighbours." in text
    assert "Measured on 256 rows: film titles; features that have nothing in common" in text
    assert "would keep 4 %." in text
    assert "Perplexity went from 21.3 to 35.0; lower is better." in text
    assert "Zero-shot accuracy went from 61.0 % to 52.3 %; higher is better." in text
    assert "The group that changed most is layer.5: CKA 0.64, weights moved by 13.0 % of their length." in text
    assert "The group that changed most is text/layer.5" in text
    assert text.count("CKA with the original") == 2  # the table of each strategy that has one
    assert "Fine-tuning keeps 60 % of each" in Page(pages["compare"]).text  # the mean of three seeds
    broken = Page(pages["broken"]).text
    assert "Measured on 11 rows: film titles." in broken
    assert "The group that changed most is layer.0: CKA 0.50." in broken
    assert "No head." in broken
    for name in ("images", "minimal"):
        assert "What it kept of the original" not in Page(pages[name]).text
    hostile = dataclasses.replace(records["adapt"].run_of("fine_tune").forgetting, reference=HOSTILE, notes=(HOSTILE,))
    run = dataclasses.replace(records["adapt"].run_of("fine_tune"), forgetting=hostile)
    markup = render_report(dataclasses.replace(records["adapt"], runs=(run,), mistakes=()))
    assert "<script" not in markup
    assert Page(markup).text.count(HOSTILE) == 2


def test_plan_forecasts_data_and_model_are_shown(records, pages):
    record = records["adapt"]
    text = Page(pages["adapt"]).text
    for line in (*record.plan.reasons, *record.plan.would_change, *record.advice):
        assert line in text
    assert "ruled out" in text
    assert "51 min 40 s" in text
    for finding in record.task.findings:
        assert finding.message in text
    for fact in (record.task.fingerprint, record.backbone.digest, record.command, record.machine, "859", "mean"):
        assert fact in text
    for version in record.versions.values():
        assert version in text
    assert "T = 1.31" in text


def test_a_searched_rate_is_shown_with_its_chart_and_reason(records, pages):
    found = next(run.rate_search for run in records["adapt"].runs if run.rate_search is not None)
    text = Page(pages["adapt"]).text
    assert "Learning rate 0.0002 , found by a range test: 3 short runs in 21 s." in text
    assert found.note in text
    assert "Loss over the learning rate before Fine-tuning" in pages["adapt"]
    assert "found by a range test" not in pages["compare"]


def test_hostile_texts_are_shown_and_not_run(records, pages):
    record = records["adapt"]
    task = dataclasses.replace(record.task, labels=(HOSTILE, *record.task.labels[1:]), source=HOSTILE)
    runs = tuple(dataclasses.replace(run, note=HOSTILE) for run in record.runs)
    floors = (dataclasses.replace(record.floors[1], name=HOSTILE), *record.floors[2:])
    changed = dataclasses.replace(record, task=task, runs=runs, floors=floors, advice=(HOSTILE,), command=HOSTILE)
    markup = render_report(changed)
    page = Page(markup)
    assert "<script" not in markup
    assert page.text.count(HOSTILE) >= 6
    assert page.tags.count("section") == Page(pages["adapt"]).tags.count("section")


@pytest.mark.parametrize(
    "uri", ["https://example.com/a.png", "data:image/svg+xml;base64,AAAA", "data:text/html;base64,AA", 'x" onerror="y']
)
def test_only_raster_data_uris_become_images(records, uri):
    mistake = Mistake(7, "photo.jpg", uri, "a", "b", 0.9)
    page = Page(render_report(dataclasses.replace(records["images"], mistakes=(mistake,))))
    assert "img" not in page.tags
    assert "photo.jpg" in page.text


def test_thumbnails_are_inlined_with_a_text(records, pages):
    page = Page(pages["images"])
    assert page.tags.count("img") == len(records["images"].mistakes)
    assert [value for tag, name, value in page.attributes if tag == "img" and name == "alt"] == [
        mistake.text for mistake in records["images"].mistakes
    ]


def test_compare_shows_seeds_spread_and_differences(records, pages):
    record = records["compare"]
    text = Page(pages["compare"]).text
    assert "mean of 3 seeds" in text
    assert "Every seed (12 runs)" in text
    for run in record.runs:
        if run.test is not None:
            assert formats.interval_percent(run.test.accuracy) in text
    assert "No: not told apart" in text
    assert "Yes: better" in text


def test_many_classes_are_folded_away(pages):
    markup = pages["intents"]
    assert "The ten weakest by F1; all 150 are below." in markup
    assert "Most confused pairs" in markup
    assert len(markup) < 250_000
    assert "lost &lt;b&gt;card&lt;/b&gt;" in markup
    assert "<b>card" not in markup


def test_missing_pieces_leave_out_their_sections(pages):
    page = Page(pages["minimal"])
    assert "No strategy has a test score" in page.text
    sections = [value for tag, name, value in page.attributes if tag == "section" and name == "id"]
    assert sections == ["comparison", "data", "model", "repeat"]
    assert "svg" not in page.tags
