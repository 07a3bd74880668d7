"""What was measured before a decision, as names and values: for the report's list and for the terminal."""

from __future__ import annotations

from warmstart.core.decision import ComputeEvidence, DomainEvidence, Evidence, LabelEvidence
from warmstart.core.sizes import show_bytes
from warmstart.report import formats


def evidence_lines(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Everything that was measured, in the order labels, scores, domain, compute; what was not is left out."""
    lines = [
        ("Labelled rows", f"{evidence.labelled:,} in {evidence.classes:,} classes"),
        (
            "Rows per class",
            f"{evidence.per_class_min:,} in the smallest, {evidence.per_class_median:g} in the median class",
        ),
    ]
    if evidence.labels is not None:
        lines += _labels(evidence.labels)
    lines.append(("Majority class", formats.percent(evidence.majority)))
    scores = (
        ("Zero-shot, %", evidence.zero_shot),
        ("TF-IDF, %", evidence.tfidf),
        ("Nearest neighbours, %", evidence.knn),
        ("Linear probe, %", evidence.probe),
    )
    lines += [(name, formats.interval_percent(score)) for name, score in scores]
    if evidence.label_names:
        lines.append(("Weight of the label names in the probe", f"{evidence.label_names:g}"))
    lines += [(name, f"{value:.4g}") for name, value in (evidence.transferability or {}).items()]
    if evidence.domain is not None:
        lines += _domain(evidence.domain)
    lines += [
        ("Forward, per example", f"{formats.number(1000 * evidence.seconds_forward)} ms"),
        ("Training, per example", f"{formats.number(1000 * evidence.seconds_train)} ms"),
    ]
    if evidence.compute is not None:
        lines += _compute(evidence.compute)
    budget = evidence.budget_seconds
    lines += [("Budget", "none" if budget is None else formats.seconds(budget)), ("Device", evidence.device)]
    return tuple(lines)


def _labels(labels: LabelEvidence) -> list[tuple[str, str]]:
    lines = [("Balance of the classes (1: all alike)", f"{labels.balance:.2f}")]
    if labels.noise is not None:
        lines.append(("Labels contradicted with confidence, %", formats.interval_percent(labels.noise)))
    for point in labels.curve:
        name = "Probe" if point.strategy == "linear_probe" else "Neighbours"
        lines.append((f"{name} on {point.rows:,} rows, %", formats.interval_percent(point.score)))
    if labels.gain_probe is not None:
        lines.append((f"What {labels.more_labels} more labels add to the probe, points [90 %]",
                      formats.interval_percent(labels.gain_probe)))  # fmt: skip
    return lines


def _domain(domain: DomainEvidence) -> list[tuple[str, str]]:
    lines = [("Reference domain", f"{domain.reference}, {domain.rows} rows")]
    for measure in domain.measures:
        scale = f"{measure.near:.3g} is near ({measure.near_is}), {measure.far:.3g} is far ({measure.far_is})"
        lines.append((f"Domain: {measure.name}", f"{measure.value:.3g}; {scale}"))
    lines.append(("Distance, 0 near to 1 far", formats.number(domain.position)))
    return lines + [("Domain", note) for note in domain.notes]


def _compute(compute: ComputeEvidence) -> list[tuple[str, str]]:
    how = "measured" if compute.measured else "by the configuration"
    lines = [
        ("Parameters", f"{compute.parameters:,}; LoRA would add {compute.lora_parameters:,}"),
        (f"Activations kept per example, {how}", show_bytes(compute.activation_bytes)),
    ]
    if compute.device_bytes is not None:
        lines.append(("Memory to train in", show_bytes(compute.device_bytes)))
    return lines
