"""Distances between samples and a law that high dimensions allow: Fréchet, sliced Wasserstein and energy distance.

All three are squares of metrics. A finite sample is at a distance from its own law: of order 1/n, whatever the sampler
does. Each estimate therefore comes in three numbers: the distance with that bias taken off, its standard error, and the
bias. All by the jackknife over groups of particles: of a statistic that is smooth in the empirical law it removes the
bias of order 1/n (Miller 1974, "The jackknife: a review"). Near distance zero, where the statistic is quadratic in the
noise, the error is too large by about √2, never too small.

Runs that share starts and noise (``path_times`` of :func:`srkverify.sample`) share most of their sampling noise too.
Rows of ``samples`` and ``reference`` with the same number are therefore deleted together, so that errors account for
it; :func:`frechet` can use it to measure far below the bias of its plain form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srkverify import _check
from srkverify._check import Array
from srkverify.targets import GaussianMixture, Target

GROUPS = 20
_SYMMETRIC = 1e-8  # relative: how far a covariance may be from symmetric and from positive semidefinite
_ENTRIES = 1 << 22  # of a matrix of distances at a time


@dataclass(frozen=True)
class Distance:
    """An estimate of a distance.

    Attributes
    ----------
    value : float
        The estimate without the bias of a finite sample; negative, perhaps, if the distance is within its error of 0.
    error : float
        Its standard error.
    bias : float
        What a sample of this size adds in expectation, estimated.
    """

    value: float
    error: float
    bias: float

    @property
    def plain(self) -> float:
        """The distance of the empirical laws themselves, as it is usually reported: value + bias."""
        return self.value + self.bias


def moments(target: Target, time: float = 0.0) -> tuple[Array, Array]:
    """Return the exact mean (d,) and covariance (d, d) of a target at forward time ``time``.

    Raises
    ------
    ValueError
        If ``time`` is negative or not finite.
    """
    law = target.diffused(time)
    if isinstance(law, GaussianMixture):
        return _mixture_moments(law)
    mean, covariance = np.zeros(law.dimension), np.zeros((law.dimension, law.dimension))
    begin = 0
    for block, repeat in zip(law.blocks, law.repeats, strict=True):
        own = _mixture_moments(block)
        for _ in range(repeat):
            part = slice(begin, begin := begin + block.dimension)
            mean[part], covariance[part, part] = own
    if law.rotation is None:
        return mean, covariance
    return law.rotation @ mean, law.rotation @ covariance @ law.rotation.T


def gaussian_frechet(
    mean: ArrayLike, covariance: ArrayLike, other_mean: ArrayLike, other_covariance: ArrayLike
) -> float:
    """Return |m − m'|² + tr(C + C' − 2 (C^{1/2} C' C^{1/2})^{1/2}), two Gaussians' squared 2-Wasserstein distance.

    Of laws that are not Gaussian it is the Fréchet distance of their first two moments (Dowson & Landau 1982, eq. 16;
    with network features as coordinates it is the FID, arXiv 1706.08500, eq. 6).

    Parameters
    ----------
    mean, other_mean : (d,)
    covariance, other_covariance : (d, d) symmetric positive semidefinite.

    Raises
    ------
    ValueError
        If an argument is not finite, has another shape, or is not a covariance.
    """
    first = _law("mean", mean, "covariance", covariance)
    second = _law("other_mean", other_mean, "other_covariance", other_covariance)
    if len(first[0]) != len(second[0]):
        raise ValueError(f"other_mean must have {len(first[0])} entries as mean; got {len(second[0])}")
    return _frechet(*second, *first, _root(first[1]))


def frechet(
    samples: ArrayLike,
    mean: ArrayLike,
    covariance: ArrayLike,
    *,
    coupled: ArrayLike | None = None,
    groups: int = GROUPS,
) -> Distance:
    """Estimate the Fréchet distance between the law of ``samples`` and one with known moments.

    :func:`gaussian_frechet` of sample mean and sample covariance (with n − 1). With ``coupled``, draws of the very law
    that has the given moments, made so that row i is close to row i of ``samples``, the moments are taken to be

        m + mean(samples) − mean(coupled),    C + cov(samples) − cov(coupled):

    control variates, whose noise is that of the differences of rows. Negative eigenvalues of the latter count as 0.

    Parameters
    ----------
    samples : (n, d)
    mean, covariance : (d,) and (d, d)
    coupled : (n, d), optional
    groups : int
        Of the jackknife, in [2, n/2].

    Raises
    ------
    ValueError
        If an argument is not finite or has another shape, or ``covariance`` is not one.
    """
    points = _points("samples", samples)
    count, dimension = points.shape
    centre, matrix = _law("mean", mean, "covariance", covariance, dimension)
    labels = _labels(count, groups)
    control = None if coupled is None else _points("coupled", coupled, dimension)
    if control is not None and len(control) != count:
        raise ValueError(f"coupled must have a row for each of the {count} samples; got {len(control)}")
    root = _root(matrix)
    found = _Sums.of(points - centre, labels)
    other = None if control is None else _Sums.of(control - centre, labels)

    def without(group: int | None) -> float:
        shift, spread = found.moments(group)
        if other is not None:
            its_shift, its_spread = other.moments(group)
            shift, spread = np.subtract(shift, its_shift), matrix + spread - its_spread
        return _frechet(centre + shift, spread, centre, matrix, root)

    return _jackknife(without(None), [without(group) for group in range(groups)])


def sliced_wasserstein(
    samples: ArrayLike,
    reference: ArrayLike,
    *,
    directions: int = 128,
    order: int = 2,
    seed: int = 0,
    groups: int = GROUPS,
) -> Distance:
    """Estimate the mean over directions θ of W_p(θ·X, θ·Y)^p, exactly optimal on each line (Bonneel et al. 2015).

    The same random directions, uniform on the sphere, for the same ``seed``: the error does not include their choice.

    Parameters
    ----------
    samples, reference : (n, d) and (m, d)
    directions : int
        Number of directions ≥ 1.
    order : int
        p, 1 or 2.
    seed : int
        Of the directions, ≥ 0.
    groups : int
        Of the jackknife, in [2, min(n, m)/2].

    Raises
    ------
    ValueError
        If an argument is not finite, of another shape or out of its range.
    """
    points, others = _pair(samples, reference)
    count = _check.integer("directions", directions, at_least=1)
    power = _check.integer("order", order, at_least=1, below=3)
    _labels(min(len(points), len(others)), groups)
    generator = np.random.default_rng(_check.integer("seed", seed, at_least=0))
    axes = generator.standard_normal((count, points.shape[1]))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    lines = []
    for data in (points, others):
        along = axes @ data.T
        ranks = np.argsort(along, axis=1)
        lines.append((np.take_along_axis(along, ranks, axis=1), ranks % groups))

    def without(group: int | None) -> float:
        one, two = (values if group is None else values[places != group].reshape(count, -1) for values, places in lines)
        widths, i, j = _common_levels(one.shape[1], two.shape[1])
        return float((np.abs(one[:, i] - two[:, j]) ** power @ widths).mean())

    return _jackknife(without(None), [without(group) for group in range(groups)])


def energy(samples: ArrayLike, reference: ArrayLike, *, paired: bool = False, groups: int = GROUPS) -> Distance:
    """Estimate the energy distance 2 E|X − Y| − E|X − X'| − E|Y − Y'| (Székely & Rizzo 2013, eq. 5).

    The square of what ``scipy.stats.energy_distance`` returns in one dimension. The value is the U-statistic, which is
    without bias; ``plain`` is the V-statistic of the empirical laws.

    Parameters
    ----------
    samples, reference : (n, d) and (m, d)
    paired : bool
        Whether row i of the two is coupled, n = m: pairs (i, i) then are left out of E|X − Y|, which keeps the estimate
        without bias.
    groups : int
        Of the jackknife, in [2, min(n, m)/2].

    Raises
    ------
    ValueError
        If an argument is not finite, of another shape or out of its range.
    """
    points, others = _pair(samples, reference)
    if paired and len(points) != len(others):
        raise ValueError(f"reference must have {len(points)} rows, as samples, if paired; got {len(others)}")
    _labels(min(len(points), len(others)), groups)
    middle = others.mean(axis=0)
    points, others = points - middle, others - middle
    sizes = [np.bincount(np.arange(len(data)) % groups, minlength=groups) for data in (points, others)]
    across, own, its = (_block_sums(a, b, groups) for a, b in ((points, others), (points, points), (others, others)))
    gaps = np.linalg.norm(points - others, axis=1) if paired else np.zeros(len(points))
    pairs = np.bincount(np.arange(len(points)) % groups, gaps, groups)

    def without(group: int | None, unbiased: bool = True) -> float:
        kept = np.arange(groups) != (-1 if group is None else group)
        n, m = (int(size[kept].sum()) for size in sizes)
        cross, same, other = (blocks[np.ix_(kept, kept)].sum() for blocks in (across, own, its))
        if not unbiased:
            return float(2.0 * cross / (n * m) - same / n**2 - other / m**2)
        cross = (cross - pairs[kept].sum()) / (n * (m - 1)) if paired else cross / (n * m)
        return float(2.0 * cross - same / (n * (n - 1)) - other / (m * (m - 1)))

    found = _jackknife(without(None), [without(group) for group in range(groups)])
    value = without(None)
    return Distance(value, found.error, without(None, unbiased=False) - value)


@dataclass(frozen=True)
class _Sums:
    """Sums over groups of rows: their numbers (g,), the rows (g, d) and the rows' squares (g, d, d)."""

    counts: NDArray[np.int64]
    first: Array
    second: Array

    @classmethod
    def of(cls, rows: Array, labels: NDArray[np.int64]) -> _Sums:
        """Sum ``rows`` by their labels."""
        parts = [rows[labels == label] for label in range(labels.max() + 1)]
        first = np.stack([part.sum(axis=0) for part in parts])
        return cls(np.array([len(part) for part in parts]), first, np.stack([part.T @ part for part in parts]))

    def moments(self, without: int | None) -> tuple[Array, Array]:
        """Return mean and covariance of all rows, or of all but those of a group."""
        n, first, second = int(self.counts.sum()), self.first.sum(axis=0), self.second.sum(axis=0)
        if without is not None:
            n, first, second = n - int(self.counts[without]), first - self.first[without], second - self.second[without]
        mean = first / n
        return mean, (second - n * np.outer(mean, mean)) / (n - 1)


def _mixture_moments(law: GaussianMixture) -> tuple[Array, Array]:
    mean = law.weights @ law.means
    centred = law.means - mean
    between = (centred.T * law.weights) @ centred
    within = law.weights @ np.broadcast_to(law.variances, (law.components, law.variances.shape[1]))
    if law.bases is None:
        between[np.diag_indices(law.dimension)] += within
        return mean, between
    if len(law.bases) == 1:
        return mean, between + (law.bases[0] * within) @ law.bases[0].T
    for weight, basis, variances in zip(law.weights, law.bases, law.variances, strict=True):
        between += weight * ((basis * variances) @ basis.T)
    return mean, between


def _frechet(mean: Array, covariance: Array, centre: Array, matrix: Array, root: Array) -> float:
    inner = np.linalg.eigvalsh(root @ covariance @ root)
    shift = mean - centre
    traces = np.trace(covariance) + np.trace(matrix)
    return float(shift @ shift + traces - 2.0 * np.sqrt(np.maximum(inner, 0.0)).sum())


def _root(covariance: Array) -> Array:
    values, basis = np.linalg.eigh(covariance)
    root: Array = (basis * np.sqrt(np.maximum(values, 0.0))) @ basis.T
    return root


def _law(
    mean_name: str, mean: ArrayLike, name: str, covariance: ArrayLike, dimension: int | None = None
) -> tuple[Array, Array]:
    """Return a checked mean and covariance."""
    centre = _check.finite_array(mean_name, mean, dimensions=(1,))
    if dimension is not None and len(centre) != dimension:
        raise ValueError(f"{mean_name} must have {dimension} entries, as samples have columns; got {len(centre)}")
    matrix = _check.finite_array(name, covariance, dimensions=(2,))
    if matrix.shape != (len(centre), len(centre)):
        raise ValueError(f"{name} must have shape {(len(centre), len(centre))}; got {matrix.shape}")
    scale = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > _SYMMETRIC * scale:
        raise ValueError(f"{name} must be symmetric; got entries that differ by {np.abs(matrix - matrix.T).max():.3g}")
    if (least := float(np.linalg.eigvalsh(matrix)[0])) < -_SYMMETRIC * scale:
        raise ValueError(f"{name} must be positive semidefinite; got an eigenvalue of {least:.3g}")
    return centre, matrix


def _points(name: str, value: ArrayLike, dimension: int | None = None) -> Array:
    points = _check.finite_array(name, value, dimensions=(2,))
    if dimension is not None and points.shape[1] != dimension:
        raise ValueError(f"{name} must have {dimension} columns, as samples; got {points.shape[1]}")
    return points


def _pair(samples: ArrayLike, reference: ArrayLike) -> tuple[Array, Array]:
    points = _points("samples", samples)
    return points, _points("reference", reference, points.shape[1])


def _labels(count: int, groups: int) -> NDArray[np.int64]:
    """Return the group of each row, in turn."""
    if count < 4:
        raise ValueError(f"samples and reference must have at least 4 rows; got {count}")
    return np.arange(count) % _check.integer("groups", groups, at_least=2, below=count // 2 + 1)


def _common_levels(n: int, m: int) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return the parts of [0, 1] on which quantile functions of n and m points are constant, and the points there."""
    cuts = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # in units of 1/(nm): exact
    return np.diff(cuts, prepend=0) / (n * m), (cuts - 1) // m, (cuts - 1) // n


def _block_sums(rows: Array, columns: Array, groups: int) -> Array:
    """Return the sums of distances between the groups of two samples, (groups, groups)."""
    squares = (rows**2).sum(axis=1), (columns**2).sum(axis=1)
    member = [np.eye(groups)[np.arange(len(data)) % groups] for data in (rows, columns)]
    sums = np.zeros((groups, groups))
    size = max(1, _ENTRIES // len(columns))
    for begin in range(0, len(rows), size):
        part = slice(begin, begin + size)
        gaps = squares[0][part, None] + squares[1] - 2.0 * rows[part] @ columns.T
        np.sqrt(np.maximum(gaps, 0.0, out=gaps), out=gaps)
        if rows is columns:  # from a point to itself, which rounding does not make zero
            np.fill_diagonal(gaps[:, part], 0.0)
        sums += member[0][part].T @ (gaps @ member[1])
    return sums


def _jackknife(whole: float, parts: list[float]) -> Distance:
    """Return the estimate without its bias of order 1/n from the whole sample's and those without one group."""
    groups, values = len(parts), np.array(parts)
    bias = (groups - 1) * (float(values.mean()) - whole)
    return Distance(whole - bias, float(np.sqrt((groups - 1) * values.var())), bias)
