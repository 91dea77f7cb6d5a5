"""Exact engine in one dimension for any tableau: the joint density of the draws that are still needed.

The sampler is read as an autoregression (:mod:`srkverify.engines.autoregression`). The joint density of the draws that
later ones need is kept on grids (:mod:`srkverify.engines.cloud`); a new draw adds to each source a Gaussian about its
mean there and sums over the draws that are needed no longer: the trapezoidal rule, spectrally accurate in each. A draw
that is the image φ(v) + c of a Gaussian number v, c a function of earlier draws, has the density of v at φ⁻¹ divided by
φ′; so has an output that is an expression of draws. Derived in docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines.autoregression import Autoregression, Draw, Expression, Scores, autoregression
from srkverify.engines.cloud import LIMIT, Cloud, add_images, spread_out, spread_out_twice
from srkverify.engines.mixture1d import Law, Mixture1D, end_laws, mixture_density, sampled, support
from srkverify.engines.quadrature import Density, Resolution, folded, unresolved
from srkverify.engines.score1d import Score1D
from srkverify.tableau import Drawn, Tableau

_MOST_KEPT = 4
_NODES = 1 << 15  # of the table of φ⁻¹


def output_density(
    tableau: Tableau | Drawn,
    target: Mixture1D,
    resolution: Resolution,
    start: str = "exact",
    score: Score1D | None = None,
) -> Density:
    """Density of the output of ``tableau`` on ``target``.

    Parameters
    ----------
    tableau : Tableau or Drawn
        With noise (without, there is :mod:`srkverify.engines.quadrature_flow`). Time and memory grow by a factor of
        about 20 with each further draw that is still needed after a step: none for the last evaluation's if it is at
        the state, one for each older evaluation.
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
        If more than four numbers would have to be kept from step to step, their density would need more than 2^25
        points, an image folds (φ′ ≤ 0), or is not of the form φ(v) + c.
    """
    score = score or Score1D(target)
    first, truth = end_laws(target, tableau.times, start)
    chain = autoregression(tableau)
    kept = max((len(draws[-1].keep) for ways in chain.steps for _, draws in ways if draws), default=1)
    if kept > _MOST_KEPT:
        raise ValueError(
            f"tableau: the exact quadrature carries the density of at most {_MOST_KEPT} numbers from step to step; "
            f'{tableau.name} needs that of {kept}; use method="path"'
        )
    run = _Run(tableau, chain, score, resolution.reach, _spacings(chain, tableau, target, score, resolution))
    try:
        low, value = run(first, support(*truth, resolution.reach + 1.5))
    except OverflowError:
        raise unresolved(tableau, LIMIT) from None
    points: Array = np.arange(low, low + len(value)) * np.float64(run.spacing[-1])
    return Density(points, value, mixture_density(points, *truth), run.work)


Line = tuple[int, Array]  # first grid index and values of a density in one number


@dataclass
class _Run:
    """A run through the steps; ``spacing`` is of each draw's grid, and under −1 of the output's."""

    tableau: Tableau | Drawn
    chain: Autoregression
    score: Score1D
    reach: float
    spacing: dict[int, float]
    work: float = 0.0

    def __call__(self, law: Law, edges: tuple[float, float]) -> Line:
        """Density of the output, at least between ``edges``."""
        final = max(self.chain.scores.needs(self.chain.output))  # with this draw the output is known
        low, density = sampled(*law, self.spacing[0], self.reach + 1.5)
        cloud = Cloud((0,), low + np.arange(len(density))[None], density * self.spacing[0])
        for ways in self.chain.steps:
            lines: list[Line] = []
            for weight, draws in ways:
                current = Cloud(cloud.terms, cloud.index, weight * cloud.mass)
                at = 0
                while at < len(draws) - 1:
                    if self._independent(draws[at : at + 2]):
                        current, at = self._both_drawn(current, *draws[at : at + 2]), at + 2
                    else:
                        current, at = self._drawn(current, draws[at]), at + 1
                for draw in draws[at:]:
                    if draw.term == final:
                        lines.append(self._line(current, draw, self._merged(draw), -1))
                    elif len(ways) > 1 or not draw.gaussian:
                        lines.append(self._line(current, draw, draw.image, draw.term))
                    else:
                        current = self._drawn(current, draw)
            if not lines:
                cloud = current
                continue
            if ways[-1][1][-1].term == final:
                return self._total(lines, -1, edges)
            term = ways[-1][1][-1].term
            low, density = self._total(lines, term)
            cloud = Cloud((term,), low + np.arange(len(density))[None], density * self.spacing[term])
        raise AssertionError("the output depends on no draw")

    def _view(self, cloud: Cloud) -> _View:
        return _View(self.chain.scores, self.score, cloud, self.spacing)

    def _drawn(self, cloud: Cloud, draw: Draw) -> Cloud:
        """Return the cloud after a Gaussian draw."""
        keep = tuple(term for term in draw.keep if term != draw.term)
        center, spacing = self._view(cloud).of(draw.mean), self.spacing[draw.term]
        rows = spread_out(cloud, keep, center, draw.spread, spacing, self.reach)
        self.work += rows.work
        return rows.cloud((*keep, draw.term), spacing)

    def _independent(self, draws: list[Draw]) -> bool:
        """Whether two draws are independent given those before, and both are needed later."""
        one, two = draws
        both_needed = one.gaussian and two.gaussian and {one.term, two.term} <= set(two.keep)
        return both_needed and one.term not in self.chain.scores.needs(two.mean)

    def _both_drawn(self, cloud: Cloud, one: Draw, two: Draw) -> Cloud:
        """Return the cloud after two Gaussian draws that are independent given those before."""
        keep = tuple(term for term in two.keep if term not in (one.term, two.term))
        view = self._view(cloud)
        centers, spreads = (view.of(one.mean), view.of(two.mean)), (one.spread, two.spread)
        spacings = (self.spacing[one.term], self.spacing[two.term])
        rows = spread_out_twice(cloud, keep, centers, spreads, spacings, self.reach)
        self.work += rows.work
        return rows.cloud((*keep, one.term, two.term), spacings[0] * spacings[1])

    def _merged(self, draw: Draw) -> Expression:
        """Return the output as an expression of the last draw's Gaussian number."""
        if self.chain.output == {draw.term: 1.0}:
            return draw.image
        if draw.term == draw.source:
            return self.chain.output
        raise ValueError(f"tableau: the output of {self.tableau.name} is a function of an image")

    def _line(self, cloud: Cloud, draw: Draw, image: Expression, grid: int) -> Line:
        """Density of the image of a draw, summed over all before."""
        view = self._view(cloud)
        mean = view.of(draw.mean)
        if image == {draw.source: 1.0}:
            rows = spread_out(cloud, (), mean, draw.spread, self.spacing[grid], self.reach)
            self.work += rows.work
            return int(rows.low[0]), rows.flat
        rest = {term: c for term, c in image.items() if draw.source not in self.chain.scores.needs({term: c})}
        own = {term: c for term, c in image.items() if term not in rest}
        if self.chain.scores.needs(own) != {draw.source}:
            raise ValueError(
                f"tableau: the exact quadrature does not cover {self.tableau.name}, whose output sees its last noise "
                'and earlier states in one score; use method="path"'
            )
        spread = np.full(len(mean), draw.spread)
        return self._image(own, draw.source, view.of(rest), mean, spread, cloud.mass, grid)

    def _image(
        self, image: Expression, source: int, constant: Array, mean: Array, spread: Array, mass: Array, grid: int
    ) -> Line:
        """Density of constant + φ(v), v ~ N(mean, spread²), summed over sources."""
        low, high = (mean - self.reach * spread).min(), (mean + self.reach * spread).max()
        places = np.linspace(low, high, _NODES)
        values, slopes = self._function(image, source, places)
        if not slopes.min() > 0.0:
            raise folded(self.tableau)
        regular = np.linspace(values[0], values[-1], 2 * _NODES)
        inverse = np.interp(regular, values, places)
        for _ in range(3):
            value, slope = self._function(image, source, inverse)
            inverse -= (value - regular) / slope  # the third is below rounding: the slope before it will do
        slope = 1.0 / slope
        step = self.spacing[grid]
        ends = np.rint(np.array([(constant.min() + regular[0]) / step, (constant.max() + regular[-1]) / step]))
        if not ends[1] - ends[0] < LIMIT:
            raise OverflowError
        first = int(ends[0])
        out = np.zeros(int(ends[1]) - first + 1)
        gap = regular[1] - regular[0]
        add_images(constant, mean, spread, mass, inverse, slope, regular[0], gap, first, step, self.reach, out)
        self.work += 30.0 * self.reach * float((spread * slope.max() / step).sum())
        return first, out

    def _function(self, image: Expression, source: int, places: Array) -> tuple[Array, Array]:
        """Return φ and φ′ at places (n,)."""
        known = {source: (places, np.ones(len(places)))}
        for term in self.chain.scores.order(image, known):
            time, point = self.chain.scores.of[term]
            score, bend = self.score.score(np.array([time]), _summed(point, known, 0)[None])
            known[term] = (score[0], bend[0] * _summed(point, known, 1))
        return _summed(image, known, 0), _summed(image, known, 1)

    def _total(self, lines: list[Line], grid: int, edges: tuple[float, float] | None = None) -> Line:
        """Sum densities on one grid."""
        spans = [(low, low + len(value)) for low, value in lines]
        if edges is not None:
            spans.append((int(np.floor(edges[0] / self.spacing[grid])), int(edges[1] / self.spacing[grid]) + 2))
        first, last = min(span[0] for span in spans), max(span[1] for span in spans)
        total = np.zeros(last - first)
        for low, value in lines:
            total[low - first : low - first + len(value)] += value
        return first, total


