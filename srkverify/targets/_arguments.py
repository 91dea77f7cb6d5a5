"""Arguments of targets: each function returns the checked array, or raises ``ValueError`` naming it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array


def points(name: str, value: ArrayLike, dimension: int) -> Array:
    """Return ``value`` as finite points, of shape (n, d) or (d,), or raise ``ValueError``."""
    result = _check.finite_array(name, value, dimensions=(1, 2))
    if result.shape[-1] != dimension:
        raise ValueError(f"{name} must have shape (n, {dimension}) or ({dimension},); got {result.shape}")
    return result


def orthogonal(name: str, value: ArrayLike, dimension: int) -> Array:
    """Return ``value`` as a (d, d) matrix that is orthogonal to 1e-10, or raise ``ValueError``."""
    result = _check.finite_array(name, value, dimensions=(2,))
    if result.shape != (dimension, dimension):
        raise ValueError(f"{name} must have shape ({dimension}, {dimension}); got {result.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        departure = np.abs(result.T @ result - np.eye(dimension)).max()
    if not departure <= 1e-10:
        raise ValueError(f"{name} must be orthogonal to 1e-10; got one that departs by {departure:.3g}")
    return result


def weights(value: ArrayLike) -> Array:
    """Return (c,) weights divided by their sum."""
    result = _check.finite_array("weights", value, dimensions=(1,))
    if result.min() < 0.0:
        i = int(result.argmin())
        raise ValueError(f"weights must be >= 0; got {result[i]} at index {i}")
    if abs(result.sum() - 1.0) > 1e-9:
        raise ValueError(f"weights must sum to 1 within 1e-9; got the sum {result.sum()}")
    return np.asarray(result / result.sum())


def means(value: ArrayLike, components: int) -> Array:
    """Return (c, d) means."""
    result = _check.finite_array("means", value)
    if result.ndim == 1:
        c = len(result)
        raise ValueError(f"means must have shape (c, d); got {result.shape}: in one dimension pass shape ({c}, 1)")
    if result.ndim != 2 or len(result) != components:
        raise ValueError(f"means must have shape ({components}, d), one row a weight; got {result.shape}")
    return result


def spectrum(value: ArrayLike, shape: tuple[int, ...]) -> tuple[Array, Array | None]:
    """Return the variances and bases of ``GaussianMixture`` for covariances in any allowed form."""
    c, d = shape
    given = _check.finite_array("covariances", value)
    allowed = [(), (c,), (c, d), (1, d), (c, d, d), (1, d, d)]
    if given.shape not in allowed:
        listed = ", ".join(map(str, dict.fromkeys(allowed[1:])))
        raise ValueError(f"covariances must be a scalar or have one of the shapes {listed}; got {given.shape}")
    if given.ndim == 3 and d > 1:
        return _eigen(given)
    # In one dimension a full matrix is a variance: no basis is kept, and the kind is isotropic.
    variances = given.reshape(-1, given.shape[-1] if given.ndim > 1 else 1)
    if variances.min() < 0.0:
        raise ValueError(f"covariances must be positive semidefinite; got the variance {variances.min()}")
    return variances, None


def _eigen(matrices: Array) -> tuple[Array, Array]:
    """Return eigenvalues (1 or c, d) and eigenvectors (1 or c, d, d) of symmetric semidefinite matrices."""
    transposed = matrices.swapaxes(1, 2)
    asymmetry = np.abs(matrices - transposed).max(axis=(1, 2))
    if (asymmetry > 1e-10 * np.abs(matrices).max(axis=(1, 2))).any():
        raise ValueError(f"covariances must be symmetric to 1e-10; got a difference of {asymmetry.max():.3g}")
    eigenvalues, bases = np.linalg.eigh(0.5 * (matrices + transposed))
    largest = np.abs(eigenvalues).max(axis=1, keepdims=True)
    if (eigenvalues < -1e-12 * largest).any():
        raise ValueError(f"covariances must be positive semidefinite; got the eigenvalue {eigenvalues.min()}")
    # Rounding leaves a singular matrix with eigenvalues of either sign near zero; keeping the positive
    # ones would give a degenerate law a density at time 0, made of rounding errors.
    rounding = matrices.shape[-1] * np.finfo(np.float64).eps * largest
    return np.where(eigenvalues <= rounding, 0.0, eigenvalues), bases
