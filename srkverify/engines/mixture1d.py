"""One-dimensional mixtures as the density engines read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from srkverify._check import Array


@dataclass(frozen=True, eq=False)
class Mixture1D:
    """One-dimensional Gaussian mixture: weights, means and variances at time 0, each (c,)."""

    weights: Array
    means: Array
    variances: Array

    def diffused(self, times: Array) -> tuple[Array, Array]:
        """Means and variances at ``times``, each times.shape + (c,)."""
        decay = np.exp(-times)[..., None]
        return decay * self.means, decay**2 * self.variances - np.expm1(-2.0 * times)[..., None]

    def score(self, times: Array, points: Array) -> tuple[Array, Array]:
        """Score and its derivative at ``times`` (K,) and ``points`` (K, n), each (K, n)."""
        pull, share, _ = self._responsibilities(times, points)
        score = (share * pull).sum(axis=0)
        precision = 1.0 / self.diffused(times)[1].T[:, :, None]
        return score, (share * ((pull - score) ** 2 - precision)).sum(axis=0)

    def log_density(self, times: Array, points: Array) -> Array:
        """Log density up to a constant at ``times`` (K,) and ``points`` (K, n)."""
        return self._responsibilities(times, points)[2]

    def _responsibilities(self, times: Array, points: Array) -> tuple[Array, Array, Array]:
        """Scores and posterior weights of the components, (c, K, n), and the log density, (K, n)."""
        means, variances = (part.T[:, :, None] for part in self.diffused(times))
        pull = (means - points) / variances
        with np.errstate(divide="ignore"):
            height = np.log(self.weights)[:, None, None] - 0.5 * np.log(variances)
        exponent = height - 0.5 * variances * pull**2
        top = exponent.max(axis=0)
        share = np.exp(exponent - top)
        total = share.sum(axis=0)
        return pull, share / total, top + np.log(total)


Law = tuple[Array, Array, Array]  # weights, means and variances of a mixture at one time, each (c,)


def end_laws(target: Mixture1D, times: Array, start: str) -> tuple[Law, Law]:
    """Laws of a run's two ends: where it starts, q_T ("exact") or N(0, 1) ("normal"), and where it should end, q_δ."""
    means, variances = target.diffused(times[[0, -1]])
    normal = (np.ones(1), np.zeros(1), np.ones(1))
    first = (target.weights, means[0], variances[0]) if start == "exact" else normal
    return first, (target.weights, means[1], variances[1])


def mixture_density(points: Array, weights: Array, means: Array, variances: Array) -> Array:
    """Density at ``points`` (n,) of a mixture with parameters (c,)."""
    exponent = -0.5 * (points[:, None] - means) ** 2 / variances
    return np.exp(exponent) @ (weights / np.sqrt(2.0 * np.pi * variances))


def mixture_log_density(points: Array, weights: Array, means: Array, variances: Array) -> Array:
    """Log density at ``points`` (n,) of a mixture with parameters (c,), as deep as it may be."""
    exponent = -0.5 * (points[:, None] - means) ** 2 / variances
    total: Array = logsumexp(exponent, axis=1, b=weights / np.sqrt(2.0 * np.pi * variances))
    return total


def support(weights: Array, means: Array, variances: Array, reach: float) -> tuple[float, float]:
    """Return the ends of the interval of ``reach`` standard deviations around every component that has weight."""
    present = weights > 0.0
    spread = reach * np.sqrt(variances)
    return float((means - spread)[present].min()), float((means + spread)[present].max())


def sampled(weights: Array, means: Array, variances: Array, spacing: float, reach: float) -> tuple[int, Array]:
    """First grid index and density on the grid of multiples of ``spacing``."""
    left, right = support(weights, means, variances, reach)
    low = int(np.floor(left / spacing))
    points: Array = np.arange(low, int(np.ceil(right / spacing)) + 1) * np.float64(spacing)
    return low, mixture_density(points, weights, means, variances)


def critical_points(
    target: Mixture1D, times: Array, density: float, depth: float, valleys: bool
) -> tuple[Array, Array]:
    """Points (K, n) at which a grid must resolve what a step does, and the grid density needed there, (K, n).

    They lie within 6 standard deviations of the components and, with ``valleys``, where two components are equally
    likely, for there the score is steepest. Where the truth q is small a larger aliasing error e^{−2π² density²} may be
    allowed: the square of the density falls linearly in log q, to zero at e^{−depth} of the largest q.
    """
    present = target.weights > 0.0
    means, variances = (part[:, present] for part in target.diffused(times))
    height = np.log(target.weights[present]) - 0.5 * np.log(variances)
    inside = means[:, :, None] + np.linspace(-6.0, 6.0, 25) * np.sqrt(variances)[:, :, None]
    i, j = np.triu_indices(means.shape[1] if valleys else 1, 1)
    # Roots of a x² + 2 b x + c, the difference of two components' log densities, doubled; x counts from mean i.
    gap = means[:, j] - means[:, i]
    a = 1.0 / variances[:, j] - 1.0 / variances[:, i]
    b = -gap / variances[:, j]
    c = gap**2 / variances[:, j] + 2.0 * (height[:, i] - height[:, j])
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.concatenate([means[:, i] + c / (root - b), means[:, i] - c / (root + b)], axis=1)
    crossings = np.where(np.abs(crossings) < 1e100, crossings, means[:, :1])
    points = np.concatenate([inside.reshape(len(times), -1), crossings], axis=1)
    level = target.log_density(times, points)
    below = level.max(axis=1, keepdims=True) - level
    return points, density * np.sqrt(np.maximum(1.0 - below / depth, 1e-100))
