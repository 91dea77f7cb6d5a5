"""Calls of a scheduler of diffusers with chosen points, scores and noises, and the coefficients of what it returns."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch

from srkverify._check import Array
from srkverify.score import to_prediction

_PER_CALL = 2  # noises that a call may draw
_NEGLIGIBLE = 1e-12  # of the largest coefficient: what rounding leaves where there is none
_PATCHING = threading.Lock()


def times_of_calls(scheduler: Any) -> Array:
    """Return the forward times of a scheduler's calls, and where the last one leads (0 at ᾱ = 1)."""
    count, levels = len(scheduler.timesteps), getattr(scheduler, "sigmas", None)
    if levels is not None and len(levels) == count + 1:
        return np.asarray(0.5 * np.log1p(np.asarray(levels.double().cpu().tolist()) ** 2))
    signal = np.asarray(scheduler.alphas_cumprod.double().cpu().tolist())
    steps = np.asarray([int(step) for step in scheduler.timesteps])
    last = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    return np.asarray(-0.5 * np.log(np.append(signal[steps], last)))


@contextmanager
def noise_from(scheduler: Any, source: Callable[[], Array]) -> Iterator[None]:
    """Let a scheduler take its noise from ``source``, (n,) numbers at a time, not from diffusers' ``randn_tensor``."""

    def given(shape: Any, generator: Any = None, device: Any = None, dtype: Any = None, **_: Any) -> torch.Tensor:
        return torch.tensor(source(), dtype=dtype).reshape(tuple(shape))

    modules = {sys.modules[kind.__module__] for kind in type(scheduler).__mro__}
    with _PATCHING:
        patches = [mock.patch.object(each, "randn_tensor", given) for each in modules if hasattr(each, "randn_tensor")]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


class Driver:
    """Calls a scheduler with points and scores in the coordinates of the preserving process, (n,) arrays."""

    def __init__(self, scheduler: Any, options: dict[str, Any]) -> None:
        self.scheduler, self.options, self.times = scheduler, options, times_of_calls(scheduler)
        self.calls = len(scheduler.timesteps)
        self._kind, self._scaled = scheduler.config.prediction_type, False

    def call(self, index: int, point: Array, score: Array) -> Array:
        """Make the scheduler's next call, whose model was evaluated at ``point``; return the next point."""
        timestep, time = self.scheduler.timesteps[index], self.times[index]
        one = self.scheduler.scale_model_input(torch.ones((1, 1, 1), dtype=torch.float64), timestep)
        self._scaled = self._scaled or abs(float(one) - 1.0) > 1e-9  # images of the exploding process
        output = torch.tensor(to_prediction(self._kind, score, point, time)).reshape(1, 1, -1)
        image = torch.tensor(self._scale(time) * point).reshape(1, 1, -1)
        found = self.scheduler.step(output, timestep, image, **self.options).prev_sample
        return self._array(found, self.times[index + 1])

    def kept(self, index: int) -> Array | None:
        """Return the state that the scheduler keeps for its next call; None if it keeps none."""
        state = getattr(self.scheduler, "last_sample", None)
        return self._array(state, self.times[index]) if isinstance(state, torch.Tensor) else None

    def keep(self, index: int, state: Array) -> None:
        """Replace the state that the scheduler keeps."""
        self.scheduler.last_sample = torch.tensor(self._scale(self.times[index]) * state).reshape(1, 1, -1)

    def _array(self, image: torch.Tensor, time: float) -> Array:
        return np.asarray(image.detach().double().reshape(-1).tolist()) / self._scale(time)

    def _scale(self, time: float) -> float:
        return float(np.exp(time)) if self._scaled else 1.0


@dataclass(frozen=True, eq=False)
class Form:
    """Coefficients on the calls' points, (calls,), scores, (calls,), noises, (calls, M), and kept states, (calls,)."""

    points: Array
    scores: Array
    kept: Array
    noise: Array

    def plus(self, factor: float, other: Form) -> Form:
        """Return this form plus ``factor`` times another."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Form(*(mine + factor * theirs for mine, theirs in pairs))

    def only(self, noises_of: int) -> Form:
        """Return this form, if it has no noise but that of one call, to single precision; raise otherwise."""
        rest = np.abs(np.delete(self.noise, noises_of, axis=0)).max(initial=0.0)
        if rest > 1e-5:
            raise ValueError(
                f"scheduler must use one step's noise at a time, from randn_tensor; got another's, times {rest:g}"
            )
        return self


def probe(scheduler: Any, options: dict[str, Any]) -> tuple[list[Form], list[Form]]:
    """Return what each call returns, and the state that it keeps (or nothing), by calls with unit vectors.

    Every point, score and noise has a coordinate of its own, and so has every kept state: a call's result is in terms
    of what the scheduler was given or has remembered, not of how that had come about.
    """
    drive = Driver(scheduler, options)
    calls = drive.calls
    drawn: list[int] = []

    def unit(kind: int, index: int) -> Array:
        vector = np.zeros((3 + _PER_CALL) * calls)
        vector[kind * calls + index] = 1.0
        return vector

    def noise() -> Array:
        drawn.append(len(drawn))
        if len(drawn) > _PER_CALL:
            raise ValueError(f"scheduler must draw at most {_PER_CALL} noises in a call; got more in call {index}")
        return unit(2 + len(drawn), index)

    def form(vector: Array) -> Form:
        vector = np.where(np.abs(vector) > _NEGLIGIBLE * np.abs(vector).max(), vector, 0.0).reshape(-1, calls)
        return Form(vector[0], vector[1], vector[2], vector[3:].T)

    returned, kept = [], []
    with noise_from(scheduler, noise):
        for index in range(calls):
            drawn.clear()
            returned.append(form(drive.call(index, unit(0, index), unit(1, index))))
            state = drive.kept(index)
            if state is not None:
                kept.append(form(state))
                drive.keep(index, unit(2, index))
    return returned, kept
