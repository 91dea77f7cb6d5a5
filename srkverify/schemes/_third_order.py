"""The step of weak order 3, derived in docs/third_order.md; its schemes are in :mod:`srkverify.schemes.third_order`.

In a clock η in which the reverse process is dz = M dη + dW with a martingale M (the score, with a multiple of the state
added) a step of length h is

    U = z + c ((1 + γ) M_1 − γ M_2) + g,        z' = z + h ((1 − b) M(U) + b M_1) + w,

with M_1, M_2 the two latest evaluations of earlier steps. The weight b makes the own and the last evaluation integrate
E[φ M] without error to second order in the step, γ moves the guess of M to c/2, where U gets the variance of the
process to the order needed, and the stage noise g has variance c and a correlation with w that removes what is left.
What is of higher order in the step is free: :class:`Freedoms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.schemes._told import Told, told_variances
from srkverify.tableau import Row, Tableau, assemble

# A larger κ counts as this one: such steps are beyond all expansions.
_WIDEST = 0.6
# With this much noise (t = 4.6) data hardly show, and a first step needs no evaluation but that at its beginning.
_BLANK = 1e4
# The free terms that change in the course of the run.
TERMS = ("stage", "middle", "moment", "apart", "own", "past", "before")


@dataclass(frozen=True)
class Freedoms:
    """What order 3 leaves free: the clock, and terms of higher order in κ, the part by which a step shortens τ + v.

    Terms change in the course of the run, with a number a between 0 and 1 that a step has at its beginning: near 1
    where modes part, 0 where each takes its shape. To ``own`` then counts ``own_early`` a too, and so on.

    Attributes
    ----------
    scale, exponent, end : v = scale · σ^exponent · (1 − τ_K/τ)^end, with τ_K the noise at the end of the run, unless
        the data's variances are told.
    stage : c − p²/h is multiplied by exp(stage κ), p being the place of the own evaluation.
    middle : the place of the guess of M, c/2, by 1 + middle κ.
    moment : the second moment that the places integrate, h²/3, by 1 + moment κ.
    apart : the part of Var g that is independent of w, by exp(apart κ²).
    own : Cov(g, w), by 1 + own κ².
    past : b, the weight of the last evaluation, grows by past κ².
    before : weight of the evaluation before the last in the step, over κ.
    """

    scale: float = 1.0
    exponent: float = 2.0
    end: float = 0.0
    stage: float = 0.0
    stage_early: float = 0.0
    middle: float = 0.0
    middle_early: float = 0.0
    moment: float = 0.0
    moment_early: float = 0.0
    apart: float = 0.0
    apart_early: float = 0.0
    own: float = 0.0
    own_early: float = 0.0
    past: float = 0.0
    past_early: float = 0.0
    before: float = 0.0
    before_early: float = 0.0

    def along(self, term: str, early: Array) -> Array:
        """Return a term (K,) in steps with a = ``early`` (K,)."""
        return np.asarray(getattr(self, term) + getattr(self, f"{term}_early") * early)


def with_freedoms(
    times: ArrayLike,
    freedoms: Freedoms,
    name: str = "srk_third_order_free",
    evaluate_twice: bool | None = None,
    variances: Told | None = None,
) -> Tableau:
    """Return the scheme of weak order 3 with chosen free terms; a = σ².

    If the data's effective ``variances`` λ are told, a number, (K+1,) on ``times`` or a function of times, then
    v = λ and a = e/(1 + e), where e = (λ_k − λ_{k+1})/(τ_k − τ_{k+1}): E J² in that clock, in which E J = 0.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, ``variances`` are not as many numbers ≥ 0, or the terms
        are such that a coefficient is not finite.
    """
    grid = check_times(times)
    # e^t x has the variance of the data and τ of noise.
    noise = np.expm1(2.0 * grid)
    spans = np.exp(2.0 * grid[1:]) * np.expm1(2.0 * (grid[:-1] - grid[1:]))
    if variances is None:
        left = np.cumsum(spans[::-1])[::-1] / noise[:-1]  # 1 − τ_K/τ
        early = noise[:-1] / (1.0 + noise[:-1])  # σ²
        v = freedoms.scale * early ** (0.5 * freedoms.exponent) * left**freedoms.end
    else:
        told = told_variances(grid, variances)
        # What rises is an error of whoever told it, for λ only falls.
        falls = np.maximum(told[:-1] - told[1:], 0.0) / spans
        early, v = falls / (1.0 + falls), told[:-1]
    clocks = _Clocks(noise, spans, v)
    twice = noise[0] < _BLANK if evaluate_twice is None else bool(evaluate_twice)
    return _tableau(name, grid, clocks, _plan(clocks, freedoms, early, twice))


@dataclass(frozen=True)
class _Clocks:
    """Each step's clock η = 1/(τ + v): noise variances τ (K+1,) of e^t x, their differences (K,), and v (K,)."""

    noise: Array
    spans: Array
    variances: Array

    @cached_property
    def widths(self) -> Array:
        """(K,) τ + v at the beginning of each step: 1/η."""
        return self.noise[:-1] + self.variances

    @cached_property
    def lengths(self) -> Array:
        """(K,) of the steps."""
        return self.spans / (self.widths * (self.noise[1:] + self.variances))

    def ahead(self, step: int, clock: float) -> float:
        """Return by how much τ falls in the first ``clock`` units of a step."""
        width = self.widths[step]
        return float(clock * width**2 / (1.0 + clock * width))

    def behind(self, step: int, gap: float) -> float:
        """Return the clock's time since τ was larger by ``gap`` than at the step's beginning."""
        width = self.widths[step]
        return float(gap / (width * (width + gap)))


