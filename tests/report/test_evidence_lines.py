"""The list of what was measured: every part there is, and none that is not."""

import dataclasses

from warmstart.core.decision import (
    ComputeEvidence,
    CurvePoint,
    DomainEvidence,
    DomainMeasure,
    Evidence,
    LabelEvidence,
)
from warmstart.core.records import Interval
from warmstart.report.evidence import evidence_lines

SCORE = Interval(0.8, 0.75, 0.85)
BARE = Evidence(60, 3, 20, 20.0, 0.34, None, None, SCORE, SCORE, 0.01, 0.04, 22_000_000, None, "cpu")


def test_without_more_there_are_counts_scores_and_times():
    found = dict(evidence_lines(BARE))
    assert found["Labelled rows"] == "60 in 3 classes"
    assert found["Linear probe, %"] == "80.0 [75.0, 85.0]"
    assert found["Zero-shot, %"] == "–"
    assert found["Training, per example"] == "40.0 ms"
    assert found["Budget"] == "none"
    assert not any(name.startswith(("Domain", "Balance", "Activations")) for name in found)


def test_all_parts_are_listed_with_their_scales():
    curve = (CurvePoint("linear_probe", 48, SCORE), CurvePoint("knn", 48, SCORE))
    measure = DomainMeasure("MMD²", 0.25, 0.0, 0.5, "one half against the other", "shuffled letters")
    whole = dataclasses.replace(
        BARE,
        labels=LabelEvidence((20, 20, 20), 1.0, Interval(0.1, 0.05, 0.2), (3,), curve, 100, Interval(0.01, 0.0, 0.02)),
        domain=DomainEvidence("film titles", 60, (measure,), ("No mask.",)),
        compute=ComputeEvidence(22_000_000, 88_000_000, 300_000, 5e6, 1e6, 16, 10**9, 8 * 10**9, True),
        transferability={"LogME": 0.17321},
    )
    found = dict(evidence_lines(whole))
    assert found["Labels contradicted with confidence, %"] == "10.0 [5.0, 20.0]"
    assert found["Probe on 48 rows, %"] == found["Neighbours on 48 rows, %"] == "80.0 [75.0, 85.0]"
    assert found["What 100 more labels add to the probe, points [90 %]"] == "1.0 [0.0, 2.0]"
    assert found["Domain: MMD²"] == "0.25; 0 is near (one half against the other), 0.5 is far (shuffled letters)"
    assert found["Distance, 0 near to 1 far"] == "0.500"
    assert found["Domain"] == "No mask."
    assert found["Parameters"] == "22,000,000; LoRA would add 300,000"
    assert found["Activations kept per example, measured"] == "5.0 MB"
    assert found["Memory to train in"] == "8.0 GB"
    assert found["LogME"] == "0.1732"


def test_a_position_needs_a_scale():
    flat = DomainMeasure("unknown", 0.0, 0.0, 0.0, "", "")
    assert flat.position != flat.position
    none = DomainEvidence("rows", 9, (flat,))
    assert none.position != none.position
    beyond = DomainMeasure("far", 3.0, 0.0, 1.0, "", "")
    before = DomainMeasure("near", -1.0, 0.0, 1.0, "", "")
    half = DomainMeasure("half", 0.4, 0.0, 1.0, "", "")
    assert DomainEvidence("rows", 9, (beyond, before, half, flat)).position == 0.4
    assert DomainEvidence("rows", 9, (beyond, half)).position == 0.7
