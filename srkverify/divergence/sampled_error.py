"""How far off a score that is a function is, in L²(q_t): means over draws of q_t, with standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.divergence.ratios import Estimate
from srkverify.divergence.score_paths import exact_law
from srkverify.schedules import check_times
from srkverify.score import Score
from srkverify.targets import GaussianMixture, Product, Target


@dataclass(frozen=True)
class ScoreErrors:
    """E|ŝ − s|² at the beginning of each step of a grid of K steps, summed over coordinates.

    Attributes
    ----------
    times : (K,) forward times τ_0, …, τ_{K−1}.
    lengths : (K,) h_k = τ_k − τ_{k+1}.
    squared, errors : (K,) E|ŝ − s|² with X from q_{τ_k}, and standard errors; independent draws for each time.
    norms : (K,) E|s|² from the same draws, to compare with.
    """

    times: Array
    lengths: Array
    squared: Array
    errors: Array
    norms: Array

    @property
    def additive(self) -> Estimate:
        """Σ_k h_k E|ŝ − s|², in nats: what Girsanov's theorem makes of it, the additive term of a bound."""
        return Estimate(float(self.lengths @ self.squared), float(np.linalg.norm(self.lengths * self.errors)))

    @property
    def mean_squared(self) -> Estimate:
        """Σ_k h_k E|ŝ − s|² / Σ_k h_k, a theorem's ε_score²."""
        return Estimate(*(part / float(self.lengths.sum()) for part in self.additive))

    @property
    def of_ddpm(self) -> Estimate:
        """Σ_k e^{−h_k} sinh(h_k) E|ŝ − s|², in nats: by how much exactly DDPM's KL of paths grows on this grid."""
        weights = np.exp(-self.lengths) * np.sinh(self.lengths)
        return Estimate(float(weights @ self.squared), float(np.linalg.norm(weights * self.errors)))


def score_errors(target: Target, score: Score, times: ArrayLike, particles: int = 1024, seed: int = 0) -> ScoreErrors:
    """Estimate E_{q_t}|ŝ − s|² at the times at which a sampler's steps begin.

    For scores that are laws' see :func:`srkverify.divergence.score_error.squared_error`, which is exact.

    Parameters
    ----------
    target : GaussianMixture or Product
        Whose score s is exact.
    score : Score
        ŝ, in the target's dimension.
    times : (K+1,) decreasing forward times, a sampler's grid; the last one is not evaluated.
    particles : int
        n ≥ 2 draws of q_t for each time.
    seed : int
        ≥ 0. The same draws for all scores.

    Raises
    ------
    ValueError
        If an argument is not of its kind.
    """
    if not isinstance(target, (GaussianMixture, Product)):
        raise ValueError(f"target must be a GaussianMixture or a Product; got {type(target).__name__}")
    if not isinstance(score, Score) or score.dimension != target.dimension:
        what = f"dimension {score.dimension}" if isinstance(score, Score) else type(score).__name__
        raise ValueError(f"score must be a Score of dimension {target.dimension}; got {what}")
    grid = check_times(times)
    count = _check.integer("particles", particles, at_least=2)
    seeds = np.random.SeedSequence(_check.integer("seed", seed, at_least=0)).generate_state(len(grid) - 1, np.uint64)
    exact = exact_law(target)
    squared, errors, norms = np.empty((3, len(grid) - 1))
    for k, time in enumerate(map(float, grid[:-1])):
        x = target.sample(count, int(seeds[k]), time=time)
        truth = exact.score(x, time)
        off = ((score(x, time) - truth) ** 2).sum(axis=1)
        squared[k], errors[k], norms[k] = off.mean(), off.std(ddof=1) / np.sqrt(count), (truth**2).sum(axis=1).mean()
    return ScoreErrors(grid[:-1], -np.diff(grid), squared, errors, norms)
