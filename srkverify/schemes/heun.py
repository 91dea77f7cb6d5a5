"""Heun's method: for the reverse SDE, and with churn for the probability flow (Karras et al., arXiv 2206.00364)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check, brownian
from srkverify.schedules import check_times
from srkverify.schemes import _linear as linear
from srkverify.schemes._linear import STATE
from srkverify.tableau import Tableau, assemble


def stochastic_heun(times: ArrayLike) -> Tableau:
    """Stochastic Heun for the reverse SDE: Y' = Y + ½ h (f(τ_k, Y) + f(τ_{k+1}, U)) + √2 B_h, f(t, y) = y + 2 s(t, y).

    U = Y + h f(τ_k, Y) + √2 B_h, an Euler–Maruyama step with the same increment (Rümelin 1982; Kloeden & Platen 1992,
    section 15.1). For noise that does not depend on the state it has weak order 2. Two evaluations a step; on Gaussians
    and mixtures KL ~ K⁻⁴.

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
    noise = np.sqrt(2.0 * h) * linear.noise(0)
    slope = STATE + 2.0 * linear.score(0)
    point = STATE + h * slope + noise
    output = STATE + 0.5 * h * (slope + point + 2.0 * linear.score(1)) + noise
    stages = [STATE.row(time=grid[:-1]), point.row(time=grid[1:])]
    increment = brownian.coordinates(h, [(1.0, 1.0, 0.0)])  # ξ_0 = B_h/√h
    return assemble("stochastic_heun", grid, stages, output.row(), increment)


def edm_heun(
    times: ArrayLike,
    churn: float = 40.0,
    lowest: float = 0.0,
    highest: float = np.inf,
    noise_factor: float = 1.0,
    stages: int = 2,
) -> Tableau:
    """EDM's stochastic sampler, algorithm 2: noise is added, then a Heun step of the probability flow takes it away.

    In x = e^t Y and v = √(e^{2t} − 1), the noise level of x: v̂ = (1 + γ) v, x̂ = x + √(v̂² − v²) S_noise ξ, and with
    d = (x̂ − D(x̂))/v̂ Euler's step to v' and Heun's correction, x' = x̂ + ½ (v' − v̂)(d + d'). Both stages and the output
    see the one noise ξ. γ = min(S_churn/K, √2 − 1) where S_tmin ≤ v ≤ S_tmax, else 0. The first stage is evaluated
    above the step, at the time of v̂. Two evaluations a step; on Gaussians and mixtures KL ~ K⁻⁴, once S_churn/K is
    small: adding noise is exact, Heun's method of order 2 for the flow.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    churn, lowest, highest, noise_factor : float
        The paper's S_churn ≥ 0, S_tmin, S_tmax and S_noise > 0. S_tmin and S_tmax are levels v. The paper's choices are
        tuned to networks; its S_noise ≠ 1 makes up for their errors and would not converge here.
    stages : int
        2, or 1 for Euler's step alone (``"edm_euler"``; KL ~ K⁻²).

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or an option is out of its range.
    """
    grid = check_times(times)
    amount = _check.number("churn", churn, at_least=0.0)
    factor = _check.number("noise_factor", noise_factor, above=0.0)
    count = _check.integer("stages", stages, at_least=1, below=3)
    h = grid[:-1] - grid[1:]
    squared, after = np.expm1(2.0 * grid[:-1]), np.expm1(2.0 * grid[1:])  # v², v'²
    level = np.sqrt(squared)
    gamma = np.where((lowest <= level) & (level <= highest), min(amount / len(h), np.sqrt(2.0) - 1.0), 0.0)
    added = squared * gamma * (2.0 + gamma)  # v̂² − v²
    raised = 0.5 * np.log1p(squared + added)
    above = np.sqrt(squared + added)
    drop = (np.exp(2.0 * grid[1:]) * np.expm1(2.0 * h) + added) / (above + np.sqrt(after))  # v̂ − v'
    start = np.exp(grid[:-1]) * STATE + np.sqrt(added) * factor * linear.noise(0)  # x̂
    # d = −v̂ ∇log of the law of x, which is e^{−t} times the score at Y.
    slope = above * np.exp(-raised) * linear.score(0)
    rows = [(np.exp(-raised) * start).row(time=raised)]
    end = np.exp(-grid[1:]) * (start + drop * slope)
    if count == 2:
        rows.append(end.row(time=grid[1:]))
        slope += np.sqrt(after) * np.exp(-grid[1:]) * linear.score(1)
        end = np.exp(-grid[1:]) * (start + 0.5 * drop * slope)
    return assemble("edm_heun" if count == 2 else "edm_euler", grid, rows, end.row())
