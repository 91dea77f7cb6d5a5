"""Exact engine in one dimension for samplers that remember one evaluation: the joint density of point and state.

Let u be the remembered point and S(u) its score. A step evaluates the score at U = m + g, with m a function of (Y, u)
and stage noise g ~ N(0, γ²), and puts out Y' = o + ρ g + r + c s(U), with o a function of (Y, u), ρ the regression of
the output's noise on g and r ~ N(0, σ²) the rest of it. With z = o − ρ m,

    U = m + g,   x' = z + r,   and   Y' = x' + ρ U + c s(U) recovers the state:

given (Y, u), the new pair (U, x') has independent Gaussian coordinates. The density of (u, x) is carried from step to
step by the trapezoidal rule in both. The last r is split in two halves, so that a sum over u can end the run. Without
stage noise and with U = Y the pair is (Y, Y'), with x' = Y' itself. Derived in docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from srkverify._check import Array
from srkverify.engines import quadrature
from srkverify.engines.mixture1d import Law, Mixture1D, end_laws, mixture_density, sampled, support
from srkverify.engines.plane import LIMIT, Blur, Image, Plane
from srkverify.engines.quadrature import Density, Resolution, unresolved
from srkverify.engines.score1d import Score1D
from srkverify.tableau import Tableau

# Spacings are this much wider than the aliasing estimate asks for, without and with stage noise: later steps smooth the
# ripples that aliasing makes, but for those of the first and of the last sum.
_EASE, _EASE_NOISY = 1.2, 1.45


def output_density(
    tableau: Tableau, target: Mixture1D, resolution: Resolution, start: str = "exact", score: Score1D | None = None
) -> Density:
    """Density of the output of ``tableau`` on ``target``.

    Parameters
    ----------
    tableau : Tableau
        With a memory of one evaluation and, after the first step, one evaluation a step, which either sees noise in
        every step or is at Y itself in every step. A tableau without memory is passed on to
        :func:`srkverify.engines.quadrature.output_density`.
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
        If the tableau has another structure, or the density would need more than 2^22 grid points.
    """
    if tableau.memory == 0 or tableau.steps == 1:  # nothing is remembered
        return quadrature.output_density(tableau, target, resolution, start, score)
    score = score or Score1D(target)
    plan = _plan(tableau)
    first, truth = end_laws(target, tableau.times, start)
    margin = resolution.reach + 1.5
    row_step, column_step = _spacing(tableau, target, score, plan, resolution)
    edges = [int(np.floor(edge / column_step[-1])) for edge in support(*truth, margin)]
    run = _Run(tableau, score, plan)
    blur = Blur(resolution.reach)
    try:
        plane = _first_plane(first, float(column_step[0]), margin)
        for k in range(tableau.steps - (not plan.noisy)):
            image = run.image(k, plane)
            plane = blur(plane, image, (row_step[k + 1], column_step[k + 1]), (plan.gamma[k], plan.sigma[k]))
        # What is remembered is no longer needed: the last blur puts all rows into one.
        if plan.noisy:
            rows, columns = run.recovered(tableau.steps, plane)[0], plane.columns
        else:
            _, _, rows, columns = run.image(tableau.steps - 1, plane)
        image = (np.zeros_like(rows), np.zeros_like(columns), rows, columns)
        plane = blur(plane, image, (1.0, column_step[-1]), (0.0, plan.sigma[-1]), (edges[0], edges[1] + 1))
    except OverflowError:
        raise unresolved(tableau, LIMIT) from None
    points = plane.columns
    return Density(points, plane.flat[plane.begin[0] :].copy(), mixture_density(points, *truth), blur.work)


def _first_plane(law: Law, step: float, margin: float) -> Plane:
    low, high = support(*law, margin)
    if not (high - low) / step < LIMIT:
        raise OverflowError
    first, density = sampled(*law, step, margin)
    return Plane(density, np.array([0, len(density)]), np.array([first]), 0, 1.0, step)


@dataclass(frozen=True)
class _Plan:
    """A tableau's steps in the terms of the module docstring, each (K,)."""

    noisy: bool  # whether the evaluated point sees noise
    index: Any  # stage whose evaluation is remembered, and its row of the tableau:
    time: Array
    state: Array
    past_point: Array
    past_score: Array
    gamma: Array
    rho: Array
    sigma: Array  # in a noisy plan, the last is that of half of r
    carried: Array  # c if it recovers Y' from x', else 0
    direct: Array  # c if the score is part of z, for it is taken at Y; else 0


def covers(tableau: Tableau) -> bool:
    """Whether :func:`output_density` takes a tableau with memory."""
    return not _refused(tableau)


