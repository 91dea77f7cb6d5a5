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
from typing import Any

import numba as nb
import numpy as np

from srkverify._check import Array
from srkverify.engines import vecmath
from srkverify.tableau import Tableau

_LIMIT = 1 << 22  # grid points; more means that the sampler has blown up
_LANES = 64  # sources that are mapped together
_NEGLIGIBLE = 1e-19  # probability of a source that is not spread


@dataclass(frozen=True)
class Mixture1D:
    """One-dimensional Gaussian mixture: weights, means and variances at time 0, each (c,)."""

    weights: Array
    means: Array
    variances: Array

    def diffused(self, times: Array) -> tuple[Array, Array]:
        """Means and variances at ``times``, each times.shape + (c,)."""
        decay = np.exp(-times)[..., None]
        return decay * self.means, decay**2 * self.variances - np.expm1(-2.0 * times)[..., None]

    def score(self, times: Array, points: Array) -> Array:
        """Score at ``times`` (K,) and ``points`` (K, n)."""
        means, variances = (part[:, None, :] for part in self.diffused(times))
        gap = means - points[..., None]
        with np.errstate(divide="ignore"):
            exponent = np.log(self.weights) - 0.5 * np.log(variances) - 0.5 * gap**2 / variances
        share = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
        return (share * gap / variances).sum(axis=-1) / share.sum(axis=-1)


@dataclass(frozen=True)
class Resolution:
    """How finely the quadrature resolves.

    Attributes
    ----------
    density : grid points per standard deviation of the step's noise.
    reach : standard deviations to which a Gaussian is spread.
    """

    density: float
    reach: float


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


@dataclass(frozen=True)
class Density:
    """A density on a uniform grid, beside the truth that the sampler should have reached.

    Attributes
    ----------
    points : (n,) equally spaced.
    value : (n,) density of the sampler's output.
    truth : (n,) density of q_δ.
    """

    points: Array
    value: Array
    truth: Array


def mixture_density(points: Array, weights: Array, means: Array, variances: Array) -> Array:
    """Density at ``points`` (n,) of a mixture with parameters (c,)."""
    exponent = -0.5 * (points[:, None] - means) ** 2 / variances
    return np.exp(exponent) @ (weights / np.sqrt(2.0 * np.pi * variances))


