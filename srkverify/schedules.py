"""Time grids in forward time, decreasing from ``horizon`` to ``early_stop``, and DDPM's β ↔ h.

A grid of K steps is an array of K+1 forward times T = τ_0 > τ_1 > … > τ_K = δ > 0. Each shape is a monotone
clock φ(τ): the grid is uniform in φ, so one helper builds them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

from srkverify import _check
from srkverify._check import Array

_WIDEST_WARP = 100.0  # e^100 between the densities of steps: no two doubles lie as close as such grids ask for
_CELLS = 32  # of the clock's integral, between two knots
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def exponential(horizon: float, early_stop: float, steps: int) -> Array:
    """Linear from ``horizon`` down to time 1, then geometric down to ``early_stop``.

    The steps satisfy h_k ≈ κ min(1, τ_k), the grid on which the convergence theorems are proved
    (arXiv 2410.04760 and the DDPM analyses it builds on).

    Parameters
    ----------
    horizon, early_stop : float
        Forward times T > δ > 0 of the first and the last grid point.
    steps : int
        Number of steps K ≥ 1.

    Returns
    -------
    (steps + 1,) decreasing forward times.

    Raises
    ------
    ValueError
        If early_stop ≤ 0, horizon ≤ early_stop or steps < 1.
    """
    return _uniform_in_clock(
        horizon,
        early_stop,
        steps,
        clock=lambda time: time - 1.0 if time >= 1.0 else np.log(time),
        inverse=lambda phase: np.where(phase >= 0.0, phase + 1.0, np.exp(np.minimum(phase, 0.0))),
    )


def uniform(horizon: float, early_stop: float, steps: int) -> Array:
    """Equal steps h = (T − δ)/K; parameters, result and errors as in :func:`exponential`."""
    return _uniform_in_clock(horizon, early_stop, steps, clock=lambda time: time, inverse=lambda phase: phase)


def cosine(horizon: float, early_stop: float, steps: int) -> Array:
    """Cosine schedule: the signal level e^{−τ} is cos u with u uniform (Nichol & Dhariwal 2021, eq. 17).

    Their offset s only fixes where u starts and ends; here ``early_stop`` and ``horizon`` do. Parameters,
    result and errors as in :func:`exponential`.
    """
    return _uniform_in_clock(
        horizon,
        early_stop,
        steps,
        # tan u = sqrt(e^{2τ} − 1) keeps its digits for small τ, where arccos(e^{−τ}) loses half of them.
        clock=lambda time: np.arctan(np.sqrt(np.expm1(2.0 * time))),
        inverse=lambda phase: 0.5 * np.log1p(np.tan(phase) ** 2),
    )


def linear_beta(horizon: float, early_stop: float, steps: int, beta_ratio: float = 200.0) -> Array:
    """Linear-β schedule: β grows linearly, by ``beta_ratio`` from s = 0 to s = 1, and the grid is uniform in s.

    τ(s) is proportional to s + (beta_ratio − 1) s²/2 and reaches ``horizon`` at s = 1. The default 200 is DDPM's
    0.02/0.0001 (Ho et al. 2020, section 4). Other parameters, result and errors as in :func:`exponential`.
    """
    ratio = _check.number("beta_ratio", beta_ratio, above=0.0)
    growth = 0.5 * (ratio - 1.0)
    # The root of growth s² + s = (1 + growth) τ/T, in the form that survives growth → 0 and small τ.
    return _uniform_in_clock(
        horizon,
        early_stop,
        steps,
        clock=lambda time: _smaller_root(growth, (1.0 + growth) * time / horizon),
        inverse=lambda phase: horizon * (phase + growth * phase**2) / (1.0 + growth),
    )


def warped(horizon: float, early_stop: float, steps: int, warp: ArrayLike) -> Array:
    """Uniform in a clock φ with dφ/dλ = e^{s(λ)}, λ the half log-SNR: any smooth density of steps.

    s is the cubic spline (not-a-knot) through ``warp``, at knots equidistant in λ from ``horizon`` to ``early_stop``.
    It is linear in ``warp`` and, with up to four knots, the polynomial through them, so that what fewer knots can do
    more can do too. A common constant in ``warp`` changes nothing: with all zeros the grid is uniform in log-SNR.

    Parameters
    ----------
    horizon, early_stop, steps : as in :func:`exponential`.
    warp : (m,) logarithms of the density of steps in λ at m ≥ 1 knots, the first at ``horizon``.

    Returns
    -------
    (steps + 1,) decreasing forward times.

    Raises
    ------
    ValueError
        As in :func:`exponential`; also if ``warp`` is empty, not finite or spans more than 100, or if two times are the
        same in double precision.
    """
    start, stop, count = _check_span(horizon, early_stop, steps)
    values = _check.finite_array("warp", warp, dimensions=(1,))
    if np.ptp(values) > _WIDEST_WARP:
        raise ValueError(f"warp must span at most {_WIDEST_WARP:g}; got {values.min()} to {values.max()}")
    first, last = half_log_snr(np.array([start, stop]))
    cells = np.linspace(first, last, _CELLS * max(len(values) - 1, 1) + 1)
    spline = CubicSpline(np.linspace(first, last, len(values)), values) if len(values) > 1 else np.zeros_like
    highest = spline(cells).max()

    def speed(place: Array) -> Array:
        return np.exp(spline(place) - highest)

    def gained(place: Array, width: Array) -> Array:  # the clock from ``place`` to ``place + width``, by Gauss's rule
        half = 0.5 * width[:, None]
        return half[:, 0] * (speed(place[:, None] + half * (1.0 + _NODES)) @ _WEIGHTS)

    widths = np.diff(cells)
    clock = np.append(0.0, np.cumsum(gained(cells[:-1], widths)))
    phase = np.linspace(0.0, clock[-1], count + 1)[1:-1]
    cell = np.searchsorted(clock, phase, side="right") - 1
    inside = widths[cell] * (phase - clock[cell]) / (clock[cell + 1] - clock[cell])
    for _ in range(5):  # Newton's method; s is nearly linear in a cell
        inside -= (clock[cell] + gained(cells[cell], inside) - phase) / speed(cells[cell] + inside)
    between = 0.5 * np.logaddexp(0.0, -2.0 * (cells[cell] + inside))
    return check_times(np.concatenate([[start], between, [stop]]), name="times of this warp")


def half_log_snr(times: ArrayLike) -> Array:
    """λ(τ) = log(e^{−τ}/√(1 − e^{−2τ})) = −½ log(e^{2τ} − 1), half the log signal-to-noise ratio at each time."""
    values = np.asarray(times, dtype=np.float64)
    # In the form that neither overflows for large τ nor loses digits for small τ.
    return np.asarray(-values - 0.5 * np.log(-np.expm1(-2.0 * values)))


def betas_from_times(times: ArrayLike) -> Array:
    """DDPM's β of each step, β = 1 − α = 1 − e^{−2h}, in DDPM's order (smallest noise first).

    Parameters
    ----------
    times : (K+1,) decreasing forward times.

    Returns
    -------
    (K,) values in (0, 1); ``betas[0]`` belongs to the last step of the sampler.
    """
    grid = check_times(times)
    return -np.expm1(-2.0 * (grid[:-1] - grid[1:]))[::-1]


def times_from_betas(betas: ArrayLike, early_stop: float) -> Array:
    """Forward times of a DDPM β-schedule, by h = −½ log(1−β); inverse of :func:`betas_from_times`.

    Parameters
    ----------
    betas : (K,) values in (0, 1), in DDPM's order (smallest noise first).
    early_stop : float
        Forward time δ > 0 at which the sampler stops.

    Returns
    -------
    (K+1,) decreasing forward times ending at ``early_stop``.

    Raises
    ------
    ValueError
        If a β lies outside (0, 1) or early_stop ≤ 0.
    """
    beta = _check.finite_array("betas", betas, dimensions=(1,))
    stop = _check.number("early_stop", early_stop, above=0.0)
    outside = (beta <= 0.0) | (beta >= 1.0)
    if outside.any():
        where = int(np.argmax(outside))
        raise ValueError(f"betas must lie strictly between 0 and 1; got {beta[where]} at index {where}")
    return (stop + np.concatenate([[0.0], np.cumsum(-0.5 * np.log1p(-beta))]))[::-1].copy()


def refined(times: ArrayLike, factor: int) -> Array:
    """Split each step of a grid into ``factor`` parts of equal length in forward time.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    factor : int
        Number of parts ≥ 1; with 1 the result is the grid itself.

    Returns
    -------
    (factor K + 1,) decreasing forward times; every ``factor``-th is an entry of ``times``, to the last bit.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, factor < 1, or a step is too short to be split.
    """
    grid = check_times(times)
    parts = _check.integer("factor", factor, at_least=1)
    h = grid[:-1] - grid[1:]
    inner = grid[:-1, None] - h[:, None] * (np.arange(parts) / parts)
    return check_times(np.append(inner, grid[-1]), name="refined times")


def check_times(times: ArrayLike, name: str = "times") -> Array:
    """Return ``times`` as a read-only float64 array, or raise if it is not a decreasing grid of positive times.

    ``name`` is what the messages call the argument.

    Raises
    ------
    ValueError
        If there are fewer than two times, or one is not finite, not positive or not below its predecessor.
    """
    grid = _check.finite_array(name, times, dimensions=(1,))
    if len(grid) < 2:
        raise ValueError(f"{name} must hold at least 2 forward times (1 step); got {len(grid)}")
    if grid[-1] <= 0.0 or grid.min() <= 0.0:
        raise ValueError(f"{name} must be positive; got {grid.min()}")
    rising = np.flatnonzero(np.diff(grid) >= 0.0)
    if rising.size:
        k = int(rising[0])
        raise ValueError(
            f"{name} must be strictly decreasing; got {name}[{k}] = {grid[k]}, {name}[{k + 1}] = {grid[k + 1]}"
        )
    return grid


def _uniform_in_clock(
    horizon: float,
    early_stop: float,
    steps: int,
    clock: Callable[[float], Any],
    inverse: Callable[[Array], Array],
) -> Array:
    start, stop, count = _check_span(horizon, early_stop, steps)
    times = np.array(inverse(np.linspace(clock(start), clock(stop), count + 1)))
    times[0], times[-1] = start, stop
    return check_times(times)


def _check_span(horizon: float, early_stop: float, steps: int) -> tuple[float, float, int]:
    """Return T, δ and K, or raise."""
    stop = _check.number("early_stop", early_stop, above=0.0)
    start = _check.number("horizon", horizon)
    if start <= stop:
        raise ValueError(f"horizon must be greater than early_stop = {stop!r}; got {horizon!r}")
    return start, stop, _check.integer("steps", steps, at_least=1)


def _smaller_root(curvature: float, level: float) -> float:
    """Positive root of ``curvature`` s² + s = ``level``."""
    return 2.0 * level / (1.0 + np.sqrt(1.0 + 4.0 * curvature * level))
