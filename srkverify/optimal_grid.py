"""The grid of least KL in a low-dimensional family: how much the choice of the time grid can gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

from srkverify import _check, schedules
from srkverify._check import Array

# Radii of the trust region, in units of which one changes the logarithm of the step density by 1 (root mean square).
# Near its minimum log KL is quadratic with a curvature of order 1: what is left to gain within _LAST is a thousandth.
_FIRST, _LAST = 1.0, 0.05
_NESTED = 4  # knots up to which the spline is a polynomial
_DESCENTS = 2  # from the best starts
_BAD = 10.0  # log KL of a grid on which KL is infinite, above that of the best grid known
_STARTS = ("log_snr", "exponential", "uniform", "cosine", "linear_beta")
_SAMPLES = 2000  # steps of a named grid from which its density is read


@dataclass(frozen=True, eq=False)
class OptimalGrid:
    """The best grid that was found.

    Attributes
    ----------
    times : (K+1,) decreasing forward times.
    warp : (m,) from which :func:`srkverify.schedules.warped` makes them; its mean is 0.
    value : float
        KL on it, in nats.
    start : str
        The best start: "log_snr", or the named grid whose step density it mimics.
    start_value : float
        KL on that start, in nats; never less than ``value``.
    evaluations : int
        How often ``kl`` was called.
    """

    times: Array
    warp: Array
    value: float
    start: str
    start_value: float
    evaluations: int


def optimal_grid(
    kl: Callable[[Array], float],
    horizon: float,
    early_stop: float,
    steps: int,
    parameters: int = 4,
    most_evaluations: int = 250,
) -> OptimalGrid:
    """Minimise KL over the grids of :func:`srkverify.schedules.warped`.

    log KL is minimised by a trust-region method with quadratic models (COBYQA): first with two knots, from there with
    three, from there with four, and from there with all, if more. As leading errors of a scheme may cancel and KL then
    has several minima, with two and with four knots it descends from the two best starts as well: the uniform grid in
    log-SNR and the nearest that the family has to the named grids. The best grid of all is the result, so that up to
    four knots, and from those to any larger number, more of them never give a larger KL. No minimum is guaranteed to be
    global: where errors cancel, as those of ``srk`` and ``dpmpp_2m_sde`` do, another may be lower by a fifth.

    Parameters
    ----------
    kl : function of (K+1,) times
        KL in nats of the sampler on that grid, good to a thousandth or so. Where it is infinite, NaN or raises
        ``ValueError`` (as an unstable sampler does), the grid counts as very bad.
    horizon, early_stop : float
        Forward times T > δ > 0.
    steps : int
        Number of steps K ≥ 1.
    parameters : int
        Number m ≥ 1 of knots of the warp; a common constant being irrelevant, m − 1 are free.
    most_evaluations : int
        Calls of ``kl`` that may be spent, at least 5. Four parameters take some 130.

    Raises
    ------
    ValueError
        If an argument is out of range, or KL is infinite on all starts.

    Examples
    --------
    >>> import srkverify as sv
    >>> from srkverify.optimal_grid import optimal_grid
    >>> target = sv.GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 0.01]])
    >>> best = optimal_grid(lambda times: sv.kl(target, sv.schemes.ddpm(times)).value, 6.0, 0.01, 16)
    >>> best.value < sv.kl(target, sv.schemes.ddpm(sv.schedules.exponential(6.0, 0.01, 16))).value
    True
    """
    knots = _check.integer("parameters", parameters, at_least=1)
    most = _check.integer("most_evaluations", most_evaluations, at_least=len(_STARTS))
    schedules.warped(horizon, early_stop, steps, np.zeros(knots))  # raises if these make no grid
    search = _Search(lambda warp: kl(schedules.warped(horizon, early_stop, steps, warp)), most)
    first, *ladder = sorted({*range(2, min(knots, _NESTED + 1)), knots})
    starts = _ranked_starts(search, horizon, early_stop, first)
    start, start_value = starts[0][0], search.value
    try:
        for _, begin in starts[:_DESCENTS]:
            search.descend(begin)
        for stage in ladder:
            search.descend(_resampled(search.warp, stage))
            if stage == _NESTED:
                for _, begin in _ranked_starts(search, horizon, early_stop, stage)[:_DESCENTS]:
                    search.descend(begin)
    except _SpentError:
        pass
    warp = _resampled(search.warp, knots)
    warp -= warp.mean()
    times = schedules.warped(horizon, early_stop, steps, warp)
    return OptimalGrid(times, warp, search.value, start, start_value, search.evaluations)


class _SpentError(Exception):
    """No evaluation is left."""


class _Search:
    """log KL of a warp, for descents that share what they find: the best warp, and how often KL was evaluated."""

    def __init__(self, kl: Callable[[Array], float], most: int) -> None:
        self.kl, self.most = kl, most
        self.evaluations, self.value, self.warp = 0, np.inf, np.zeros(1)
        self.worst = np.inf

    def __call__(self, warp: Array) -> float:
        """Return log KL, at most ``worst``."""
        if self.evaluations == self.most:
            raise _SpentError
        self.evaluations += 1
        try:
            value = float(self.kl(warp))
        except ValueError:
            value = np.inf
        if value < self.value:
            self.value, self.warp = value, warp
        return min(float(np.log(max(value, 1e-300))), self.worst) if value < np.inf else self.worst

    def descend(self, begin: Array) -> None:
        """Minimise from a warp on."""
        if len(begin) == 1:
            return
        directions = _directions(len(begin))
        self.worst = float(np.log(max(self.value, 1e-300))) + _BAD
        minimize(
            lambda x: self(begin + directions @ x),
            np.zeros(len(begin) - 1),
            method="COBYQA",
            options={"initial_tr_radius": _FIRST, "final_tr_radius": _LAST},
        )


def _ranked_starts(search: _Search, horizon: float, early_stop: float, knots: int) -> list[tuple[str, Array]]:
    """Return the starts and their names, that of least KL first."""
    names = _STARTS if knots > 1 else _STARTS[:1]
    warps = {name: _mimic(name, horizon, early_stop, knots) for name in names}
    values = {name: search(warp) for name, warp in warps.items()}
    if not search.value < np.inf:
        raise ValueError(f"kl must be finite on a start, one of {', '.join(names)}; got infinity on all of them")
    return sorted(warps.items(), key=lambda item: values[item[0]])


def _mimic(name: str, horizon: float, early_stop: float, knots: int) -> Array:
    """Return the warp whose step density is nearest to that of a named grid, by least squares in its logarithm."""
    if name == "log_snr":
        return np.zeros(knots)
    places = schedules.half_log_snr(getattr(schedules, name)(horizon, early_stop, _SAMPLES))
    first, last = places[0], places[-1]
    even = np.linspace(first, last, 16 * knots)
    density = np.interp(even, 0.5 * (places[1:] + places[:-1]), -np.log(np.diff(places)))
    splines = CubicSpline(np.linspace(first, last, knots), np.eye(knots))(even)
    return np.asarray(np.linalg.lstsq(splines, density - density.mean(), rcond=None)[0])


def _resampled(warp: Array, knots: int) -> Array:
    """Return ``warp`` at another number of knots; the same function of λ, if that has at least as many and four."""
    if len(warp) in (1, knots):
        return np.resize(warp, knots)
    return np.asarray(CubicSpline(np.linspace(0.0, 1.0, len(warp)), warp)(np.linspace(0.0, 1.0, knots)))


def _directions(knots: int) -> Array:
    """(m, m − 1) orthogonal polynomials on the knots but the constant: slope, curvature, …, of root mean square 1."""
    powers = np.vander(np.linspace(-1.0, 1.0, knots), increasing=True)
    return np.asarray(np.linalg.qr(powers)[0][:, 1:] * np.sqrt(knots))