def output_density(tableau: Tableau, target: Mixture1D, resolution: Resolution, start: str = "exact") -> Density:
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

    Raises
    ------
    ValueError
        If the output density would need more than 2^22 grid points.
    """
    times = tableau.times
    means, variances = target.diffused(times)
    smallest = np.sqrt(variances.min(axis=1))
    nodes = _stage_noise_nodes(tableau, target, resolution)
    fine = nodes.spread / (resolution.density * nodes.slope)
    spacing = np.minimum(np.append(fine, np.inf), 0.35 * smallest / resolution.density)
    spacing[-1] = 0.08 * smallest[-1] / resolution.density
    spacing[1:] = np.minimum(spacing[1:], 3.0 * nodes.spread)
    if start == "exact":
        first = (target.weights, means[0], variances[0])
    else:
        first = (np.ones(1), np.zeros(1), np.ones(1))
    low, initial = _sampled(*first, spacing[0], resolution.reach + 1.5)
    stage_means, stage_variances = target.diffused(np.where(tableau.evaluated, tableau.stage_times, 1.0))
    truth = (target.weights, means[-1], variances[-1])
    edges = _support(*truth, resolution.reach + 1.5)
    with np.errstate(divide="ignore"):
        log_weights = np.log(target.weights) - 0.5 * np.log(stage_variances)
    low, value = _propagate(
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
        np.maximum(log_weights, -1e300),
        stage_means,
        1.0 / stage_variances,
        nodes.count,
        nodes.weight,
        nodes.stage_shift,
        nodes.shift,
    )
    if len(value) == 0:
        raise ValueError(
            f"steps: {tableau.name} with {tableau.steps} steps spreads over more than {_LIMIT} grid points on this "
            "target: the sampler is unstable there; allowed are grids with more steps"
        )
    points = (low + np.arange(len(value))) * spacing[-1]
    return Density(points, value, mixture_density(points, *truth))


@dataclass(frozen=True)
class _Nodes:
    """Quadrature over the noise that stages see: (K,) counts and residual spreads, the rest padded to the longest."""

    count: Array
    spread: Array  # (K,) standard deviation of Y' given y and the stages' noise
    slope: Array  # (K,) largest |∂m/∂y| where the truth has its mass, at least 1
    weight: Array  # (K, n)
    stage_shift: Array  # (K, n, R)
    shift: Array  # (K, n)


def _stage_noise_nodes(tableau: Tableau, target: Mixture1D, resolution: Resolution) -> _Nodes:
    steps, stages = tableau.stage_times.shape
    # Orthonormal directions of ξ that the stages see; along them quadrature, across them exact convolution.
    seen = np.where(tableau.evaluated[:, :, None], tableau.stage_noise, 0.0)
    left, singular, right = np.linalg.svd(seen, full_matrices=False)
    visible = singular > 1e-13 * np.maximum(singular.max(axis=1, keepdims=True), 1e-300)
    rank = int(visible.sum(axis=1).max())
    directions = np.where(visible[:, :, None], right, 0.0)
    stage_part = left * np.where(visible, singular, 0.0)[:, None, :]  # (K, R, directions)
    along = np.einsum("kqm,km->kq", directions, tableau.noise)
    across = tableau.noise - np.einsum("kq,kqm->km", along, directions)
    spread = np.sqrt(np.square(across).sum(axis=1))
    if (spread < 1e-6 * np.sqrt(np.square(tableau.noise).sum(axis=1))).any() or not tableau.noise.any(axis=1).all():
        raise ValueError(
            f"tableau: the noise of {tableau.name} is known once its stages' noise is (or zero), so that its output has no "
            'density given those; exact quadrature needs noise of its own in every step, method="path" likewise'
        )
    slope, reaction = _slopes(tableau, target, stage_part[:, :, 0], along[:, 0])
    _, variances = target.diffused(np.where(tableau.evaluated, tableau.stage_times, 1.0))
    ratio = np.abs(stage_part).max(axis=(1, 2)) / np.sqrt(variances.min(axis=(1, 2)))
    # What ζ does to Y', against the scale on which the density of Y' varies once y is integrated over.
    scale = np.sqrt(slope**2 * target.diffused(tableau.times[:-1])[1].min(axis=1) + spread**2)
    ratio = np.maximum(ratio, reaction / scale)
    # Gauss–Hermite while the score hardly bends over the noise; where it bends, the trapezoidal rule, which unlike
    # Gauss–Hermite converges geometrically with a rate that only depends on the spacing.
    smooth = np.ceil(resolution.density * (6.0 + 14.0 * ratio))
    bent = -np.ceil(2.0 * resolution.reach * resolution.density * np.maximum(1.0, ratio / 0.35))
    orders = np.where(ratio < 0.3, smooth, bent).astype(np.int64)  # negative: trapezoidal
    orders = np.where(visible.any(axis=1), orders, 1)
    counts = np.abs(orders) ** rank if rank else np.ones(steps, dtype=np.int64)
    weight = np.zeros((steps, int(counts.max())))
    stage_shift = np.zeros((*weight.shape, stages))
    shift = np.zeros(weight.shape)
    for order in np.unique(orders):
        chosen = orders == order
        points, weights = _normal_rule(int(order), rank, resolution.reach)
        size = len(weights)
        weight[chosen, :size] = weights
        stage_shift[chosen, :size] = np.einsum("nq,krq->knr", points, stage_part[chosen, :, :rank])
        shift[chosen, :size] = along[chosen, :rank] @ points.T
    return _Nodes(counts, spread, np.maximum(slope, 1.0), weight, stage_shift, shift)


def _slopes(tableau: Tableau, target: Mixture1D, stage_noise: Array, noise: Array) -> tuple[Array, Array]:
    """Largest |∂m/∂y| and |m(y, 1) − m(y, −1)|/2 of each step, within 4 standard deviations of the components."""
    means, variances = target.diffused(tableau.times[:-1])
    steps = np.linspace(-4.0, 4.0, 17)
    points = means[:, :, None] + np.sqrt(variances)[:, :, None] * steps
    flat = points.reshape(len(points), -1)

    def image(zeta: float) -> Array:
        scores: list[Array] = []
        for i in range(tableau.stage_times.shape[1]):
            at = tableau.stage_state[:, i, None] * flat + zeta * stage_noise[:, i, None]
            at += sum(tableau.stage_scores[:, i, j, None] * score for j, score in enumerate(scores))
            times = np.where(tableau.evaluated[:, i], tableau.stage_times[:, i], 1.0)
            scores.append(np.where(tableau.evaluated[:, i, None], target.score(times, at), 0.0))
        result = tableau.state[:, None] * flat + zeta * noise[:, None]
        result += sum(tableau.scores[:, i, None] * score for i, score in enumerate(scores))
        return result.reshape(points.shape)

    slope = np.abs(np.diff(image(0.0), axis=2) / np.diff(points, axis=2)).max(axis=(1, 2))
    reaction = 0.5 * np.abs(image(1.0) - image(-1.0)).max(axis=(1, 2)) if noise.any() or stage_noise.any() else 0.0
    return slope, np.broadcast_to(reaction, slope.shape)


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


def _support(weights: Array, means: Array, variances: Array, reach: float) -> tuple[float, float]:
    present = weights > 0.0
    spread = reach * np.sqrt(variances)
    return float((means - spread)[present].min()), float((means + spread)[present].max())


def _sampled(weights: Array, means: Array, variances: Array, spacing: float, reach: float) -> tuple[int, Array]:
    """First grid index and density on the grid of multiples of ``spacing``."""
    left, right = _support(weights, means, variances, reach)
    low = int(np.floor(left / spacing))
    points = np.arange(low, int(np.ceil(right / spacing)) + 1) * spacing
    return low, mixture_density(points, weights, means, variances)


_jit = nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})


@_jit
def _score(point: Any, score: Any, log_weight: Any, mean: Any, inverse: Any, highest: Any, total: Any) -> None:
    """Score of a mixture at _LANES points; ``highest`` and ``total`` are scratch."""
    for lane in range(_LANES):
        highest[lane] = -1e308
        total[lane] = 0.0
        score[lane] = 0.0
    for c in range(len(mean)):
        for lane in range(_LANES):
            gap = mean[c] - point[lane]
            highest[lane] = max(highest[lane], log_weight[c] - 0.5 * inverse[c] * gap * gap)
    for c in range(len(mean)):
        for lane in range(_LANES):
            gap = mean[c] - point[lane]
            share = vecmath.exp(log_weight[c] - 0.5 * inverse[c] * gap * gap - highest[lane])
            total[lane] += share
            score[lane] += share * inverse[c] * gap
    for lane in range(_LANES):
        score[lane] /= total[lane]


@_jit
def _gridding_factors(center: Any, start: Any, ratio: Any, nearest: Any, step: Any, spread: Any, taps: Any) -> None:
    """Split N(center, spread²) on a grid: its value at tap t (from −taps) is start·ratio^t·e^{−(t·step)²/2·spread²}."""
    scale = 1.0 / (spread * spread)
    for lane in range(_LANES):
        index = np.rint(center[lane] / step)
        gap = center[lane] - index * step
        nearest[lane] = np.int64(index)
        start[lane] = vecmath.exp(-scale * gap * (0.5 * gap + taps * step))
        ratio[lane] = vecmath.exp(scale * gap * step)


@_jit
def _spread(out: Any, first: Any, amount: Any, ratio: Any, table: Any) -> None:
    """Add amount·ratio^t·table[t] to ``out`` from index ``first`` on; the table's length is a multiple of 8."""
    p0, p1 = amount, amount * ratio
    two = ratio * ratio
    p2, p3 = p0 * two, p1 * two
    four = two * two
    p4, p5, p6, p7 = p0 * four, p1 * four, p2 * four, p3 * four
    eight = four * four
    for base in range(0, len(table), 8):
        at = first + base
        out[at] += p0 * table[base]
        out[at + 1] += p1 * table[base + 1]
        out[at + 2] += p2 * table[base + 2]
        out[at + 3] += p3 * table[base + 3]
        out[at + 4] += p4 * table[base + 4]
        out[at + 5] += p5 * table[base + 5]
        out[at + 6] += p6 * table[base + 6]
        out[at + 7] += p7 * table[base + 7]
        p0, p1, p2, p3 = p0 * eight, p1 * eight, p2 * eight, p3 * eight
        p4, p5, p6, p7 = p4 * eight, p5 * eight, p6 * eight, p7 * eight


