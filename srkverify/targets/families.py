"""Families of targets indexed by the dimension d, on which the cost of sampling is measured against d."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from srkverify import _check
from srkverify.targets import GaussianMixture, Product, Target

_WEIGHTS, _MEANS, _VARIANCE = (0.4, 0.6), ((-1.5,), (1.5,)), 0.25
_INTRINSIC = 4  # non-degenerate coordinates of ``low_rank``
_HORIZON, _EARLY_STOP = 6.0, 0.01


def _horizon(dimension: int) -> float:
    return _HORIZON


def _early_stop(dimension: int) -> float:
    return _EARLY_STOP


@dataclass(frozen=True)
class Family:
    """A target for every dimension, with the forward times between which a sampler is run on it.

    With the exact start law q_T the horizon decides only how many of the K steps are spent where q_t is
    nearly Gaussian, so T = 6 serves wherever e^{−T} times the means is small.

    Attributes
    ----------
    name : str
        Its key in :data:`FAMILIES`.
    description : str
        One sentence.
    target : function of d
        The law at time 0, in dimension d ≥ 1.
    horizon, early_stop : functions of d
        Forward times T > δ > 0 at which the sampler starts and stops.
    """

    name: str
    description: str
    target: Callable[[int], Target]
    horizon: Callable[[int], float] = _horizon
    early_stop: Callable[[int], float] = _early_stop


def family(name: str) -> Family:
    """Return the family called ``name``.

    Raises
    ------
    ValueError
        If there is none; the message suggests the nearest name.
    """
    return FAMILIES[_check.choice("family", name, FAMILIES)]


def product_mixture(dimension: int) -> Product:
    """Return d independent copies of 0.4 N(−1.5, 0.25) + 0.6 N(1.5, 0.25)."""
    return Product([_line(_VARIANCE)], [_dimension(dimension)])


def two_point(dimension: int) -> GaussianMixture:
    """Return ½ N(−μ, I/4) + ½ N(μ, I/4) with μ = 1.5 (1, …, 1)/√d: separation 3 in every dimension."""
    return _two_components(_dimension(dimension), 1.5 / sqrt(dimension))


def two_point_growing(dimension: int) -> GaussianMixture:
    """Return ½ N(−μ, I/4) + ½ N(μ, I/4) with μ = 1.5 (1, …, 1): separation 3√d."""
    return _two_components(_dimension(dimension), 1.5)


def gaussian_decaying(dimension: int) -> GaussianMixture:
    """Return N(0, diag(i^−2)), i = 1, …, d."""
    scale = np.arange(1.0, _dimension(dimension) + 1.0)
    return GaussianMixture([1.0], np.zeros((1, dimension)), scale[None] ** -2)


def low_rank(dimension: int) -> Product:
    """Return min(4, d) coordinates of :func:`product_mixture`, the others point masses at 0."""
    intrinsic = min(_INTRINSIC, _dimension(dimension))
    if dimension == intrinsic:
        return product_mixture(dimension)
    return Product([_line(_VARIANCE), GaussianMixture([1.0], [[0.0]], 0.0)], [intrinsic, dimension - intrinsic])


def rough(dimension: int) -> Product:
    """Return d independent copies of 0.4 N(−1.5, 0.25/d) + 0.6 N(1.5, 0.25/d): a score d times as steep."""
    return Product([_line(_VARIANCE / _dimension(dimension))], [dimension])


def _line(variance: float) -> GaussianMixture:
    return GaussianMixture(_WEIGHTS, _MEANS, variance)


def _two_components(dimension: int, offset: float) -> GaussianMixture:
    means = np.full((2, dimension), offset)
    means[0] *= -1.0
    return GaussianMixture([0.5, 0.5], means, _VARIANCE)


def _dimension(value: int) -> int:
    return _check.integer("dimension", value, at_least=1)


FAMILIES: dict[str, Family] = {
    entry.name: entry
    for entry in (
        Family("product_mixture", "d copies of a two-component mixture on the line (2^d modes).", product_mixture),
        Family("two_point", "Two isotropic components at distance 3, whatever d is.", two_point),
        Family(
            "two_point_growing",
            "Two isotropic components at distance 3√d.",
            two_point_growing,
            # The means have norm 1.5√d: ½ log d more time shrinks them to the same size at the horizon.
            horizon=lambda dimension: _HORIZON + 0.5 * log(dimension),
        ),
        Family("gaussian_decaying", "A Gaussian with variances i^−2, i = 1, …, d.", gaussian_decaying),
        Family("low_rank", "Four mixture coordinates, the other d − 4 of zero variance.", low_rank),
        Family(
            "rough",
            "d copies of the mixture on the line with component variance 0.25/d.",
            rough,
            # Early stopping adds variance 2δ = 0.02/d to components of 0.25/d: 8%, in every dimension.
            early_stop=lambda dimension: _EARLY_STOP / dimension,
        ),
    )
}