@dataclass(frozen=True)
class _Plan:
    """What steps do, (K,) each, in units of the step's clock.

    Attributes
    ----------
    stage : c, the time of the evaluation, and what U takes of the guess of M.
    own : Cov(g, w).
    apart : the variance of g that is independent of w.
    past, before : weights of the two latest evaluations in the step.
    guess : γ
    """

    stage: Array
    own: Array
    apart: Array
    past: Array
    before: Array
    guess: Array


def _plan(clocks: _Clocks, freedoms: Freedoms, early: Array, twice: bool) -> _Plan:
    """Return the steps' parameters, from the conditions of docs/third_order.md; ``twice`` as ``evaluate_twice``."""
    steps, lengths = len(clocks.spans), clocks.lengths
    kappa = np.minimum(clocks.spans / clocks.widths, _WIDEST)
    of = {term: freedoms.along(term, early) for term in TERMS}
    own, past, before, back, stage, apart, guess = (np.zeros(steps) for _ in range(7))
    further = np.zeros(steps)  # from the evaluation before the last, as ``back`` from the last
    gaps = np.zeros(steps)  # from the last evaluation's place to the step's beginning, in τ
    for k, h in enumerate(lengths):
        back[k] = clocks.behind(k, gaps[k])
        if k > 0:
            further[k] = clocks.behind(k, gaps[k - 1] + clocks.spans[k - 1])
        if k > 1:
            before[k] = of["before"][k] * kappa[k]
        if k > 0 or twice:
            own[k], past[k] = _places(h, back[k], further[k], before[k], 1.0 + of["moment"][k] * kappa[k])
        else:
            past[k] = 1.0  # all weight is that of the evaluation at the beginning
        if k + 1 < steps:
            gaps[k + 1] = clocks.spans[k] - clocks.ahead(k, own[k])
    for k, h in enumerate(lengths):
        if past[k] == 1.0:
            continue
        weight, shift = 1.0 - past[k], past[k] * back[k] / h  # of the own evaluation in this step and in the next
        if k + 1 < steps:
            weight += past[k + 1] * lengths[k + 1] / h
            shift -= past[k + 1] * lengths[k + 1] * (h - own[k]) / h**2
        apart[k] = h * _apart(own[k] / h, weight, shift) * np.exp(of["stage"][k] * kappa[k])
        stage[k] = own[k] ** 2 / h + apart[k]
        if k > 1 or (k == 1 and twice):
            middle = 0.5 * stage[k] * (1.0 + of["middle"][k] * kappa[k])
            guess[k] = (middle + back[k]) / (further[k] - back[k])

    later = kappa * (np.arange(steps) > 0)
    return _Plan(
        stage=stage,
        own=own * (1.0 + of["own"] * later**2),
        apart=apart * np.exp(of["apart"] * later**2),
        past=past + of["past"] * later**2,
        before=before,
        guess=guess,
    )


