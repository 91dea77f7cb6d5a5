"""Stochastic Runge-Kutta with one score evaluation a step, moved off the current point by stage noise.

With B the Brownian motion of the step, w = √2 ∫_0^h e^{h−u} dB_u is the noise that the state sees, and the score
is evaluated at Y + g, where the stage noise g carries the part of s_r − s_0 ≈ √2 ∇s B_r that the output weighs.
g and w are jointly Gaussian; they are written with ξ_0 for g and (ξ_0, ξ_1) for w. Derived in docs/theory.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

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
    growth, integral = np.expm1(h), _series.double_exp_minus(h)
    variance = 2.0 * integral / growth**2
    residual = growth * _series.trapezoid_excess(h) / integral
    return _noisy_stage("srk", grid, 2.0 * growth, variance, growth, residual)


def srk_martingale(times: ArrayLike) -> Tableau:
    """Martingale-weighted SRK: Y' = e^h Y + (e^h − e^{−h}) s(τ_k, Y + g̃) + w.

    Along the true reverse SDE e^r s_r is a martingale, which fixes DDPM's own score weight and
    (e^h − e^{−h}) g̃ = √2 e^h ∫_0^h (e^{−u} − e^{u−2h}) dB_u. One evaluation a step; marginal KL ~ K⁻⁴ on Gaussians
    and K⁻² on mixtures. With g̃ ≡ 0 it is DDPM. Parameters and errors as in :func:`srk`.
    """
    grid = check_times(times)
    h = grid[:-1] - grid[1:]
    variance, covariance, residual = martingale_noise(h)
    return _noisy_stage("srk_martingale", grid, 2.0 * np.sinh(h), variance, covariance, residual)


def martingale_noise(h: Array) -> tuple[Array, Array, Array]:
    """Return Var g̃, Cov(g̃, w) and Var(w | g̃), each (K,), for steps ``h`` (K,).

    The integrals of the module docstring in closed form: Var g̃ = (sinh 2h − 2h)/(2 sinh² h),
    Cov = ((e^{2h} − 1)/2 − h)/sinh h and Var(w | g̃) = 2(sinh² h − h²)/(sinh 2h − 2h).
    """
    sinh = np.sinh(h)
    cubic = _series.sinh_minus_1(2.0 * h)
    variance = cubic / (2.0 * sinh**2)
    covariance = 0.5 * _series.exp_minus_2(2.0 * h) / sinh
    residual = 2.0 * _series.sinh_minus_1(h) * (sinh + h) / cubic
    return variance, covariance, residual


def _noisy_stage(
    name: str, grid: Array, weight: Array, variance: Array, covariance: Array, residual: Array
) -> Tableau:
    spread = np.sqrt(variance)
    return assemble(
        name,
        grid,
        [Row(state=1.0, noise=[spread], time=grid[:-1])],
        Row(
            state=np.exp(grid[:-1] - grid[1:]),
            scores=[weight],
            noise=[covariance / spread, np.sqrt(residual)],
        ),
    )
