"""KL of paths of a sampler whose score is a function, a network for example, on a target whose law is exact.

Paths of the truth are drawn by the forward process, from x_K ~ q_δ up to x_0 ~ q_T. Along each of them the sampler is
asked how likely its own chain takes the same way,

    −L = log q_δ(x_K) + Σ_k log q(x_k | x_{k+1}) − log p_0(x_0) − Σ_k log p(x_{k+1}, ζ_k | x_k, past)/Q(ζ_k),

ζ_k being what the stages of step k see of its noises. By Bayes' rule the mean of −L is the KL of the forward process's
paths from those of the sampler, Σ_k E KL(q(x_{k+1} | x_k) ‖ p(x_{k+1} | x_k, past)) and the KL of the start. Where
stages see no noise it is exact; else it is an upper bound, whatever Q is, giving away the mean of KL(Q ‖ p(ζ_k | x)).
Q is the law of ζ_k given x_{k+1} once the score is linearised there, so that only its curvature counts. The mean of
p(x_{k+1}, ζ_k)/Q(ζ_k) over several ζ_k, in place of one, is nearer to p(x_{k+1} | x_k) and still gives a bound (Burda,
Grosse & Salakhutdinov, arXiv 1509.00519); not if a later step remembers what depends on ζ_k. Derived in docs/theory.md,
section 8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from srkverify._check import Array
from srkverify.divergence.ratios import path_summary
from srkverify.engines.callable import Evaluation, remembered, step
from srkverify.engines.posterior import Isotropic
from srkverify.score import Score
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture, Target

LEAST_PATHS = 32
_NUMBERS = 1 << 22  # of the paths of a batch
_JACOBIANS = 1 << 22  # of Jacobians at a time
_MOST_PATHS = 1024  # of a batch
_NOISE = 1e-12  # of the output's noise, relative to its variance: what is less is none

Past = list[tuple[Array, Array]]


@dataclass(frozen=True)
class PathBound:
    """KL of paths under a score that is a function, in nats: an upper bound on KL(q_δ ‖ output).

    Attributes
    ----------
    value : float
        KL of the forward process's paths (x_0, …, x_K) from the sampler's, start included; if stages see noise, an
        upper bound on it.
    error : float
        Standard error of ``value``.
    values : (n,)
        One for each path, whose mean is ``value`` but for control variates. With the same target, grid and seed all
        samplers and scores see the same paths: what two of them differ by, path by path, has a small error.
    stage_noise : bool
        Whether stages see noise.
    inner : int
        Draws of it a step.
    method : str
        "path_bound".
    """

    value: float
    error: float
    values: NDArray[np.float64]
    stage_noise: bool
    inner: int
    method: str = "path_bound"

    @property
    def path_kl(self) -> float:
        """``value``, by the name that it has in :class:`~srkverify.divergence.sampled.PathDivergence`."""
        return self.value

    @property
    def path_error(self) -> float:
        """``error``, likewise."""
        return self.error


class _Noise(NamedTuple):
    """The noises of a step: ξ_m = Σ_a basis[a, m] ζ_a plus what no stage sees.

    Attributes
    ----------
    basis : (r, M) orthonormal.
    stages : (R, r) what ζ is to the stages.
    output : (r,) and to the output.
    variance : of what the output sees besides.
    """

    basis: Array
    stages: Array
    output: Array
    variance: float


def score_path_kl(
    target: Target, tableau: Tableau, score: Score, start: str, particles: int, seed: int, inner: int, progress: bool
) -> PathBound:
    """Estimate from ``particles`` paths; see :func:`srkverify.kl`."""
    if score.dimension != target.dimension:
        raise ValueError(f"score must have the target's dimension, {target.dimension}; got {score.dimension}")
    noises = [_noise(tableau, k) for k in range(tableau.steps)]
    noisy = any(len(noise.output) for noise in noises)
    inner = inner if noisy and tableau.memory == 0 else 1
    exact = exact_law(target)
    size = int(np.clip(_NUMBERS // ((tableau.steps + 1) * target.dimension), 1, _MOST_PATHS))
    seeds = np.random.SeedSequence(seed).spawn(-(-particles // size))
    logs, controls = np.empty(particles), np.empty(particles)
    with tqdm(total=particles, unit=" paths", delay=2.0, disable=None if progress else True) as bar:
        for begin, own in zip(range(0, particles, size), seeds, strict=True):
            rows = slice(begin, min(begin + size, particles))
            paths = _Paths(target, exact, tableau, own, rows.stop - begin)
            logs[rows], controls[rows] = paths.log_ratios(score, start, noises, inner)
            bar.update(rows.stop - begin)
    if not np.isfinite(logs).all():
        raise ValueError(
            f"tableau must have a density that double precision holds; got log ratios that are not finite for "
            f"{tableau.name} with {score.name}: use more steps"
        )
    found = path_summary(logs[None], (logs + controls)[None])
    return PathBound(found.value, found.error, -(logs + controls), noisy, inner)


class _Law(NamedTuple):
    """Functions of points (n, d) and a time."""

    log_density: Callable[[Array, float], Array]
    score: Callable[[Array, float], Array]


def exact_law(target: Target) -> _Law:
    """Return a target's log density and score, as fast as they can be had."""
    if isinstance(target, GaussianMixture) and target.kind == "isotropic":
        law = Isotropic(target)
        return _Law(law.log_density, law.score)
    return _Law(target.log_density, target.score)


