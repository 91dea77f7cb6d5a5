"""Exponents of a cost in the dimension and the accuracy, by least squares in logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from srkverify import _check
from srkverify._check import Array


@dataclass(frozen=True)
class Exponent:
    """A fitted slope and its confidence interval; NaN if the data do not determine it.

    Attributes
    ----------
    value, low, high : float
    points : int
        How many data the fit used.
    """

    value: float
    low: float
    high: float
    points: int


@dataclass(frozen=True)
class ExponentFit:
    """Exponents of a cost ~ d^a (1/ε)^b.

    Attributes
    ----------
    dimension, inverse_epsilon : Exponent
        a and b, fitted jointly to all (d, ε).
    dimension_at_smallest_epsilon, inverse_epsilon_at_largest_dimension : Exponent
        Each fitted alone, at the other's extreme: nearer to the asymptotics that a theorem speaks of.
    scatter : float
        Standard deviation of log cost about the joint fit; NaN without degrees of freedom.
    """

    dimension: Exponent
    inverse_epsilon: Exponent
    dimension_at_smallest_epsilon: Exponent
    inverse_epsilon_at_largest_dimension: Exponent
    scatter: float


def fit_exponents(dimensions: ArrayLike, epsilons: ArrayLike, cost: ArrayLike, confidence: float = 0.95) -> ExponentFit:
    """Least squares of log cost on log d and log 1/ε, with Student-t intervals.

    The data are deterministic, so the interval does not speak of repeated sampling: it says how well a
    plane describes them. Its width comes from their scatter about the plane: integer steps, pre-asymptotic
    terms, logarithms, and any curvature. It has its nominal coverage if the scatter is independent and
    normal; systematic curvature is neither, and shows as a difference between the joint exponents and those
    at the extremes.

    Parameters
    ----------
    dimensions, epsilons, cost : (n,) positive
        d, ε, and K* or score evaluations.
    confidence : float
        In (0, 1).

    Raises
    ------
    ValueError
        If the arrays differ in length, hold a value that is not positive, or confidence is outside (0, 1).
    """
    columns = {"dimensions": dimensions, "epsilons": epsilons, "cost": cost}
    checked = {name: _check.finite_array(name, values, dimensions=(1,)) for name, values in columns.items()}
    for name, values in checked.items():
        if values.shape != checked["dimensions"].shape:
            raise ValueError(f"{name} must be as long as dimensions, {len(checked['dimensions'])}; got {len(values)}")
        if values.min() <= 0.0:
            raise ValueError(f"{name} must be positive; got {float(values.min())!r}")
    level = _check.number("confidence", confidence, above=0.0, below=1.0)
    log_d, log_inverse, log_cost = (
        np.log(checked["dimensions"]),
        -np.log(checked["epsilons"]),
        np.log(checked["cost"]),
    )
    smallest, largest = log_inverse == log_inverse.max(), log_d == log_d.max()
    (a, b), scatter = _slopes([log_d, log_inverse], log_cost, level)
    (a_alone,), _ = _slopes([log_d[smallest]], log_cost[smallest], level)
    (b_alone,), _ = _slopes([log_inverse[largest]], log_cost[largest], level)
    return ExponentFit(a, b, a_alone, b_alone, scatter)


def _slopes(columns: Sequence[Array], response: Array, level: float) -> tuple[list[Exponent], float]:
    """Slopes of ``response`` on the columns, NaN for those that do not vary, and the residual scatter."""
    count = len(response)
    varying = [bool(np.ptp(column) > 0.0) for column in columns]
    design = np.stack([np.ones(count), *(c for c, varies in zip(columns, varying, strict=True) if varies)], axis=1)
    coefficients, _, rank, _ = np.linalg.lstsq(design, response, rcond=None)
    freedom = count - design.shape[1]
    if rank < design.shape[1]:  # d and ε vary together: their exponents cannot be told apart
        return [Exponent(nan, nan, nan, count)] * len(columns), nan
    scatter, half = nan, np.full(len(coefficients), nan)
    if freedom > 0:
        scatter = sqrt(float(np.square(response - design @ coefficients).sum()) / freedom)
        spread = np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
        half = float(student.ppf(0.5 + 0.5 * level, freedom)) * scatter * spread
    fitted = iter(zip(coefficients[1:], half[1:], strict=True))
    slopes = []
    for varies in varying:
        value, width = map(float, next(fitted)) if varies else (nan, nan)
        slopes.append(Exponent(value, value - width, value + width, count))
    return slopes, scatter
