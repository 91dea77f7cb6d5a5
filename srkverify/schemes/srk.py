"""Stochastic Runge-Kutta with one score evaluation a step, moved off the current point by stage noise.

With B the Brownian motion of the step, w = √2 ∫_0^h e^{h−u} dB_u is the noise that the state sees, and the score
is evaluated at Y + g, where the stage noise g carries the part of s_r − s_0 ≈ √2 ∇s B_r that the output weighs.
g and w are jointly Gaussian: w is written with ξ_0, as in the schemes without stage noise, and g with ξ_0 and ξ_1, so
that the same ξ_0 drives the same Brownian path. Derived in docs/theory.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import brownian
from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.schemes import _series
from srkverify.tableau import Row, Tableau, assemble


def srk(times: ArrayLike) -> Tableau:
    """SRK of Wu, Chen & Wei (arXiv 2410.04760): Y' = e^h Y + 2(e^h − 1) s(τ_k, Y + g) + w.

    (e^h − 1) g = √2 ∫_0^h e^{h−r} B_r dr. One evaluation a step; marginal KL ~ K⁻² (on Gaussians and mixtures),
    path KL ~ K⁻². With g ≡ 0 it is exponential Euler.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times.
    """
    grid = check_times(times)
    h = grid[:-1] - grid[1:]
    growth = np.expm1(h)
    total = np.expm1(2.0 * h)
    along = growth / np.sqrt(total)
    across = np.sqrt(2.0 * _series.trapezoid_excess(h) / (growth**2 * (growth + 2.0)))
    # Up to a multiple of e^{−u}, which is w's, the kernel e^{h−u} − 1 of g is −1.
    paths = [(1.0, 0.0, 0.0), (0.0, -1.0, 0.0)]
    return _noisy_stage("srk", grid, 2.0 * growth, along, across, paths)


def srk_martingale(times: ArrayLike) -> Tableau:
    """Martingale-weighted SRK: Y' = e^h Y + (e^h − e^{−h}) s(τ_k, Y + g̃) + w.

    Along the true reverse SDE e^r s_r is a martingale, which fixes DDPM's own score weight and
    (e^h − e^{−h}) g̃ = √2 e^h ∫_0^h (e^{−u} − e^{u−2h}) dB_u. One evaluation a step; marginal KL ~ K⁻⁴ on Gaussians
    and K⁻² on mixtures. With g̃ ≡ 0 it is DDPM. Parameters and errors as in :func:`srk`.
    """
    grid = check_times(times)
    h = grid[:-1] - grid[1:]
    return _noisy_stage("srk_martingale", grid, 2.0 * np.sinh(h), *martingale_noise(h), martingale_paths(h))


def martingale_noise(h: Array) -> tuple[Array, Array]:
    """Return the coefficients (K,) of ξ_0 and ξ_1 in g̃, w being √(e^{2h} − 1) ξ_0, for steps ``h`` (K,).

    The integrals of :func:`srk_martingale` in closed form: Var g̃ = (sinh 2h − 2h)/(2 sinh² h),
    Cov(g̃, w) = ((e^{2h} − 1)/2 − h)/sinh h and Var(g̃ | w) = (sinh² h − h²)/(2 e^h sinh³ h).
    """
    sinh = np.sinh(h)
    along = 0.5 * _series.exp_minus_2(2.0 * h) / (sinh * np.sqrt(np.expm1(2.0 * h)))
    across = np.sqrt(_series.sinh_minus_1(h) * (sinh + h) / (2.0 * np.exp(h) * sinh**3))
    return along, across


def martingale_paths(h: Array) -> Array:
    """Return (K, 2, 3): ξ_0 and ξ_1 of :func:`martingale_noise` in coordinates of the path, for steps ``h`` (K,).

    Up to a multiple of e^{−u}, which is w's, the kernel e^{−u} − e^{u−2h} of g̃ is a multiple of
    −sinh u = −(1 − e^{−u}) − (cosh u − 1).
    """
    return brownian.coordinates(h, [(1.0, 0.0, 0.0), (0.0, -1.0, -1.0)])


def _noisy_stage(name: str, grid: Array, weight: Array, along: Array, across: Array, paths: ArrayLike) -> Tableau:
    h = grid[:-1] - grid[1:]
    return assemble(
        name,
        grid,
        [Row(state=1.0, noise=[along, across], time=grid[:-1])],
        Row(state=np.exp(h), scores=[weight], noise=[np.sqrt(np.expm1(2.0 * h))]),
        paths,
    )