def _refused(tableau: Tableau) -> list[str]:
    """Return what keeps a tableau from being one that this engine covers."""
    steps, stages = np.arange(tableau.steps), tableau.stage_times.shape[1]
    evaluated = tableau.evaluated
    if not evaluated.any(axis=1).all():
        return ["a step without evaluation"]
    index = stages - 1 - np.argmax(evaluated[:, ::-1], axis=1)
    seen = np.where(evaluated[:, :, None], tableau.stage_noise, 0.0)
    point = seen[steps, index]
    squared = np.square(point).sum(axis=1)
    rho = np.einsum("km,km->k", point, tableau.noise) / np.where(squared > 0.0, squared, 1.0)
    rest = np.abs(tableau.noise - rho[:, None] * point).max(axis=1, initial=0.0)
    rows = (tableau.stage_scores, tableau.stage_past_points, tableau.stage_past_scores)
    elsewhere = (tableau.stage_state[steps, index] != 1.0) | np.any(
        [row[steps, index].any(axis=1) for row in rows], axis=0
    )
    refused = {
        f"a memory of {tableau.memory} evaluations": tableau.memory != 1,
        "several evaluations in a step after the first": (evaluated.sum(axis=1) > 1)[1:].any(),
        "noise in a stage before the last": seen[np.arange(stages) != index[:, None]].any(),
        "stage noise in some steps only": squared.any() and not squared.all(),
        "an evaluation without noise that is not at Y": not squared.any() and elsewhere.any(),
        "output noise that is a function of what the stage sees": (
            rest <= 1e-6 * np.abs(tableau.noise).max(axis=1, initial=0.0)
        ).any(),
    }
    return [reason for reason, applies in refused.items() if applies]


def _plan(tableau: Tableau) -> _Plan:
    steps, stages = np.arange(tableau.steps), tableau.stage_times.shape[1]
    index = stages - 1 - np.argmax(tableau.evaluated[:, ::-1], axis=1)
    seen = np.where(tableau.evaluated[:, :, None], tableau.stage_noise, 0.0)
    point = seen[steps, index]
    gamma = np.sqrt(np.square(point).sum(axis=1))
    noisy = bool(gamma.any())
    rho = np.einsum("km,km->k", point, tableau.noise) / np.where(gamma > 0.0, gamma, 1.0) ** 2
    sigma = np.sqrt(np.square(tableau.noise - rho[:, None] * point).sum(axis=1))
    reasons = _refused(tableau)
    if reasons:
        raise ValueError(
            f"tableau: this quadrature does not cover {tableau.name}, which has {reasons[0]}; allowed are a memory of "
            "one evaluation and one evaluation a step, with stage noise or at Y itself"
        )
    sigma[-1] *= np.sqrt(0.5) if noisy else 1.0
    weight = tableau.scores[steps, index]
    return _Plan(
        noisy,
        index,
        tableau.stage_times[steps, index],
        tableau.stage_state[steps, index],
        tableau.stage_past_points[steps, index, 0],
        tableau.stage_past_scores[steps, index, 0],
        gamma,
        rho,
        sigma,
        weight * noisy,
        weight * (not noisy),
    )


