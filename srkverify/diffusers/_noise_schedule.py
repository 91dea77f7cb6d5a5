"""β-schedules as forward times, t = −½ log ᾱ, in double precision; training steps between the trained ones."""

from __future__ import annotations

from itertools import pairwise
from math import cos, pi

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
SPACINGS = ("leading", "trailing", "linspace")
_LARGEST_BETA = 0.999  # of the cosine schedule, as diffusers caps it


def training_times(
    count: int, start: float, end: float, schedule: str, trained_betas: ArrayLike | None = None
) -> Array:
    """Return the (count,) forward times of the training steps 0, 1, …, increasing."""
    if trained_betas is not None:
        betas = _check.finite_array("trained_betas", trained_betas, dimensions=(1,))
        if len(betas) != count:
            raise ValueError(f"trained_betas must be num_train_timesteps = {count} numbers; got {len(betas)}")
    elif _check.choice("beta_schedule", schedule, BETA_SCHEDULES) == "linear":
        betas = np.linspace(start, end, count)
    elif schedule == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, count) ** 2
    else:
        level = [cos((k / count + 0.008) / 1.008 * pi / 2) ** 2 for k in range(count + 1)]
        betas = np.array([min(1.0 - later / now, _LARGEST_BETA) for now, later in pairwise(level)])
    if betas.min() <= 0.0 or betas.max() >= 1.0:
        name = "trained_betas" if trained_betas is not None else "beta_start and beta_end"
        raise ValueError(f"{name} must give betas strictly between 0 and 1; got {betas.min()} to {betas.max()}")
    return np.asarray(np.cumsum(-0.5 * np.log1p(-betas)))


def spaced(training: int, steps: int, spacing: str, offset: int) -> Array:
    """Return ``steps`` decreasing training steps as :class:`diffusers.DDPMScheduler` chooses them."""
    count = _check.integer("num_inference_steps", steps, at_least=1, below=training + 1)
    if spacing == "linspace":
        return np.linspace(0, training - 1, count).round()[::-1].copy()
    if spacing == "leading":
        chosen = (np.arange(count) * (training // count)).round()[::-1].astype(np.float64) + offset
    else:
        chosen = np.round(np.arange(training, 0, -training / count)) - 1.0
    if chosen[0] > training - 1:
        raise ValueError(
            f"steps_offset must leave the first of {count} timesteps below num_train_timesteps = {training}; "
            f"got {offset}, which makes it {chosen[0]:g}"
        )
    return chosen


def steps_at(times: ArrayLike, training: Array) -> Array:
    """Return the training steps at forward times: log ᾱ is linear between one and the next; whole if near."""
    found = np.interp(np.asarray(times), training, np.arange(len(training), dtype=np.float64))
    whole = np.round(found)
    return np.where(np.abs(found - whole) < 1e-9 * len(training), whole, found)


def times_at(steps: ArrayLike, training: Array) -> Array:
    """Return the forward times at training steps, whole or not; inverse of :func:`steps_at`."""
    return np.interp(np.asarray(steps, dtype=np.float64), np.arange(len(training), dtype=np.float64), training)
