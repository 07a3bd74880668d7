"""Dates of an items or users table as numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from warmstart.data.features import days


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1970-01-03", 2.0),
        ("02-Jan-1970", 1.0),
        ("1969-12-31T12:00:00Z", -0.5),
        ("5201-01-01", 1180099.0),  # beyond what nanoseconds reach
        ("5201", np.nan),  # a code
        ("V3N4P", np.nan),
        (None, np.nan),
    ],
)
def test_days(text: str | None, want: float) -> None:
    found = days(pd.Series([text, "1970-01-01"], dtype=object))
    np.testing.assert_equal(found, [want, 0.0])
