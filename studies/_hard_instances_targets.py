"""Where the search for hard instances looks: single directions by their parameters, and families by powers of d."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from scipy.interpolate import PchipInterpolator

from srkverify import schedules
from srkverify._check import Array
from srkverify.divergence.reduction import Block, GaussianBlock, MixtureBlock
from srkverify.engines.mixture1d import Mixture1D
from studies._grids import kl_on

_LOG_WEIGHT = log(0.01), log(0.5)
_LOG_MEAN, _LOG_VARIANCE = (log(0.1), log(4.0)), (log(1e-4), log(4.0))

# Bounds of each parameter. Means are ∓m; a third component lies between them.
SHAPES: dict[str, list[tuple[float, float]]] = {
    "gaussian": [_LOG_VARIANCE],
    "two": [_LOG_WEIGHT, _LOG_MEAN, _LOG_VARIANCE, _LOG_VARIANCE],
    "three": [_LOG_WEIGHT, _LOG_MEAN, _LOG_VARIANCE, _LOG_VARIANCE, _LOG_WEIGHT, (-0.9, 0.9), _LOG_VARIANCE],
}
# Slopes and bends of log step density in half log-SNR, from the first to the last time, of the grids compared.
_WARPS = ((-1.0, 1.0), (1.0, -1.0), (-0.5, 0.5, -0.5))
_MORE = 4
_FIRST = 10.0  # the dimension in which a family has the parameters v0, m0, w0 and δ0


def one_direction(shape: str, place: Sequence[float]) -> Block:
    """Return the direction with these parameters, from within the bounds of its shape."""
    if shape == "gaussian":
        return GaussianBlock(np.exp(np.asarray(place[:1])), np.zeros(1), np.ones(1))
    weight, mean, first, second = (exp(value) for value in place[:4])
    parts = [(weight, -mean, first), (1.0 - weight, mean, second)]
    if shape == "three":
        third, variance = exp(place[4]), exp(place[6])
        parts = [((1.0 - third) * w, m, v) for w, m, v in parts] + [(third, place[5] * mean, variance)]
    return _mixture(parts)


def described(block: Block) -> str:
    """Return a direction as one writes it."""
    if isinstance(block, GaussianBlock):
        return f"N(0, {block.variances[0]:.3g})"
    law = block.mixture
    parts = zip(law.weights, law.means, law.variances, strict=True)
    return " + ".join(f"{w:.3g} N({m:.3g}, {v:.3g})" for w, m, v in parts)


def best_grid(
    blocks: Sequence[Block], scheme: str, horizon: float, stop: float, steps: int, relative: float
) -> tuple[Array, float]:
    """Return the best of the exponential grid and some warped ones, and its :func:`robust_kl`."""
    grids = [schedules.exponential(horizon, stop, steps)]
    grids += [schedules.warped(horizon, stop, steps, warp) for warp in _WARPS]
    values = [robust_kl(times, blocks, scheme, relative) for times in grids]
    best = int(np.argmin(values))
    return grids[best], values[best]


def robust_kl(times: Array, blocks: Sequence[Block], scheme: str, relative: float) -> float:
    """KL on a grid, or what KL on the same shape with four times the steps makes one expect, if that is more.

    At one K the error may pass through zero, and a search for the best grid would find that.
    """
    here = kl_on(times, blocks, scheme, relative).value
    there = kl_on(resampled(times, _MORE * (len(times) - 1)), blocks, scheme, relative).value
    return max(here, _MORE**2 * there)


def resampled(times: Array, steps: int) -> Array:
    """Return a grid of the same shape with another number of steps: λ interpolated in the index of the step."""
    places = PchipInterpolator(np.linspace(0.0, 1.0, len(times)), schedules.half_log_snr(times))
    between = places(np.linspace(0.0, 1.0, steps + 1)[1:-1])
    return schedules.check_times(np.concatenate([times[:1], 0.5 * np.logaddexp(0.0, -2.0 * between), times[-1:]]))


@dataclass(frozen=True)
class Family:
    """Copies of w N(−m, v) + (1 − w) N(m, v) in dimension d, with powers of d/10 for parameters.

    Attributes
    ----------
    variance, mean, weight, stop : v0, m0, w0 and δ0, in d = 10.
    variance_power, mean_power, weight_power, stop_power : a, b, c and e: v = v0 (d/10)^−a, m = m0 (d/10)^b,
        w = w0 (d/10)^−c, δ = δ0 (d/10)^−e.
    """

    variance: float
    mean: float
    weight: float
    stop: float
    variance_power: float
    mean_power: float
    weight_power: float
    stop_power: float

    def at(self, dimension: int) -> tuple[Block, float, float]:
        """Return one direction in dimension d, the horizon and the early stop."""
        scale = dimension / _FIRST
        mean = self.mean * scale**self.mean_power
        weight = self.weight * scale**-self.weight_power
        variance = self.variance * scale**-self.variance_power
        block = _mixture([(weight, -mean, variance), (1.0 - weight, mean, variance)])
        # Means shrink to the same size at the horizon, whatever d is.
        return block, 6.0 + self.mean_power * log(scale), self.stop * scale**-self.stop_power

    @property
    def described(self) -> str:
        """The family as one writes it, with D for d/10."""
        return (
            f"w = {self.weight:.2g} D^-{self.weight_power:.2f}, m = {self.mean:.2g} D^{self.mean_power:.2f}, "
            f"v = {self.variance:.2g} D^-{self.variance_power:.2f}, δ = {self.stop:.2g} D^-{self.stop_power:.2f}"
        )


def family_bounds() -> list[tuple[float, float]]:
    """Return the bounds of a family's parameters, as :func:`family_of` takes them.

    Powers up to v ~ d^−2, m ~ d^½ (the separation is then of order d), w ~ 1/d and δ ~ 1/d: second moments and 1/δ are
    polynomial in d, as the theorem asks.
    """
    sizes = [(log(1e-3), log(1.0)), (log(0.3), log(4.0)), _LOG_WEIGHT, (log(1e-3), log(0.1))]
    return [*sizes, (0.0, 2.0), (0.0, 0.5), (0.0, 1.0), (0.0, 1.0)]


def family_of(place: Sequence[float]) -> Family:
    """Return the family with these parameters."""
    sizes, powers = [exp(value) for value in place[:4]], [float(value) for value in place[4:]]
    return Family(*sizes, *powers)


def _mixture(parts: Sequence[tuple[float, float, float]]) -> MixtureBlock:
    weights, means, variances = (np.array(column) for column in zip(*parts, strict=True))
    return MixtureBlock(Mixture1D(weights, means, variances), 1)
