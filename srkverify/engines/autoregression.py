"""A sampler as an autoregression: numbers drawn one after the other, each Gaussian given those before.

What a tableau computes is linear but for its scores. Let a *draw* be a point (a stage's or the output's) that sees
noise which nothing before has shown; it then is N(mean, spread²) given what is known, and the noise is known once the
point is. Everything else, the state included, is an *expression*: a sum of draws and of scores at expressions. So

    SRK             Y, then U = Y + g, then Y' given Y and U;
    SA-Solver PEC   predicted points only, for the corrected state is an expression of the last few of them;
    EDM's churn     the noised states only, for a Heun step is an expression of one.

How many earlier draws are still needed at a time is the number of dimensions that an exact density of the sampler has.
Without memory it need not exceed one: if the state is no draw but an expression of several, as in stochastic Heun, it
is taken as a draw that is not Gaussian, the *image* of one that is.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass, field

import numpy as np

from srkverify._check import Array
from srkverify.tableau import Drawn, Tableau

Expression = dict[int, float]  # coefficients of terms: draws and scores, by number

_KNOWN = 1e-10  # noise, relative to all that a point sees, that counts as none
_CANCELLED = 1e-13  # what is left of a coefficient that cancels, relative to its parts


@dataclass(frozen=True)
class Draw:
    """One number, Gaussian given earlier ones, or the image of such a number.

    Attributes
    ----------
    term : its number as a term of expressions.
    mean : the mean of the Gaussian number given earlier draws.
    spread : its standard deviation.
    source, image : term of the Gaussian number, and what is drawn as an expression of it and of earlier draws.
    keep : terms of the draws, this one included, that later ones need.
    """

    term: int
    mean: Expression
    spread: float
    source: int
    image: Expression
    keep: tuple[int, ...] = ()

    @property
    def gaussian(self) -> bool:
        """Whether what is drawn is the Gaussian number itself."""
        return self.image == {self.source: 1.0}


@dataclass(frozen=True)
class Scores:
    """Time and point of each term that is a score."""

    of: dict[int, tuple[float, Expression]] = field(default_factory=dict)
    behind: dict[int, frozenset[int]] = field(default_factory=dict)

    def needs(self, expression: Expression) -> frozenset[int]:
        """Return the draws that an expression depends on."""
        found: frozenset[int] = frozenset()
        for term in expression:
            found |= self.behind.get(term, frozenset([term]))
        return found

    def order(self, expression: Expression, known: Container[int]) -> list[int]:
        """Return the scores that an expression needs and that are not known, each after those that it needs."""
        found: set[int] = set()
        new = [term for term in expression if term in self.of and term not in known]
        while new:
            term = new.pop()
            if term not in found:
                found.add(term)
                new += [other for other in self.of[term][1] if other in self.of and other not in known]
        return sorted(found)  # a score's number is higher than those of its point


@dataclass(frozen=True)
class Autoregression:
    """A tableau as draws; the first is term 0, the state at the horizon.

    Attributes
    ----------
    steps : for each step the probability and the draws of each way in which it is done.
    output : expression of the final state.
    scores : the terms that are scores.
    """

    steps: list[list[tuple[float, list[Draw]]]]
    output: Expression
    scores: Scores


def autoregression(tableau: Tableau | Drawn) -> Autoregression:
    """Write ``tableau`` as draws.

    Raises
    ------
    ValueError
        If members of a :class:`~srkverify.tableau.Drawn` remember evaluations or make steps without noise.
    """
    members = tableau.members if isinstance(tableau, Drawn) else (tableau,)
    weights = tableau.weights if isinstance(tableau, Drawn) else np.ones(1)
    if len(members) > 1 and tableau.memory > 0:
        raise ValueError(f"tableau: members must remember no evaluation; those of {tableau.name} do")
    writer = _Writer()
    state: Expression = {writer.term(): 1.0}
    past: list[tuple[Expression, Expression]] = []  # points and scores of earlier evaluations, the latest first
    steps = []
    for k in range(tableau.steps):
        ways: list[tuple[float, list[Draw]]] = []
        output: Expression | None = None
        for weight, member in zip(weights, members, strict=True):
            noise = _Noise(writer)
            made, end = _step(member, k, writer, noise, state, past)
            if len(members) > 1 or (member.memory == 0 and len(writer.scores.needs(end)) > 1):
                if not noise.draws:
                    raise ValueError(f"tableau: step {k} of {member.name} has no noise, as a step that is drawn must")
                output = output or {writer.term(): 1.0}
                noise.settle(next(iter(output)), end)
                end = output
            elif member.memory > 0 and (k + 1 == member.steps or _remembers_latest(member, k + 1)):
                end = noise.sheared(end, last=k + 1 == member.steps)
            ways.append((float(weight), noise.draws))
        state, past = end, (made + past)[: tableau.memory]
        steps.append(ways)
    return Autoregression(_kept(steps, state, writer.scores), state, writer.scores)


def _remembers_latest(tableau: Tableau, k: int) -> bool:
    """Whether step k uses the latest evaluation of the step before."""
    stages = (tableau.stage_past_points[k, :, 0], tableau.stage_past_scores[k, :, 0])
    return bool(tableau.past_points[k, 0] or tableau.past_scores[k, 0] or any(part.any() for part in stages))


def _step(
    tableau: Tableau,
    k: int,
    writer: _Writer,
    noise: _Noise,
    state: Expression,
    past: list[tuple[Expression, Expression]],
) -> tuple[list[tuple[Expression, Expression]], Expression]:
    """Points and scores of a step's evaluations, the latest first, and its output."""
    scores: dict[int, Expression] = {}
    made: list[tuple[Expression, Expression]] = []

    def mean(own: float, current: Array, points: Array, former: Array) -> Expression:
        parts = [(own, state), *((float(current[j]), score) for j, score in scores.items())]
        for p, (point, score) in enumerate(past):
            parts += [(float(points[p]), point), (float(former[p]), score)]
        return _sum(parts)

    for i in np.flatnonzero(tableau.evaluated[k]):
        row = (tableau.stage_scores[k, i], tableau.stage_past_points[k, i], tableau.stage_past_scores[k, i])
        point = noise.seen(mean(float(tableau.stage_state[k, i]), *row), tableau.stage_noise[k, i])
        scores[int(i)] = {writer.score(float(tableau.stage_times[k, i]), point): 1.0}
        made.insert(0, (point, scores[int(i)]))
    row = (tableau.scores[k], tableau.past_points[k], tableau.past_scores[k])
    return made, noise.seen(mean(float(tableau.state[k]), *row), tableau.noise[k])


