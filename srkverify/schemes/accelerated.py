"""Accelerated DDPM of Li, Huang, Efimov, Wei, Chi & Chen (arXiv 2403.03852): noise before and after the score."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify.schedules import check_times
from srkverify.schemes import _linear as linear
from srkverify.schemes._linear import STATE
from srkverify.tableau import Tableau, assemble

FINAL_NOISES = ("scaled", "plain")


def li_accelerated(times: ArrayLike, final_noise: str = "scaled") -> Tableau:
    """Y⁺ = Y + √((1−α)/2) ξ_0, Y' = α^{−1/2} (Y⁺ + (1−α) s(τ_k, Y⁺) + √((1−α)/2) ξ_1), α = e^{−2h}.

    Half of the noise comes before the score, which is evaluated once, at Y⁺ and the unchanged time τ_k: Φ_t, Ψ_t and
    s_t of the authors' repository (TimofeyEfimov/AcceleratedDiffusionSamplers). README and code there leave the last
    noise outside the factor α^{−1/2} (``"plain"``). That changes the variance of a step by h² only, but the order: on
    Gaussians KL ~ K⁻⁴ as above and K⁻² with ``"plain"``. On mixtures it is K⁻² either way, as for DDPM: noise ahead of
    the score at an unchanged time leaves the bias ½ Var Δs, as in martingale-weighted SRK.

    Which of the two the paper prints could not be looked up. The noise of its plain DDPM, α^{−1/2} √(1−α) ξ, is inside,
    the noise's variance α^{−1} − 1 is then the reverse SDE's own over the step, and so inside is the default.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    final_noise : str
        ``"scaled"`` as above or ``"plain"``, without α^{−1/2} on the last noise.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or ``final_noise`` unknown.
    """
    grid = check_times(times)
    kind = _check.choice("final_noise", final_noise, FINAL_NOISES)
    h = grid[:-1] - grid[1:]
    half = np.sqrt(-0.5 * np.expm1(-2.0 * h))
    point = STATE + half * linear.noise(0)
    output = np.exp(h) * point + 2.0 * np.sinh(h) * linear.score(0)
    output += (np.exp(h) if kind == "scaled" else 1.0) * half * linear.noise(1)
    name = "li_accelerated" if kind == "scaled" else "li_accelerated_plain"
    return assemble(name, grid, [point.row(time=grid[:-1])], output.row())  # of paths, the paper says nothing
