"""Randomised midpoints (Shen & Lee 2019): the integral over a step is the score at one random time, without bias.

Each step draws u in (0, 1), approximates the state at τ_k − uh and takes the score there for the whole step. The
members have u at the Q Gauss–Legendre nodes of its law, with the rule's weights as probabilities: moments of the output
differ from those of a continuous draw by h^{2Q}.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.schemes import _linear as linear
from srkverify.schemes._linear import STATE, Form
from srkverify.tableau import Drawn, Row, Tableau, assemble

DENSITIES = ("exponential", "uniform")


def randomised_midpoint(times: ArrayLike, draws: int = 8) -> Drawn:
    """Randomised midpoint for the probability flow: Y' = e^h Y + h e^{(1−u)h} s(τ_k − uh, U), u uniform.

    U = e^{uh} Y + (e^{uh} − 1) S_0. The predictor of Gupta, Cai & Chen (arXiv 2406.00924), as the paper is described:
    its text was not at hand. Their corrector, underdamped Langevin dynamics at a fixed noise level, has a velocity in
    its state and is left out, so that this sampler is deterministic but for u. Two evaluations a step. On Gaussians the
    relative error of the variance falls as K⁻².

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    draws : int
        Number of nodes for u, ≥ 1.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or ``draws`` < 1.
    """
    grid = check_times(times)
    h = grid[:-1] - grid[1:]

    def member(quantile: float) -> Tableau:
        reach, rest = quantile * h, (1.0 - quantile) * h
        point = np.exp(reach) * STATE + np.expm1(reach) * linear.score(0)
        output = np.exp(h) * STATE + h * np.exp(rest) * linear.score(1)
        stages = [STATE.row(time=grid[:-1]), point.row(time=grid[:-1] - reach)]
        return assemble("randomised_midpoint", grid, stages, output.row())

    return _drawn("randomised_midpoint", draws, member)


def ddram(times: ArrayLike, density: str = "exponential", draws: int = 8) -> Drawn:
    """Randomised midpoint for the reverse SDE: Y' = e^h Y + 2(e^h − 1) s(τ_k − uh, U) + w, u of density ∝ e^{−uh}.

    U = e^{uh} Y + 2(e^{uh} − 1) S_0 + w_u, an exponential Euler step, on the Brownian path of w: w_u is what that path
    has given up to uh. After "denoising diffusion randomized midpoint" of Zhang et al. (arXiv 2511.04844): two
    evaluations, two Gaussians and one random time a step, are theirs. Their text was not at hand, and the formula is
    derived: it is the exact 2 ∫_0^h e^{h−r} s_r dr with r = uh drawn from the integral's own kernel. With
    ``density="uniform"`` the kernel is a weight instead, 2h e^{(1−u)h}, as Shen & Lee have it. On Gaussians the
    relative error of the variance falls as K⁻², and KL as K⁻⁴, as it does on mixtures for large K.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    density : str
        Of u: ``"exponential"`` or ``"uniform"``.
    draws : int
        Number of nodes for u, ≥ 1.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, ``density`` unknown or ``draws`` < 1.
    """
    grid = check_times(times)
    kind = _check.choice("density", density, DENSITIES)
    h = grid[:-1] - grid[1:]
    name = "ddram" if kind == "exponential" else "ddram_uniform"

    def member(quantile: float) -> Tableau:
        reach = -np.log1p(quantile * np.expm1(-h)) if kind == "exponential" else quantile * h
        rest = np.log1p((1.0 - quantile) * np.expm1(h)) if kind == "exponential" else (1.0 - quantile) * h
        noise = np.sqrt(np.expm1(2.0 * reach)) * linear.noise(0)
        point = np.exp(reach) * STATE + 2.0 * np.expm1(reach) * linear.score(0) + noise
        weight = 2.0 * np.expm1(h) if kind == "exponential" else 2.0 * h * np.exp(rest)
        output = np.exp(h) * STATE + weight * linear.score(1)
        output += np.exp(rest) * noise + np.sqrt(np.expm1(2.0 * rest)) * linear.noise(1)
        return assemble(name, grid, [STATE.row(time=grid[:-1]), point.row(time=grid[:-1] - reach)], output.row())

    return _drawn(name, draws, member)


def li_jiao(times: ArrayLike, inner: int = 2, seed: int = 0) -> Tableau:
    """Sampler of Li & Jiao (arXiv 2410.13738) for one draw of its random schedule, eq. (11): the flow, noise, the flow.

    With q = 1 − e^{−2t} and one time t_i drawn in each cell of the grid, uniformly in q, round k starts at
    t_{k,0} = t_{kN/2} and runs over the next N = ``inner`` drawn times t_{k,n} = t_{kN/2 + n}. Scores at drawn times
    stand for their cells, and the last one for what is left up to the next time:

        e^{t_{k,n}} U_n = e^{t_{k,0}} Y + ½ Σ_{i<n} e^{3t_{k,i}} S_i · (the part of q that belongs to i),

    cells' ends dividing the parts. U_N is then noised, exactly, up to t_{k+1,0}: half of the round is taken back. As
    quoted from the paper in the summary of a reproduction; the schedule itself (their eq. 8) is ``times`` here.

    Draws are shared by neighbouring rounds, so that this is no :class:`~srkverify.tableau.Drawn`. The tableau is that
    of one schedule; KL is convex, so that its mean over seeds is an upper bound for the sampler that draws. The
    tableau's times are the rounds' drawn starts. ``inner`` evaluations a round, two for each cell. On Gaussians that
    mean falls as K⁻² for fixed N, from a constant that is smaller the larger N: S_0, at the start, stands for the rest
    of its cell, which is on one side of it.

    Parameters
    ----------
    times : (n+1,) decreasing forward times, the ends of cells, n ≥ inner + 1.
    inner : int
        N, even and ≥ 2.
    seed : int
        Of the draw.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or too short, or ``inner`` is odd or < 2.
    """
    grid = check_times(times)
    count = _check.integer("inner", inner, at_least=2)
    if count % 2:
        raise ValueError(f"inner must be even; got {inner}")
    half, cells = count // 2, len(grid) - 1
    rounds = (cells - 1) // half - 1
    if rounds < 1:
        raise ValueError(f"times must have at least {count + 2} entries for inner = {count}; got {cells + 1}")
    place = np.random.default_rng(_check.integer("seed", seed, at_least=0)).uniform(size=cells)
    drawn = grid[:-1] - 0.5 * np.log1p(place * np.expm1(2.0 * (grid[:-1] - grid[1:])))
    first = half * np.arange(rounds)  # cell of each round's start
    start = drawn[first]
    stages: list[Row] = []
    weights: list[Form] = []  # ½ e^{3t_i} S_i
    done = Form({})  # of weights times parts of q, up to the end of the cell before
    for n in range(count + 1):
        time = drawn[first + n]
        moved = done
        if n:
            moved = done + _fall(grid[first + n], time) * weights[-1]
        point = np.exp(start - time) * STATE + np.exp(-time) * moved if n else STATE
        if n == count:
            break
        stages.append(point.row(time=time))
        weights.append(0.5 * np.exp(3.0 * time) * linear.score(n))
        done = done + _fall(time if n == 0 else grid[first + n], grid[first + n + 1]) * weights[-1]
    after = drawn[first + half]
    output = np.exp(time - after) * point + np.sqrt(-np.expm1(-2.0 * (after - time))) * linear.noise(0)
    return assemble(f"li_jiao_{count}", np.append(start, after[-1]), stages, output.row())


def _fall(start: Array, stop: Array) -> Array:
    """q_start − q_stop = e^{−2 stop} − e^{−2 start}."""
    return np.exp(-2.0 * start) * np.expm1(2.0 * (start - stop))


def _drawn(name: str, draws: int, member: Callable[[float], Tableau]) -> Drawn:
    """Return the sampler that draws a number uniformly from (0, 1) in each step and takes the member of that number."""
    nodes, weights = np.polynomial.legendre.leggauss(_check.integer("draws", draws, at_least=1))
    return Drawn(name, 0.5 * weights, tuple(member(0.5 * (1.0 + node)) for node in nodes))