@_jit
def _propagate(
    initial: Any,
    low: Any,
    last_edges: Any,
    spacing: Any,
    spread: Any,
    reach: Any,
    evaluated: Any,
    stage_state: Any,
    stage_scores: Any,
    state: Any,
    scores: Any,
    log_weights: Any,
    means: Any,
    inverses: Any,
    counts: Any,
    node_weight: Any,
    stage_shift: Any,
    node_shift: Any,
) -> Any:
    """All steps; returns the first grid index and the density, or no density when the grid outgrows the limit."""
    steps, stages = stage_state.shape
    density = initial
    # Buffers that grow when needed: sources, their images under each node, and the next density.
    source, mass = np.empty(0), np.empty(0)
    image = np.empty((0, 0))
    stage_point, stage_score = np.empty(_LANES), np.empty((stages, _LANES))
    highest, total = np.empty(_LANES), np.empty(_LANES)
    start, ratio, nearest = np.empty(_LANES), np.empty(_LANES), np.empty(_LANES, dtype=np.int64)
    spare = np.empty(0)
    for k in range(steps):
        step, next_step, nodes = spacing[k], spacing[k + 1], counts[k]
        if len(density) + _LANES > len(source):
            source, mass = np.empty(2 * len(density) + _LANES), np.empty(2 * len(density) + _LANES)
        count = 0
        for j in range(len(density)):
            if density[j] * step > _NEGLIGIBLE:
                source[count] = (low + j) * step
                mass[count] = density[j] * step
                count += 1
        blocks = (count + _LANES - 1) // _LANES
        for j in range(count, blocks * _LANES):
            source[j] = source[count - 1]
            mass[j] = 0.0
        if image.shape[0] < nodes or image.shape[1] < blocks * _LANES:
            image = np.empty((max(nodes, image.shape[0]), max(len(source), image.shape[1])))
        smallest, largest = np.inf, -np.inf
        for a in range(nodes):
            if node_weight[k, a] < _NEGLIGIBLE:
                continue
            for block in range(blocks):
                begin = block * _LANES
                y = source[begin : begin + _LANES]
                out = image[a, begin : begin + _LANES]
                for lane in range(_LANES):
                    out[lane] = state[k] * y[lane] + node_shift[k, a]
                for i in range(stages):
                    if not evaluated[k, i]:
                        continue
                    for lane in range(_LANES):
                        stage_point[lane] = stage_state[k, i] * y[lane] + stage_shift[k, a, i]
                    for j in range(i):
                        if stage_scores[k, i, j] != 0.0:
                            for lane in range(_LANES):
                                stage_point[lane] += stage_scores[k, i, j] * stage_score[j, lane]
                    _score(
                        stage_point, stage_score[i], log_weights[k, i], means[k, i], inverses[k, i], highest, total
                    )
                    for lane in range(_LANES):
                        out[lane] += scores[k, i] * stage_score[i, lane]
                for lane in range(_LANES):
                    if mass[begin + lane] * node_weight[k, a] > _NEGLIGIBLE:
                        smallest = min(smallest, out[lane])
                        largest = max(largest, out[lane])
        taps = int(np.ceil(reach * spread[k] / next_step))
        first = np.floor(smallest / next_step) - taps - 1
        final = np.ceil(largest / next_step) + taps + 9
        if k == steps - 1:
            first, final = min(first, last_edges[0]), max(final, last_edges[1])
        if not final - first < _LIMIT:
            return low, np.empty(0)
        next_low, length = np.int64(first), np.int64(final - first) + 1
        if length > len(spare):
            spare = np.empty(2 * length)
        target = spare[:length]
        for j in range(length):
            target[j] = 0.0
        padded = (2 * taps + 1 + 7) // 8 * 8
        table = np.zeros(padded)
        for t in range(2 * taps + 1):
            gap = (t - taps) * next_step / spread[k]
            table[t] = np.exp(-0.5 * gap * gap) / (np.sqrt(2.0 * np.pi) * spread[k])
        for a in range(nodes):
            share = node_weight[k, a]
            if share < _NEGLIGIBLE:
                continue
            for block in range(blocks):
                begin = block * _LANES
                _gridding_factors(image[a, begin : begin + _LANES], start, ratio, nearest, next_step, spread[k], taps)
                for lane in range(_LANES):
                    amount = mass[begin + lane] * share
                    if amount > _NEGLIGIBLE:
                        _spread(
                            target, nearest[lane] - next_low - taps, amount * start[lane], ratio[lane], table
                        )
        low = next_low
        density, spare = target, density
    return low, density.copy()
