"""Moments of a sampler on a Gaussian target if the score that it evaluates is another Gaussian's.

Then all is linear: mean and covariance of the state and of what is remembered follow step by step, in plain NumPy and
without the care for small deviations of :mod:`srkverify.engines.gaussian`, for a wrong score makes no small ones.
"""

from __future__ import annotations

import numpy as np

from srkverify._check import Array
from srkverify.tableau import Tableau


def moments(
    tableau: Tableau, variances: Array, means: Array, score_variances: Array, score_means: Array, start: str = "exact"
) -> tuple[Array, Array]:
    """Mean and variance of the output in each direction, each (n,).

    Parameters
    ----------
    tableau : Tableau
        Any tableau.
    variances, means : (n,) the target at time 0.
    score_variances, score_means : (n,) the law at time 0 whose score is evaluated.
    start : str
        ``"exact"`` (the target's q_T) or ``"normal"`` (N(0, 1)).
    """
    stages, memory, count = tableau.stage_times.shape[1], tableau.memory, len(variances)
    first = tableau.times[0]
    # Known before a step: Y and the remembered points, latest first; scores are −(u − c)/v of points u.
    mean, covariance = np.zeros((count, 1 + memory)), np.zeros((count, 1 + memory, 1 + memory))
    mean[:, 0] = np.exp(-first) * means if start == "exact" else 0.0
    covariance[:, 0, 0] = _variance(variances, first) if start == "exact" else 1.0
    times = np.where(np.isnan(tableau.past_times), 1.0, tableau.past_times)
    for k in range(tableau.steps):
        past_center = np.exp(-times[k]) * score_means[:, None]
        past_precision = 1.0 / _variance(score_variances[:, None], times[k])
        # Each row is a combination of what is known, of the noises, and of 1.
        rows: list[tuple[Array, Array, Array]] = []
        scores: list[tuple[Array, Array, Array] | None] = []
        for i in range(stages + 1):
            last = i == stages
            if not last and not tableau.evaluated[k, i]:
                scores.append(None)
                continue
            state, weights, noise, points, slopes = (
                (tableau.state, tableau.scores, tableau.noise, tableau.past_points, tableau.past_scores)
                if last
                else (
                    tableau.stage_state[:, i],
                    tableau.stage_scores[:, i],
                    tableau.stage_noise[:, i],
                    tableau.stage_past_points[:, i],
                    tableau.stage_past_scores[:, i],
                )
            )
            known = np.concatenate([np.full((count, 1), state[k]), points[k] - slopes[k] * past_precision], axis=1)
            fresh = np.broadcast_to(noise[k], (count, noise.shape[1]))
            constant = (slopes[k] * past_precision * past_center).sum(axis=1)
            for weight, score in zip(weights[k], scores, strict=False):
                if score is not None and weight != 0.0:
                    known, fresh, constant = (
                        own + weight * part for own, part in zip((known, fresh, constant), score, strict=True)
                    )
            rows.append((known, fresh, constant))
            if not last:
                time = tableau.stage_times[k, i]
                precision = 1.0 / _variance(score_variances, time)
                scores.append(
                    (
                        -known * precision[:, None],
                        -fresh * precision[:, None],
                        precision * (np.exp(-time) * score_means - constant),
                    )
                )
        # The new memory: this step's points, the latest first, then the older ones.
        kept = rows[-1:] + rows[-2::-1]
        for p in range(memory):
            old = np.zeros((count, 1 + memory))
            old[:, 1 + p] = 1.0
            kept.append((old, np.zeros((count, tableau.noise.shape[1])), np.zeros(count)))
        known, fresh, constant = (np.stack(parts, axis=1) for parts in zip(*kept[: 1 + memory], strict=True))
        mean = np.einsum("nij,nj->ni", known, mean) + constant
        covariance = known @ covariance @ known.swapaxes(1, 2) + fresh @ fresh.swapaxes(1, 2)
    return mean[:, 0], covariance[:, 0, 0]


def _variance(variances: Array, time: Array | float) -> Array:
    """Variance at a forward time of what has ``variances`` at time 0."""
    return variances * np.exp(-2.0 * time) - np.expm1(-2.0 * time)
