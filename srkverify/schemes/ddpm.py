"""One-step schemes that evaluate the score once, at the current point: Euler–Maruyama to DDPM."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check, brownian
from srkverify.schedules import check_times
from srkverify.schemes._told import Told, told_variances
from srkverify.tableau import Row, Tableau, assemble

DDPM_VARIANCES = ("sde", "beta", "posterior", "marginal")


def euler_maruyama(times: ArrayLike) -> Tableau:
    """Euler–Maruyama for the reverse SDE: Y' = (1+h)Y + 2h s + √(2h) ξ.

    One evaluation a step; weak order 1, KL ~ K⁻².

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
    increment = brownian.coordinates(h, [(1.0, 1.0, 0.0)])  # ξ_0 = B_h/√h
    return _one_score("euler_maruyama", times, 1.0 + h, 2.0 * h, np.sqrt(2.0 * h), increment)


def exponential_euler(times: ArrayLike) -> Tableau:
    """Exponential Euler, the theory literature's "DDPM": Y' = e^h Y + 2(e^h − 1) s + w, Var w = e^{2h} − 1.

    The reverse SDE with the score frozen over the step and the linear part solved exactly (Chen et al.,
    arXiv 2209.11215). One evaluation a step; weak order 1, KL ~ K⁻². Parameters and errors as in
    :func:`euler_maruyama`.
    """
    grid = check_times(times)
    h = grid[:-1] - grid[1:]
    return _one_score("exponential_euler", times, np.exp(h), 2.0 * np.expm1(h), np.sqrt(np.expm1(2.0 * h)))


def ddpm(times: ArrayLike, variance: str = "sde") -> Tableau:
    """DDPM (Ho et al. 2020): Y' = α^{−1/2}(Y + (1−α)s) + σξ = e^h Y + (e^h − e^{−h}) s + σξ, α = e^{−2h}.

    One evaluation a step; weak order 1, KL ~ K⁻².

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    variance : str
        σ² of the step from τ_k to τ_{k+1}, with σ²_t = 1 − e^{−2t}:

        - ``"sde"``: e^{2h} − 1 = 1/α − 1, the reverse SDE's own (Li et al., arXiv 2403.03852);
        - ``"beta"``: 1 − α = β_t;
        - ``"posterior"``: (1−α) σ²_{τ_{k+1}}/σ²_{τ_k} = β̃_t;
        - ``"marginal"``: σ²_{τ_k} itself. It does not shrink with the step, so this sampler does not converge as
          K grows: a negative control, not a choice.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or ``variance`` is unknown.
    """
    grid = check_times(times)
    h = grid[:-1] - grid[1:]
    marginal = -np.expm1(-2.0 * grid)
    beta = -np.expm1(-2.0 * h)
    squared = {
        "sde": np.expm1(2.0 * h),
        "beta": beta,
        "posterior": beta * marginal[1:] / marginal[:-1],
        "marginal": marginal[:-1],
    }[_check.choice("variance", variance, DDPM_VARIANCES)]
    name = "ddpm" if variance == "sde" else f"ddpm_{variance}"
    return _one_score(name, times, np.exp(h), 2.0 * np.sinh(h), np.sqrt(squared))


def analytic_ddpm(times: ArrayLike, variances: Told) -> Tableau:
    """Analytic-DPM (Bao et al., arXiv 2201.06503, Theorem 1): DDPM with the best isotropic variance for the data.

    To the posterior variance β̃ of a step is added what X_0 varies by, given X_τ: (e^h − e^{−h})² L/σ_τ², where
    L = 1 − σ_τ² E|s_τ|²/d = λ/(λ + e^{2τ} − 1) is the least loss of a prediction of the noise. Exact on isotropic
    Gaussians in any number of steps. One evaluation a step; weak order 1, KL ~ K⁻².

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    variances : float, (K+1,) on ``times``, or function of forward times
        The data's effective variances λ ≥ 0, :func:`srkverify.effective_variances`; the paper estimates E|s|².

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, or ``variances`` are not as many numbers ≥ 0.
    """
    grid = check_times(times)
    told = told_variances(grid, variances)[:-1]
    h = grid[:-1] - grid[1:]
    marginal = -np.expm1(-2.0 * grid)
    posterior = -np.expm1(-2.0 * h) * marginal[1:] / marginal[:-1]
    loss = told / (told + np.expm1(2.0 * grid[:-1]))
    change = 2.0 * np.sinh(h)
    return _one_score("analytic_ddpm", times, np.exp(h), change, np.sqrt(posterior + change**2 * loss / marginal[:-1]))


def _one_score(
    name: str,
    times: ArrayLike,
    state: ArrayLike,
    score: ArrayLike,
    noise: ArrayLike,
    path: ArrayLike = ((1.0, 0.0, 0.0),),  # ξ_0 = w/√(Var w)
) -> Tableau:
    stage = Row(state=1.0, time=check_times(times)[:-1])
    return assemble(name, times, [stage], Row(state=state, scores=[score], noise=[noise]), path)
