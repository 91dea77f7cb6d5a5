"""What one would otherwise estimate KL(q ‖ p) with, from samples x ~ q and y ~ p alone: kl_estimators.py runs them.

Each is written as one would who knows the method: all threads where SciPy has them, no point scored by itself, equal
smoothing of both samples so that its biases cancel as p → q. Each raises ``UndefinedError`` where its formula has no
value (coinciding points, a singular covariance, a density that underflows) instead of leaving points out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial import cKDTree
from scipy.stats import gaussian_kde

Array = NDArray[np.float64]
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class UndefinedError(ValueError):
    """An estimator has no value on these samples; the message says why."""


def nearest_neighbours(x: Array, y: Array, neighbours: int = 5) -> float:
    """Return the k-nearest-neighbour estimate of Wang, Kulkarni and Verdú (IEEE Trans. Inf. Theory 55(5), 2009, eq. 5).

    With ρ_k(i) the distance of x_i to its k-th neighbour among the other x, and ν_k(i) to its k-th among the y:
    d/n Σ_i log(ν_k(i) / ρ_k(i)) + log(m / (n − 1)). It is consistent, but in high dimensions the distances are as long
    as the law is wide, whatever n is: the bias is then of first order in p − q, of either sign, and KL of second.
    """
    (n, dimension), m = x.shape, len(y)
    if min(n - 1, m) < neighbours:
        raise UndefinedError(f"{neighbours} neighbours of {n} and {m} points")
    among_x = cKDTree(x).query(x, [neighbours + 1], workers=THREADS)[0]  # the nearest of all is x_i itself
    among_y = cKDTree(y).query(x, [neighbours], workers=THREADS)[0]
    zeros = np.count_nonzero((among_x == 0.0) | (among_y == 0.0))
    if zeros:
        raise UndefinedError(f"{zeros} of {n} points coincide with {neighbours} others")
    return float(dimension * np.log(among_y / among_x).mean() + np.log(m / (n - 1)))


def gaussian_moments(x: Array, y: Array) -> float:
    """Return the KL of the Gaussians with the means and covariances of the samples.

    On a mixture it tends to the KL of other laws than those sampled: its error has a limit that no n improves.
    """
    dimension = x.shape[1]
    try:
        root_x, root_y = (cholesky(np.atleast_2d(np.cov(points, rowvar=False)), lower=True) for points in (x, y))
    except np.linalg.LinAlgError:
        raise UndefinedError(f"singular covariance of {min(len(x), len(y))} points") from None
    ratio = solve_triangular(root_y, root_x, lower=True)
    shift = solve_triangular(root_y, y.mean(axis=0) - x.mean(axis=0), lower=True)
    logs = np.log(np.diag(root_y)) - np.log(np.diag(root_x))
    return float(0.5 * (np.square(ratio).sum() + shift @ shift - dimension) + logs.sum())


def histogram(x: Array, y: Array) -> float:
    """Return the KL of counts in cells of Scott's width, 3.49 σ n^{−1/(d+2)} in each coordinate.

    Half a count is added to every cell that holds a point, or one that y misses would make the KL infinite. A KL of
    cells is at most that of the laws; the noise of B cells adds about (B − 1)/n.
    """
    n, dimension = x.shape
    low, high = np.minimum(x.min(axis=0), y.min(axis=0)), np.maximum(x.max(axis=0), y.max(axis=0))
    width = 3.49 * y.std(axis=0) * n ** (-1.0 / (dimension + 2))
    if not (width > 0.0).all():
        raise UndefinedError("all points have a coordinate in common")
    cells = np.maximum(1, np.ceil((high - low) / width)).astype(int)
    ranges = list(zip(low, high, strict=True))
    of_q, of_p = (np.histogramdd(points, cells, ranges)[0].ravel() for points in (x, y))
    held = of_q + of_p > 0.0
    of_q, of_p = (counts[held] + 0.5 for counts in (of_q, of_p))
    of_q, of_p = of_q / of_q.sum(), of_p / of_p.sum()
    return float(of_q @ np.log(of_q / of_p))


def kernel_density(x: Array, y: Array) -> float:
    """Return the mean over x of log(q̂/p̂), Gaussian kernels of Scott's bandwidth; q̂(x_i) leaves x_i out."""
    n = len(x)
    try:
        of_q, of_p = gaussian_kde(x.T), gaussian_kde(y.T)
    except np.linalg.LinAlgError:
        raise UndefinedError(f"singular covariance of {min(n, len(y))} points") from None
    parts = np.array_split(x.T, THREADS, axis=1)
    with ThreadPoolExecutor(THREADS) as pool:
        q, p = (np.concatenate(list(pool.map(law.evaluate, parts))) for law in (of_q, of_p))
    alone = np.exp(-0.5 * np.linalg.slogdet(2.0 * np.pi * of_q.covariance)[1])  # the kernel at its own point
    others = (n * q - alone) / (n - 1)
    zeros = np.count_nonzero((others <= 0.0) | (p <= 0.0))
    if zeros:
        raise UndefinedError(f"{zeros} of {n} points are out of reach of all kernels")
    return float(np.log(others / p).mean())


# Name: the estimate of two samples, and the largest dimension that it is meant for.
BASELINES: dict[str, tuple[Callable[[Array, Array], float], float]] = {
    "kNN": (nearest_neighbours, np.inf),
    "Gaussian": (gaussian_moments, np.inf),
    "histogram": (histogram, 2),
    "KDE": (kernel_density, 3),
}