def _kept(
    steps: list[list[tuple[float, list[Draw]]]], output: Expression, scores: Scores
) -> list[list[tuple[float, list[Draw]]]]:
    """Find out, from the end, until when each draw is needed."""
    result: list[list[tuple[float, list[Draw]]]] = []
    later = scores.needs(output)
    for ways in reversed(steps):
        before: frozenset[int] = frozenset()
        row = []
        for weight, draws in ways:
            needed, chain = later, []
            for draw in reversed(draws):
                keep = tuple(sorted(needed))
                chain.append(Draw(draw.term, draw.mean, draw.spread, draw.source, draw.image, keep))
                needed = (needed - {draw.term}) | scores.needs(draw.mean) | (scores.needs(draw.image) - {draw.source})
            row.append((weight, chain[::-1]))
            before |= needed
        result.append(row)
        later = before
    return result[::-1]


@dataclass
class _Writer:
    """Numbers terms."""

    count: int = 0
    scores: Scores = field(default_factory=Scores)

    def term(self) -> int:
        self.count += 1
        return self.count - 1

    def score(self, time: float, point: Expression) -> int:
        term = self.term()
        self.scores.of[term] = (time, point)
        self.scores.behind[term] = self.scores.needs(point)
        return term


@dataclass
class _Noise:
    """The noises of one step, as far as they are known."""

    writer: _Writer
    draws: list[Draw] = field(default_factory=list)
    known: list[tuple[Array, Expression]] = field(default_factory=list)  # unit vectors, and noise along them

    def seen(self, mean: Expression, noise: Array) -> Expression:
        """Return the point with a mean and noise: a new draw if something about its noise is not known."""
        rest = np.array(noise)
        for _ in range(2):  # once more against rounding
            for direction, _along in self.known:
                rest -= (rest @ direction) * direction
        mean = _sum([(1.0, mean), *((float(noise @ direction), along) for direction, along in self.known)])
        spread = float(np.sqrt(rest @ rest))
        if spread <= _KNOWN * float(np.sqrt(noise @ noise)):
            return mean
        term = self.writer.term()
        self.draws.append(Draw(term, mean, spread, term, {term: 1.0}))
        self.known.append((rest / spread, _sum([(1.0 / spread, {term: 1.0}), (-1.0 / spread, mean)])))
        return {term: 1.0}

    def sheared(self, output: Expression, last: bool) -> Expression:
        """Draw less than the output: what a function of the draw before adds to it comes later.

        Given all before, the two draws are then independent. In the ``last`` step the noise is split in two halves,
        and the output is drawn after the two.
        """
        if len(self.draws) < 2 or output != {self.draws[-1].term: 1.0}:
            return output
        (*_, before, end), needs = self.draws, self.writer.scores.needs
        own = {term: value for term, value in end.mean.items() if needs({term: value}) == {before.term}}
        rest = {term: value for term, value in end.mean.items() if term not in own}
        if before.term in needs(rest) or not own:
            return output
        whole = {end.term: 1.0, **own}
        if not last:
            self.draws[-1] = Draw(end.term, rest, end.spread, end.term, {end.term: 1.0})
            return whole
        half, term = end.spread * math.sqrt(0.5), self.writer.term()
        self.draws[-1] = Draw(end.term, rest, half, end.term, {end.term: 1.0})
        self.draws.append(Draw(term, whole, half, term, {term: 1.0}))
        return {term: 1.0}

    def settle(self, term: int, output: Expression) -> None:
        """Make ``term`` the draw of the output, the image of the last draw so far."""
        last = self.draws.pop()
        self.draws.append(Draw(term, last.mean, last.spread, last.source, output))


def _sum(parts: list[tuple[float, Expression]]) -> Expression:
    """Return Σ factor · expression, without the terms that cancel."""
    total: Expression = {}
    size: Expression = {}
    for factor, expression in parts:
        for term, coefficient in expression.items():
            total[term] = total.get(term, 0.0) + factor * coefficient
            size[term] = size.get(term, 0.0) + abs(factor * coefficient)
    return {term: value for term, value in total.items() if abs(value) > _CANCELLED * size[term]}
