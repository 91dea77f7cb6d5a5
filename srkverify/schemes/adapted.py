"""SRK whose stage noise knows what scores do near a low-dimensional law, so that point masses cost nothing.

Along the reverse process d(e^r s_r) = √2 e^r ∇s_r dB_r. Martingale weights freeze ∇s over a step. On a coordinate of
variance 0, however, ∇s_t = −1/σ_t² with σ_t² = 1 − e^{−2t}, so what is constant there is σ_t² ∇s. Freezing that instead
multiplies the kernel of the stage noise, and nothing else, by σ_τ²/σ_{τ−u}²:

    (1 − e^{−2h}) g = √2 ∫_0^h (e^{−u} − e^{u−2h}) σ_τ²/σ_{τ−u}² dB_u.

On the point mass the output's noise w − (e^h − e^{−h}) g/σ_τ² then is the exact one, of the posterior variance
(1 − e^{−2h}) σ_{τ−h}²/σ_τ², and so is the mean, whose weights are DDPM's: the sampler is exact there in any number of
steps. To first order in h the factor is 1, so that nothing is lost elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify._check import Array
from srkverify.schedules import check_times
from srkverify.tableau import Row, Tableau, assemble

_NODES = 64  # of Gauss–Legendre in log(e^{2t} − 1): exact to rounding even for one step from t = 12 to 1e-4


def srk_adapted(times: ArrayLike) -> Tableau:
    """SRK with martingale weights and the stage noise above; one evaluation a step.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times.

    Notes
    -----
    Not published elsewhere; what it does is in docs/studies/low_dimension.md.
    """
    grid = check_times(times)
    h = grid[:-1] - grid[1:]
    return assemble(
        "srk_adapted",
        grid,
        [Row(state=1.0, noise=adapted_noise(grid), time=grid[:-1])],
        Row(state=np.exp(h), scores=[2.0 * np.sinh(h)], noise=[np.sqrt(np.expm1(2.0 * h))]),
    )


def srk_third_point_adapted(times: ArrayLike) -> Tableau:
    """Third-point SRK with the stage noise above; two evaluations a step.

    The point U at time τ − θh has the noise g' = e^{−θh} (σ_{τ−θh}²/σ_τ²) g, with which point masses are exact, and
    Var g' is the posterior variance (1 − e^{−2θh}) σ_{τ−θh}²/σ_τ² if e^{2θh} = 1 + V/(1 + e^{−2τ} V/σ_τ²), V = Var g:
    U is where the reverse process on a point mass is. Parameters and errors as in :func:`srk_adapted`.
    """
    grid = check_times(times)
    h = grid[:-1] - grid[1:]
    along, across = adapted_noise(grid)
    variance, marginal = along**2 + across**2, _marginal(grid[:-1])
    advance = 0.5 * np.log1p(variance / (1.0 + np.exp(-2.0 * grid[:-1]) * variance / marginal))  # θh
    shrink = np.exp(-advance) * _marginal(grid[:-1] - advance) / marginal
    predictor = Row(state=1.0, time=grid[:-1])
    point = Row(
        state=np.exp(advance),
        scores=[2.0 * np.sinh(advance)],
        noise=[shrink * along, shrink * across],
        time=grid[:-1] - advance,
    )
    output = Row(state=np.exp(h), scores=[0.0, 2.0 * np.sinh(h) * np.exp(advance)], noise=[np.sqrt(np.expm1(2.0 * h))])
    return assemble("srk_third_point_adapted", grid, [predictor, point], output)


def adapted_noise(grid: Array) -> tuple[Array, Array]:
    """Return the coefficients (K,) of ξ_0 and ξ_1 in g on a grid of times (K+1,), w being √(e^{2h} − 1) ξ_0."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    begin, end = grid[:-1, None], grid[1:, None]
    h = begin - end
    length = np.log1p(np.exp(2.0 * end) * np.expm1(2.0 * h) / np.expm1(2.0 * end))  # of the step, in log(e^{2t} − 1)
    place = 0.5 * length * (nodes + 1.0)
    left = _marginal(end) * np.expm1(place)  # e^{2(t − τ + h)} − 1: never a difference of times, which loses digits
    time = end + 0.5 * np.log1p(left)
    measure = 0.25 * length * weights * _marginal(time)  # du
    decay = np.exp(time - begin)  # e^{−u}
    seen = np.sqrt(2.0) * decay * left / (1.0 + left) / _marginal(h)
    seen *= _marginal(begin) / _marginal(time)
    normal = np.sqrt(2.0) * decay * np.exp(h) / np.sqrt(np.expm1(2.0 * h))  # the kernel of ξ_0 = w/√(Var w)
    along = (seen * normal * measure).sum(axis=1)
    rest = seen - along[:, None] * normal  # subtracted before it is squared, so that small steps keep their digits
    return along, np.sqrt((rest**2 * measure).sum(axis=1))


def _marginal(time: Array) -> Array:
    return -np.expm1(-2.0 * time)