class _Paths:
    """Paths of the truth and what is random along them, all from a seed."""

    def __init__(self, target: Target, exact: _Law, tableau: Tableau, seed: np.random.SeedSequence, count: int) -> None:
        self.exact, self.tableau = exact, tableau
        generator = np.random.default_rng(seed)
        times, own = tableau.times, int(seed.generate_state(1, np.uint64)[0])
        self.path = np.empty((tableau.steps + 1, count, target.dimension))
        self.path[-1] = target.sample(count, own, time=float(times[-1]))
        self.log_density = exact.log_density(self.path[-1], float(times[-1]))
        for k in range(tableau.steps - 1, -1, -1):
            h = times[k] - times[k + 1]
            variance = -np.expm1(-2.0 * h)
            noise = generator.standard_normal(self.path[k].shape)
            self.path[k] = np.exp(-h) * self.path[k + 1] + np.sqrt(variance) * noise
            self.log_density += _log_normal((noise**2).sum(axis=1), noise.shape[1], 1.0)
            self.log_density -= 0.5 * noise.shape[1] * np.log(variance)
        self.generator = np.random.default_rng(seed.spawn(1)[0])

    def log_ratios(self, score: Score, start: str, noises: list[_Noise], inner: int) -> tuple[Array, Array]:
        """Return L (n,), and what has mean 0 and takes most of its noise off when it is added to L."""
        tableau, path = self.tableau, self.path
        logs, controls = self._at_horizon(start) - self.log_density, np.zeros(path.shape[1])
        past: Past = []
        for k in range(tableau.steps):
            x, after, h = path[k], path[k + 1], tableau.times[k] - tableau.times[k + 1]
            made = plain = step(tableau, k, score, x, [], past)
            if len(noises[k].output):
                made, log_p = self._proposed(k, score, noises[k], plain, past, inner)
            else:
                log_p = _log_normal(((after - made.state) ** 2).sum(axis=1), x.shape[1], noises[k].variance)
            logs += log_p
            # The mean of the next state given this one, by Tweedie: what it is off the sampler's costs noise of mean 0.
            mean = np.exp(h) * x + 2.0 * np.sinh(h) * self.exact.score(x, float(tableau.times[k]))
            controls += ((after - mean) * (mean - plain.state)).sum(axis=1) / (tableau.noise[k] ** 2).sum()
            past = remembered(made, past, tableau.memory)
        return logs, controls

    def _proposed(
        self, k: int, score: Score, noise: _Noise, plain: Evaluation, past: Past, inner: int
    ) -> tuple[Evaluation, Array]:
        """Return step ``k`` with ζ drawn from Q, and the log of the mean of p(x_{k+1}, ζ)/Q(ζ) over all draws."""
        tableau, x, after = self.tableau, self.path[k], self.path[k + 1]
        r, (n, d) = len(noise.output), x.shape

        def made(zeta: Array) -> Evaluation:
            return step(tableau, k, score, x, list(np.einsum("am,nad->mnd", noise.basis, zeta)), past)

        # A first guess, as if the score were constant; linearise there.
        weights = noise.output / (noise.output @ noise.output + noise.variance)
        guess = weights[:, None] * (after - plain.state)[:, None, :]
        there = made(guess)
        eta = self.generator.standard_normal((inner, n, r * d))
        zetas, logs = np.empty((n, r * d, inner)), np.empty((inner, n))
        size = max(1, _JACOBIANS // (r * d * d))
        for rows in (slice(begin, begin + size) for begin in range(0, n, size)):
            slope = self._slope(k, score, noise, {i: x[rows] for i, x in there.points.items()})
            flat = guess[rows].reshape(-1, r * d)
            residual = after[rows] - there.state[rows] + np.einsum("nij,nj->ni", slope, flat)
            precision = np.swapaxes(slope, 1, 2) @ slope / noise.variance
            precision[:, np.arange(r * d), np.arange(r * d)] += 1.0
            factor = np.linalg.cholesky(precision)
            # P⁻¹ Gᵀ e/σ² is the mean of N(…, P⁻¹), and P⁻¹ L η has its covariance.
            mean = np.einsum("nij,ni->nj", slope, residual) / noise.variance
            zetas[rows] = np.linalg.solve(precision, mean[:, :, None] + factor @ np.moveaxis(eta[:, rows], 0, 2))
            logs[:, rows] = -np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        logs += 0.5 * ((eta**2).sum(axis=2) - (zetas**2).sum(axis=1).T)
        for draw in range(inner - 1, -1, -1):
            drawn = made(zetas[:, :, draw].reshape(n, r, d))
            logs[draw] += _log_normal(((after - drawn.state) ** 2).sum(axis=1), d, noise.variance)
        top = logs.max(axis=0)
        return drawn, top + np.log(np.exp(logs - top).mean(axis=0))

    def _slope(self, k: int, score: Score, noise: _Noise, points: dict[int, Array]) -> Array:
        """Return the derivative (n, d, r·d) of the output of step ``k`` by ζ, at the stages' points (n, d)."""
        tableau, unit = self.tableau, np.eye(self.path.shape[2])
        by_score: dict[int, Array] = {}
        result: Array = np.kron(noise.output, unit)[None].astype(np.float64, copy=False)
        for i in sorted(points):
            by_point = np.kron(noise.stages[i], unit)
            for j, slope in by_score.items():
                by_point = by_point + tableau.stage_scores[k, i, j] * slope
            if by_point.any():
                jacobian = score.jacobian_at(points[i], float(tableau.stage_times[k, i]))
                by_score[i] = jacobian @ by_point
                result = result + tableau.scores[k, i] * by_score[i]
        return result

    def _at_horizon(self, start: str) -> Array:
        """Return the log density of the sampler's start."""
        if start == "exact":
            return self.exact.log_density(self.path[0], float(self.tableau.times[0]))
        return _log_normal((self.path[0] ** 2).sum(axis=1), self.path.shape[2], 1.0)


def _noise(tableau: Tableau, k: int) -> _Noise:
    """Split the noises of step ``k`` into what its stages see and what they do not."""
    seen = np.where(tableau.evaluated[k][:, None], tableau.stage_noise[k], 0.0)
    _, sizes, directions = np.linalg.svd(seen, full_matrices=False)
    basis = directions[sizes > _NOISE * max(1.0, float(sizes.max(initial=0.0)))]
    output = basis @ tableau.noise[k]
    rest = tableau.noise[k] - output @ basis
    if not rest @ rest > _NOISE * (tableau.noise[k] @ tableau.noise[k]):
        raise ValueError(
            f"tableau must give the output of each step noise that its stages do not see, or there is no density; got "
            f"none in step {k} of {tableau.name}"
        )
    return _Noise(basis, seen @ basis.T, output, float(rest @ rest))


def _log_normal(squares: Array, dimension: int, variance: float) -> Array:
    """Return the log density of N(0, variance·I) where |x|² is ``squares``."""
    result: Array = -0.5 * (squares / variance + dimension * np.log(2.0 * np.pi * variance))
    return result
