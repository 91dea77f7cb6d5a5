"""SA-Solver (Xue et al., arXiv 2309.05019): stochastic Adams methods in the half log-SNR, as predictor or in PEC mode.

Data form with a constant τ, eq. (15) and (18): the SDE of strength τ (τ = 0: probability flow, τ = 1: reverse SDE) is
solved exactly over the step λ_s → λ_t = λ_s + ℓ but for the denoiser, which is a polynomial in λ through values D_j,

    Y' = (σ_t/σ_s) e^{−τ²ℓ} Y + Σ_j b_j D_j + σ_t √(1 − e^{−2τ²ℓ}) ξ,
    b_j = (1 + τ²) σ_t e^{−τ²λ_t} ∫_{λ_s}^{λ_t} e^{(1+τ²)λ} ℓ_j(λ) dλ.

The integrals are evaluated to rounding by Gauss's rule; the original's closed forms lose digits for short steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.schemes import _linear as linear
from srkverify.schemes import _log_snr as log_snr
from srkverify.schemes import _series
from srkverify.schemes._linear import STATE, Form
from srkverify.tableau import Tableau, assemble

HIGHEST_PREDICTOR, HIGHEST_CORRECTOR = 4, 5


def sa_solver(
    times: ArrayLike,
    predictor: int = 2,
    corrector: int = 0,
    tau: float = 1.0,
    final_correction: bool = False,
    rescaled: bool = False,
) -> Tableau:
    """SA-Solver with a predictor of ``predictor`` nodes and, if ``corrector`` > 0, a corrector of ``corrector`` nodes.

    Predictor alone: D_j at the states of the last ``predictor`` grid points, one evaluation a step, memory
    ``predictor`` − 1. With corrector (PEC): the one evaluation of a step is at the *predicted* point, at the step's
    end; the corrector starts again from Y with the same ξ and D there as a further node, and the evaluation is kept
    for later steps. The first step has one evaluation more and the last, whose output is the predicted point, none:
    K in all; memory max(predictor, corrector − 1). First steps use the nodes that there are.

    On Gaussians and mixtures KL ~ K⁻² with predictor 1 and with corrector 1, K⁻⁴ otherwise: further nodes improve the
    constant only, for the noise between nodes is of order ℓ. With τ = 1, predictor 1 is DDPM with posterior variance
    and predictor 2 is DPM-Solver++(2M) SDE, "heun".

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    predictor : int
        Number of nodes, 1 to 4.
    corrector : int
        Number of nodes, the predicted one among them, 1 to 5; 0 for none.
    tau : float
        Strength of the noise, ≥ 0.
    final_correction : bool
        Whether the last step is evaluated and corrected as well, as the original does for many steps.
    rescaled : bool
        Whether the slope through two nodes, of a predictor or a corrector, has the weight (1+τ²) ℓ²/2 in place of its
        integral (appendix D, "rescaling", for few steps; diffusers always does). A change of order ℓ³.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or an option is out of its range.
    """
    grid = check_times(times)
    order = _check.integer("predictor", predictor, at_least=1, below=HIGHEST_PREDICTOR + 1)
    corrections = _check.integer("corrector", corrector, at_least=0, below=HIGHEST_CORRECTOR + 1)
    decay = 1.0 + _check.number("tau", tau, at_least=0.0) ** 2
    name = f"sa_p{order}" + (f"c{corrections}" if corrections else "") + ("" if tau == 1.0 else f"_tau{tau:g}")
    name += "_rescaled" if rescaled else ""
    steps, length = len(grid) - 1, log_snr.step_lengths(grid)
    spread = np.sqrt(np.expm1(-2.0 * (decay - 1.0) * length) * np.expm1(-2.0 * grid[1:]))
    noise = np.broadcast_to(spread, steps) * linear.noise(0)
    paths = [(1.0, 0.0, 0.0)]  # ξ_0 = w/√(Var w), as in DDPM
    now = linear.denoiser(STATE, linear.score(0), grid[:-1])
    if not corrections:
        values = [now] + [linear.past_denoiser(j - 1, log_snr.before(grid, j)) for j in range(1, min(order, steps))]
        output = _frozen(grid, length, decay) + noise + _differences(grid, length, decay, rescaled, values)
        return assemble(name, grid, [STATE.row(time=grid[:-1])], output.row(), paths)
    first, last = np.arange(steps) == 0, np.arange(steps) == steps - 1
    values = [linear.past_denoiser(j, log_snr.before(grid, j)) for j in range(min(max(order, corrections - 1), steps))]
    values[0] = linear.chosen(first, now, values[0])
    gain = np.exp(-grid[1:]) * -np.expm1(-decay * length)  # Σ_j b_j
    start = np.exp(grid[:-1] - grid[1:] - decay * length) * STATE + gain * values[0]
    start = linear.chosen(first, _frozen(grid, length, decay), start) + noise
    predicted = start + _differences(grid, length, decay, rescaled, values[:order])
    ahead = linear.denoiser(predicted, linear.score(1), grid[1:])
    if corrections == 1:
        corrected = start + gain * (ahead - values[0])
    else:
        corrected = start + _differences(grid, length, decay, rescaled, values[: corrections - 1], ahead)
    saved = last & (not final_correction)
    stages = [STATE.row(time=grid[:-1], evaluated=first), predicted.row(time=grid[1:], evaluated=~saved)]
    return assemble(name, grid, stages, linear.chosen(saved, predicted, corrected).row(), paths)


def _frozen(grid: Array, length: Array, decay: float) -> Form:
    """Y' without noise if the denoiser stays what it is at Y: e^h Y + e^h σ_s² (1 − e^{−cℓ}) S_0, c = 1 + τ²."""
    growth = np.exp(grid[:-1] - grid[1:])
    return growth * STATE + growth * np.expm1(-2.0 * grid[:-1]) * np.expm1(-decay * length) * linear.score(0)


def _differences(
    grid: Array, length: Array, decay: float, rescaled: bool, values: list[Form], new: Form | None = None
) -> Form:
    """Σ_j b_j (D_j − D_0) over former values and ``new``, at the step's end, with as many nodes as there are."""
    steps, total = len(length), Form({})
    for order in range(1, len(values) + 1):
        which = np.arange(order - 1, steps if order == len(values) else order)  # the steps that use so many values
        start = grid[which]
        nodes = [-log_snr.length_between(grid[which - j], start, grid[which - j] - start) for j in range(1, order)]
        others = values[1:order]
        if new is not None:
            nodes, others = [*nodes, length[which]], [*others, new]
        weights = log_snr.adams_weights(nodes, length[which], decay)
        if rescaled and len(weights) == 1:
            z = decay * length[which]
            weights[0] *= 0.5 * z**2 / _series.decay_excess(z)
        for weight, other in zip(weights, others, strict=True):
            every = np.zeros(steps)
            every[which] = np.exp(-grid[which + 1]) * weight
            total += every * (other - values[0])
    return total
