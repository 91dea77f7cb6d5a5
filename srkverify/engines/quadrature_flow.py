"""Exact engine in one dimension for samplers without noise: the density is carried along the maps of their steps.

A sampler without noise maps the state at the horizon to its output, y = φ(x), and the density of y is that of x divided
by φ′. One that draws its step, such as a randomised midpoint, has a map for each member and step; what the members
leave is averaged after each step. Log densities are carried, at nodes that are close together both before and after a
map, and interpolated by splines of degree five. Derived in docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.special import logsumexp

from srkverify._check import Array
from srkverify.engines import callable as one_by_one
from srkverify.engines.mixture1d import Mixture1D, end_laws, mixture_density, mixture_log_density, support
from srkverify.engines.quadrature import Density, Resolution, folded, unresolved
from srkverify.engines.score1d import Score1D
from srkverify.tableau import Drawn, Tableau

LIMIT = 1 << 20  # nodes; more means that the sampler is unstable or unresolved
_DEGREE = 5
_GAP = 0.1  # between nodes before and after a map, in the smallest standard deviations there, at density 1
_FINEST = 1e-13  # gap between nodes, relative to their range, that is divided no further: less than that is rounding
_PARTS = 16  # into which a gap is divided at once


def covers(tableau: Tableau | Drawn) -> bool:
    """Tell whether a sampler has no noise at all."""
    return not any(member.noise.any() or member.stage_noise.any() for member in _members(tableau))


def output_density(
    tableau: Tableau | Drawn,
    target: Mixture1D,
    resolution: Resolution,
    start: str = "exact",
    score: Score1D | None = None,
) -> Density:
    """Density of the output of ``tableau``, which has no noise, on ``target``.

    Parameters
    ----------
    tableau : Tableau or Drawn
        Of any memory; members of one that is drawn of none.
    target : Mixture1D
        The data law.
    resolution : Resolution
        Density of the nodes, and reach; compare two to learn the error, which falls as the density to the power −6.
    start : str
        ``"exact"`` (q_T) or ``"normal"`` (N(0, 1)).
    score : Score1D
        What the sampler evaluates, if not the target's own score.

    Raises
    ------
    ValueError
        If a map folds the line (φ′ ≤ 0) or needs more than 2^20 nodes, or if members remember evaluations.
    """
    drawn = isinstance(tableau, Drawn)
    if drawn and tableau.memory > 0:
        raise ValueError(f"tableau: members must remember no evaluation; those of {tableau.name} do")
    # Steps that are drawn are carried out one at a time, those of a single tableau all at once.
    ends = np.arange(tableau.steps + 1) if drawn else np.array([0, tableau.steps])
    score = score or Score1D(target)
    fine = 1.0 / score.smallest(target, tableau.times[ends]) + 2.0 * score.ripples(tableau.times[ends])
    gaps = _GAP / (resolution.density * fine)
    first, truth = end_laws(target, tableau.times, start)
    reach = resolution.reach + 1.5
    law = _Law(*support(*first, reach), lambda points: mixture_log_density(points, *first))
    nodes = 0
    for step, (begin, end) in enumerate(pairwise(ends)):
        images = [
            _Map(tableau, member, score, range(begin, end)).image(law, *gaps[step : step + 2])
            for member in _members(tableau)
        ]
        law = _averaged(tableau, images, gaps[step + 1], reach)
        nodes += sum(image.nodes for image in images) * (end - begin)
    low, high = support(*truth, reach)
    low, high = min(low, law.low), max(high, law.high)
    if high - low > LIMIT * gaps[-1]:
        raise unresolved(tableau, LIMIT)
    points: Array = np.linspace(low, high, int((high - low) / gaps[-1]) + 2)
    return Density(points, np.exp(law.log_density(points)), mixture_density(points, *truth), 100.0 * nodes)


def _members(tableau: Tableau | Drawn) -> tuple[Tableau, ...]:
    return tableau.members if isinstance(tableau, Drawn) else (tableau,)


@dataclass(frozen=True)
class _Law:
    """Log density, with nodes between ``low`` and ``high``, ``nodes`` of them if it is not a closed form."""

    low: float
    high: float
    log_density: Callable[[Array], Array]
    nodes: int = 0


@dataclass(frozen=True)
class _Map:
    """Some steps of a member of ``tableau``."""

    tableau: Tableau | Drawn
    member: Tableau
    score: Score1D
    steps: range

    def __call__(self, points: Array) -> Array:
        """Return images and slopes of points (n,), as (2, n)."""

        def score(point: Array, time: float) -> Array:
            value, bend = self.score.score(np.array([time]), point[:1])
            return np.concatenate([value, bend * point[1:]])

        state = np.stack([points, np.ones(len(points))])
        past: list[tuple[Array, Array]] = []
        for k in self.steps:
            made = one_by_one.step(self.member, k, score, state, [], past)
            state, past = made.state, one_by_one.remembered(made, past, self.member.memory)
        return state

    def image(self, law: _Law, before: float, after: float) -> _Law:
        """Return the image of a law, from nodes at most ``before`` apart whose images are at most ``after`` apart."""
        places: Array = np.linspace(law.low, law.high, int((law.high - law.low) / before) + 2)
        while True:
            with np.errstate(over="ignore", invalid="ignore"):
                images, slopes = self(places)
                parts = np.ceil(np.diff(images) / after)
            if not np.isfinite(parts).all():
                raise unresolved(self.tableau, LIMIT)
            if not (slopes.min() > 0.0 and parts.min() > 0.0):
                raise folded(self.tableau)
            # What is too steep for double precision has lost its mass to it; there is then a hole in the image.
            parts[np.diff(places) < _FINEST * (law.high - law.low)] = 1.0
            if parts.sum() > LIMIT:
                raise unresolved(self.tableau, LIMIT)
            if parts.max() == 1.0:
                break
            places = _divided(places, np.minimum(parts, _PARTS).astype(np.int64))
        within = _interpolated(images, law.log_density(places) - np.log(slopes))
        hole = np.concatenate([[False], np.diff(images) > 2.0 * after, [False]])

        def log_density(points: Array) -> Array:
            return np.where(hole[np.searchsorted(images, points)], -np.inf, within(points))

        return _Law(images[0], images[-1], log_density, len(places))


def _divided(places: Array, parts: NDArray[np.int64]) -> Array:
    """Divide each gap between places into equal parts."""
    index = np.repeat(np.arange(len(parts)), parts)
    within = np.arange(len(index)) - np.repeat(np.cumsum(parts) - parts, parts)
    divided: Array = places[index] + within / parts[index] * np.diff(places)[index]
    return np.append(divided, places[-1])


def _averaged(tableau: Tableau | Drawn, laws: list[_Law], gap: float, reach: float) -> _Law:
    """Return the mixture of what members leave, to ``reach`` standard deviations from its peak were it Gaussian."""
    if not isinstance(tableau, Drawn):
        return laws[0]
    low, high = min(law.low for law in laws), max(law.high for law in laws)
    points: Array = np.linspace(low, high, int((high - low) / gap) + 2)
    mixed = logsumexp([law.log_density(points) for law in laws], axis=0, b=tableau.weights[:, None])
    if not np.isfinite(mixed).all():
        raise unresolved(tableau, LIMIT)
    kept = np.flatnonzero(mixed >= mixed.max() - 0.5 * reach**2)
    return _Law(points[kept[0]], points[kept[-1]], _interpolated(points, mixed))


def _interpolated(points: Array, values: Array) -> Callable[[Array], Array]:
    """Return the spline through values at points, continued beyond them as a parabola that falls: a Gaussian's tail."""
    spline = make_interp_spline(points, values, _DEGREE)
    outwards = np.array([-1.0, 1.0])
    slope = outwards * np.minimum(outwards * spline.derivative(1)(points[[0, -1]]), 0.0)
    bend = np.minimum(spline.derivative(2)(points[[0, -1]]), 0.0)

    def at(places: Array) -> Array:
        inside = np.clip(places, points[0], points[-1])
        beyond, side = places - inside, np.where(places < points[0], 0, 1)
        value: Array = spline(inside) + beyond * (slope[side] + 0.5 * beyond * bend[side])
        return value

    return at
