"""DDIM (Song, Meng & Ermon, arXiv 2010.02502): from the probability flow (η = 0) to DDPM (η = 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify.schedules import check_times
from srkverify.schemes import _linear as linear
from srkverify.schemes._linear import STATE
from srkverify.tableau import Tableau, assemble


def ddim(times: ArrayLike, eta: float = 1.0) -> Tableau:
    """DDIM, eq. (12) and (16): Y' = e^{−t} D − √(σ_t² − ς²) σ_s S + ς ξ, ς² = η² (σ_t²/σ_s²)(1 − e^{−2h}).

    From s to t = s − h, with D the denoiser: the predicted clean sample, the predicted noise −σ_s S as far as it is
    kept, and fresh noise for the rest. η = 1 is DDPM with posterior variance, η = 0 an exponential integrator of the
    probability flow. One evaluation a step; KL ~ K⁻² for all η, on Gaussians and
    mixtures.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    eta : float
        η from 0 to 1.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or η is not in [0, 1].
    """
    grid = check_times(times)
    share = _check.number("eta", eta, at_least=0.0, below=np.nextafter(1.0, 2.0)) ** 2
    h = grid[:-1] - grid[1:]
    before, after = -np.expm1(-2.0 * grid[:-1]), -np.expm1(-2.0 * grid[1:])  # σ_s², σ_t²
    fresh = share * -np.expm1(-2.0 * h) * after / before  # ς²
    # S has the weight e^h σ_s² − √q, q = (σ_t² − ς²) σ_s². The difference is (e^{2h} σ_s⁴ − q)/(e^h σ_s² + √q), where
    # e^{2h} σ_s² − σ_t² = e^{2h} − 1 takes away what would cancel.
    kept = after * (before + share * np.expm1(-2.0 * h))  # q
    excess = before * np.expm1(2.0 * h) + share * after * -np.expm1(-2.0 * h)
    weight = excess / (np.exp(h) * before + np.sqrt(kept))
    output = np.exp(h) * STATE + weight * linear.score(0) + np.sqrt(fresh) * linear.noise(0)
    name = "ddim" if eta == 1.0 else f"ddim_eta{eta:g}"
    # ξ_0 = w/√(Var w), as in DDPM
    return assemble(name, grid, [STATE.row(time=grid[:-1])], output.row(), [(1.0, 0.0, 0.0)])
