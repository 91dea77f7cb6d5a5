"""Exact divergences: the output law of a sampler, block by block, against the truth at the early-stopping time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import CubicSpline

from srkverify._check import Array
from srkverify.divergence.reduction import Block, GaussianBlock, MixtureBlock
from srkverify.divergence.score_error import BlockScore
from srkverify.engines import gaussian, moments, quadrature, quadrature_chain, quadrature_flow, quadrature_memory
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import COARSE, LEVELS, Density, Resolution
from srkverify.engines.score1d import Score1D
from srkverify.tableau import Drawn, Tableau

_ULP = np.finfo(np.float64).eps
# Below this fraction of the truth's peak a computed density is truncation; what lies there is priced as error.
_FLOOR = 1e-17
_DEEPEST_LOG = 700.0


@dataclass(frozen=True)
class Divergence:
    """A divergence between q_δ and the sampler's output law.

    Attributes
    ----------
    value : float
        In nats for KL, in [0, 1] for TV.
    error : float
        Numerical error: the change under refinement plus a bound on rounding.
    method : str
        How it was computed: "gaussian", "quadrature" or "gaussian+quadrature".
    """

    value: float
    error: float
    method: str


def block_kl(
    block: Block,
    tableau: Tableau | Drawn,
    start: str = "exact",
    absolute: float = 1e-10,
    relative: float = 1e-6,
    most_work: float = 1e10,
    score: BlockScore = None,
) -> Divergence:
    """KL(q_δ ‖ output of ``tableau``) of one block, all its copies counted, in nats.

    Parameters
    ----------
    block : Block
        From :func:`srkverify.divergence.reduction.reduce`.
    tableau : Tableau
        Any; a memory of more than two evaluations takes long on a mixture.
    start : str
        ``"exact"`` (q_T) or ``"normal"`` (N(0, I)).
    absolute, relative : float
        A mixture's quadrature is refined until its error is below the larger of ``absolute`` and ``relative``·KL,
        or refinement no longer helps; the error that was reached is reported.
    most_work : float
        Products (see :class:`~srkverify.engines.quadrature.Density`) that one refinement may take, after the first two
        or, with a memory of two or more, three resolutions; 1e10 are some ten seconds. Beyond, the value stands with
        the error that it has.
    score : BlockScore
        What the sampler evaluates (see :func:`srkverify.divergence.score_error.pairs`), if not the block's own score.
    """
    if isinstance(tableau, Drawn):
        block = as_mixture(block)
    if isinstance(block, GaussianBlock):
        assert isinstance(tableau, Tableau)
        return _gaussian_kl(block, tableau, start) if score is None else _linear_kl(block, score, tableau, start)
    one = _refined(tableau, block.mixture, start, _density_kl, absolute / block.count, relative, most_work, score)
    return Divergence(block.count * one.value, block.count * one.error, one.method)


def as_mixture(block: Block) -> MixtureBlock:
    """Return a block of one dimension as a mixture: what a sampler that is drawn makes of a Gaussian is none."""
    if isinstance(block, MixtureBlock):
        return block
    return MixtureBlock(Mixture1D(np.ones(1), block.means[:1], block.variances[:1]), 1)


def mixture_tv(
    mixture: Mixture1D, tableau: Tableau | Drawn, start: str = "exact", absolute: float = 1e-10, relative: float = 1e-6
) -> Divergence:
    """Total variation ½∫|p − q_δ| of a one-dimensional target; parameters as in :func:`block_kl`."""
    return _refined(tableau, mixture, start, _density_tv, absolute, relative)


def output_density(
    tableau: Tableau | Drawn,
    mixture: Mixture1D,
    resolution: Resolution = LEVELS[2],
    start: str = "exact",
    score: Score1D | None = None,
) -> Density:
    """Density of the output on a one-dimensional target, beside the truth."""
    if quadrature_flow.covers(tableau):
        return quadrature_flow.output_density(tableau, mixture, resolution, start, score)
    if isinstance(tableau, Tableau):
        if tableau.memory == 0 and quadrature.covers(tableau):
            return quadrature.output_density(tableau, mixture, resolution, start, score)
        if tableau.memory and quadrature_memory.covers(tableau):
            return quadrature_memory.output_density(tableau, mixture, resolution, start, score)
    return quadrature_chain.output_density(tableau, mixture, resolution, start, score)


def _gaussian_kl(block: GaussianBlock, tableau: Tableau, start: str) -> Divergence:
    law = gaussian.deviations(tableau, block.variances, start)
    stop = tableau.times[-1]
    truth = block.variances * np.exp(-2.0 * stop) - np.expm1(-2.0 * stop)
    x, grown = law.variance, 1.0 + law.variance
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = block.means**2 / (truth * grown)
        each = 0.5 * _excess(x) + 0.5 * shift * law.mean**2
        error = 0.5 * law.variance_error * (np.abs(x) + 0.5 * law.variance_error) / grown**2
        error += shift * law.mean_error * (np.abs(law.mean) + 0.5 * law.mean_error)
        error += 0.5 * shift * law.mean**2 * law.variance_error / grown
        error += 8.0 * _ULP * each
    if not (np.isfinite(each) & np.isfinite(error)).all():  # the sampler has lost all variance in some direction
        return Divergence(np.inf, 0.0, "gaussian")
    return Divergence(float(block.counts @ each), float(block.counts @ error), "gaussian")


def _linear_kl(block: GaussianBlock, score: BlockScore, tableau: Tableau, start: str) -> Divergence:
    """KL of Gaussian directions on which the sampler evaluates another Gaussian's score."""
    assert isinstance(score, GaussianBlock)
    mean, variance = moments.moments(tableau, block.variances, block.means, score.variances, score.means, start)
    stop = tableau.times[-1]
    truth = block.variances * np.exp(-2.0 * stop) - np.expm1(-2.0 * stop)
    off = mean - np.exp(-stop) * block.means
    rounding = 16.0 * _ULP * (tableau.steps + 1)  # of mean and variance, relative: a little from each step
    with np.errstate(divide="ignore", invalid="ignore"):
        x = truth / variance - 1.0
        each = 0.5 * (x_minus_log1p(x) + off**2 / variance)
        error = 0.5 * rounding * (np.abs(x) + rounding + off**2 / variance)
        error += rounding * (np.abs(mean) + np.sqrt(variance)) * (np.abs(off) + rounding * np.abs(mean)) / variance
    if not (np.isfinite(each) & np.isfinite(error)).all():
        return Divergence(np.inf, 0.0, "gaussian")
    return Divergence(float(block.counts @ each), float(block.counts @ error), "gaussian")


