"""Targets with exact scores made of images: fitted mixtures, and the smoothed empirical law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srkverify import _check
from srkverify._check import Array
from srkverify.targets import GaussianMixture, Product, Target
from studies._images_data import DATA, optional

_EQUAL = 1e-9  # relative: variances that differ by less are the same
_FEW = 0.1  # of the directions are found one by one sooner than all at once
_WORTH = 0.2  # of the dimensions must be white noise for a product to be the cheaper form


def fitted(images: ArrayLike, components: int, rank: int, noise: float | None = None, seed: int = 0) -> GaussianMixture:
    """Return a mixture fitted to images, with covariances W_i W_iᵀ + σ² I, W_i of ``rank`` columns, one σ for all.

    Images are assigned by k-means (scikit-learn), each cluster is a component with its share as weight and, as
    covariance, the probabilistic PCA of its images (Tipping & Bishop 1999, eq. 7): σ² is the mean of the variances
    outside the ``rank`` principal directions (scikit-learn's PCA), over all clusters, which is the maximum of the
    likelihood given the assignment and a common σ. Directions of a cluster with variance below σ² are left out.
    A given ``noise`` takes the place of σ: less than the fitted one makes images clean that few directions describe.

    Parameters
    ----------
    images : (n, d)
    components : int
        In [1, n].
    rank : int
        In [0, d).
    noise : float, optional
        σ > 0; by default the one fitted.
    seed : int
        Of k-means; the result is a function of the arguments.

    Raises
    ------
    ValueError
        If ``images`` is not (n, d) and finite, or a number is out of its range.
    RuntimeError
        If scikit-learn is not installed.
    """
    points = _check.finite_array("images", images, dimensions=(2,))
    count, dimension = points.shape
    components = _check.integer("components", components, at_least=1, below=count + 1)
    rank = _check.integer("rank", rank, at_least=0, below=dimension)
    seed = _check.integer("seed", seed, at_least=0, below=2**32)
    labels = _clusters(points, components, seed)
    clusters = [points[labels == label] for label in np.unique(labels)]
    axes, spread, left = zip(*(_principal(cluster, rank) for cluster in clusters), strict=True)
    weights = np.array([len(cluster) for cluster in clusters]) / count
    fit = float(weights @ np.array(left)) / (dimension - rank)
    variance = fit if noise is None else _check.number("noise", noise, above=0.0) ** 2
    covariances = np.stack(
        [
            (axis.T * np.maximum(values - variance, 0.0)) @ axis + variance * np.eye(dimension)
            for axis, values in zip(axes, spread, strict=True)
        ]
    )
    return GaussianMixture(weights, np.stack([cluster.mean(axis=0) for cluster in clusters]), covariances)


def empirical(images: ArrayLike, bandwidth: float) -> GaussianMixture:
    """Return the empirical law of images convolved with N(0, bandwidth² I): one component an image.

    Raises
    ------
    ValueError
        If ``images`` is not (n, d) and finite, or ``bandwidth`` not ≥ 0; zero gives point masses.
    """
    points = _check.finite_array("images", images, dimensions=(2,))
    width = _check.number("bandwidth", bandwidth, at_least=0.0)
    return GaussianMixture(np.full(len(points), 1.0 / len(points)), points, width**2)


def reduced(mixture: GaussianMixture) -> Target:
    """Return the same law as a product of a mixture in few dimensions and white noise, where that is what it is.

    If all covariances are W_i W_iᵀ + σ² I with one σ, and means and the columns of all W_i span r < d dimensions, the
    law is a mixture in R^r times N(0, σ² I) in the other d − r, rotated: exact, and (d/r)² times cheaper where
    covariances are full. A mixture that is not of this kind is returned as it is.
    """
    smallest = float(mixture.variances.min())
    gram = mixture.means.T @ mixture.means
    if mixture.bases is not None:
        scaled = mixture.bases * np.sqrt(np.maximum(mixture.variances - smallest * (1.0 + _EQUAL), 0.0))[:, None, :]
        gram = gram + (scaled @ scaled.swapaxes(1, 2)).sum(axis=0)
    elif np.ptp(mixture.variances) > 0.0:
        return mixture
    spread, axes = np.linalg.eigh(gram)
    rotation = axes[:, ::-1].T
    span = int((spread > _EQUAL * spread[-1]).sum())
    if span == 0 or mixture.dimension - span < _WORTH * mixture.dimension:
        return mixture
    inside = rotation[:span]
    covariances = inside @ mixture.covariances @ inside.T if mixture.kind == "full" else smallest
    noise = GaussianMixture([1.0], np.zeros((1, mixture.dimension - span)), smallest)
    core = GaussianMixture(mixture.weights, mixture.means @ inside.T, covariances)
    return Product([core, noise], rotation=rotation.T)


def _clusters(points: Array, components: int, seed: int) -> NDArray[np.int64]:
    found = optional("sklearn.cluster").KMeans(components, n_init=1, random_state=seed).fit(points)
    return np.asarray(found.labels_, dtype=np.int64)


def _principal(cluster: Array, rank: int) -> tuple[Array, Array, float]:
    """Return principal axes (rank, d), their variances (rank,), and the sum of the others, of a cluster."""
    axes, spread = np.zeros((rank, cluster.shape[1])), np.zeros(rank)
    total = float(cluster.var(axis=0).sum())
    kept = min(rank, len(cluster) - 1)
    if kept > 0 and total > 0.0:  # images of a cluster may all be the same
        solver = "full" if kept > _FEW * min(cluster.shape) else "arpack"
        found = optional("sklearn.decomposition").PCA(kept, svd_solver=solver, random_state=0).fit(cluster)
        axes[:kept] = found.components_
        spread[:kept] = found.explained_variance_ * (len(cluster) - 1) / len(cluster)
    return axes, spread, max(total - float(spread.sum()), 0.0)


@dataclass(frozen=True)
class Entry:
    """A target of the study: images, and the mixture that is made of them."""

    data: str
    make: Callable[[Array], GaussianMixture]
    described: str
    seconds: float  # of a particle and evaluation
    shown_only: bool = False  # too dear for as many particles as distances need


TARGETS: Mapping[str, Entry] = {
    "digits_fitted": Entry("digits", lambda x: fitted(x, 10, 20), "digits, 10 components of rank 20", 1.5e-6),
    "digits_empirical": Entry("digits", lambda x: empirical(x, 0.1), "digits, each of 1797 a component", 1e-5),
    "patches_fitted": Entry("patches", lambda x: fitted(x, 10, 20), "patches, 10 components of rank 20", 1.5e-6),
    "mnist_fitted": Entry("mnist", lambda x: fitted(x, 10, 10, 0.1), "MNIST, 10 components of rank 10", 3e-6),
    "mnist_empirical": Entry("mnist", lambda x: empirical(x, 0.1), "MNIST, each of 5000 a component", 1e-3, True),
    "digits_fitted_100": Entry("digits", lambda x: fitted(x, 100, 10), "digits, 100 components of rank 10", 3e-5),
    "digits_fitted_500": Entry("digits", lambda x: fitted(x, 500, 2, 0.1), "digits, 500 components of rank 2", 5e-5),
    "patches_empirical": Entry("patches", lambda x: empirical(x, 0.1), "patches, each of 5000 a component", 2.5e-5),
    "mnist_fitted_100": Entry("mnist", lambda x: fitted(x, 100, 5, 0.1), "MNIST, 100 components of rank 5", 2e-3),
}


@dataclass(frozen=True)
class Problem:
    """A target as it is simulated: a mixture in r dimensions, white noise in the others, and how they make pixels.

    Attributes
    ----------
    mixture : of dimension r.
    white : number of the other dimensions, d − r.
    variance : of the white noise.
    rotation : (d, d), pixels = rotation @ (mixture's coordinates, white noise); None if r = d.
    side : of the images, d = side².
    """

    mixture: GaussianMixture
    white: int
    variance: float
    rotation: Array | None
    side: int

    def pixels(self, coordinates: Array) -> Array:
        """Return images (n, d) from coordinates (n, d)."""
        return coordinates if self.rotation is None else coordinates @ self.rotation.T


@cache
def problem(target: str) -> Problem:
    """Return the target called ``target`` as it is simulated; remembered.

    Raises
    ------
    RuntimeError
        If the package with its images is not installed.
    """
    entry = TARGETS[target]
    data = DATA[entry.data]
    law = reduced(entry.make(data.load()))
    if isinstance(law, Product):
        core, noise = law.blocks
        return Problem(core, noise.dimension, float(noise.variances[0, 0]), law.rotation, data.side)
    return Problem(law, 0, 0.0, None, data.side)
