"""A tableau carried out evaluation by evaluation, whoever evaluates: the plain reading of its rows, on any arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from srkverify._check import Array
from srkverify.engines.callable import noises_used, row
from srkverify.tableau import Tableau

# Arrays of NumPy or tensors: whatever is added, and multiplied by a float.
Image = Any
Draw = Callable[[], Image]


def started_at_state(tableau: Tableau) -> Tableau:
    """Return the tableau whose very first evaluation is at the state itself: what a run that begins with a state needs.

    The stage noise of that one evaluation is left out. A tableau that has none there is returned as it is.

    Raises
    ------
    ValueError
        If the first evaluation is not at the state, at the first time, even without noise.
    """
    stage = first_evaluation(tableau)
    if stage is None or tableau.stage_state[0, stage] != 1.0 or tableau.stage_times[0, stage] != tableau.times[0]:
        raise ValueError(
            f"tableau must evaluate at the state first, at the first time, but for noise; {tableau.name} does not"
        )
    if not tableau.stage_noise[0, stage].any():
        return tableau
    noise = tableau.stage_noise.copy()
    noise[0, stage] = 0.0
    return replace(tableau, name=f"{tableau.name}_started", stage_noise=noise)


def first_evaluation(tableau: Tableau) -> int | None:
    """Return the stage of the first step that is evaluated first; None if none is."""
    stages = np.flatnonzero(tableau.evaluated[0])
    return int(stages[0]) if len(stages) else None


class Run:
    """One run of a tableau, which hands out the points to evaluate one by one and ends with the output.

    The first point is the state itself (:func:`started_at_state`). With ``denoised`` a last evaluation, at the output
    Y, turns it into the denoiser's value e^τ (Y + σ_τ² s(Y)) at its time τ, the mean of the clean image given Y.
    """

    def __init__(self, tableau: Tableau, state: Image, denoised: bool) -> None:
        self.tableau, self.state, self._denoised = tableau, state, denoised
        self._order = np.argwhere(tableau.evaluated)  # (step, stage) of each evaluation, in their order
        self._next = self._step = 0  # of the evaluations; of the steps, the one that the state is at the beginning of
        self._scores: dict[int, Image] = {}  # of this step
        self._made: list[tuple[Image, Image]] = []  # this step's evaluations
        self._past: list[tuple[Image, Image]] = []  # earlier steps', the latest first
        self._noise: list[Image] = []

    def shift(self, change: Image) -> None:
        """Move the state so that the point handed out last moves by ``change``."""
        factor = 1.0
        if self._next < len(self._order):
            step, stage = self._order[self._next]
            factor = float(self.tableau.stage_state[step, stage])
        if factor != 0.0:
            self.state = self.state + (1.0 / factor) * change

    def advance(self, point: Image, score: Image, draw: Draw) -> Image:
        """Take the score at the point handed out last; return the next point, or the output after the last one."""
        table = self.tableau
        if self._next == len(self._order):  # the denoiser's evaluation
            time = float(table.times[-1])
            return float(np.exp(time)) * point + float(2.0 * np.sinh(time)) * score
        stage = int(self._order[self._next, 1])
        self._scores[stage] = score
        self._made.append((point, score))
        self._next += 1
        done = self._next == len(self._order)
        target = table.steps if done else int(self._order[self._next, 0])
        while self._step < target:
            self._finish(draw)
        if done:
            return self.state
        k, i = self._order[self._next]
        return row(
            float(table.stage_state[k, i]) * self.state,
            (table.stage_scores[k, i], self._scores),
            (table.stage_noise[k, i], self._noises(table.stage_noise[k, i], draw)),
            (table.stage_past_points[k, i], table.stage_past_scores[k, i], self._past),
        )

    def _finish(self, draw: Draw) -> None:
        table, k = self.tableau, self._step
        self.state = row(
            float(table.state[k]) * self.state,
            (table.scores[k], self._scores),
            (table.noise[k], self._noises(table.noise[k], draw)),
            (table.past_points[k], table.past_scores[k], self._past),
        )
        self._past = [*self._made[::-1], *self._past][: table.memory]
        self._scores, self._made, self._noise = {}, [], []
        self._step += 1

    def _noises(self, weights: Array, draw: Draw) -> list[Image]:
        """Return the step's noises, drawn when the first row needs one; 0 in place of those that no row uses."""
        if not self._noise and weights.any():
            self._noise = [draw() if used else 0.0 for used in noises_used(self.tableau, self._step)]
        return self._noise


def evaluation_times(tableau: Tableau, denoised: bool) -> Array:
    """Return the forward times of a run's evaluations, in their order."""
    times = tableau.stage_times[tableau.evaluated]
    return np.append(times, tableau.times[-1]) if denoised else times
