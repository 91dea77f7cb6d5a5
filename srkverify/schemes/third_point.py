"""Third-point SRK: the score is evaluated at a true intermediate point of the reverse SDE, a third into the step."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.schemes.srk import martingale_noise, martingale_paths
from srkverify.tableau import Row, Tableau, assemble

GUESSES = ("unit", "plain", "denoiser")


def srk_third_point(times: ArrayLike, evaluations: int = 2, guess: str = "unit") -> Tableau:
    """Third-point SRK: Y' = e^h Y + c' s(τ_k − θh, U) + w with U = e^{θh} Y + (e^{θh} − e^{−θh}) ŝ + g'.

    c' = (e^h − e^{−h}) e^{θh} and g' = e^{−θh} g̃, where θ solves e^{2θh} − 1 = Var g': U then has the reverse SDE's
    own law at time τ_k − θh, which removes the bias ½ Var(g̃) Δs of martingale-weighted SRK. With z = e^{2θh} the
    condition is z(z − 1) = Var g̃, so θ is closed form (≈ 1/3). Derived in docs/theory.md.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    evaluations : int
        2: the predictor ŝ is s(τ_k, Y), two evaluations a step; KL ~ K⁻⁴ on mixtures, K⁻⁶ on Gaussians.
        1: ŝ is carried over from the former step's evaluation S at (t', u), one evaluation a step (the first step
        has two); KL ~ K⁻⁴. With D = t' − τ_k, ŝ = e^{−D} S − β (Y − e^D u − 2 sinh(D) S).
    guess : str
        β, the guess of −∇s that corrects the carried score for the noise since t': ``"unit"`` (β = 1),
        ``"plain"`` (β = 0) or ``"denoiser"`` (β = 1/σ²_{τ_k}: carries the denoiser instead). Used with one evaluation.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, ``evaluations`` is not 1 or 2, or ``guess`` unknown.
    """
    grid = check_times(times)
    count = _check.integer("evaluations", evaluations, at_least=1, below=3)
    kind = _check.choice("guess", guess, GUESSES)
    h = grid[:-1] - grid[1:]
    along, across = martingale_noise(h)
    variance = along**2 + across**2  # of g̃
    advance = 0.5 * np.log1p(2.0 * variance / (1.0 + np.sqrt(1.0 + 4.0 * variance)))  # θh
    reach = 2.0 * np.sinh(advance)
    noise = [np.exp(-advance) * along, np.exp(-advance) * across]  # g'
    output = Row(
        state=np.exp(h),
        scores=[0.0, 2.0 * np.sinh(h) * np.exp(advance)],
        noise=[np.sqrt(np.expm1(2.0 * h))],
    )
    if count == 2:
        name = "srk_third_point"
        predictor = Row(state=1.0, time=grid[:-1])
        point = Row(state=np.exp(advance), scores=[reach], noise=noise, time=grid[:-1] - advance)
    else:
        name = "srk_third_point_1" if kind == "unit" else f"srk_third_point_1_{kind}"
        first = np.arange(len(h)) == 0
        predictor = Row(state=1.0, time=grid[:-1], evaluated=first)
        point = _carried_point(grid, h, advance, reach, noise, kind)
    return assemble(name, grid, [predictor, point], output, martingale_paths(h))


def _carried_point(grid: Array, h: Array, advance: Array, reach: Array, noise: list[Array], guess: str) -> Row:
    """Return the evaluation point's row when ŝ is carried over from the former step (but the first)."""
    first = np.arange(len(h)) == 0
    beta = {
        "unit": np.ones_like(h),
        "plain": np.zeros_like(h),
        "denoiser": -1.0 / np.expm1(-2.0 * grid[:-1]),
    }[guess]
    # D = t' − τ_k is what the former step had left after its evaluation.
    delay = np.concatenate([[0.0], (h - advance)[:-1]])
    carried = np.where(first, 0.0, reach)
    return Row(
        state=np.exp(advance) - carried * beta,
        scores=[np.where(first, reach, 0.0)],
        noise=noise,
        past_points=[carried * beta * np.exp(delay)],
        past_scores=[carried * (np.exp(-delay) + 2.0 * beta * np.sinh(delay))],
        time=grid[:-1] - advance,
    )