@dataclass
class _View:
    """Values of expressions at the sources of a cloud."""

    scores: Scores
    score: Score1D
    cloud: Cloud
    spacing: dict[int, float]
    known: dict[int, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for term, index in zip(self.cloud.terms, self.cloud.index, strict=True):
            self.known[term] = index * self.spacing[term]

    def of(self, expression: Expression) -> Array:
        """Return the values (n,)."""
        for term in self.scores.order(expression, self.known):
            time, point = self.scores.of[term]
            needed = self.scores.needs(point)
            line = self._line(*needed) if len(needed) == 1 else None
            if line is None:
                self.known[term] = self.score.at(time, self._sum(point))
            else:  # a function of one number: found once for each of its grid points
                places, index = line
                self.known[term] = _View(self.scores, self.score, places, self.spacing).of({term: 1.0})[index]
        return self._sum(expression)

    def _line(self, term: int) -> tuple[Cloud, NDArray[np.int64]] | None:
        """Return a draw's grid points and the sources' indices into them, if they are fewer than the sources."""
        index = self.cloud.index[self.cloud.terms.index(term)]
        low, high = index.min(), index.max()
        if high - low + 1 >= len(index):
            return None
        return Cloud((term,), np.arange(low, high + 1)[None], np.empty(0)), index - low

    def _sum(self, expression: Expression) -> Array:
        total = np.zeros(self.cloud.index.shape[1])
        for term, coefficient in expression.items():
            total += coefficient * self.known[term]
        return total


def _summed(expression: Expression, known: dict[int, tuple[Array, Array]], which: int) -> Array:
    return np.sum([coefficient * known[term][which] for term, coefficient in expression.items()], axis=0)


def _spacings(
    chain: Autoregression, tableau: Tableau | Drawn, target: Mixture1D, law: Score1D, resolution: Resolution
) -> dict[int, float]:
    """Spacing of each draw's grid, and under −1 of the output's.

    With Gaussians e^{−(v − mean)²/2 spread²} of the draw itself and of all later ones whose means depend on it, the
    integrand in a draw has the precision Σ (slope/spread)²; the trapezoidal rule's error is that of a Gaussian. Slopes
    are those at the critical points of the step, where everything is taken to be in one place.
    """
    times = tableau.times
    places, need = law.critical_points(target, times[:-1], resolution.density, resolution.depth, valleys=True)
    smallest = law.smallest(target, times)
    slopes: dict[int, dict[int, Array]] = {}
    precision, dense, cap = {0: np.zeros(places.shape[1])}, {0: need[0]}, {0: smallest[0]}
    least = np.inf  # spread of the last draw

    def gradient(expression: Expression, k: int) -> dict[int, Array]:
        total: dict[int, Array] = {}
        for term in chain.scores.order(expression, slopes):
            time, point = chain.scores.of[term]
            bend = law.score(np.array([time]), places[k][None])[1][0]
            slopes[term] = {other: bend * slope for other, slope in gradient(point, k).items()}
        for term, coefficient in expression.items():
            parts = slopes[term] if term in chain.scores.of else {term: np.ones(places.shape[1])}
            for other, slope in parts.items():
                total[other] = total.get(other, 0.0) + coefficient * slope
        return total

    for k, ways in enumerate(chain.steps):
        found: dict[int, Array] = {}
        for _, draws in ways:
            mine: dict[int, Array] = {}
            for draw in draws:
                mean, image = gradient(draw.mean, k), gradient(draw.image, k)
                along = image.pop(draw.source)
                least = draw.spread * float(np.abs(along).min())
                mine[draw.term] = 1.0 / (draw.spread * along) ** 2
                for term in mean.keys() | image.keys():
                    slope = along * mean.get(term, 0.0) + image.get(term, 0.0)
                    mine[term] = mine.get(term, 0.0) + (slope / (draw.spread * along)) ** 2
                cap[draw.term] = min(smallest[k], smallest[k + 1])
            for term, value in mine.items():
                found[term] = np.maximum(found.get(term, 0.0), value)
        for term, value in found.items():
            precision[term] = precision.get(term, 0.0) + value
            dense[term] = np.maximum(dense.get(term, 0.0), need[k])
    spacing = {}
    for term, total in precision.items():
        fine = float((dense[term] * np.sqrt(total)).max())
        fine += law.ripples(times[-1:])[0]
        spacing[term] = min(0.35 * cap[term] / resolution.density, 1.0 / fine if fine > 0.0 else np.inf)
    spacing[-1] = min(0.08 * smallest[-1] / resolution.density, 3.0 * least)
    return spacing
