"""Outcomes that forecasts are fitted on: `experience.json`, written by `benchmarks/advise_experience.py`.

Each is one strategy on one data set at one size, held against the probe on the same rows.
"""

from __future__ import annotations

import functools
import json
from importlib import resources

from warmstart.decide.response import Observation, Response

FILE = "experience.json"


@functools.cache
def learned_response() -> Response:
    """The regression after everything that was seen when this version was made."""
    text = resources.files("warmstart.decide").joinpath(FILE).read_text(encoding="utf-8")
    return Response(tuple(Observation.from_dict(entry) for entry in json.loads(text)))