def _places(h: float, last: float, previous: float, before: float, moment: float) -> tuple[float, float]:
    """Return the own place p and the last evaluation's weight b, with which the places integrate 1, η and η².

    The other places are −``last`` and, with weight ``before``, −``previous``; η² is to give ``moment`` times h³/3.
    """
    moved = before * (previous - last)
    own = (moment * h * h / 3.0 + last * h / 2.0 - moved * previous) / (h / 2.0 + last + moved)
    return own, ((1.0 - before) * own - h / 2.0 - before * previous) / (own + last)


def _apart(place: float, weight: float, shift: float) -> float:
    """Return c − p², for a step of length 1: what leaves no term φ' J² (docs/third_order.md).

    It solves a quadratic equation that has a positive root unless steps grow by much; there the coefficients for equal
    steps are taken.
    """

    def coefficients(weight: float, shift: float) -> tuple[float, float]:
        rest = 0.5 * shift**2 + 1.0 / 24.0 + weight * place * (place - 0.5 - place**2 + 0.5 * place**3)
        return weight - 2.0 * place * (1.0 - place), 2.0 * rest / weight

    linear, constant = coefficients(weight, shift)
    if constant >= 0.0:
        linear, constant = coefficients(1.0, 0.0)
    return -2.0 * constant / (linear + np.sqrt(linear**2 - 4.0 * constant))


def _tableau(name: str, grid: Array, clocks: _Clocks, plan: _Plan) -> Tableau:
    """Write z = e^t x/(τ + v) and M = e^t x + (τ + v) e^{−t} s in states and scores."""
    lengths, widths, variances = clocks.lengths, clocks.widths, clocks.variances
    falls = np.array([clocks.ahead(k, c) for k, c in enumerate(plan.stage)])
    stage_times = 0.5 * np.log1p(clocks.noise[:-1] - falls)
    evaluations = np.concatenate([grid[:1], grid[:1], stage_times])  # times of the two latest, and of the step's own

    def martingale(times: Array) -> Array:
        """Coefficients (2, K) of point and score in M at ``times``, in each step's clock."""
        return np.stack([np.exp(times), (np.expm1(2.0 * times) + variances) * np.exp(-times)])

    start, own, latest, before = map(martingale, (grid[:-1], stage_times, evaluations[1:-1], evaluations[:-2]))
    to_z = np.exp(grid[:-1]) / widths
    of_stage = (widths - falls) * np.exp(-stage_times)  # x over z
    of_end = (clocks.noise[1:] + variances) * np.exp(-grid[1:])
    root = np.sqrt(lengths)
    noise = np.stack([plan.own / root, np.sqrt(plan.apart)])

    # In the first step the evaluation at its beginning takes the place of those of earlier steps.
    first = np.arange(len(lengths)) == 0
    once, later = np.where(first, 1.0, 0.0), np.where(first, 0.0, 1.0)
    kept = np.stack([plan.stage * (1.0 + plan.guess) * latest, -plan.stage * plan.guess * before]) * later  # z of U
    begun = plan.stage * start * once
    to_stage = to_z + begun[0]
    new = lengths * (1.0 - plan.past - plan.before)
    old = lengths * np.stack([plan.past * later, plan.before])
    through = new * own[0] * of_stage  # z' for z of U
    again = lengths * plan.past * once
    stage = Row(
        state=to_stage * of_stage,
        scores=[begun[1] * of_stage],
        noise=list(noise * of_stage),
        past_points=list(kept[:, 0] * of_stage),
        past_scores=list(kept[:, 1] * of_stage),
        time=stage_times,
        evaluated=new != 0.0,
    )
    past = kept * through + np.stack([old[0] * latest, old[1] * before])
    output = Row(
        state=(to_z + again * start[0] + through * to_stage) * of_end,
        scores=[(again * start[1] + through * begun[1]) * of_end, new * own[1] * of_end],
        noise=[(root + through * noise[0]) * of_end, through * noise[1] * of_end],
        past_points=list(past[:, 0] * of_end),
        past_scores=list(past[:, 1] * of_end),
    )
    return assemble(name, grid, [Row(state=1.0, time=grid[:-1], evaluated=first), stage], output)
