"""An exponent that groups of data share, each group with a constant of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan, sqrt

import numpy as np
from scipy.stats import t as student

from srkverify.complexity import Exponent


def common_slope(
    places: Sequence[float], costs: Sequence[float], groups: Sequence[float] | None = None, confidence: float = 0.95
) -> Exponent:
    """Least squares of log cost on log place, with an intercept for each group, and a Student-t interval.

    If each ε is a group, how K* grows with 1/ε is no scatter of the exponent in d. The interval measures what is left:
    whole numbers and curvature; it is NaN without a degree of freedom.

    Parameters
    ----------
    places, costs : (n,) positive; places differ in at least one group.
    groups : (n,) labels, or None for one group.
    confidence : in (0, 1).
    """
    x, y = np.log(np.asarray(places, dtype=float)), np.log(np.asarray(costs, dtype=float))
    group = np.zeros(len(x)) if groups is None else np.asarray(groups)
    labels = np.unique(group)
    for label in labels:
        x[group == label] -= x[group == label].mean()
        y[group == label] -= y[group == label].mean()
    slope = float(x @ y / (x @ x))
    freedom = len(x) - len(labels) - 1
    if freedom < 1:
        return Exponent(slope, nan, nan, len(x))
    scatter = float(np.square(y - slope * x).sum()) / freedom
    half = float(student.ppf(0.5 + 0.5 * confidence, freedom)) * sqrt(scatter / float(x @ x))
    return Exponent(slope, slope - half, slope + half, len(x))
