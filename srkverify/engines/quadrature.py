"""Exact engine in one dimension: the density of the sampler itself, step by step, by quadrature.

For a tableau without memory, given Y = y and the noise ζ that its stages see, Y' is Gaussian with mean m(y, ζ) and
a known standard deviation σ, so

    p'(y') = Σ_j Σ_a p(y_j) Δ ω_a N(y'; m(y_j, ζ_a), σ²),

the trapezoidal rule in y (spectrally accurate once Δ resolves σ) and Gauss–Hermite in ζ. The Gaussians are added to
the grid by fast Gaussian gridding (Greengard & Lee 2004): two exponentials for each, one product for each grid point.
Derived in docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines.mixture1d import Mixture1D, end_laws, mixture_density, sampled, support
from srkverify.engines.quadrature_steps import LIMIT, propagate
from srkverify.engines.score1d import Score1D
from srkverify.tableau import Drawn, Tableau

# The map is resolved down to e^{−_DEPTH} of the peaks. In the valleys between far modes it is far steeper, and little
# mass is left there: resolving them from the start costs a hundredfold, refining finds what they matter.
_DEPTH = 22.0
_OWN = 1e-6  # noise of the output's own, relative to all of it, that is too little for a grid


@dataclass(frozen=True)
class Resolution:
    """How finely the quadrature resolves.

    Attributes
    ----------
    density : grid points per standard deviation of the step's noise.
    reach : standard deviations to which a Gaussian is spread.
    depth : valleys are resolved to e^{−depth} of the peaks where many dimensions make that dear: what a sampler leaves
        there may be the square root of the truth.
    """

    density: float
    reach: float
    depth: float = 60.0


# Tried before the others where each point is dear, the joint density being in three dimensions or more.
COARSE = (
    Resolution(0.5, 4.5, 10.0),
    Resolution(0.65, 5.4, 12.0),
    Resolution(0.78, 6.5, 20.0),
    Resolution(0.9, 6.8, 26.0),
)

# The first two are close on purpose: they run side by side, and the error of the first is already that of 1e-11.
LEVELS = tuple(
    Resolution(density, reach)
    for density, reach in (
        (1.1, 7.6),
        (1.25, 8.0),
        (1.8, 9.0),
        (2.5, 10.0),
        (3.5, 11.0),
        (5.0, 12.0),
        (7.0, 12.0),
        (10.0, 12.0),
    )
)


def unresolved(tableau: Tableau | Drawn, limit: int) -> ValueError:
    """Return the error for a sampler whose densities need more than ``limit`` grid points."""
    return ValueError(
        f"steps: {tableau.name} with {tableau.steps} steps needs more than {limit} grid points on this target: the "
        "sampler is unstable or unresolved there; allowed are grids with more steps"
    )


def folded(tableau: Tableau | Drawn) -> ValueError:
    """Return the error for a sampler whose map of the line is not monotone."""
    return ValueError(
        f"steps: {tableau.name} with {tableau.steps} steps folds the line on this target; allowed are grids with more "
        "steps"
    )


@dataclass(frozen=True)
class Density:
    """A density on a uniform grid, beside the truth that the sampler should have reached.

    Attributes
    ----------
    points : (n,) equally spaced.
    value : (n,) density of the sampler's output.
    truth : (n,) density of q_δ.
    work : products that it took to add Gaussians to grids, a measure of the time spent.
    """

    points: Array
    value: Array
    truth: Array
    work: float


def output_density(
    tableau: Tableau, target: Mixture1D, resolution: Resolution, start: str = "exact", score: Score1D | None = None
) -> Density:
    """Density of the output of ``tableau`` on ``target``.

    Parameters
    ----------
    tableau : Tableau
        Without memory; the noise of each step must not be a function of what its stages see.
    target : Mixture1D
        The data law.
    resolution : Resolution
        Grid density and reach; compare two to learn the error.
    start : str
        ``"exact"`` (q_T) or ``"normal"`` (N(0, 1)).
    score : Score1D
        What the sampler evaluates, if not the target's own score.

    Raises
    ------
    ValueError
        If the output density would need more than 2^22 grid points.
    """
    times = tableau.times
    score = score or Score1D(target)
    smallest = score.smallest(target, times)
    stage_times = np.where(tableau.evaluated, tableau.stage_times, 1.0)
    nodes = _stage_noise_nodes(tableau, target, score, resolution)
    fine = nodes.spread / nodes.points
    fine /= 1.0 + fine * score.ripples(stage_times).max(axis=1, initial=0.0)
    spacing = np.minimum(np.append(fine, np.inf), 0.35 * smallest / resolution.density)
    spacing[-1] = 0.08 * smallest[-1] / resolution.density
    spacing[1:] = np.minimum(spacing[1:], 3.0 * nodes.spread)
    first, truth = end_laws(target, times, start)
    low, initial = sampled(*first, spacing[0], resolution.reach + 1.5)
    edges = support(*truth, resolution.reach + 1.5)
    low, value, work = propagate(
        initial,
        low,
        np.array([np.floor(edges[0] / spacing[-1]), np.ceil(edges[1] / spacing[-1])]).astype(np.int64),
        spacing,
        nodes.spread,
        resolution.reach,
        tableau.evaluated,
        tableau.stage_state,
        tableau.stage_scores,
        tableau.state,
        tableau.scores,
        *score.table(stage_times),
        score.waves_at(stage_times),
        nodes.count,
        nodes.weight,
        nodes.stage_shift,
        nodes.shift,
    )
    if len(value) == 0:
        raise ValueError(
            f"steps: {tableau.name} with {tableau.steps} steps spreads over more than {LIMIT} grid points on this "
            "target: the sampler is unstable there; allowed are grids with more steps"
        )
    points = (low + np.arange(len(value))) * spacing[-1]
    return Density(points, value, mixture_density(points, *truth), work)


def covers(tableau: Tableau) -> bool:
    """Whether each step of a tableau without memory has noise that its stages do not see."""
    return bool((_stage_noise(tableau).spread > _OWN * np.sqrt(np.square(tableau.noise).sum(axis=1))).all())


@dataclass(frozen=True)
class _StageNoise:
    """Orthonormal directions of ξ that the stages see; along them quadrature, across them exact convolution."""

    rank: int
    visible: NDArray[np.bool_]  # (K, directions)
    part: Array  # (K, R, directions), of the stages' noise along each
    along: Array  # (K, directions), of the output's
    spread: Array  # (K,) the rest of the output's


def _stage_noise(tableau: Tableau) -> _StageNoise:
    seen = np.where(tableau.evaluated[:, :, None], tableau.stage_noise, 0.0)
    left, singular, right = np.linalg.svd(seen, full_matrices=False)
    visible = singular > 1e-13 * np.maximum(singular.max(axis=1, keepdims=True, initial=0.0), 1e-300)
    directions = np.where(visible[:, :, None], right, 0.0)
    along = np.einsum("kqm,km->kq", directions, tableau.noise)
    across = tableau.noise - np.einsum("kq,kqm->km", along, directions)
    spread = np.sqrt(np.square(across).sum(axis=1))
    part = left * np.where(visible, singular, 0.0)[:, None, :]
    return _StageNoise(int(visible.sum(axis=1).max()), visible, part, along, spread)


@dataclass(frozen=True)
class _Nodes:
    """Quadrature over the noise that stages see: (K,) counts and residual spreads, the rest padded to the longest."""

    count: NDArray[np.int64]
    spread: Array  # (K,) standard deviation of Y' given y and the stages' noise
    points: Array  # (K,) grid points needed in y for each ``spread``
    weight: Array  # (K, n)
    stage_shift: Array  # (K, n, R)
    shift: Array  # (K, n)


def _stage_noise_nodes(tableau: Tableau, target: Mixture1D, score: Score1D, resolution: Resolution) -> _Nodes:
    steps, stages = tableau.stage_times.shape
    noise = _stage_noise(tableau)
    rank, visible, stage_part, along, spread = noise.rank, noise.visible, noise.part, noise.along, noise.spread
    if not (spread > _OWN * np.sqrt(np.square(tableau.noise).sum(axis=1))).all():
        raise ValueError(
            f"tableau: the noise of {tableau.name} is known once that of its stages is (or zero), so its output has "
            "no density given those; this quadrature needs noise of its own in every step"
        )
    by_y, by_zeta, need = _slopes(tableau, target, score, stage_part[:, :, 0], along[:, 0], resolution.density)
    # Where |∂m/∂y| > 1 the Gaussians are narrower in y than in y', by that factor.
    points = (need * np.maximum(np.abs(by_y), 1.0)).max(axis=1)
    stage_times = np.where(tableau.evaluated, tableau.stage_times, 1.0)
    reached = np.abs(stage_part).max(axis=2)
    ratio = reached.max(axis=1) / score.smallest(target, stage_times).min(axis=1)
    # What ζ does to Y', against the scale on which the density of Y' varies once y is integrated over.
    smallest = score.smallest(target, tableau.times[:-1])[:, None]
    scale = np.sqrt(np.square(by_y * smallest) + np.square(spread)[:, None])
    ratio = np.maximum(ratio, (np.abs(by_zeta) / scale * np.minimum(need / resolution.density, 1.0)).max(axis=1))
    # Gauss–Hermite while the score hardly bends over the noise; where it bends, the trapezoidal rule, which unlike
    # Gauss–Hermite converges geometrically with a rate that only depends on the spacing.
    smooth = np.ceil(resolution.density * (6.0 + 14.0 * ratio))
    ripples = (reached * score.ripples(stage_times)).max(axis=1)
    bent = -np.ceil(2.0 * resolution.reach * (resolution.density * np.maximum(1.0, ratio / 0.35) + ripples))
    orders = np.where((ratio < 0.3) & (ripples == 0.0), smooth, bent).astype(np.int64)  # negative: trapezoidal
    orders = np.where(visible.any(axis=1), orders, 1)
    counts = np.abs(orders) ** rank if rank else np.ones(steps, dtype=np.int64)
    weight = np.zeros((steps, int(counts.max())))
    stage_shift = np.zeros((*weight.shape, stages))
    shift = np.zeros(weight.shape)
    for order in np.unique(orders):
        chosen = orders == order
        places, weights = _normal_rule(int(order), rank, resolution.reach)
        size = len(weights)
        weight[chosen, :size] = weights
        stage_shift[chosen, :size] = np.einsum("nq,krq->knr", places, stage_part[chosen, :, :rank])
        shift[chosen, :size] = along[chosen, :rank] @ places.T
    return _Nodes(counts, spread, points, weight, stage_shift, shift)


def _slopes(
    tableau: Tableau, target: Mixture1D, law: Score1D, stage_noise: Array, noise: Array, density: float
) -> tuple[Array, Array, Array]:
    """∂m/∂y, ∂m/∂ζ and the grid density needed, each (K, n), at the critical points of every step."""
    points, need = law.critical_points(target, tableau.times[:-1], density, _DEPTH, valleys=False)
    rows: list[tuple[Array, Array, Array]] = []  # each stage's score, and its derivatives in y and in ζ
    for i in range(tableau.stage_times.shape[1]):
        at = tableau.stage_state[:, i, None] * points
        by_y = np.broadcast_to(tableau.stage_state[:, i, None], points.shape)
        by_zeta = np.broadcast_to(stage_noise[:, i, None], points.shape)
        for j, (score, score_by_y, score_by_zeta) in enumerate(rows):
            weight = tableau.stage_scores[:, i, j, None]
            at, by_y, by_zeta = at + weight * score, by_y + weight * score_by_y, by_zeta + weight * score_by_zeta
        seen = tableau.evaluated[:, i, None]
        score, slope = law.score(np.where(seen[:, 0], tableau.stage_times[:, i], 1.0), at)
        rows.append(
            (np.where(seen, score, 0.0), np.where(seen, slope * by_y, 0.0), np.where(seen, slope * by_zeta, 0.0))
        )
    by_y, by_zeta = tableau.state[:, None], noise[:, None]
    for i, (_, score_by_y, score_by_zeta) in enumerate(rows):
        weight = tableau.scores[:, i, None]
        by_y, by_zeta = by_y + weight * score_by_y, by_zeta + weight * score_by_zeta
    return np.broadcast_to(by_y, need.shape), np.broadcast_to(by_zeta, need.shape), need


@lru_cache(maxsize=512)
def _normal_rule(order: int, rank: int, reach: float) -> tuple[Array, Array]:
    """Nodes (n, rank) and weights (n,) for the standard normal law in ``rank`` dimensions.

    ``order`` nodes a dimension: Gauss–Hermite, or if it is negative the trapezoidal rule over ±reach.
    """
    if order > 0:
        points, weights = np.polynomial.hermite_e.hermegauss(order)
    else:
        points = np.linspace(-reach, reach, -order)
        weights = np.exp(-0.5 * points**2)
    grids = np.meshgrid(*[points] * rank, indexing="ij")
    products = np.meshgrid(*[weights / weights.sum()] * rank, indexing="ij")
    if rank == 0:
        return np.zeros((1, 0)), np.ones(1)
    return np.stack([grid.ravel() for grid in grids], axis=1), np.prod([w.ravel() for w in products], axis=0)
