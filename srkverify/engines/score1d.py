"""The score that a one-dimensional sampler evaluates if it is not the target's own: of another law, or with waves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from srkverify._check import Array
from srkverify.engines.gridding import LANES, jit, mixture_score
from srkverify.engines.mixture1d import Mixture1D, critical_points

# Images move by a fraction of the step's noise along a wave of small amplitude, so that its first two harmonics tell.
_HARMONICS = 2.0


@dataclass(frozen=True, eq=False)
class Score1D:
    """The score of ``law`` plus Σ_w a_w sin(ω_w x/σ_t + φ_w)/σ_t, σ_t² = 1 − e^{−2t}.

    Attributes
    ----------
    law : Mixture1D
    waves : (W, 3) a_w, ω_w, φ_w. On this scale −a is the amplitude of the error in the noise that a network predicts.
    """

    law: Mixture1D
    waves: Array = field(default_factory=lambda: np.zeros((0, 3)))

    def waves_at(self, times: Array) -> Array:
        """Amplitudes, frequencies and phases in x at ``times``, times.shape + (W, 3)."""
        if len(self.waves) == 0:
            return np.zeros((*np.shape(times), 0, 3))
        precision = 1.0 / np.sqrt(-np.expm1(-2.0 * times))[..., None]
        amplitude, frequency, phase = self.waves.T
        return np.stack([amplitude * precision, frequency * precision, phase + 0.0 * precision], axis=-1)

    def score(self, times: Array, points: Array) -> tuple[Array, Array]:
        """Score and its derivative at ``times`` (K,) and ``points`` (K, n), each (K, n)."""
        score, slope = self.law.score(times, points)
        for amplitude, frequency, phase in np.moveaxis(self.waves_at(times), (1, 2), (0, 1)):
            angle = frequency[:, None] * points + phase[:, None]
            score = score + amplitude[:, None] * np.sin(angle)
            slope = slope + (amplitude * frequency)[:, None] * np.cos(angle)
        return score, slope

    def at(self, time: float, points: Array) -> Array:
        """Score at one time and at ``points`` (n,), compiled."""
        when = np.array(time)
        padded = np.resize(points, -(-len(points) // LANES) * LANES)
        return _scores(padded, *self.table(when), self.waves_at(when))[: len(points)]

    def table(self, times: Array) -> tuple[Array, Array, Array]:
        """Log weights (less a constant), means and inverse variances of the law, as compiled code reads them."""
        means, variances = self.law.diffused(times)
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.law.weights) - 0.5 * np.log(variances)
        return np.maximum(log_weights, -1e300), means, 1.0 / variances

    def ripples(self, times: Array) -> Array:
        """Grid points per unit length that the waves ask for besides the others, times.shape."""
        highest = np.abs(self.waves[:, 1]).max(initial=0.0)
        if highest == 0.0:
            return np.zeros(np.shape(times))
        return _HARMONICS * highest / (2.0 * np.pi * np.sqrt(-np.expm1(-2.0 * times)))

    def smallest(self, target: Mixture1D, times: Array) -> Array:
        """Smallest standard deviation of a component, of ``target`` or of the law, at ``times``."""
        least = target.diffused(times)[1].min(axis=-1)
        if self.law is not target:
            least = np.minimum(least, self.law.diffused(times)[1].min(axis=-1))
        return np.sqrt(least)

    def critical_points(
        self, target: Mixture1D, times: Array, density: float, depth: float, valleys: bool
    ) -> tuple[Array, Array]:
        """Points that matter to a step and the grid density needed there, of ``target`` and of the law (K, n)."""
        own = critical_points(target, times, density, depth, valleys)
        if self.law is target:
            return own
        other = critical_points(self.law, times, density, depth, valleys)
        return np.concatenate([own[0], other[0]], axis=1), np.concatenate([own[1], other[1]], axis=1)


@jit
def add_waves(point: Any, score: Any, waves: Any) -> None:
    """Add waves (W, 3) to the scores at LANES points."""
    for w in range(len(waves)):
        for lane in range(LANES):
            score[lane] += waves[w, 0] * np.sin(waves[w, 1] * point[lane] + waves[w, 2])


@jit
def _scores(points: Any, log_weight: Any, mean: Any, inverse: Any, waves: Any) -> Any:
    """Score at points, whose number is a multiple of LANES."""
    score, highest, total = np.empty(len(points)), np.empty(LANES), np.empty(LANES)
    for begin in range(0, len(points), LANES):
        end = begin + LANES
        mixture_score(points[begin:end], score[begin:end], log_weight, mean, inverse, highest, total)
        add_waves(points[begin:end], score[begin:end], waves)
    return score
