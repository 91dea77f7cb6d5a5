"""DPM-Solver++ (Lu et al., arXiv 2211.01095), SDE form: by history (2M, 3M) or with a second evaluation (2S).

The paper has the SDE form of orders 1 and 2M (its section 5 and appendix); 3M and 2S are the natural extensions that
k-diffusion and diffusers made of its ODE solvers, and are given here as they have them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify.schedules import check_times
from srkverify.schemes import _linear as linear
from srkverify.schemes import _log_snr as log_snr
from srkverify.schemes import _series
from srkverify.schemes._linear import STATE
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


def dpmpp_3m_sde(times: ArrayLike) -> Tableau:
    """DPM-Solver++(3M) SDE: DDPM plus a D¹ + b D², extrapolations of the denoiser from the two former steps.

    With ℓ and r_i the lengths of the i-th former steps over this one's (half log-SNR), z = 2ℓ, d_0 = (D_0 − D_1)/r_1
    and d_1 = (D_1 − D_2)/r_2: D² = (d_0 − d_1)/(r_1 + r_2), D¹ = d_0 + r_1 D², a = e^{−τ_{k+1}} (1 − (1 − e^{−z})/z)
    and b = e^{−τ_{k+1}} (½ − 1/z + (1 − e^{−z})/z²). As in k-diffusion (``sample_dpmpp_3m_sde``). Its b is half of what
    the integral of the quadratic through the three values is; twice b is SA-Solver's predictor with 3 nodes. In
    diffusers (``sde-dpmsolver++`` of order 3, version 0.42.1) b has −½ for ½: it does not vanish with the step, and KL
    falls as K⁻². One evaluation a step, memory 2; the first steps are DDPM with posterior variance and 2M SDE "heun".
    On Gaussians and mixtures KL ~ K⁻⁴.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times.
    """
    grid = check_times(times)
    h, length = grid[:-1] - grid[1:], log_snr.step_lengths(grid)
    steps, signal = np.arange(len(h)), np.exp(-grid[1:])
    one, two = steps >= 1, steps >= 2
    former, earlier = length[np.maximum(steps - 1, 0)] / length, length[np.maximum(steps - 2, 0)] / length
    values = [linear.denoiser(STATE, linear.score(0), grid[:-1])]
    values += [linear.past_denoiser(j - 1, log_snr.before(grid, j)) for j in range(1, min(3, len(h)))]
    output = np.exp(h) * STATE + 2.0 * np.sinh(h) * linear.score(0)
    output += np.sqrt(np.expm1(-2.0 * h) * np.expm1(-2.0 * grid[1:]) / -np.expm1(-2.0 * grid[:-1])) * linear.noise(0)
    if len(h) > 1:
        first = np.where(one, signal * _series.decay_excess(2.0 * length) / (2.0 * length * former), 0.0)
        output += first * (values[0] - values[1])
    if len(h) > 2:
        second = former * _series.decay_excess(2.0 * length) / (2.0 * length)
        second += _series.decay_excess_2(2.0 * length) / (2.0 * length) ** 2
        second = np.where(two, signal * second / (former + earlier), 0.0)
        output += (second / former) * (values[0] - values[1]) - (second / earlier) * (values[1] - values[2])
    # ξ_0 = w/√(Var w), as in DDPM
    return assemble("dpmpp_3m_sde", grid, [STATE.row(time=grid[:-1])], output.row(), [(1.0, 0.0, 0.0)])


def dpmpp_2s_sde(
    times: ArrayLike, noise: str = "tree", variant: str = "midpoint", middle: ArrayLike | None = None
) -> Tableau:
    """DPM-Solver++(2S) SDE: a DDPM step of length rℓ leads to U, and Y' is DDPM plus c (D(U) − D(Y))/r.

    c is ½ e^{−τ_{k+1}} (1 − e^{−2ℓ}) or, variant "heun", e^{−τ_{k+1}} (1 − (1 − e^{−2ℓ})/(2ℓ)). Implementations differ
    in what U's noise has to do with that of Y'. Two evaluations a step. On Gaussians and mixtures KL ~ K⁻⁴ with
    ``"tree"`` and K⁻² with ``"independent"``; with the noise of one path and r = ½ it is SEEDS-2.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    noise : str
        ``"tree"``: both are increments of one Brownian motion in v = σ/e^{−t}, as in k-diffusion
        (``sample_dpmpp_sde``), with the correlation √((v_s − v_m)/(v_s − v_t)); ``"independent"``: as in diffusers
        (``DPMSolverSinglestepScheduler``, ``sde-dpmsolver++``).
    variant : str
        ``"midpoint"`` or ``"heun"``, as above.
    middle : (K,) forward times of the second evaluations, or None for half-way in log-SNR (r = ½).

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, an option is unknown, or ``middle`` does not lie
        between the times.
    """
    grid = check_times(times)
    sharing = _check.choice("noise", noise, ("tree", "independent"))
    kind = _check.choice("variant", variant, ("midpoint", "heun"))
    h, length = grid[:-1] - grid[1:], log_snr.step_lengths(grid)
    if middle is None:
        part, reach = 0.5 * length, log_snr.time_after(grid[:-1], 0.5 * length)
        time = grid[:-1] - reach
    else:
        time = _check.finite_array("middle", middle, dimensions=(1,))
        if time.shape != h.shape or not ((time < grid[:-1]) & (time > grid[1:])).all():
            raise ValueError(f"middle must be {len(h)} times, one inside each step; got {time}")
        reach = grid[:-1] - time
        part = log_snr.length_between(grid[:-1], time, reach)
    half = np.sqrt(np.expm1(-2.0 * part) * np.expm1(-2.0 * time)) * linear.noise(0)
    spread = np.sqrt(np.expm1(-2.0 * length) * np.expm1(-2.0 * grid[1:]))
    shared = np.sqrt(np.expm1(-part) / np.expm1(-length)) if sharing == "tree" else np.zeros_like(h)
    rest = np.sqrt(np.exp(-part) * np.expm1(part - length) / np.expm1(-length)) if sharing == "tree" else 1.0
    point = np.exp(reach) * STATE + 2.0 * np.sinh(reach) * linear.score(0) + half
    weight = -0.5 * np.expm1(-2.0 * length)
    if kind == "heun":
        weight = _series.decay_excess(2.0 * length) / (2.0 * length)
    output = np.exp(h) * STATE + 2.0 * np.sinh(h) * linear.score(0)
    output += np.exp(-grid[1:]) * weight * (length / part) * linear.denoiser_change(half, 1, time, reach)
    output += spread * (shared * linear.noise(0) + rest * linear.noise(1))
    name = "dpmpp_2s_sde" + ("" if sharing == "tree" else "_independent") + ("" if kind == "midpoint" else "_heun")
    return assemble(name, grid, [STATE.row(time=grid[:-1]), point.row(time=time)], output.row())
