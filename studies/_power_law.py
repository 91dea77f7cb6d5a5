"""Power laws C d^a K^−p fitted to noisy numbers, and the cost K*(d, ε) that they imply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import t as student

from srkverify._check import Array
from srkverify.complexity import Exponent

_LEAST_RELATIVE_ERROR = 1e-9  # no number is exact: a weight must be finite


@dataclass(frozen=True)
class PowerLaw:
    """KL ~ C d^a K^−p, and K* ~ d^{a/p} (1/ε)^{2/p}, the K at which it is ε².

    Attributes
    ----------
    constant : float
        C.
    dimension, steps : Exponent
        a and p; NaN if d or K does not vary.
    cost_dimension, cost_accuracy : Exponent
        a/p and 2/p.
    scatter : float
        Standard deviation of log KL about the law beyond what the statistical errors explain: curvature, mostly.
    points : int
    """

    constant: float
    dimension: Exponent
    steps: Exponent
    cost_dimension: Exponent
    cost_accuracy: Exponent
    scatter: float
    points: int


def fit_power_law(
    dimensions: Sequence[float],
    steps: Sequence[float],
    values: Sequence[float],
    errors: Sequence[float],
    confidence: float = 0.95,
) -> PowerLaw:
    """Weighted least squares of log KL on log d and log K, with Student-t intervals.

    A number of relative error s has weight 1/(s² + τ²). The scatter τ is the least with which residuals are no larger
    than their weights say (Paule & Mandel 1982): zero if statistical errors explain them, else the misfit of the law
    itself, by which the intervals grow. Intervals of a/p and 2/p follow by linearisation.

    Parameters
    ----------
    dimensions, steps, values, errors : (n,)
        d, K, KL > 0 and its standard error.
    confidence : float
        In (0, 1).
    """
    logs = [np.log(np.asarray(column, dtype=float)) for column in (dimensions, steps, values)]
    noise = np.maximum(np.asarray(errors, dtype=float) / np.asarray(values, dtype=float), _LEAST_RELATIVE_ERROR)
    count = len(noise)
    regressors = [logs[0], -logs[1]]
    varying = [index for index, column in enumerate(regressors) if count and np.ptp(column) > 0.0]
    design = np.stack([np.ones(count), *(regressors[index] for index in varying)], axis=1)
    unknown = Exponent(nan, nan, nan, count)
    if count < design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return PowerLaw(nan, unknown, unknown, unknown, unknown, nan, count)
    freedom = count - design.shape[1]
    scatter = _scatter(design, logs[2], noise, freedom)
    solved, covariance = _solve(design, logs[2], noise, scatter)
    # Without a degree of freedom nothing is known of the scatter, nor of the errors of the exponents.
    width = float(student.ppf(0.5 + 0.5 * confidence, freedom)) if freedom else inf

    def exponent(gradient: Array, value: float) -> Exponent:
        half = width * sqrt(float(gradient @ covariance @ gradient)) if freedom else nan
        return Exponent(value, value - half, value + half, count)

    place = {index: position + 1 for position, index in enumerate(varying)}
    unit = np.eye(design.shape[1])
    a, p = (exponent(unit[place[i]], float(solved[place[i]])) if i in place else unknown for i in (0, 1))
    cost_dimension = cost_accuracy = unknown
    if 1 in place and p.value > 0.0:
        cost_accuracy = exponent(-2.0 / p.value**2 * unit[place[1]], 2.0 / p.value)
        if 0 in place:
            gradient = (unit[place[0]] - a.value / p.value * unit[place[1]]) / p.value
            cost_dimension = exponent(gradient, a.value / p.value)
    return PowerLaw(exp(float(solved[0])), a, p, cost_dimension, cost_accuracy, scatter if freedom else nan, count)


def _solve(design: Array, response: Array, noise: Array, scatter: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the coefficients and their covariance."""
    root = 1.0 / np.sqrt(noise**2 + scatter**2)
    scaled = design * root[:, None]
    coefficients = np.linalg.lstsq(scaled, response * root, rcond=None)[0]
    return coefficients, np.linalg.inv(scaled.T @ scaled)


def _scatter(design: Array, response: Array, noise: Array, freedom: int) -> float:
    """Return τ ≥ 0 at which the weighted squares of the residuals sum to the degrees of freedom."""

    def excess(scatter: float) -> float:
        coefficients, _ = _solve(design, response, noise, scatter)
        return float((((response - design @ coefficients) ** 2) / (noise**2 + scatter**2)).sum()) - freedom

    if not freedom or excess(0.0) <= 0.0:
        return 0.0
    return float(brentq(excess, 0.0, 1.0 + 2.0 * float(np.ptp(response))))
