"""DPM-Solver++ (Lu et al., arXiv 2211.01095), SDE form: second order by history, one evaluation a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify.schedules import check_times
from srkverify.schemes import _series
from srkverify.tableau import Row, Tableau, assemble


def dpmpp_2m_sde(times: ArrayLike, variant: str = "midpoint") -> Tableau:
    """DPM-Solver++(2M) SDE: DDPM plus c (D_k − D_{k−1})/r, an extrapolation of the denoiser D = (x + σ² s)/e^{−t}.

    In the half log-SNR L_t = log(e^{−t}/σ_t) the step has length ℓ = L_{τ_{k+1}} − L_{τ_k} and r is the former step's
    length over this one's. One evaluation a step, the first step is DDPM with posterior variance; KL ~ K⁻⁴.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    variant : str
        ``"midpoint"``: c = ½ e^{−τ_{k+1}}(1 − e^{−2ℓ}); ``"heun"``: c = e^{−τ_{k+1}}(1 − (1 − e^{−2ℓ})/(2ℓ)).

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or ``variant`` is unknown.
    """
    grid = check_times(times)
    kind = _check.choice("variant", variant, ("midpoint", "heun"))
    h = grid[:-1] - grid[1:]
    marginal = -np.expm1(-2.0 * grid)  # σ²_t
    # 1 − e^{−2ℓ} and ℓ without subtracting the two log-SNRs.
    drop = np.exp(2.0 * grid[1:]) * np.expm1(2.0 * h)  # e^{2τ_k} − e^{2τ_{k+1}}
    gain = drop / np.expm1(2.0 * grid[:-1])
    length = 0.5 * np.log1p(drop / np.expm1(2.0 * grid[1:]))
    signal = np.exp(-grid)
    weight = 0.5 * gain if kind == "midpoint" else _series.decay_excess(2.0 * length) / (2.0 * length)
    former = np.concatenate([[np.inf], length[:-1]])  # no history in the first step: 1/r = 0
    extrapolation = signal[1:] * weight * length / former
    before = np.concatenate([[0], np.arange(len(h) - 1)])  # index of the former step's time
    return assemble(
        "dpmpp_2m_sde" if kind == "midpoint" else "dpmpp_2m_sde_heun",
        grid,
        [Row(state=1.0, time=grid[:-1])],
        Row(
            state=np.exp(h) + extrapolation / signal[:-1],
            scores=[2.0 * np.sinh(h) + extrapolation * marginal[:-1] / signal[:-1]],
            noise=[np.sqrt(-np.expm1(-2.0 * h) * marginal[1:] / marginal[:-1])],
            past_points=[-extrapolation / signal[before]],
            past_scores=[-extrapolation * marginal[before] / signal[before]],
        ),
        noise_paths=[(1.0, 0.0, 0.0)],  # ξ_0 = w/√(Var w), as in DDPM
    )
