"""Imperfect scores: what a sampler does if it evaluates ŝ instead of the score s, exactly.

Three errors are transformations of the :class:`~srkverify.tableau.Tableau`, because a point is linear in what a table
knows: :func:`relative` ((1 + ρ) s), :func:`linear` (s + c x, a Jacobian off by c I) and :func:`noisy` (s + ε η, η fresh
in each evaluation). Every engine runs the result, in any dimension. Two more are scores of their own, for
``sv.kl(target, tableau, score=...)``: another law's, and :class:`Wavy`. How large an error is in L²(q_t), in which
theorems measure it, says :mod:`srkverify.divergence.score_error`. Derived in docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Along, Array
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture, Product, Target

__all__ = ["Wavy", "linear", "noisy", "relative"]

# The size of an error: a number, numbers for the steps (and stages), or a function of forward times.
Size = Along


def relative(tableau: Tableau, size: Size) -> Tableau:
    """Return the tableau of the sampler that evaluates (1 + ρ) s.

    Parameters
    ----------
    tableau : Tableau
        Any; with ρ = 0 it is returned as it is.
    size : float, array (K,) or (K, R), or function of forward times
        ρ. A function takes the times of the evaluations and returns as many numbers.

    Raises
    ------
    ValueError
        If ``size`` is not finite or of another shape.
    """
    factor = 1.0 + _sizes("size", tableau, size)
    if (factor == 1.0).all():
        return tableau
    return replace(
        tableau,
        name=f"{tableau.name}_relative",
        scores=tableau.scores * factor,
        stage_scores=tableau.stage_scores * factor[:, None, :],
        past_scores=tableau.past_scores * _remembered(tableau, factor),
        stage_past_scores=tableau.stage_past_scores * _remembered(tableau, factor)[:, None, :],
    )


def linear(tableau: Tableau, slope: Size) -> Tableau:
    """Return the tableau of the sampler that evaluates s(t, x) + c x: every eigenvalue of its Jacobian is off by c.

    Parameters and errors as in :func:`relative`, with c for ρ.
    """
    c = _sizes("slope", tableau, slope)
    if not c.any():
        return tableau
    past = _remembered(tableau, c)
    rows: list[tuple[Array, ...]] = []  # of each stage: coefficients of Y, scores, noises, past points, past scores
    for i in range(tableau.stage_times.shape[1]):
        row = (
            tableau.stage_state[:, i, None],
            tableau.stage_scores[:, i],
            tableau.stage_noise[:, i],
            tableau.stage_past_points[:, i] + tableau.stage_past_scores[:, i] * past,
            tableau.stage_past_scores[:, i],
        )
        rows.append(_plus(row, tableau.stage_scores[:, i] * c, rows))
    row = (
        tableau.state[:, None],
        tableau.scores,
        tableau.noise,
        tableau.past_points + tableau.past_scores * past,
        tableau.past_scores,
    )
    output = _plus(row, tableau.scores * c, rows)
    stages = [np.stack(parts, axis=1) for parts in zip(*rows, strict=True)]
    return replace(
        tableau,
        name=f"{tableau.name}_linear",
        stage_state=stages[0][:, :, 0],
        stage_scores=stages[1],
        stage_noise=stages[2],
        stage_past_points=stages[3],
        stage_past_scores=stages[4],
        state=output[0][:, 0],
        scores=output[1],
        noise=output[2],
        past_points=output[3],
        past_scores=output[4],
    )


def noisy(tableau: Tableau, size: Size) -> Tableau:
    """Return the tableau of the sampler that evaluates s + ε η, η ~ N(0, I) drawn afresh in each evaluation.

    A score that later steps remember keeps its noise: where ``past_scores`` are used, each evaluation is preceded by
    one at the point η, whose score nobody uses. The memory is then twice as long, and ``nfe`` counts these evaluations
    too. The Gaussian engine takes any; the one in one dimension takes a memory of one that sees no stage noise, in
    seconds, and refuses what is longer.

    Parameters and errors as in :func:`relative`, with ε ≥ 0 for ρ. The result's noises are no functionals of a
    Brownian path.
    """
    epsilon = _sizes("size", tableau, size)
    if (epsilon < 0.0).any():
        raise ValueError(f"size must be >= 0; got {epsilon.min()}")
    if not epsilon.any():
        return tableau
    result = replace(
        tableau,
        name=f"{tableau.name}_noisy",
        noise=np.concatenate([tableau.noise, tableau.scores * epsilon], axis=1),
        stage_noise=np.concatenate([tableau.stage_noise, tableau.stage_scores * epsilon[:, None, :]], axis=2),
        noise_paths=None,
    )
    if tableau.past_scores.any() or tableau.stage_past_scores.any():
        return _remembering(result, _remembered(tableau, epsilon))
    # A score that reaches neither a stage nor the output needs no noise of its own.
    own = np.arange(result.noise.shape[1]) < tableau.noise.shape[1]
    used = own | result.noise.any(axis=0) | result.stage_noise.any(axis=(0, 1))
    return replace(result, noise=result.noise[:, used], stage_noise=result.stage_noise[:, :, used])


@dataclass(frozen=True, eq=False)
class Wavy:
    """The score of a law with waves on it: in each coordinate + Σ_w a_w sin(ω_w x/σ_t + φ_w)/σ_t, σ_t² = 1 − e^{−2t}.

    In the noise that a network predicts, −σ_t ŝ, the waves have amplitude a and one scale at all times. The error of
    the Jacobian is a ω/σ_t²: a small error may have a large slope.

    Attributes
    ----------
    law : GaussianMixture in one dimension, or Product of such
        The law whose score it is otherwise: of the target itself, or of another.
    amplitude, frequency, phase : floats, or (W,) arrays
        a_w, ω_w > 0 and φ_w.

    Raises
    ------
    ValueError
        If an argument is not of its kind.
    """

    law: Target
    amplitude: ArrayLike
    frequency: ArrayLike
    phase: ArrayLike = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.law, (GaussianMixture, Product)):
            raise ValueError(f"law must be a GaussianMixture or a Product; got {type(self.law).__name__}")
        for name in ("amplitude", "frequency", "phase"):
            _check.finite_array(name, getattr(self, name), dimensions=(0, 1))
        if np.min(self.frequency) <= 0.0:
            raise ValueError(f"frequency must be > 0; got {np.min(self.frequency)}")
        try:
            np.broadcast_shapes(*map(np.shape, (self.amplitude, self.frequency, self.phase)))
        except ValueError:
            lengths = [np.size(part) for part in (self.amplitude, self.frequency, self.phase)]
            raise ValueError(f"amplitude, frequency and phase must be equally long; got {lengths}") from None

    @property
    def waves(self) -> Array:
        """(W, 3) a_w, ω_w and φ_w."""
        parts = np.broadcast_arrays(*map(np.atleast_1d, (self.amplitude, self.frequency, self.phase)))
        return np.stack(parts, axis=1).astype(np.float64)


def _sizes(name: str, tableau: Tableau, size: Size) -> Array:
    """(K, R) sizes of the errors of all evaluations, 0 where there is none."""
    times = np.where(tableau.evaluated, tableau.stage_times, 1.0)
    given = _check.finite_array(name, size(times) if callable(size) else size, dimensions=(0, 1, 2))
    try:
        full = np.broadcast_to(given[:, None] if given.ndim == 1 else given, times.shape)
    except ValueError:
        steps, stages = times.shape
        raise ValueError(
            f"{name} must be a number, or an array of shape ({steps},) or ({steps}, {stages}); got {np.shape(given)}"
        ) from None
    return np.where(tableau.evaluated, full, 0.0)


def _remembered(tableau: Tableau, values: Array) -> Array:
    """(K, P) what ``values`` (K, R) were at the remembered evaluations, 0 where a step has none yet."""
    made = values[tableau.evaluated]
    index = tableau.made[:, None] - 1 - np.arange(tableau.memory)
    return np.where(index >= 0, made[np.maximum(index, 0)], 0.0) if made.size else np.zeros(index.shape)


def _plus(row: tuple[Array, ...], weights: Array, stages: list[tuple[Array, ...]]) -> tuple[Array, ...]:
    """Add the rows of earlier stages, each times its column of ``weights`` (K, R)."""
    for j, stage in enumerate(stages):
        row = tuple(own + weights[:, j, None] * other for own, other in zip(row, stage, strict=True))
    return row


def _remembering(tableau: Tableau, past: Array) -> Tableau:
    """Let the last R noises of ``tableau`` persist: stage 2j holds the noise of what was stage j and is 2j + 1."""
    stages = tableau.stage_times.shape[1]
    first = tableau.noise.shape[1] - stages  # of the noises of the scores
    old = 2 * np.arange(stages) + 1

    def between(values: Array, axis: int) -> Array:
        """Insert zeros before each entry along an axis of stages."""
        shape = list(values.shape)
        shape[axis] *= 2
        result = np.zeros(shape, dtype=values.dtype)
        np.moveaxis(result, axis, 0)[old] = np.moveaxis(values, axis, 0)
        return result

    def memory(points: Array, scores: Array) -> tuple[Array, Array]:
        """Past points and scores, with the noise of each past score in its turn."""
        double = (*points.shape[:-1], 2 * points.shape[-1])
        kept = scores * (past if scores.ndim == 2 else past[:, None])
        return np.stack([points, kept], axis=-1).reshape(double), np.stack([scores, 0.0 * scores], axis=-1).reshape(
            double
        )

    stage_noise = between(tableau.stage_noise, 1)
    stage_noise[:, old - 1, first + np.arange(stages)] = tableau.evaluated
    stage_points, stage_scores = memory(between(tableau.stage_past_points, 1), between(tableau.stage_past_scores, 1))
    points, scores = memory(tableau.past_points, tableau.past_scores)
    return replace(
        tableau,
        stage_times=np.repeat(tableau.stage_times, 2, axis=1),
        stage_state=between(tableau.stage_state, 1),
        stage_scores=between(between(tableau.stage_scores, 1), 2),
        stage_noise=stage_noise,
        stage_past_points=stage_points,
        stage_past_scores=stage_scores,
        scores=between(tableau.scores, 1),
        past_points=points,
        past_scores=scores,
        evaluated=np.repeat(tableau.evaluated, 2, axis=1),
    )
