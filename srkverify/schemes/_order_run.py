"""A tableau's steps expanded in the algebra of order conditions, for many windows of steps at once.

A window of N steps starts from the exact joint law of the state and the remembered evaluations: forwards in time the
process is a Brownian motion in the coordinates used here (docs/order_conditions.md), so that earlier points are the
state plus independent increments. The defect of the law after n steps is that of
:func:`srkverify.schemes._order_terms.law_defect`, in units in which what is left of the clock u is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.schemes import _order_terms as terms
from srkverify.schemes._order_terms import DRIFT, ONE, POSITION, Polynomial, Series
from srkverify.tableau import Tableau

Steps = NDArray[np.int64]
_CHUNK = 512  # windows at a time: what the memory of a series costs
_NEAR = 10.0  # times κ: how far λ² may be from 1 to be taken for it
_STRAY = 1e-13  # relative rounding of Σ (coefficients of points) − 1


@dataclass
class _Evaluation:
    """A point, less z, and the drift there, as series; the backward time from the window's base."""

    point: Series
    drift: Series
    elapsed: Array


@dataclass
class _Window:
    """Where the windows of one batch stand: ``base`` is the forward time of their start."""

    base: Array
    limit: int
    state: Series = field(default_factory=dict)
    elapsed: Array = field(init=False)
    history: list[_Evaluation] = field(default_factory=list)
    gaussians: int = 0

    def __post_init__(self) -> None:
        self.elapsed = np.zeros_like(self.base)
        self.room = -np.expm1(-2.0 * self.base)

    def clock(self, time: Array) -> Array:
        """Return u at a forward time: 0 at the base and 1 at time 0."""
        return -np.expm1(-2.0 * (self.base - time)) / self.room


