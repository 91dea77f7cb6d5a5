"""Brownian paths in coordinates, so that runs on different grids and by different schemes can share one path.

With u from 0 to h running down a step of length h, every noise of the schemes is a normalised integral
ξ = ∫_0^h φ(u) dB_u with φ in span{e^{−u}, 1, e^u}. So three numbers tell all that a step ever asks of its path:

    ζ_b = ∫_0^h q_b(u) dB_u,   b = 0, 1, 2,

q_0, q_1, q_2 being what Gram–Schmidt in L²[0, h] makes of e^{−u}, 1, e^u in this order, each with a positive
coefficient of the function it is made of. The ζ_b are independent N(0, 1), in each coordinate of the state. On a part
of a step the span is the same, so that the ζ of the parts determine the ζ of the whole, exactly. Derived in
docs/theory.md, section 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srkverify import _check
from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.tableau import Tableau

# Exact to rounding for products of two functions of the span up to h ≈ 30.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_TOLERANCE = 1e-9


def coordinates(h: ArrayLike, kernels: ArrayLike) -> Array:
    """Return noises as functionals of the Brownian path: ξ_m = Σ_b coordinates[k, m, b] ζ_b.

    ξ_m belongs to the part of the m-th kernel that is orthogonal to the kernels before it, divided by its norm.
    Derived in docs/theory.md, section 2.

    Parameters
    ----------
    h : (K,) lengths of steps, positive; the result has all its digits up to h ≈ 30.
    kernels : (M, 3) coefficients of e^{−u}, 1 − e^{−u} and cosh u − 1, the same in all steps, M ≤ 3.
        These three span the same functions as e^{−u}, 1, e^u, but stay apart when h is small.

    Returns
    -------
    (K, M, 3) orthonormal coordinates, as :class:`~srkverify.tableau.Tableau` takes them as ``noise_paths``.

    Raises
    ------
    ValueError
        If a length is not positive or the kernels are not linearly independent.
    """
    lengths = _check.finite_array("h", h, dimensions=(1,))
    if lengths.min() <= 0.0:
        raise ValueError(f"h must be positive; got {lengths.min()}")
    table = _check.finite_array("kernels", kernels, dimensions=(2,))
    if table.shape[1] != 3 or np.linalg.matrix_rank(table) < len(table):
        raise ValueError(f"kernels must be linearly independent rows of 3 coefficients; got {table.tolist()}")
    directions, factor = np.linalg.qr(_factor(lengths) @ table.T)
    return np.swapaxes(directions * _signs(factor)[:, None, :], 1, 2)


def refinement(times: ArrayLike, path_times: ArrayLike) -> tuple[NDArray[np.int64], Array]:
    """Return how the path on a fine grid makes up the path on a coarse one.

    Step k of ``times`` consists of the steps s from offsets[k] to offsets[k + 1] − 1 of ``path_times``, and its path
    has ζ_a = Σ_s Σ_b mixing[s, a, b] ζ_{s,b}. Derived in docs/theory.md, section 2.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    path_times : (S+1,) decreasing forward times with the same ends that contain every entry of ``times``, within a
        relative 1e−9.

    Returns
    -------
    offsets : (K+1,) positions of ``times`` in ``path_times``.
    mixing : (S, 3, 3); the identity for a step that is not divided.

    Raises
    ------
    ValueError
        If either is not a grid, or ``path_times`` has other ends than ``times`` or lacks one of its entries.
    """
    fine = check_times(path_times, name="path_times")
    offsets = _positions(check_times(times), fine)
    parts = np.diff(offsets)
    start = np.repeat(fine[offsets[:-1]], parts) - fine[:-1]
    whole = _factor(fine[offsets[:-1]] - fine[offsets[1:]])
    # Functions of the span in unit length: their norms range from 1 to h^2 or e^h.
    norm = np.linalg.norm(whole, axis=1, keepdims=True)
    restricted = np.swapaxes(_factor(fine[:-1] - fine[1:]) @ _shift(start) / np.repeat(norm, parts, axis=0), 1, 2)
    mixing = np.linalg.solve(np.repeat(np.swapaxes(whole / norm, 1, 2), parts, axis=0), restricted)
    mixing[np.repeat(parts == 1, parts)] = np.eye(3)  # to the last bit
    return offsets, mixing


def noise_weights(tableau: Tableau, path_times: ArrayLike) -> tuple[NDArray[np.int64], Array]:
    """Return the noises of a tableau as functionals of the path on a grid that refines its own.

    ξ_m of step k is Σ_s Σ_b weights[s, m, b] ζ_{s,b}, s from offsets[k] to offsets[k + 1] − 1.

    Parameters
    ----------
    tableau : Tableau
        K steps and M noises, with ``noise_paths``.
    path_times : (S+1,) decreasing forward times, as in :func:`refinement`.

    Returns
    -------
    offsets : (K+1,) positions of the tableau's times in ``path_times``.
    weights : (S, M, 3)

    Raises
    ------
    ValueError
        If the tableau has no ``noise_paths``, or ``path_times`` does not refine its grid.
    """
    if tableau.noise_paths is None:
        raise ValueError(
            f"tableau must have noise_paths; got {tableau.name!r}, a scheme that does not state which functionals of "
            "the Brownian path its noises are"
        )
    offsets, mixing = refinement(tableau.times, path_times)
    return offsets, np.repeat(tableau.noise_paths, np.diff(offsets), axis=0) @ mixing


def _factor(h: Array) -> Array:
    """Return R (K, 3, 3), upper triangular: e^{−u}, 1 − e^{−u}, cosh u − 1 are q_0, q_1, q_2 times its columns.

    The three are e^{−u} times 1, y, y²/2 with y = e^u − 1, so that Gram–Schmidt makes of them what it makes of
    e^{−u}, 1, e^u; their norms shrink with h, the angles between them do not.
    """
    u = 0.5 * (1.0 + _NODES) * h[:, None]
    functions = np.stack([np.exp(-u), -np.expm1(-u), 2.0 * np.sinh(0.5 * u) ** 2], axis=-1)
    factor = np.linalg.qr(np.sqrt(0.5 * _WEIGHTS * h[:, None])[..., None] * functions).R
    return factor * _signs(factor)[..., None]


def _signs(factor: Array) -> Array:
    """Signs of the diagonal: the part of the convention that a QR decomposition leaves open."""
    return np.copysign(1.0, np.diagonal(factor, axis1=1, axis2=2))


def _shift(start: Array) -> Array:
    """Return (S, 3, 3): the three functions at ``start`` + v are those at v times its columns."""
    zero = np.zeros_like(start)
    growth = np.expm1(start)
    return np.stack(
        [
            np.stack([np.exp(-start), -np.expm1(-start), 2.0 * np.sinh(0.5 * start) ** 2], axis=-1),
            np.stack([zero, zero + 1.0, growth], axis=-1),
            np.stack([zero, zero, growth + 1.0], axis=-1),
        ],
        axis=1,
    )


def _positions(coarse: Array, fine: Array) -> NDArray[np.int64]:
    """Return where ``fine`` has each entry of ``coarse``."""
    for k in (0, -1):
        if not np.isclose(fine[k], coarse[k], rtol=_TOLERANCE, atol=0.0):
            raise ValueError(
                f"path_times must begin and end where times does, at {coarse[0]} and {coarse[-1]}; "
                f"got {fine[0]} and {fine[-1]}"
            )
    after = np.clip(np.searchsorted(-fine, -coarse), 1, len(fine) - 1)
    offsets = (after - (fine[after - 1] - coarse < coarse - fine[after])).astype(np.int64)
    offsets[0], offsets[-1] = 0, len(fine) - 1
    absent = ~np.isclose(fine[offsets], coarse, rtol=_TOLERANCE, atol=0.0)
    absent[1:] |= np.diff(offsets) <= 0
    if absent.any():
        k = int(np.argmax(absent))
        raise ValueError(
            f"path_times must contain every entry of times within a relative {_TOLERANCE:g}; "
            f"got {fine[offsets[k]]} as the nearest to times[{k}] = {coarse[k]}"
        )
    return offsets
