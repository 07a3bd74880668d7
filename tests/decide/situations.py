"""Evidence made up for the tests of decide."""

from warmstart.core.decision import ComputeEvidence
from warmstart.core.records import Evidence, Interval
from warmstart.decide.forecast import Rows, forecast_costs

EPOCHS = {"fine_tune": 4.0, "progressive": 8.0, "lora": 6.0, "scratch": 20.0}


def around(value, half=0.02):
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def compute(**changes):
    given = {
        "parameters": 22_000_000,
        "stored_bytes": 88_000_000,
        "lora_parameters": 600_000,
        "activation_bytes": 20e6,
        "forward_bytes": 1e6,
        "batch": 16,
        "resident_bytes": 0,
        "device_bytes": None,
        "measured": True,
    }
    return ComputeEvidence(**(given | changes))


def evidence(per_class=100.0, classes=6, **changes):
    given = {
        "labelled": int(per_class * classes),
        "classes": classes,
        "per_class_min": int(per_class),
        "per_class_median": float(per_class),
        "majority": 0.3,
        "zero_shot": around(0.6),
        "tfidf": around(0.78),
        "knn": around(0.79),
        "probe": around(0.83),
        "seconds_forward": 0.01,
        "seconds_train": 0.04,
        "parameters": 22_000_000,
        "budget_seconds": None,
        "device": "cpu",
    }
    return Evidence(**(given | changes))


def costs(given, **options):
    return forecast_costs(given, Rows(given.labelled, 100, 1000), options.pop("epochs", EPOCHS), **options)
