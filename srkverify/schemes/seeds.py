"""SEEDS (Gonzalez et al., arXiv 2305.14267): stochastic exponential Runge–Kutta methods in the half log-SNR λ.

The reverse SDE's linear part and noise are integrated exactly over λ_s → λ_t = λ_s + ℓ; stages at λ_s + rℓ see the
noise of the same path up to there. In noise form (algorithms 1 to 3 for the VP case; ε = −σ s),

    SEEDS-1  Y' = (α_t/α_s) Y − 2σ_t (e^ℓ − 1) ε_0 + σ_t √(e^{2ℓ} − 1) ξ
    SEEDS-2  r = ½: U_1 by SEEDS-1, Y' with ε_1 in place of ε_0
    SEEDS-3  r = ⅓, ⅔: U_1 by SEEDS-1; with ψ(z) = (e^z − 1 − z)/z,
             U_2 = … − 2σ_2 (e^{⅔ℓ} − 1) ε_0 − 4σ_2 ψ(⅔ℓ)(ε_1 − ε_0) + noise,
             Y' = … − 2σ_t (e^ℓ − 1) ε_0 − 3σ_t ψ(ℓ)(ε_2 − ε_0) + noise,

and in data form the same with α and −2ℓ for 2σ and ℓ, applied to denoisers, on the linear part (σ_t/σ_s) e^{−ℓ}.
"""

from __future__ import annotations

from dataclasses import dataclass

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

_FRACTIONS: dict[int, tuple[float, ...]] = {1: (), 2: (0.5,), 3: (1.0 / 3.0, 2.0 / 3.0)}


def seeds(times: ArrayLike, stages: int = 2, prediction: str = "data") -> Tableau:
    """SEEDS-1, -2 or -3: ``stages`` evaluations a step, the last of them at λ_s + ½ℓ and λ_s + ⅔ℓ.

    Data form as ComfyUI has it ("VP data prediction", r = ½ and "phi_1" for two stages), noise form as the paper. In
    data form SEEDS-1 is DDPM with posterior variance, in noise form another first-order scheme with the noise of the
    reverse SDE itself. On Gaussians and mixtures KL ~ K⁻² with one stage and K⁻⁴ with
    two or three.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    stages : int
        1, 2 or 3.
    prediction : str
        ``"data"`` or ``"noise"``: what is taken for constant or linear in λ, the denoiser or ε = −σ s.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, ``stages`` is not 1, 2 or 3, or ``prediction`` unknown.
    """
    grid = check_times(times)
    count = _check.integer("stages", stages, at_least=1, below=4)
    kind = _check.choice("prediction", prediction, ("data", "noise"))
    name = f"seeds_{count}" if kind == "data" else f"seeds_{count}_noise"
    length = log_snr.step_lengths(grid)
    places = [_Place(kind, grid[:-1], log_snr.time_after(grid[:-1], r * length), r * length) for r in _FRACTIONS[count]]
    places.append(_Place(kind, grid[:-1], grid[:-1] - grid[1:], length))
    noises = _noises(places)
    rows, stray = [STATE.row(time=grid[:-1])], noises[0]
    for stage, place in enumerate(places[:-1], start=1):
        rows.append(place.point(stray).row(time=place.time))
        change, ahead = place.change(stray, stage), places[stage]
        # φ_2 of a slope in λ if there are three stages; for two, the value at the middle replaces the first one.
        weight = ahead.gain if count == 2 else ahead.bend * (ahead.length / place.length)
        stray = weight * change + noises[stage]
    paths = [(1.0, 0.0, 0.0)] if count == 1 else None  # else noises of parts of the step: no functionals of its ζ
    return assemble(name, grid, rows, places[-1].point(stray).row(), paths)


@dataclass(frozen=True)
class _Place:
    """Where a stage or the output lies: ``h`` below each step's ``start`` in time, ``length`` above it in λ; (K,)."""

    kind: str
    start: Array
    h: Array
    length: Array

    @property
    def time(self) -> Array:
        return self.start - self.h

    @property
    def sigma(self) -> Array:
        return np.sqrt(-np.expm1(-2.0 * self.time))

    @property
    def gain(self) -> Array:
        """Weight of a constant model, the integral with φ_1. The model of the noise form is −ε = σ s."""
        if self.kind == "data":
            return np.exp(-self.time) * -np.expm1(-2.0 * self.length)
        return 2.0 * self.sigma * np.expm1(self.length)

    @property
    def bend(self) -> Array:
        """Weight of a model that is linear in λ, 0 at the start and 1 here, the integral with φ_2."""
        if self.kind == "data":
            return np.exp(-self.time) * _series.decay_excess(2.0 * self.length) / (2.0 * self.length)
        return 2.0 * self.sigma * _series.exp_minus_2(self.length) / self.length

    def point(self, stray: Form) -> Form:
        """SEEDS-1 to here without noise, plus what strays from it."""
        weight = 2.0 * np.sinh(self.h) if self.kind == "data" else self.gain * np.sqrt(-np.expm1(-2.0 * self.start))
        return np.exp(self.h) * STATE + weight * linear.score(0) + stray

    def change(self, stray: Form, stage: int) -> Form:
        """Return the model at the point here less the first stage's, without the state, which drops out."""
        if self.kind == "data":
            return linear.denoiser_change(stray, stage, self.time, self.h)
        return self.sigma * linear.score(stage) - np.sqrt(-np.expm1(-2.0 * self.start)) * linear.score(0)


def _noises(places: list[_Place]) -> list[Form]:
    """Return the noise at each place: of one path, of which part m of the step has ξ_m."""
    total, gone, result = Form({}), np.zeros(1), []
    for m, place in enumerate(places):
        part = place.length - gone
        if place.kind == "data":
            total = np.exp(-part) * total + np.sqrt(-np.expm1(-2.0 * part)) * linear.noise(m)
        else:
            total = np.exp(part) * total + np.sqrt(np.expm1(2.0 * part)) * linear.noise(m)
        gone = place.length
        result.append(place.sigma * total)
    return result
