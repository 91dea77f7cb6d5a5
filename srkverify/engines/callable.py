"""Particles of a sampler whose score is any function, in NumPy: the tableau's rows, read one by one.

Random numbers are those of the compiled engine (``rng``): the same seed and index give the same particle, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines import rng
from srkverify.score import Score
from srkverify.tableau import Tableau

_MOST_NUMBERS = 1 << 22  # of the states of a batch

Noise = Callable[[int, int], Array]  # of step and index of the noise: (n, d)


@dataclass(frozen=True, eq=False)
class Job:
    """A run of particles ``first``, …, in float64.

    ``start`` returns states at the horizon, of given first particle and number; ``every``: whether to keep all times.
    """

    score: Score
    tableau: Tableau
    first: int
    particles: int
    seed: int
    dtype: np.dtype[Any]
    every: bool
    start: Callable[[int, int], NDArray[np.floating[Any]]]
    coupling: tuple[NDArray[np.int64], Array] | None

    def run(self, done: int, particles: int, bar: Any) -> NDArray[np.floating[Any]]:
        """Return samples of ``particles`` particles after the first ``done``, as ``sv.sample`` does."""
        dimension, steps = self.score.dimension, self.tableau.steps
        result = np.empty((steps + 1 if self.every else 1, particles, dimension), self.dtype)
        size = max(1, min(self.score.batch, _MOST_NUMBERS // dimension))
        for begin in range(0, particles, size):
            count, first = min(size, particles - begin), self.first + done + begin
            noise = noise_of(self.seed, first, (count, dimension), self.coupling)
            states = run(self.tableau, self.score, self.start(first, count).astype(np.float64, copy=False), noise)
            for k, state in enumerate(states):
                if not np.isfinite(state).all():
                    raise ValueError(self._not_finite(k))
                if self.every or k == steps:
                    result[k if self.every else 0, begin : begin + count] = state
            bar.update(count)
        return result if self.every else result[0]

    def _not_finite(self, k: int) -> str:
        tableau = self.tableau
        return (
            f"tableau must keep samples finite; got infinity or NaN after step {k} of {tableau.steps} of "
            f"{tableau.name} (forward time {tableau.times[k]:.3g}) with {self.score.name}: use more steps there"
        )


@dataclass(frozen=True)
class Evaluation:
    """What a step has made of a state.

    Attributes
    ----------
    state : (n, d) Y'.
    points, scores : of the stages that are evaluated, by their index.
    """

    state: Array
    points: dict[int, Array]
    scores: dict[int, Array]


def step(
    tableau: Tableau,
    k: int,
    score: Callable[[Array, float], Array],
    state: Array,
    noises: list[Array],
    past: list[tuple[Array, Array]],
) -> Evaluation:
    """Do step ``k`` from ``state`` (n, d), with ``noises`` ξ_0, ξ_1, … and ``past`` evaluations, the latest first.

    ``noises`` may be of any kind that numbers multiply, and fewer than the tableau's: the others count as 0.
    """
    points: dict[int, Array] = {}
    scores: dict[int, Array] = {}
    for i in map(int, np.flatnonzero(tableau.evaluated[k])):
        points[i] = row(
            tableau.stage_state[k, i] * state,
            (tableau.stage_scores[k, i], scores),
            (tableau.stage_noise[k, i], noises),
            (tableau.stage_past_points[k, i], tableau.stage_past_scores[k, i], past),
        )
        scores[i] = score(points[i], float(tableau.stage_times[k, i]))
    output = row(
        tableau.state[k] * state,
        (tableau.scores[k], scores),
        (tableau.noise[k], noises),
        (tableau.past_points[k], tableau.past_scores[k], past),
    )
    return Evaluation(output, points, scores)


def remembered(made: Evaluation, past: list[tuple[Array, Array]], memory: int) -> list[tuple[Array, Array]]:
    """Return what the next step remembers, the latest evaluation first."""
    own = [(made.points[i], made.scores[i]) for i in sorted(made.points, reverse=True)]
    return (own + past)[:memory]


def run(tableau: Tableau, score: Callable[[Array, float], Array], state: Array, noise: Noise) -> Iterator[Array]:
    """Yield the states (n, d) after 0, 1, …, K steps."""
    past: list[tuple[Array, Array]] = []
    yield state
    for k in range(tableau.steps):
        noises = [noise(k, m) if used else np.zeros(1) for m, used in enumerate(noises_used(tableau, k))]
        made = step(tableau, k, score, state, noises, past)
        state, past = made.state, remembered(made, past, tableau.memory)
        yield state


def noise_of(seed: int, first: int, shape: tuple[int, int], coupling: tuple[NDArray[np.int64], Array] | None) -> Noise:
    """Return the noises ξ_m of particles ``first``, …, (n, d) = ``shape``; ``coupling`` is of ``noise_weights``."""

    def drawn(k: int, m: int) -> Array:
        return rng.normals(seed, *shape, k, m, first_particle=first).astype(np.float64, copy=False)

    def coupled(k: int, m: int) -> Array:
        assert coupling is not None
        offsets, weights = coupling
        parts = range(offsets[k], offsets[k + 1])
        return sum((weights[s, m, b] * drawn(s, b) for s in parts for b in range(3)), np.zeros(shape))

    return drawn if coupling is None else coupled


def row(
    value: Any,
    own: tuple[Array, dict[int, Any]],
    noises: tuple[Array, list[Any]],
    past: tuple[Array, Array, list[tuple[Any, Any]]],
) -> Any:
    """Return a row of the tableau: ``value`` plus its coefficients times what they belong to, where they are not 0.

    Of NumPy's arrays or PyTorch's, which numbers of Python's multiply.
    """
    for j, score in own[1].items():
        if own[0][j] != 0.0:
            value = value + float(own[0][j]) * score
    for weight, noise in zip(*noises, strict=False):
        if weight != 0.0:
            value = value + float(weight) * noise
    for at, slope, (point, score) in zip(*past, strict=False):
        if at != 0.0:
            value = value + float(at) * point
        if slope != 0.0:
            value = value + float(slope) * score
    return value


def noises_used(tableau: Tableau, k: int) -> NDArray[np.bool_]:
    """Return which noises (M,) a row of step ``k`` uses."""
    used: NDArray[np.bool_] = (tableau.noise[k] != 0.0) | (tableau.stage_noise[k] != 0.0).any(axis=0)
    return used
