"""SRK of weak order 3, KL ~ K⁻⁶ on mixtures, with one score evaluation a step; derived in docs/third_order.md.

In a clock η in which the reverse process is dz = M dη + dW with a martingale M (the score, with a multiple of the state
added) a step of length h is

    U = z + c ((1 + γ) M_1 − γ M_2) + g,        z' = z + h ((1 − b) M(U) + b M_1) + w,

with M_1, M_2 the two latest evaluations of earlier steps. The weight b makes the own and the last evaluation integrate
E[φ M] without error to second order in the step, γ moves the guess of M to c/2, where U gets the variance of the
process to the order needed, and the stage noise g has variance c and a correlation with w that removes what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.tableau import Row, Tableau, assemble


def srk_third_order(times: ArrayLike, reference: float = 2.0) -> Tableau:
    """SRK of weak order 3 with a memory of two evaluations; one evaluation a step, two in the first.

    KL ~ K⁻⁶ on Gaussians and on mixtures. A clock belongs to a variance: it makes steps without error if the data have
    it. Each step takes the clock of σ^reference, σ² = 1 − e^{−2t} being the variance of the noise at its beginning, for
    errors arise where the data's variance is about as large as the noise's.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    reference : float
        Exponent ≥ 0. 0 is the clock of unit variance; the larger, the nearer to the clock of variance 0, which is best
        for data of low dimension.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, or ``reference`` is negative or not finite.

    Notes
    -----
    Not published elsewhere; conditions and measured orders are in docs/third_order.md.
    """
    grid = check_times(times)
    exponent = _check.number("reference", reference, at_least=0.0)
    # e^t x has the variance of the data and τ of noise.
    clocks = _Clocks(np.expm1(2.0 * grid), np.exp(2.0 * grid[1:]) * np.expm1(2.0 * (grid[:-1] - grid[1:])), exponent)
    plan = _plan(clocks)
    return _tableau(grid, clocks, plan)


@dataclass(frozen=True)
class _Clocks:
    """Each step's clock η = 1/(τ + v): noise variances τ (K+1,) of e^t x, their differences (K,), and v (K,)."""

    noise: Array
    spans: Array
    exponent: float

    @cached_property
    def variances(self) -> Array:
        return (self.noise[:-1] / (1.0 + self.noise[:-1])) ** (0.5 * self.exponent)

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
    own : Cov(g, w), the place of the own evaluation in E[φ M].
    past : b, the weight of the last evaluation.
    stage : c, Var g and the time of the evaluation.
    guess : γ
    """

    own: Array
    past: Array
    stage: Array
    guess: Array


def _plan(clocks: _Clocks) -> _Plan:
    """Return the steps' parameters, from the conditions of docs/third_order.md."""
    steps, lengths = len(clocks.spans), clocks.lengths
    own, past, stage, guess, back = (np.zeros(steps) for _ in range(5))
    gaps = np.zeros(steps)  # from the last evaluation's place to the step's beginning, in τ
    for k, h in enumerate(lengths):
        # The two places integrate 1, η and η² without error, as Radau's nodes do.
        back[k] = clocks.behind(k, gaps[k])
        own[k] = h * (h / 3.0 + back[k] / 2.0) / (h / 2.0 + back[k])
        past[k] = (own[k] - h / 2.0) / (own[k] + back[k])
        if k + 1 < steps:
            gaps[k + 1] = clocks.spans[k] - clocks.ahead(k, own[k])
    for k, h in enumerate(lengths):
        weight, shift = 1.0 - past[k], past[k] * back[k] / h  # of the own evaluation in this step and in the next
        if k + 1 < steps:
            weight += past[k + 1] * lengths[k + 1] / h
            shift -= past[k + 1] * lengths[k + 1] * (h - own[k]) / h**2
        stage[k] = h * _stage(own[k] / h, weight, shift)
        if k > 0:
            further = clocks.behind(k, gaps[k - 1] + clocks.spans[k - 1])  # to the evaluation before the last
            guess[k] = (stage[k] / 2.0 + back[k]) / (further - back[k])
    return _Plan(own, past, stage, guess)


def _stage(place: float, weight: float, shift: float) -> float:
    """Return the stage's time c, for a step of length 1: what leaves no term φ' J² (docs/third_order.md).

    With x = c − place² it is a quadratic equation. It has a positive root unless steps grow by much; there its
    coefficients for equal steps are taken.
    """

    def coefficients(weight: float, shift: float) -> tuple[float, float]:
        rest = 0.5 * shift**2 + 1.0 / 24.0 + weight * place * (place - 0.5 - place**2 + 0.5 * place**3)
        return weight - 2.0 * place * (1.0 - place), 2.0 * rest / weight

    linear, constant = coefficients(weight, shift)
    if constant >= 0.0:
        linear, constant = coefficients(1.0, 0.0)
    return place**2 - 2.0 * constant / (linear + np.sqrt(linear**2 - 4.0 * constant))


def _tableau(grid: Array, clocks: _Clocks, plan: _Plan) -> Tableau:
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
    noise = np.stack([plan.own / root, np.sqrt(plan.stage - plan.own**2 / lengths)])

    # In the first step the evaluation at its beginning takes the place of those of earlier steps.
    first = np.arange(len(lengths)) == 0
    once, later = np.where(first, 1.0, 0.0), np.where(first, 0.0, 1.0)
    kept = np.stack([plan.stage * (1.0 + plan.guess) * latest, -plan.stage * plan.guess * before]) * later  # z of U
    begun = plan.stage * start * once
    old, new = lengths * plan.past, lengths * (1.0 - plan.past)
    through = new * own[0] * of_stage  # z' for z of U
    stage = Row(
        state=(to_z + begun[0]) * of_stage,
        scores=[begun[1] * of_stage],
        noise=list(noise * of_stage),
        past_points=list(kept[:, 0] * of_stage),
        past_scores=list(kept[:, 1] * of_stage),
        time=stage_times,
    )
    past = kept * through + np.stack([old * later * latest, np.zeros_like(latest)])
    output = Row(
        state=(to_z + old * once * start[0] + through * (to_z + begun[0])) * of_end,
        scores=[(old * once * start[1] + through * begun[1]) * of_end, new * own[1] * of_end],
        noise=[(root + through * noise[0]) * of_end, through * noise[1] * of_end],
        past_points=list(past[:, 0] * of_end),
        past_scores=list(past[:, 1] * of_end),
    )
    name = "srk_third_order" if clocks.exponent == 2.0 else f"srk_third_order_{clocks.exponent:g}"
    return assemble(name, grid, [Row(state=1.0, time=grid[:-1], evaluated=first), stage], output)
