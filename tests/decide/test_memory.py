"""The memory arithmetic, by hand."""

import dataclasses

import pytest
from situations import compute

from warmstart.decide.memory import activation_bytes, forward_bytes, largest_that_fits, memory_of


def test_everything_that_learns_costs_five_numbers_a_parameter():
    given = compute(parameters=1000, activation_bytes=50.0, batch=4, resident_bytes=7)
    found = memory_of("fine_tune", given)
    assert dict(found.parts)["gradients"] == 4000
    assert found.total == 7 + 5 * 4000 + 4 * 50
    assert memory_of("fine_tune", dataclasses.replace(given, averaged=False)).total == 7 + 4 * 4000 + 4 * 50
    assert memory_of("progressive", given).total == memory_of("scratch", given).total == found.total


def test_lora_learns_little_and_the_probe_nothing():
    given = compute(parameters=1000, lora_parameters=10, activation_bytes=50.0, forward_bytes=3.0, batch=4)
    assert memory_of("lora", given).total == 4000 + 5 * 40 + 4 * 50
    assert memory_of("linear_probe", given).total == memory_of("zero_shot", given).total == 4000 + 12


def test_the_sum_is_told_in_words():
    told = memory_of("lora", compute(parameters=7_000_000_000, lora_parameters=20_000_000)).arithmetic()
    assert told.startswith("weights 28.0 GB + 20,000,000 LoRA parameters 80.0 MB + gradients 80.0 MB")
    assert told.endswith("GB")
    assert "held already" not in told  # nothing is


def test_activations_of_gpt3_by_the_papers_table():
    """Korthikanti et al., table 2: sbh(34 + 5as/h) a layer; GPT-3 with a=96, h=12288, s=2048, L=96, b=1."""
    found = activation_bytes(96, 12288, 96, 2048, value_bytes=2)
    assert found == pytest.approx(96 * 2048 * 12288 * (34 + 80))
    assert activation_bytes(96, 12288, 96, 2048) == 2 * found
    assert forward_bytes(10, 3, 40, 2) == 4 * 3 * (40 + 80 + 6)


def test_the_largest_that_fits_fits_exactly():
    given = compute(parameters=70_000_000_000, lora_parameters=100_000_000)
    size = largest_that_fits("lora", given, 24_000_000_000)
    assert 1e9 < size < 6e9
    share = size / given.parameters
    assert memory_of("lora", given).total * share == pytest.approx(24e9)
