"""`advise` end to end on tiny models: every effort, several models, models without weights, the ledger, wrong input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kinds import write_rows
from PIL import Image

import warmstart
from warmstart.cli.main import run
from warmstart.core.decision import Forecast, Plan
from warmstart.core.errors import DataError, ModelError, SettingError, StrategyNotPossibleError
from warmstart.core.ledger import LedgerEntry, Scorecard
from warmstart.decide.forecast import StrategyCost
from warmstart.decide.logit import to_logit
from warmstart.train.calibrate import StepCost
from warmstart.train.probe_solver import solve_probe
from warmstart.verbs import pilots as pilots_module
from warmstart.verbs.domain import scrambled_pictures, scrambled_texts, token_counts
from warmstart.verbs.ledger import ledger_path, read_ledger
from warmstart.verbs.pilots import Length, arrangement, length_that_fits


@pytest.fixture
def given(tiny_model: Path, reviews: Path, tmp_path: Path) -> dict[str, str]:
    other = write_rows(tmp_path / "other.csv", 64, seed=5, kinds=("tool", "animal"))
    return {"data": str(reviews), "label_column": "kind", "model": str(tiny_model), "reference_data": str(other)}


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_probe_measures_labels_domain_compute_and_scores(given: dict[str, str]) -> None:
    plan = warmstart.advise(**given, time_budget=1000)
    found = plan.evidence
    assert found.effort == "probe"
    assert found.labels is not None
    assert sum(found.labels.counts) == found.labelled == 96
    assert {point.strategy for point in found.labels.curve} == {"linear_probe", "knn"}
    assert found.labels.gain_probe is not None
    assert found.domain is not None
    names = {measure.name for measure in found.domain.measures}
    assert {"proxy A-distance", "MMD²", "Fréchet distance", "tokens per word", "share of unknown tokens"} == names
    unknown = next(m for m in found.domain.measures if m.name == "share of unknown tokens")
    assert unknown.value == unknown.near == 0.0
    assert unknown.far > 0.3  # shuffled letters are no words
    assert found.compute is not None
    assert found.compute.measured
    assert found.compute.activation_bytes > 0
    assert set(found.transferability or {}) == {"LogME", "H-score"}
    for forecast in plan.forecasts:
        assert forecast.score is not None
        assert 0 <= forecast.score.low <= forecast.score.value <= forecast.score.high <= 1
        assert forecast.peak_memory_mb > 0
        assert forecast.learning_seconds <= forecast.seconds
    assert Plan.from_json(plan.to_json()).to_json() == plan.to_json()


def test_rules_embed_nothing(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(*arguments: object) -> None:
        raise AssertionError("a pass over the data")

    monkeypatch.setattr("warmstart.verbs.situation._embed", embed)
    plan = warmstart.advise(**given, effort="rules")
    assert plan.evidence.effort == "rules"
    assert math.isnan(plan.evidence.probe.value)
    assert plan.evidence.tfidf is not None
    assert plan.evidence.seconds_train > 0
    assert plan.strategy in ("linear_probe", "fine_tune", "progressive", "lora")
    wide = plan.forecast_of("linear_probe")
    assert wide is not None
    assert wide.score is not None
    assert to_logit(wide.score.high) - to_logit(wide.score.low) > 1.5


def test_pilots_are_run_judged_beside_the_probe_and_told(given: dict[str, str]) -> None:
    plan = warmstart.advise(**given, effort="pilot", time_budget=200, pilot_share=0.5, bf16="false")
    assert plan.evidence.effort == "pilot"
    assert plan.pilots
    for pilot in plan.pilots:
        assert pilot.strategy in ("fine_tune", "progressive", "lora")
        assert pilot.right - pilot.probe_right == pilot.only_right - pilot.only_probe
        assert pilot.judged == 32  # a third of 96
        assert pilot.rows == 64
        assert pilot.epochs == 4.0
    assert any(line.startswith("Short trainings: ") for line in plan.reasons)
    assert sum(pilot.seconds for pilot in plan.pilots) <= 100


def test_pilots_that_do_not_fit_are_not_run(given: dict[str, str]) -> None:
    plan = warmstart.advise(**given, effort="pilot", time_budget=100, pilot_share=0.001)
    assert plan.pilots == ()
    assert plan.strategy


def test_a_failing_clock_cannot_make_a_pilot_longer_than_its_share(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    original = pilots_module._PilotBench.run

    def watched(self: object, name: str, rung: int, seconds: float) -> object:
        shares.append(seconds)
        return original(self, name, rung, seconds)  # type: ignore[arg-type]

    monkeypatch.setattr(pilots_module._PilotBench, "run", watched)
    warmstart.advise(**given, effort="pilot", time_budget=120, pilot_share=0.25)
    assert shares
    assert shares[0] <= 30 / 2
    assert max(shares) <= 30


def test_how_long_a_pilot_is() -> None:
    """Fewer rows before fewer epochs, down to fifty rows; then fewer epochs, and no fewer rows than twenty."""
    assert length_that_fits(900.0, 100, 4.0, 1.0, 50, 20) == Length(100, 4.0)
    assert length_that_fits(399.0, 100, 4.0, 1.0, 50, 20) == Length(99, 4.0)
    assert length_that_fits(200.0, 100, 4.0, 1.0, 50, 20) == Length(50, 4.0)
    assert length_that_fits(199.0, 100, 4.0, 1.0, 50, 20) == Length(99, 2.0)
    assert length_that_fits(99.0, 100, 4.0, 1.0, 50, 20) == Length(99, 1.0)
    assert length_that_fits(30.0, 100, 4.0, 1.0, 50, 20) == Length(30, 1.0)
    assert length_that_fits(15.0, 100, 4.0, 1.0, 50, 20) is None
    assert length_that_fits(400.0, 40, 4.0, 1.0, 50, 20) == Length(40, 4.0)
    assert length_that_fits(-5.0, 40, 4.0, 1.0, 50, 20) is None


Learned = list[tuple[np.ndarray, np.ndarray, float]]  # rows learned from, rows judged, epochs


def pilot_bench(
    monkeypatch: pytest.MonkeyPatch, *, groups: np.ndarray | None = None, forward: float = 0.01, rungs: int = 1
) -> tuple[pilots_module._PilotBench, Learned]:
    """A bench that trains nothing: it gets everything right, half an epoch early, and notes what it was given."""
    rows, classes = 120, 2
    labels = np.arange(rows) % classes
    features = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32) + labels[:, None]
    labelled = SimpleNamespace(labels=labels, groups=groups, features=features)
    evidence = SimpleNamespace(seconds_forward=forward, seconds_train=forward + 0.1, compute=None)
    seen: Learned = []

    def train(
        self: object, name: str, rung: int, draw: pilots_module._Draw, seconds: float
    ) -> tuple[np.ndarray, float]:
        seen.append((draw.train, draw.held, draw.epochs))
        return np.eye(classes)[labels[draw.held]], draw.epochs - 0.5

    monkeypatch.setattr(pilots_module._PilotBench, "_train", train)
    bench = pilots_module._PilotBench(
        SimpleNamespace(labelled=labelled, labels=("a", "b")),  # type: ignore[arg-type]
        SimpleNamespace(evidence=evidence, probe_seconds=0.0, probe=solve_probe(features, labels, classes)),  # type: ignore[arg-type]
        SimpleNamespace(costs=[StrategyCost(Forecast("fine_tune", 1.0, True, ""), 4.0, 4.0)]),  # type: ignore[arg-type]
        SimpleNamespace(seed=0),  # type: ignore[arg-type]
        Path(),
        {},
        rungs,
    )
    return bench, seen


def test_what_a_pilot_does_not_learn_from_judges_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, seen = pilot_bench(monkeypatch)
    found = bench.run("fine_tune", 0, 1.0 + 0.8 + 4 * (0.1 + 1.1 * 0.01) * 40 + 0.1)
    assert found is not None
    learned, judged, epochs = seen[0]
    assert found.rows == len(learned) == 40
    assert epochs == 4.0
    assert found.epochs == 3.5  # what it had when the clock ended it
    assert found.judged == found.right == len(judged) == 80
    assert not set(learned) & set(judged)
    assert bench.run("fine_tune", 0, 3.0) is None


def test_a_pilot_is_not_judged_by_groups_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.arange(120) // 2
    bench, seen = pilot_bench(monkeypatch, groups=groups)
    bench.home[:] = np.where(groups % 3 == 0, 0, 1)  # a third of the groups, whole
    assert bench.run("fine_tune", 0, 15.0) is not None
    learned, judged, _ = seen[0]
    assert not set(groups[learned]) & set(groups[judged])
    apart = np.flatnonzero((bench.home == 1) & ~np.isin(groups, groups[learned]))
    assert len(apart) > 0
    assert set(judged) == {*np.flatnonzero(bench.home == 0), *apart}


def test_judging_takes_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, seen = pilot_bench(monkeypatch, forward=0.5)
    assert bench.run("fine_tune", 0, 100.0) is not None
    assert len(seen[0][1]) == 50  # a quarter of 100 s


def test_no_row_judges_a_strategy_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, seen = pilot_bench(monkeypatch, rungs=2)
    for rung in (0, 1):
        assert bench.run("fine_tune", rung, 20.0) is not None
    (first, judged, _), (second, other, _) = seen
    assert not set(judged) & set(other)
    assert not (set(first) & set(judged)) | (set(second) & set(other))
    assert len(judged) > 40


def test_few_seconds_are_not_split_among_many() -> None:
    assert arrangement(60.0, 10.0) == (3, 2)
    assert arrangement(59.0, 10.0) == (2, 1)
    assert arrangement(20.0, 10.0) == (2, 1)
    assert arrangement(3.0, 10.0) == (1, 1)


def test_several_models_are_ranked(
    given: dict[str, str], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer, BertConfig, BertModel

    second, third = tmp_path / "wider", tmp_path / "blind"
    for folder, hidden in ((second, 64), (third, 16)):
        torch.manual_seed(1)
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.save_pretrained(folder)
        model = BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=hidden,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=64,
            )
        )
        if folder == third:
            torch.nn.init.constant_(model.embeddings.word_embeddings.weight, 0.1)  # every word looks the same
        model.save_pretrained(folder)
    arguments = ["advise", "--data", given["data"], "--label-column", "kind", "--reference-data", "none", "--json"]
    models = [str(tiny_model), str(second), str(third)]
    code, out, err = command([*arguments, *(part for name in models for part in ("--model", name))], capsys)
    assert code == 0, err
    plan = Plan.from_json(out)
    assert {row.model for row in plan.ranking} == set(models)
    assert plan.model == plan.ranking[0].model != str(third)
    assert plan.ranking[-1].model == str(third)
    assert plan.strategy == plan.ranking[0].strategy
    assert all("LogME" in row.transferability for row in plan.ranking)


def test_seventy_billion_parameters_without_weights(
    given: dict[str, str], llama_70b: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = warmstart.advise(data=given["data"], label_column="kind", model=str(llama_70b), device_memory="24GB")
    assert plan.strategy == "none"
    assert plan.evidence.parameters == 69_503_033_344
    assert plan.evidence.effort == "rules"
    assert all(not forecast.allowed for forecast in plan.forecasts)
    code, out, err = command(
        [
            "advise",
            "--data",
            given["data"],
            "--label-column",
            "kind",
            "--model",
            str(llama_70b),
            "--device-memory",
            "1TB",
        ],
        capsys,
    )
    assert code == 0, err
    text = " ".join(out.split())
    assert "LoRA holds what is held already 600 MB + weights 278 GB + 103,546,880 LoRA parameters 414 MB" in text
    assert "fine_tune would train all 69.5 billion parameters" in text


def test_recomputed_activations_and_no_average_need_less_memory(given: dict[str, str], llama_70b: Path) -> None:
    for model in (given["model"], str(llama_70b)):
        call = {"data": given["data"], "label_column": "kind", "model": model, "effort": "rules"}
        plain = warmstart.advise(**call).evidence.compute
        lean = warmstart.advise(**call, gradient_checkpointing=True, ema_decay=0.0).evidence.compute
        assert plain is not None
        assert lean is not None
        assert lean.activation_bytes < plain.activation_bytes
        assert plain.averaged
        assert not lean.averaged


def test_rules_keep_seconds_for_what_comes_after_training(given: dict[str, str]) -> None:
    plan = warmstart.advise(**given, effort="rules", time_budget=12)  # which saving and loading again take
    assert not next(forecast for forecast in plan.forecasts if forecast.strategy == "fine_tune").allowed


def test_rules_split_as_a_run_would(given: dict[str, str]) -> None:
    with pytest.raises(SettingError, match="--validation-size is 500, but there are"):
        warmstart.advise(**given, effort="rules", validation_size=500)


def test_epochs_that_were_asked_for_are_in_the_plan(given: dict[str, str]) -> None:
    plan = warmstart.advise(**given, num_train_epochs=3, device_memory="100GB")
    forecast = plan.forecast_of("fine_tune")
    assert forecast is not None
    assert forecast.epochs == 3
    assert plan.settings.get("num_train_epochs") == (
        3 if plan.strategy in ("fine_tune", "progressive", "lora") else None
    )


def test_time_and_memory_rule_strategies_out_by_name(given: dict[str, str]) -> None:
    plan = warmstart.advise(**given, device_memory="1MB")
    assert plan.strategy == "none"
    text = " ".join(plan.reasons)
    for name in ("linear_probe", "fine_tune", "progressive", "lora"):
        assert f"{name} is ruled out: {name} needs" in text
    with pytest.raises(SettingError, match="device-memory"):
        warmstart.advise(**given, device_memory="a lot")


def test_images_have_pixels_to_compare(tmp_path: Path) -> None:
    import transformers as tf

    draw = np.random.default_rng(0)
    for kind, level in (("dark", 60), ("light", 190)):
        (tmp_path / "pics" / kind).mkdir(parents=True)
        for number in range(14):
            pixels = np.clip(draw.normal(level, 30, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pics" / kind / f"{number}.png")
    torch.manual_seed(0)
    config = tf.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=32, patch_size=16
    )
    tf.ViTModel(config).save_pretrained(tmp_path / "vit")
    tf.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    plan = warmstart.advise(data=str(tmp_path / "pics"), model=str(tmp_path / "vit"))
    domain = plan.evidence.domain
    assert domain is not None
    found = {measure.name: measure for measure in domain.measures}
    assert {"proxy A-distance", "MMD²", "Fréchet distance", "channel statistics gap", "colour gap"} < set(found)
    resolution = found["resolution, share of what the model reads"]
    assert resolution.value == pytest.approx(20 / 32)
    assert resolution.position == pytest.approx((1 - 20 / 32) / 0.75)
    assert found["colour gap"].far > found["colour gap"].near >= 0


def test_a_masked_models_own_loss_is_measured(given: dict[str, str], tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(tmp_path / "masked")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "masked")
    domain = warmstart.advise(**{**given, "model": str(tmp_path / "masked")}).evidence.domain
    assert domain is not None
    loss = next(measure for measure in domain.measures if measure.name == "masked-token loss, nats")
    assert loss.value == pytest.approx(math.log(len(tokenizer)), abs=0.3)  # random weights guess


def test_the_reference_is_embedded_once_a_model(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = warmstart.advise(**given, cache_dir=str(tmp_path / "kept")).evidence.domain

    def embed(*arguments: object) -> None:
        raise AssertionError("a pass over the reference")

    monkeypatch.setattr("warmstart.verbs.domain._Comparison._embedded", embed)
    again = warmstart.advise(**given, cache_dir=str(tmp_path / "kept")).evidence.domain
    assert first is not None
    assert again == first
    with pytest.raises(AssertionError, match="a pass over the reference"):
        warmstart.advise(**given, cache_dir=str(tmp_path / "other"))


def test_without_reference_rows_there_is_no_distance(given: dict[str, str]) -> None:
    assert warmstart.advise(**{**given, "reference_data": "none"}).evidence.domain is None
    missing = {name: value for name, value in given.items() if name != "reference_data"}
    assert warmstart.advise(**missing).evidence.domain is None  # no sample is to be had in tests: told, not failed


def test_scrambling_keeps_letters_and_pixels() -> None:
    text = ["The dress fits", "so well"]
    found = scrambled_texts(text, 0)
    assert [[sorted(word) for word in line.split()] for line in found] == [
        [sorted(word) for word in line.split()] for line in text
    ]
    assert found == scrambled_texts(text, 0)
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    pixels = np.asarray(scrambled_pictures([picture], 0)[0]).reshape(-1, 3).tolist()
    assert pixels != np.asarray(picture).reshape(-1, 3).tolist()
    assert sorted(pixels) == np.asarray(picture).reshape(-1, 3).tolist()


def test_tokens_are_counted_by_hand(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert token_counts(tokenizer, ["the cat", "the zebra was nice"]) == (1.0, 1 / 6)


def test_every_adapt_and_compare_is_noted_down_and_the_scorecard_reads_it(
    given: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = str(tmp_path / "kept")
    common = {**given, "reference_data": "none", "bf16": "false", "cache_dir": cache, "num_train_epochs": 1}
    code, out, _ = command(["advise", "--scorecard", "--cache-dir", cache], capsys)
    assert code == 0
    assert "The ledger is empty" in out
    warmstart.adapt(**common, strategy="fine_tune", output_dir=str(tmp_path / "one"))
    result = warmstart.compare(**common, strategies="linear_probe,lora", seeds=2, output_dir=str(tmp_path / "two"))
    entries, broken = read_ledger(cache)
    assert broken == 0
    kinds = [(entry.verb, entry.strategy, entry.seed) for entry in entries]
    assert kinds[-4:] == [("compare", name, seed) for name in ("linear_probe", "lora") for seed in (42, 43)]
    tuned = next(entry for entry in entries if entry.strategy == "fine_tune")
    assert tuned.forecast_seconds > 0
    assert tuned.seconds > 0
    assert tuned.forecast_score is not None
    assert tuned.chosen
    lora = [entry for entry in entries if entry.strategy == "lora"]
    runs = [run for run in result.record.runs if run.strategy == "lora"]
    assert [entry.score for entry in lora] == [run.test.accuracy.value for run in runs if run.test is not None]
    assert lora[0].seconds < runs[0].seconds  # without the share of the tuning
    ledger_path(cache).open("a").write('{"cut off')
    code, out, err = command(["advise", "--scorecard", "--cache-dir", cache, "--json"], capsys)
    assert code == 0, err
    card = Scorecard.from_json(out)
    assert card.entries == len(entries)
    assert card.runs == 2
    assert card.comparisons == int(any(entry.planned for entry in entries if entry.verb == "compare"))
    assert any("1 lines of the ledger" in note for note in card.notes)
    code, out, _ = command(["advise", "--scorecard", "--cache-dir", cache], capsys)
    assert code == 0
    assert f"{len(entries)} forecasts of 2 runs" in out
    assert "within 25 %" in out


def test_a_ledger_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger.jsonl").mkdir()
    (tmp_path / "file").touch()
    for cache in (tmp_path, tmp_path / "file"):
        code, _, err = command(["advise", "--scorecard", "--cache-dir", str(cache)], capsys)
        assert code == 2
        assert "the ledger cannot be read" in err


def test_a_ledger_that_cannot_be_written_fails_no_run(given: dict[str, str], tmp_path: Path) -> None:
    cache = tmp_path / "kept"
    (cache / "ledger.jsonl").mkdir(parents=True)  # a folder in its place
    options = {**given, "reference_data": "none", "strategy": "linear_probe", "cache_dir": str(cache)}
    assert warmstart.adapt(**options, output_dir=str(tmp_path / "out")).record.chosen == "linear_probe"


def test_a_search_or_another_length_is_not_held_against_the_forecast(given: dict[str, str], tmp_path: Path) -> None:
    cache = str(tmp_path / "kept")
    options = {**given, "reference_data": "none", "bf16": "false", "cache_dir": cache, "strategy": "lora"}
    warmstart.adapt(**options, max_steps=3, output_dir=str(tmp_path / "short"))
    entries: list[LedgerEntry] = read_ledger(cache)[0]
    assert math.isnan(next(entry for entry in entries if entry.strategy == "lora").forecast_seconds)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--effort", "guess"], ["--effort"]),
        (["--device-memory", "24 apples"], ["--device-memory", "24 apples", "24GB"]),
        (["--device-memory", "0GB"], ["--device-memory"]),
        (["--pilot-share", "1.5"], ["--pilot-share", "1.5"]),
        (["--pilot-share", "0"], ["--pilot-share"]),
        (["--reference-data", "absent.csv"], ["absent.csv"]),
        (["--model", "OUTLINE", "--effort", "probe"], ["llama-70b.json", "--effort probe", "rules"]),
        (["--model", "OUTLINE", "--effort", "pilot"], ["no weights", "--effort pilot"]),
        (["--model", "BROKEN"], ["broken.json"]),
        (["--model", "OUTLINE", "--max-length", "999999"], ["--max-length", "999999"]),
        (["--model", "nobody/nothing"], ["nobody/nothing"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(
    more: list[str],
    words: list[str],
    given: dict[str, str],
    llama_70b: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"model_type": "llama", "hidden_size": "wide"}')
    named = {"OUTLINE": str(llama_70b), "BROKEN": str(broken)}
    model = [] if "--model" in more else ["--model", given["model"]]
    code, out, err = command(
        [
            "advise",
            "--data",
            given["data"],
            "--label-column",
            "kind",
            *model,
            *(named.get(part, part) for part in more),
        ],
        capsys,
    )
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    for word in words:
        assert word in err.strip().splitlines()[-1] or word in err, f"{word!r} is not in: {err}"


def test_data_is_needed_but_for_the_scorecard(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = command(["advise"], capsys)
    assert code == 2
    assert "--data is missing" in err
    with pytest.raises(SettingError, match=r"warmstart\.scorecard\(\)"):
        warmstart.advise(scorecard=True)
    assert warmstart.scorecard().entries == 0


def test_an_image_model_for_texts_is_refused(given: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "vit.json"
    path.write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    with pytest.raises(ModelError, match="reads images"):
        warmstart.advise(data=given["data"], label_column="kind", model=str(path))
    with pytest.raises(DataError):
        warmstart.advise(data=str(tmp_path / "absent.csv"), model=given["model"])


def test_adapt_refuses_what_does_not_fit_and_leaves_nothing(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmstart.verbs.compute._available", lambda device: 1_000_000)
    with pytest.raises(StrategyNotPossibleError, match=r"None of the strategies fits into 1\.0 MB"):
        warmstart.adapt(**given, output_dir=str(tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))


def test_adapt_follows_the_plan_that_advise_prints(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmstart.verbs.situation.cost_of_a_row", lambda *a, **k: StepCost(0.01, 1e6))  # no chance
    common = {**given, "reference_data": "none", "bf16": "false", "num_train_epochs": 1}
    advice = warmstart.advise(**common)
    plan = warmstart.adapt(**common, output_dir=str(tmp_path / "out")).record.plan
    assert plan is not None
    assert plan.strategy == advice.strategy
    scores = [[forecast.score for forecast in found.forecasts] for found in (plan, advice)]
    assert scores[0] == scores[1]


@pytest.mark.real
def test_leep_is_scored_where_the_model_brings_a_head_of_its_own(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for kind, level in (("dark", 60), ("light", 190)):
        (tmp_path / "pics" / kind).mkdir(parents=True)
        for number in range(14):
            pixels = np.clip(draw.normal(level, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pics" / kind / f"{number}.png")
    head = warmstart.load_backbone("EfficientNet-Lite0").source_head
    assert head is not None
    assert (head.weight.shape, head.bias.shape) == ((1000, 1280), (1000,))
    plan = warmstart.advise(data=str(tmp_path / "pics"), model="EfficientNet-Lite0", image_size=64)
    scores = plan.evidence.transferability
    assert scores is not None
    assert math.log(1 / 2) < scores["LEEP"] <= 0  # better than knowing nothing of two classes
