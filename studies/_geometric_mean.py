"""Mean of ratios over cases, in logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, nan, sqrt
from statistics import mean, stdev

from scipy.stats import t as student


def geometric_mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean and the ends of its Student-t interval of 95%, NaN where there are too few numbers."""
    logs = [log(value) for value in values]
    if not logs:
        return nan, nan, nan
    half = float(student.ppf(0.975, len(logs) - 1)) * stdev(logs) / sqrt(len(logs)) if len(logs) > 1 else nan
    return exp(mean(logs)), exp(mean(logs) - half), exp(mean(logs) + half)
