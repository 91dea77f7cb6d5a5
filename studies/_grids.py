"""Time grids by name, the exact KL on any of them, and how densely they step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from srkverify import schedules, schemes
from srkverify._check import Array
from srkverify.divergence import Divergence, block_kl
from srkverify.divergence.reduction import Block

# Functions of (horizon, early stop, steps).
GRIDS: dict[str, Callable[..., Array]] = {
    "exponential": schedules.exponential,
    "uniform": schedules.uniform,
    "cosine": schedules.cosine,
    "linear_beta": schedules.linear_beta,
    "log_snr": partial(schedules.warped, warp=(0.0,)),
}


def kl_on(
    times: Array, blocks: Sequence[Block], scheme: str, relative: float = 5e-3, most_work: float = 2e7
) -> Divergence:
    """Exact KL in nats of a scheme on a grid, from the exact start; infinite where the sampler is unstable."""
    tableau = schemes.scheme(scheme)(times)
    try:
        parts = [block_kl(block, tableau, absolute=0.0, relative=relative, most_work=most_work) for block in blocks]
    except ValueError as problem:
        if str(problem).startswith("steps:"):  # the engine's word for a density that has blown up
            return Divergence(np.inf, 0.0, "unstable")
        raise
    value, error = sum(part.value for part in parts), sum(part.error for part in parts)
    if not np.isfinite(value):
        return Divergence(np.inf, 0.0, "unstable")
    return Divergence(value, error, "+".join(sorted({part.method for part in parts})))


def step_density(times: Array, points: int) -> tuple[Array, Array]:
    """Share of the steps per unit of half log-SNR, of a fine grid, at ``points`` places even in that."""
    places = schedules.half_log_snr(times)
    share = np.log(1.0 / (len(times) - 1) / np.diff(places))
    even = np.linspace(places[0], places[-1], points)
    return even, np.exp(np.interp(even, 0.5 * (places[1:] + places[:-1]), share))
