"""Where a decreasing curve KL(K), known at a few K, falls to a threshold: between its points and beyond them.

Each function returns log K of the crossing, an estimate of its error, and the local order p in KL ~ K^−p.
"""

from __future__ import annotations

from math import exp, inf, isfinite, log, nan

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from srkverify._check import Array

FARTHEST = 60.0  # e^60 steps: beyond, KL is said never to reach the threshold
_WHOLE = 0.1  # a local order this near to an integer is taken for that integer
_TERMS = 3  # of the expansion in 1/K
_SAFETY = 5.0  # two expansions that are both off in the same way differ by less than they are off


def between(
    steps: NDArray[np.int64], value: Array, error: Array, at: int, threshold: float
) -> tuple[float, float, float]:
    """Crossing between points at − 1 and at: a cubic in log–log through the four nearest points.

    The error estimate is the largest change when one of the outer points is left out, plus the numerical
    error.
    """
    x = np.log(steps)
    with np.errstate(divide="ignore"):
        y = np.log(value) - log(threshold)
    width = float(x[at] - x[at - 1])
    if not (isfinite(y[at - 1]) and isfinite(y[at])):  # unstable, or KL = 0: only the bracket is known
        return float(x[at]), width, nan
    order = float(y[at - 1] - y[at]) / width
    start = min(max(at - 2, 0), max(len(x) - 4, 0))
    stencil = [index for index in range(start, min(start + 4, len(x))) if isfinite(y[index])]
    root = _root_between(x, y, stencil, at)
    outer = [index for index in stencil if index not in (at - 1, at)]
    changes = [abs(_root_between(x, y, [i for i in stencil if i != out], at) - root) for out in outer]
    numerical = float((error[at - 1 : at + 1] / value[at - 1 : at + 1]).max()) / order
    return root, min(max(changes, default=width) + numerical, width), order


def beyond(steps: NDArray[np.int64], value: Array, error: Array, threshold: float) -> tuple[float, float, float]:
    """Crossing beyond the last point: KL = K^−p (C_0 + C_1/K + C_2/K²) through the last three points.

    p is the order between the last two points if that is nearly an integer; otherwise the integer around it
    with the smallest error estimate. The estimate is five times the change when the three points before the
    last are used instead (or one term less, if there are only three points), or the change when p ≥ 4 is
    replaced by p − 2 if that is larger, plus the numerical error. If no expansion reaches the threshold, a
    pure power law is left, whose error is its change when the order is replaced by the former one or by the
    integers around it.

    Raises
    ------
    ValueError
        If there are fewer than two finite values or the last two do not fall.
    """
    finite = np.isfinite(value)
    rungs, value, relative = steps[finite].astype(np.float64), value[finite], error[finite] / value[finite]
    if len(rungs) < 2 or value[-1] >= value[-2]:
        raise ValueError(
            "ladder must end with at least 2 stable rungs between which KL falls, to be extrapolated to "
            f"epsilon² = {threshold:g}; got KL = {value[-2:].tolist()} at K = {rungs[-2:].tolist()}"
        )
    orders = -np.diff(np.log(value)) / np.diff(np.log(rungs))
    terms = min(_TERMS, len(rungs))
    last = slice(-terms, None)
    other = slice(-terms - 1, -1) if len(rungs) > terms else slice(1 - terms, None)
    nearest = round(orders[-1])
    whole = abs(orders[-1] - nearest) <= _WHOLE
    best = (inf, nan, nan)
    for order in (nearest,) if whole else (nearest - 1, nearest, nearest + 1):
        if order >= 1:
            root = _root_beyond(rungs[last], value[last], order, threshold)
            change = abs(_root_beyond(rungs[other], value[other], order, threshold) - root)
            best = min(best, (change if isfinite(change) else inf, root, float(order)))
    change, root, order = best
    if isfinite(change):
        numerical = float(np.abs(_limit_weights(1.0 / rungs[last])) @ relative[last]) / order
        # A term of lower order that is still small takes over in the end: an expansion that has it is asked as well.
        lower = _root_beyond(rungs[last], value[last], round(order) - 2, threshold) if order >= 4.0 else nan
        hidden = abs(lower - root) if isfinite(lower) else 0.0
        return root, max(_SAFETY * change, hidden) + numerical, order
    fall = log(value[-1] / threshold)
    candidates = np.array([orders[-1], *orders[-2:], np.floor(orders[-1]), np.ceil(orders[-1])])
    falls = fall / candidates[candidates > 0.0]
    return log(rungs[-1]) + falls[0], float(np.abs(falls - falls[0]).max()), float(orders[-1])


def _root_between(x: Array, y: Array, stencil: list[int], at: int) -> float:
    """Root of the polynomial through the stencil between x[at − 1] and x[at], where y changes sign."""
    origin, left = float(x[at]), float(x[at - 1] - x[at])  # powers of small numbers keep their digits
    coefficients = np.polynomial.polynomial.polyfit(x[stencil] - origin, y[stencil], len(stencil) - 1)

    def height(shift: float) -> float:
        return float(np.polynomial.polynomial.polyval(shift, coefficients))

    if height(0.0) >= 0.0 or height(left) <= 0.0:  # the curve meets the threshold at a point, to rounding
        return origin if height(0.0) >= 0.0 else origin + left
    return origin + float(brentq(height, left, 0.0, xtol=1e-14))


def _root_beyond(steps: Array, value: Array, order: int, threshold: float) -> float:
    """Log K where K^−p Σ C_j K^−j, through the points given, falls to the threshold; NaN if it never does."""
    scale = float(steps[-1])
    ratios = scale / steps
    coefficients = np.polynomial.polynomial.polyfit(ratios, value / ratios**order, len(steps) - 1)

    def height(distance: float) -> float:
        tail = float(np.polynomial.polynomial.polyval(exp(-distance), coefficients))
        return (log(tail) if tail > 0.0 else -inf) - order * distance - log(threshold)

    if coefficients[0] <= 0.0 or height(FARTHEST) >= 0.0:
        return nan
    if height(0.0) <= 0.0:
        return log(scale)
    return log(scale) + float(brentq(height, 0.0, FARTHEST, xtol=1e-13))


def _limit_weights(points: Array) -> Array:
    """Weights with which values at ``points`` extrapolate to 0."""
    gaps = points - points[:, None]
    np.fill_diagonal(gaps, 1.0)
    ratios = np.broadcast_to(points, gaps.shape) / gaps
    ratios = np.where(np.eye(len(points), dtype=bool), 1.0, ratios)
    return ratios.prod(axis=1)