def defects(tableau: Tableau, order: int, samples: int | None) -> tuple[dict[terms.Monomial, Array], Array]:
    """Return each step's own defect, (K,) for each monomial, and the number of steps that each step stands for, (K,).

    A step's own defect is the law's after it less the law's before it, carried over the step by the exact process. The
    steps at the beginning are run from the start, with what the tableau remembers there; a later one is the last of a
    window that begins on the exact process. Of those, but for the last ones, ``samples`` are taken, evenly spread; None
    for all.
    """
    length = 2 * _reach(tableau) + 1
    steps, start = tableau.steps, min(length, tableau.steps)
    starts = np.arange(1, steps - length + 1)
    counts = np.ones(steps)
    if samples is not None and samples + length < len(starts):
        inner, final = starts[:-length], starts[-length:]  # the last steps may be unlike the others, as the first ones
        chosen = inner[np.linspace(0, len(inner) - 1, samples).round().astype(np.int64)]
        counts[inner + length - 1] = 0.0
        counts[chosen + length - 1] = len(inner) / samples
        starts = np.concatenate([chosen, final])
    result: dict[terms.Monomial, Array] = {}

    def note(base: Steps, k: Steps, after: Polynomial, before: Polynomial) -> None:
        room = -np.expm1(-2.0 * tableau.times[base])
        since = np.exp(-2.0 * (tableau.times[base] - tableau.times[k]))
        time = -since * np.expm1(-2.0 * (tableau.times[k] - tableau.times[k + 1])) / room
        moved = terms.carried(before, time, _noise_scale(tableau, k), order)
        for monomial in {**after, **before, **moved}:
            own = np.asarray(after.get(monomial, 0.0)) - before.get(monomial, 0.0) - moved.get(monomial, 0.0)
            result.setdefault(monomial, np.zeros(steps))[k] = own

    before: Polynomial = {}
    for k, after in enumerate(_run(tableau, np.array([0]), start, order)):
        note(np.array([0]), np.array([k]), after, before)
        before = after
    for group in _groups(tableau, starts, length):
        for chunk in np.array_split(group, -(-len(group) // _CHUNK)):
            run = _run(tableau, chunk, length, order)
            note(chunk, chunk + length - 1, run[-1], run[-2] if length > 1 else {})
    return result, counts


def _noise_scale(tableau: Tableau, k: Steps) -> Array:
    """λ² of the reverse process that steps ``k`` follow: their noise over the clock's, 1 if near it."""
    h = tableau.times[k] - tableau.times[k + 1]
    squared = np.square(tableau.noise[k]).sum(axis=1) / np.expm1(2.0 * h)
    # What a scheme takes from remembered points and scores, or leaves to them, is of relative size κ.
    near = np.abs(squared - 1.0) <= _NEAR * np.expm1(-2.0 * h) / np.expm1(-2.0 * tableau.times[k])
    return np.where(near, 1.0, squared)


def _reach(tableau: Tableau) -> int:
    """How many steps back the earliest evaluation is that any step uses."""
    uses = (tableau.past_points != 0) | (tableau.past_scores != 0)
    uses |= ((tableau.stage_past_points != 0) | (tableau.stage_past_scores != 0)).any(axis=1)
    owner = np.repeat(np.arange(tableau.steps), tableau.evaluated.sum(axis=1))  # step of each evaluation
    steps, slots = np.nonzero(uses)
    return int(np.max(steps - owner[tableau.made[steps] - 1 - slots], initial=0))


def _groups(tableau: Tableau, starts: Steps, length: int) -> list[Steps]:
    """Split windows by which stages they evaluate and how many evaluations they remember at their start."""
    groups: dict[bytes, list[int]] = {}
    for start in starts.tolist():
        remembered = min(tableau.memory, int(tableau.made[start]))
        key = tableau.evaluated[start : start + length].tobytes() + bytes([remembered])
        groups.setdefault(key, []).append(start)
    return [np.array(group) for group in groups.values()]


def _run(tableau: Tableau, starts: Steps, length: int, order: int) -> list[Polynomial]:
    """Return the law's defect after 1, …, ``length`` steps from ``starts``."""
    window = _Window(tableau.times[starts], 2 * order - 1)
    _remember(tableau, starts, window)
    result = []
    for n in range(length):
        k = starts + n
        own: dict[int, _Evaluation] = {}
        for i in range(tableau.stage_times.shape[1]):
            if not tableau.evaluated[k[0], i]:
                continue
            time = tableau.stage_times[k, i]
            elapsed = window.base - time
            point = _combined(
                window,
                elapsed,
                tableau.stage_state[k, i],
                [(evaluation, tableau.stage_scores[k, i, j]) for j, evaluation in own.items()],
                tableau.stage_noise[k, i],
                tableau.stage_past_points[k, i],
                tableau.stage_past_scores[k, i],
            )
            own[i] = _Evaluation(point, terms.drift_at(point, window.clock(time), window.limit), elapsed)
        time = tableau.times[k + 1]
        window.state = _combined(
            window,
            window.base - time,
            tableau.state[k],
            [(evaluation, tableau.scores[k, j]) for j, evaluation in own.items()],
            tableau.noise[k],
            tableau.past_points[k],
            tableau.past_scores[k],
        )
        window.elapsed = window.base - time
        window.gaussians += tableau.noise.shape[1]
        window.history = [*reversed(own.values()), *window.history][: tableau.memory]
        result.append(terms.law_defect(window.state, window.clock(time), order))
    return result


def _combined(
    window: _Window,
    elapsed: Array,
    state: Array,
    own: list[tuple[_Evaluation, Array]],
    noise: Array,
    past_points: Array,
    past_scores: Array,
) -> Series:
    """Return a row of the tableau in the coordinates Z = e^{−r} Y and m = e^r s, less z."""
    result: Series = {}
    total = state * np.exp(window.elapsed)
    terms.add(result, window.state, total * np.exp(-elapsed))
    scores = list(own)
    for p, evaluation in enumerate(window.history):
        if past_points[:, p].any():
            weight = past_points[:, p] * np.exp(evaluation.elapsed)
            terms.add(result, evaluation.point, weight * np.exp(-elapsed))
            total = total + weight
        scores.append((evaluation, past_scores[:, p]))
    for evaluation, weight in scores:
        if weight.any():
            terms.add(result, evaluation.drift, weight * np.exp(-elapsed - evaluation.elapsed) / window.room)
    for index in range(noise.shape[1]):
        if noise[:, index].any():
            size = noise[:, index] * np.exp(-elapsed) / np.sqrt(window.room)
            terms.add(result, {ONE: {(window.gaussians + index,): size}})
    stray = np.exp(-elapsed) * total - 1.0
    if np.abs(stray).max() > _STRAY:
        terms.add(result, {POSITION: {(): stray}})
    return result


def _remember(tableau: Tableau, starts: Steps, window: _Window) -> None:
    """Put the earlier evaluations on the exact process, given z.

    With the noise λ² of the scheme (the step's noise before the base, in units of the clock) the process is, at the age
    a, Z = z + λ ω_a − ½ (1 − λ²) ∫ m da, expanded as far as the defect's expectations see it.
    """
    made = tableau.made[starts]
    count = min(tableau.memory, int(made[0]))
    if count == 0:
        return
    times = tableau.stage_times[tableau.evaluated]
    squared = _noise_scale(tableau, starts - 1)
    drag = 0.5 * (1.0 - squared)
    path: dict[tuple[int, ...], Array] = {}
    area: dict[tuple[int, ...], Array] = {}  # of ∫ ω da, given ω at the ages: its trapezoidal rule
    age = np.zeros_like(window.base)
    for p in range(count):
        time = times[made - 1 - p]
        grown = -window.clock(time)
        if (grown < age - 1e-12).any():
            raise ValueError(
                "the tableau's evaluations must be made in the order of the reverse process, each step's within its "
                f"step, to have order conditions; one is made at {time.min():g}, out of order"
            )
        step = np.maximum(grown - age, 0.0)
        longer = {**path, (window.gaussians,): np.sqrt(squared * step)}
        area = {key: area.get(key, 0.0) + 0.5 * step * (path.get(key, 0.0) + value) for key, value in longer.items()}
        path, age = longer, age + step
        window.gaussians += 1
        point: Series = {ONE: dict(path)}
        if np.abs(drag).max() > 0.0:
            half = 0.5 * age**2
            point[DRIFT] = {(): -drag * age}
            point[0, 0, 1, 0, 0, 0] = {key: -drag * value for key, value in area.items()}
            point[0, 1, 1, 0, 0, 0] = {(): -drag * (1.0 - drag) * half}
            point[0, 0, 0, 1, 0, 0] = {(): -drag * 0.5 * (1.0 + squared) * half}
        drift = terms.drift_at(point, window.clock(time), window.limit)
        window.history.append(_Evaluation(point, drift, window.base - time))
