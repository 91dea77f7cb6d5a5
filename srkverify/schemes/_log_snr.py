"""Steps in λ = log(e^{−t}/σ_t), half the log-SNR, in which solvers of the denoiser's equation are written.

Between times s > t, h = s − t, the step has the length ℓ = λ_t − λ_s > 0, and σ_t/σ_s = e^{h − ℓ}. Nothing here is a
difference of two log-SNRs, which would lose the digits of a short step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify._check import Array

_NODES, _FACTORS = np.polynomial.legendre.leggauss(48)
PLACES, WEIGHTS = 0.5 * (1.0 + _NODES), 0.5 * _FACTORS  # of Gauss's rule on (0, 1)


def step_lengths(grid: Array) -> Array:
    """ℓ_k = λ_{τ_{k+1}} − λ_{τ_k} (K,) for decreasing times (K+1,): ½ log((e^{2τ_k} − 1)/(e^{2τ_{k+1}} − 1))."""
    return length_between(grid[:-1], grid[1:], grid[:-1] - grid[1:])


def length_between(start: Array, stop: Array, h: ArrayLike) -> Array:
    """ℓ = λ_stop − λ_start, for stop = start − h."""
    return np.asarray(0.5 * np.log1p(np.exp(2.0 * stop) * np.expm1(2.0 * np.asarray(h)) / np.expm1(2.0 * stop)))


def time_after(start: Array, length: Array) -> Array:
    """How far in forward time below ``start`` the time is whose λ is greater by ``length``: h > 0, with all its digits.

    e^{2h} = e^{2s}/(1 + (e^{2s} − 1) e^{−2ℓ}).
    """
    return np.asarray(-0.5 * np.log1p(np.expm1(-2.0 * length) * -np.expm1(-2.0 * start)))


def before(grid: Array, back: int) -> Array:
    """(K,) the time ``back`` grid points before each step's start; the first time where there is none."""
    return grid[np.maximum(np.arange(len(grid) - 1) - back, 0)]


def adams_weights(nodes: list[Array], length: Array, decay: float) -> list[Array]:
    """Return c ∫_0^ℓ e^{−c(ℓ − v)} ℓ_j(v) dv for each node but the first, v = 0; ℓ_j is Lagrange's basis.

    Parameters
    ----------
    nodes : places (K,) of the other nodes, none inside (0, ℓ), so that ℓ_j has one sign and Gauss's rule its digits.
    length : (K,) lengths ℓ.
    decay : c > 0.

    Returns
    -------
    One array (K,) per node; the first node's weight is 1 − e^{−cℓ} less their sum.
    """
    place = PLACES * length[:, None]
    kernel = decay * length[:, None] * np.exp(-decay * length[:, None] * (1.0 - PLACES)) * WEIGHTS
    every = [np.zeros_like(length), *nodes]
    weights = []
    for j in range(1, len(every)):
        basis = np.ones_like(place)
        for i, node in enumerate(every):
            if i != j:
                basis *= (place - node[:, None]) / (every[j] - node)[:, None]
        weights.append((kernel * basis).sum(axis=1))
    return weights
