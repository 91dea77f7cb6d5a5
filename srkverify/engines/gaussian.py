"""Exact engine for Gaussian targets: the sampler's output law, eigenvalue by eigenvalue of the covariance.

On a Gaussian every score is linear, so every tableau maps Gaussians to Gaussians. What is propagated is not the
variance but its relative deviation x from the truth, so that small deviations keep their digits: with A*, n* the
exact reverse transition Y' = A* Y + N(0, n*) and A, n the sampler's,

    v'(1 + x') = A² v (1 + x) + n,   hence   v' x' = A² v x + (A − A*)(A + A*) v + (n − n*),

and A − A*, n − n* are sums of terms of the size of the step, not of the size of v. Remembered points u_p are kept as
u_p = γ_p Y + r_p, with r_p uncorrelated with Y. Derived in docs/theory.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.fft import dct

from srkverify._check import Array
from srkverify.engines.gaussian_steps import LANES, run
from srkverify.tableau import Tableau

_DISTINCT = 2048  # more eigenvalues than this are interpolated from _NODES of them
_NODES = 256


@dataclass(frozen=True)
class Deviations:
    """How the output law of a sampler differs from N(e^{−δ}μ, v_δ), per eigenvalue.

    Attributes
    ----------
    variance : (n,) relative deviation x, Var Y = v_δ (1 + x).
    mean : (n,) deviation of the mean for a unit mean, E Y = (e^{−δ} + mean) μ.
    variance_error, mean_error : (n,) bounds on the rounding error of the two, carried along with them.
    """

    variance: Array
    mean: Array
    variance_error: Array
    mean_error: Array


def deviations(tableau: Tableau, eigenvalues: Array, start: str = "exact") -> Deviations:
    """Run ``tableau`` on N(μ, diag(eigenvalues)).

    With more than a few thousand eigenvalues, the deviations are computed at Chebyshev points in log(λ + e^{2δ} − 1),
    in which they are analytic for imaginary parts below π, and interpolated; what that costs in accuracy is measured
    on a sample of the eigenvalues and added to the error bounds.

    Parameters
    ----------
    tableau : Tableau
        Any tableau.
    eigenvalues : (n,) non-negative variances of the target at time 0.
    start : str
        ``"exact"`` (q_T) or ``"normal"`` (N(0, 1)).
    """
    shift = np.expm1(2.0 * tableau.times[-1])
    place = np.log(eigenvalues + shift)
    low, high = place.min(), place.max()
    if len(eigenvalues) <= _DISTINCT or high - low < 1e-6:
        return _direct(tableau, eigenvalues, start)
    points = np.polynomial.chebyshev.chebpts1(_NODES)
    nodes = np.exp(low + 0.5 * (high - low) * (points + 1.0)) - shift
    law = _direct(tableau, np.clip(nodes, eigenvalues.min(), eigenvalues.max()), start)
    # The discrete cosine transform gives the interpolant's coefficients; those below rounding cost time for nothing.
    fit = dct(np.stack([law.variance, law.mean])[:, ::-1], axis=1) / _NODES
    fit[:, 0] *= 0.5
    kept = np.flatnonzero((np.abs(fit) > 1e-16 * np.abs(fit).max(axis=1, keepdims=True)).any(axis=0))
    fit = fit[:, : kept.max(initial=0) + 1].T
    place = 2.0 * (place - low) / (high - low) - 1.0
    values = np.empty((2, len(place)))
    for block in range(0, len(place), 4096):  # in blocks that stay in the cache
        part = slice(block, block + 4096)
        values[:, part] = np.polynomial.chebyshev.chebval(place[part], fit)
    sample = np.linspace(0, len(place) - 1, _DISTINCT // 16).astype(np.int64)
    check = _direct(tableau, eigenvalues[sample], start)
    missed = np.abs(values[:, sample] - [check.variance, check.mean]).max(axis=1)
    return Deviations(
        values[0],
        values[1],
        np.interp(place, points, law.variance_error) + 2.0 * missed[0],
        np.interp(place, points, law.mean_error) + 2.0 * missed[1],
    )


@dataclass(frozen=True)
class History:
    """What :class:`Deviations` are at the beginning of each step: ``variance`` and ``mean``, each (K, n)."""

    variance: Array
    mean: Array


def history(tableau: Tableau, eigenvalues: Array, start: str = "exact") -> History:
    """Run ``tableau`` on N(μ, diag(eigenvalues)) and return the law at the beginning of each step."""
    history = np.empty((-(-len(eigenvalues) // LANES), tableau.steps, 2, LANES))
    _run(tableau, eigenvalues, start, history)
    variance, mean = np.moveaxis(history, 0, 2).reshape(tableau.steps, 2, -1)[:, :, : len(eigenvalues)].swapaxes(0, 1)
    return History(variance, mean)


def _direct(tableau: Tableau, eigenvalues: Array, start: str) -> Deviations:
    """Run every eigenvalue through all steps."""
    result = _run(tableau, eigenvalues, start, np.empty((-(-len(eigenvalues) // LANES), 0, 2, LANES)))
    return Deviations(*np.swapaxes(result, 0, 1).reshape(4, -1)[:, : len(eigenvalues)])


def _run(tableau: Tableau, eigenvalues: Array, start: str, history: Array) -> Array:
    """Return what :class:`Deviations` holds, block by block, and write the first two before each step to ``history``.

    It has no room for any step if they are not wanted.
    """
    times = tableau.times
    h = times[:-1] - times[1:]
    excess = tableau.state - np.exp(h)
    past_times = np.where(np.isnan(tableau.past_times), 1.0, tableau.past_times)
    stage_times = np.where(tableau.evaluated, tableau.stage_times, 1.0)
    signal, past_signal = np.exp(-times[:-1, None]), np.exp(-past_times)
    # What each row does to the mean of the truth, as a deviation from where it should be.
    drift = signal[:, 0] * excess + (tableau.past_points * past_signal).sum(axis=1)
    stage_drift = signal * (tableau.stage_state - np.exp(times[:-1, None] - stage_times)) + np.einsum(
        "krp,kp->kr", tableau.stage_past_points, past_signal
    )
    weights = np.abs(excess) * signal[:, 0] + (np.abs(tableau.past_points) * past_signal).sum(axis=1)
    weights += 0.25 * signal[:, 0] * np.exp(h)  # a table holds e^h to rounding only
    rounding = np.where(excess != 0.0, tableau.state, 0.0)
    table = (
        start == "exact",
        _decay(times),
        _decay(stage_times),
        _decay(past_times),
        h,
        excess,
        rounding,
        drift,
        weights + rounding * signal[:, 0],
        stage_drift,
        tableau.evaluated,
        tableau.stage_state,
        tableau.stage_scores,
        tableau.stage_noise,
        tableau.stage_past_points,
        tableau.stage_past_scores,
        tableau.scores,
        tableau.noise,
        tableau.past_points,
        tableau.past_scores,
    )
    padded = np.zeros((-(-len(eigenvalues) // LANES), LANES))
    padded.reshape(-1)[: len(eigenvalues)] = eigenvalues
    result = np.empty((len(padded), 4, LANES))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda block: run(padded[block], *table, history[block], result[block]), range(len(padded))))
    return result


def _decay(times: Array) -> Array:
    """Return e^{−2t} and 1 − e^{−2t} on a new last axis: v_t = λ e^{−2t} + (1 − e^{−2t})."""
    return np.stack([np.exp(-2.0 * times), -np.expm1(-2.0 * times)], axis=-1)