def _excess(x: Array) -> Array:
    """log(1 + x) − x/(1 + x), twice the KL of a variance that is too large by the factor 1 + x."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(x) < 0.05, x_minus_log1p(-x / (1.0 + x)), np.log1p(x) - x / (1.0 + x))


def x_minus_log1p(x: Array) -> Array:
    """X − log(1 + x) for x ≥ −1 without cancellation for small x."""
    near = np.abs(x) < 0.05
    small = np.where(near, x, 0.0)
    series = np.zeros_like(small)
    for n in range(14, 1, -1):  # 0.05^13 < 1e-16
        series = (-1.0) ** n / n + small * series
    with np.errstate(divide="ignore"):
        return np.where(near, small**2 * series, x - np.log1p(np.where(near, 0.0, x)))


def _refined(
    tableau: Tableau | Drawn,
    mixture: Mixture1D,
    start: str,
    measure: Callable[[Density], tuple[float, float]],
    absolute: float,
    relative: float,
    most_work: float = 1e10,
    score: BlockScore = None,
) -> Divergence:
    """Refine the quadrature until two successive levels agree; the finer one is the value."""
    assert not isinstance(score, GaussianBlock)

    def at(level: Resolution) -> tuple[float, float, float]:
        density = output_density(tableau, mixture, level, start, score)
        return *measure(density), density.work

    coarse_first = tableau.memory > 1 and not quadrature_flow.covers(tableau)
    levels = COARSE + LEVELS if coarse_first else LEVELS
    tried = 3 if coarse_first else 2  # whatever the work: of coarse levels two are too few for a small KL
    # The first two levels side by side: the engines release the interpreter lock.
    with ThreadPoolExecutor(2) as pool:
        (coarse, _, _), (value, floor, work) = pool.map(at, levels[:2])
    values = [coarse, value]
    error = error_of_finest(values, levels)
    for before, level in pairwise(levels[1:]):
        work *= (level.density / before.density) ** (3 + tableau.memory)
        too_dear = work > most_work and len(values) >= tried
        if error + floor <= max(absolute, relative * value) or error <= floor or too_dear:
            break
        try:
            value, floor, work = at(level)
        except ValueError:  # too many grid points: what the former level found stands, with its error
            break
        values.append(value)
        error = error_of_finest(values, levels)
    return Divergence(value, error + floor if np.isfinite(value) else 0.0, "quadrature")


def error_of_finest(values: Sequence[float], levels: Sequence[Resolution]) -> float:
    """Error of the last of ``values``, each found at one of ``levels``.

    Of two values it is three times their difference, divided as if the rule were of second order: generous, for it is
    spectral. How fast it converges is known if there is a third value, or if grids are so coarse that the aliasing of
    Gaussians, e^{−2π² density²}, decides. Of the exponent one half is believed, and no ratio below 1/10, for what is
    left out of deep valleys shrinks apart; the rest of that geometric series, again times three, is the error.
    """
    change = abs(values[-1] - values[-2])
    before, last = levels[len(values) - 2].density, levels[len(values) - 1].density
    second_order = 3.0 * change / ((last / before) ** 2 - 1.0)
    shrinks = 1.0
    if len(values) > 2 and values[-2] != values[-3]:
        shrinks = max(0.1, float(np.sqrt(change / abs(values[-2] - values[-3]))))
    elif len(values) == 2 and last < 1.0:
        shrinks = float(np.exp(-(np.pi**2) * (last**2 - before**2)))
    return min(second_order, 3.0 * change * shrinks / (1.0 - shrinks)) if shrinks < 0.5 else second_order


def _density_kl(density: Density) -> tuple[float, float]:
    """KL and the part of its error that refinement does not show, from densities on a grid.

    The terms are q log(q/p) + p − q = q (r − log(1 + r)) with r = p/q − 1; where there is no truth left, p alone. They
    are non-negative and of second order in r, so that a small KL keeps its digits and a mass of p that is off by
    1e−13 counts as 1e−26.
    """
    spacing = density.points[1] - density.points[0]
    kept = density.truth > 1e-30 * density.truth.max()
    truth, value = density.truth[kept], density.value[kept]
    floor = _FLOOR * truth.max()
    r = (np.maximum(value, floor) - truth) / truth
    total = float(((truth * x_minus_log1p(r)).sum() + density.value[~kept].sum()) * spacing)
    # Rounding moves r by about 1e-15 everywhere; where p is lost, log(q/p) may be as deep as double precision goes.
    rounding = 1e-14 * np.sqrt(2.0 * total) + 1e-15 * total + 1e-28
    return total, float(rounding + _DEEPEST_LOG * truth[value < floor].sum() * spacing)


def _density_tv(density: Density) -> tuple[float, float]:
    """Total variation: the difference p − q is interpolated by a spline and integrated between its roots."""
    points, difference = density.points, density.value - density.truth
    spline = CubicSpline(points, difference)
    roots = np.unique(np.clip(spline.roots(extrapolate=False), points[0], points[-1]))
    edges = np.concatenate([points[:1], roots, points[-1:]])
    total = 0.5 * float(np.abs(np.diff(spline.antiderivative()(edges))).sum())
    return total, 1e-14
