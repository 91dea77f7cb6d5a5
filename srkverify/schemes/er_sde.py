"""ER-SDE-Solver (Cui et al., arXiv 2309.06169): reverse SDEs of any noise, Taylor expansion of the denoiser in σ/α.

In v = σ_t/e^{−t} an extended reverse SDE is fixed by its noise scale φ(v): φ = v is the probability flow, φ = v² the
reverse SDE. Over a step from v_s to v_t < v_s, with R = φ(v_t)/φ(v_s),

    Y' = (e^{−t}/e^{−s}) R Y + e^{−t} (1 − R) D_0 + e^{−t} √(v_t² − v_s² R²) ξ                          (order 1)
         + e^{−t} (v_t − v_s + φ(v_t) ∫ du/φ(u)) D'                                              (from order 2 on)
         + e^{−t} ((v_t − v_s)²/2 + φ(v_t) ∫ (u − v_s)/φ(u) du) D''                                      (order 3),

integrals from v_t to v_s, D' and D'' divided differences: D' = (D_0 − D_1)/(v_s − v_{s,1}) and
D'' = 2 (D' − D'_1)/(v_s − v_{s,2}). The integrals are evaluated to rounding by Gauss's rule. The original sums 100
values on a left Riemann grid, which costs it its order at many steps, and drops noise of a variance below 10⁻⁶ in v.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.schemes import _linear as linear
from srkverify.schemes import _log_snr as log_snr
from srkverify.schemes._linear import STATE, Form
from srkverify.tableau import Tableau, assemble

_POWERS = {"ode": 1.0, "reverse": 2.0, "power_1.5": 1.5, "power_2.5": 2.5}
NOISE_SCALES = ("default", *_POWERS)


def er_sde(times: ArrayLike, order: int = 2, noise_scale: str = "default") -> Tableau:
    """ER-SDE-Solver-1, -2 or -3: one evaluation a step, memory ``order`` − 1.

    First steps have the order that their history allows, as in the original. On Gaussians and mixtures KL ~ K⁻² for
    order 1, K⁻⁴ for orders 2 and 3, whose third term improves the constant only: the noise between nodes is of order ℓ.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    order : int
        1, 2 or 3.
    noise_scale : str
        φ: ``"default"``, v (exp(v^0.3) + 10), the paper's choice; ``"reverse"``, v², with which order 1 is DDPM with
        posterior variance; ``"ode"``, v, without noise (order 1 is DDIM); ``"power_1.5"`` or ``"power_2.5"``.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, ``order`` is not 1, 2 or 3, or ``noise_scale`` unknown.
    """
    grid = check_times(times)
    terms = _check.integer("order", order, at_least=1, below=4)
    kind = _check.choice("noise_scale", noise_scale, NOISE_SCALES)
    steps, length = len(grid) - 1, log_snr.step_lengths(grid)
    # v_t is e^{−ℓ} v_s: everything is written with log(φ(u)/φ(v_t)), in which nothing cancels.
    excess = _excess(kind, grid[1:], length)
    growth = np.exp(grid[:-1] - grid[1:])
    output = growth * STATE + growth * np.expm1(-2.0 * grid[:-1]) * np.expm1(-length - excess) * linear.score(0)
    output += np.sqrt(np.expm1(-2.0 * excess) * np.expm1(-2.0 * grid[1:])) * linear.noise(0)
    place = log_snr.PLACES * length[:, None]  # log(u/v_t)
    weights = np.exp(place - grid[1:, None] - length[:, None]) * length[:, None] * log_snr.WEIGHTS  # e^{−t} du/v_s
    weights *= -np.expm1(-place - _excess(kind, grid[1:, None], place))  # 1 − φ(v_t)/φ(u)
    once, twice = np.arange(steps) >= 1, np.arange(steps) >= 2
    now, slope = linear.denoiser(STATE, linear.score(0), grid[:-1]), Form({})
    if terms > 1 and steps > 1:
        slope = (1.0 / _fall(grid, 1, 0)) * (now - linear.past_denoiser(0, log_snr.before(grid, 1)))  # −v_s D'
        output += np.where(once, weights.sum(axis=1), 0.0) * slope
    if terms > 2 and steps > 2:
        former = linear.past_denoiser(0, log_snr.before(grid, 1)) - linear.past_denoiser(1, log_snr.before(grid, 2))
        former *= 1.0 / (_fall(grid, 2, 1) * (1.0 + _fall(grid, 1, 0)))  # −v_s D'_1
        moment = (weights * -np.expm1(place - length[:, None])).sum(axis=1)
        output += np.where(twice, 2.0 * moment / _fall(grid, 2, 0), 0.0) * (slope - former)
    name = f"er_sde_{terms}" if kind == "default" else f"er_sde_{terms}_{kind}"
    # ξ_0 = w/√(Var w), as in DDPM
    return assemble(name, grid, [STATE.row(time=grid[:-1])], output.row(), [(1.0, 0.0, 0.0)])


def _fall(grid: Array, start: int, stop: int) -> Array:
    """(K,) v_start/v_stop − 1 of times so many grid points before each step's start; 1 where there are none."""
    one, other = log_snr.before(grid, start), log_snr.before(grid, stop)
    known = np.arange(len(grid) - 1) >= start
    return np.where(known, np.expm1(log_snr.length_between(one, other, one - other)), 1.0)


def _excess(kind: str, stop: Array, place: Array) -> Array:
    """Log g(u)/g(v_t) for φ(v) = v g(v) and u = e^{place} v_t, v_t = σ_t/e^{−t} at t = ``stop``."""
    if kind != "default":
        return (_POWERS[kind] - 1.0) * place
    root = np.expm1(2.0 * stop) ** 0.15  # v_t^0.3
    here = np.exp(root)
    return np.asarray(np.log1p(here * np.expm1(root * np.expm1(0.3 * place)) / (here + 10.0)))