def _spacing(
    tableau: Tableau, target: Mixture1D, law: Score1D, plan: _Plan, resolution: Resolution
) -> tuple[Array, Array]:
    """Spacings of rows and columns: before each step, before the last blur if the plan is noisy, and of the output.

    The trapezoidal rule sees the product of the density, which the former step blurred by (γ, σ), and of the Gaussians
    that the next step makes of it. Its Fourier transform falls like that of a Gaussian of covariance C,
    C⁻¹ = diag(1/γ², 1/σ²) + JᵀN⁻¹J with J the slopes of those Gaussians' centers and N their variances. The error is
    the transform at the dual lattice, whose nearest points are (1, 0), (0, 1) and (1, ±1) divided by the spacings.
    """
    smallest = law.smallest(target, tableau.times)
    cap = 0.35 * smallest / resolution.density
    final = min(0.08 * smallest[-1] / resolution.density, 3.0 * plan.sigma[-1])
    places, need = law.critical_points(target, plan.time, resolution.density, resolution.depth, valleys=True)
    score = law.score(plan.time, places)[1]  # its slope, (K, n)
    columns = np.append(cap, final)
    rows = np.append(1.0, 0.35 * law.smallest(target, plan.time) / resolution.density)
    ripples = law.ripples(plan.time)
    state, gamma, rho, sigma, direct, carried, past_point, past_score, own, own_point, own_score = (
        part[:, None]
        for part in (
            tableau.state,
            plan.gamma,
            plan.rho,
            plan.sigma,
            plan.direct,
            plan.carried,
            tableau.past_points[:, 0],
            tableau.past_scores[:, 0],
            plan.state,
            plan.past_point,
            plan.past_score,
        )
    )
    if not plan.noisy:
        # Y_k is summed at fixed Y_{k+1}: through step k, and through step k + 1, which remembers it.
        inverse = np.square((state + direct * score) / sigma)
        inverse[:-1] += np.square((past_point[1:] + past_score[1:] * score[:-1]) / sigma[1:])
        inverse[1:] += 1.0 / np.square(sigma[:-1])
        columns[:-2] = np.minimum(cap[:-1], (_EASE / (need * np.sqrt(inverse))).min(axis=1))
        columns[:-2] /= 1.0 + columns[:-2] * ripples
        columns[[0, -3]] /= _EASE
        columns[-2] = final
        rows[1:] = columns[:-2]
        return rows, columns[:-1]
    out = state - rho * own
    columns[0] = min(cap[0], 1.0 / (resolution.density * float(np.hypot(own[0] / gamma[0], out[0] / sigma[0])[0])))
    columns[0] /= 1.0 + columns[0] * ripples[0]
    recover = rho + carried * score  # ∂Y/∂u at fixed x
    slopes = np.zeros((2, 2, *score.shape))  # (m, z) by (u, x) before steps 1 … K−1, then Y before the last blur
    slopes[0, 0, :-1] = own[1:] * recover[:-1] + own_point[1:] + own_score[1:] * score[:-1]
    slopes[1, 0, :-1] = state[1:] * recover[:-1] + past_point[1:] + past_score[1:] * score[:-1]
    slopes[1, 0, :-1] -= rho[1:] * slopes[0, 0, :-1]
    slopes[0, 1, :-1], slopes[1, 1, :-1] = own[1:], out[1:]
    slopes[1, 0, -1], slopes[1, 1, -1] = recover[-1], 1.0
    slopes[0, :, :-1] /= gamma[1:]
    slopes[1] /= np.append(sigma[1:], sigma[-1:], axis=0)
    uu = 1.0 / gamma**2 + np.square(slopes[:, 0]).sum(axis=0)
    xx = 1.0 / sigma**2 + np.square(slopes[:, 1]).sum(axis=0)
    ux = (slopes[:, 0] * slopes[:, 1]).sum(axis=0)
    correlation = np.abs(ux) / np.sqrt(uu * xx)
    ease = _EASE_NOISY / need * np.sqrt(np.minimum(1.0, 2.0 - 2.0 * correlation) / (1.0 - correlation**2))
    ease[-1] /= _EASE_NOISY
    rows[1:] = np.minimum(rows[1:], (ease / np.sqrt(uu)).min(axis=1))
    rows[1:] /= 1.0 + rows[1:] * ripples
    columns[1:-1] = np.minimum(cap[1:], (ease / np.sqrt(xx)).min(axis=1))
    return rows, columns


@dataclass(frozen=True)
class _Run:
    """Where the steps of a tableau send the sources."""

    tableau: Tableau
    score: Score1D
    plan: _Plan

    def image(self, k: int, plane: Plane) -> Image:
        """Return m and z of step k, for each row and column of the plane before it."""
        tableau, plan, x = self.tableau, self.plan, plane.columns
        m, z = plan.state[k] * x, tableau.state[k] * x
        if k == 0:
            i = plan.index[0]
            scores = np.zeros((i, len(x)))
            for j in np.flatnonzero(tableau.evaluated[0, :i]):
                at = tableau.stage_state[0, j] * x + tableau.stage_scores[0, j, :i] @ scores
                scores[j] = self.score.at(tableau.stage_times[0, j], at)
            m, z = m + tableau.stage_scores[0, i, :i] @ scores, z + tableau.scores[0, :i] @ scores
            m_row = z_row = np.zeros(1)
        else:
            y, score = self.recovered(k, plane)
            m_row = plan.state[k] * y + plan.past_point[k] * plane.rows + plan.past_score[k] * score
            z_row = tableau.state[k] * y + tableau.past_points[k, 0] * plane.rows + tableau.past_scores[k, 0] * score
        if plan.noisy:
            return m_row, m, z_row - plan.rho[k] * m_row, z - plan.rho[k] * m
        return np.zeros_like(m_row), x, z_row, z + plan.direct[k] * self.score.at(plan.time[k], x)

    def recovered(self, k: int, plane: Plane) -> tuple[Array, Array]:
        """Y − x and the remembered score of each row before step k."""
        score = self.score.at(self.plan.time[k - 1], plane.rows)
        return self.plan.rho[k - 1] * plane.rows + self.plan.carried[k - 1] * score, score
