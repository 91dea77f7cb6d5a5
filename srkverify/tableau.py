"""The Tableau: a sampler written as a table of numbers, one row of coefficients per step and stage.

With Y the state, ξ_m ~ N(0, I) fresh in each step, S_j this step's scores and (u_p, s_p) the p-th latest
evaluation of earlier steps (point and score), step k computes

    U_i = stage_state Y + Σ_j stage_scores S_j + Σ_m stage_noise ξ_m
              + Σ_p (stage_past_points u_p + stage_past_scores s_p)
    S_i = score(stage_times, U_i)                                    for each stage i that is evaluated
    Y'  = state Y + Σ_j scores S_j + Σ_m noise ξ_m + Σ_p (past_points u_p + past_scores s_p)

Engines read nothing else; no engine knows a scheme by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srkverify import _check
from srkverify._check import Array
from srkverify.schedules import check_times


@dataclass(frozen=True)
class Row:
    """Coefficients of one stage, or of the output, over all steps; each entry is a number or a (K,) array.

    Attributes
    ----------
    state : coefficient of the state Y.
    scores : coefficients of this step's scores S_0, S_1, …
    noise : coefficients of the noises ξ_0, ξ_1, …
    past_points, past_scores : coefficients of earlier steps' evaluations, the latest first.
    time : forward time at which a stage evaluates the score (ignored for the output).
    evaluated : whether a stage is evaluated at all in a step (ignored for the output).
    """

    state: ArrayLike
    scores: Sequence[ArrayLike] = ()
    noise: Sequence[ArrayLike] = ()
    past_points: Sequence[ArrayLike] = ()
    past_scores: Sequence[ArrayLike] = ()
    time: ArrayLike = 1.0
    evaluated: ArrayLike = True


@dataclass(frozen=True, eq=False)
class Tableau:
    """Coefficients of a sampler on a grid of K steps, with R stages, M noises and a memory of P evaluations.

    Attributes
    ----------
    name : the scheme's name, for tables and figures only.
    times : (K+1,) forward times, decreasing, positive.
    stage_times : (K, R) forward times of the score evaluations.
    stage_state : (K, R)
    stage_scores : (K, R, R), strictly lower triangular.
    stage_noise : (K, R, M)
    stage_past_points, stage_past_scores : (K, R, P); index 0 is the latest evaluation of an earlier step.
    state : (K,)
    scores : (K, R)
    noise : (K, M)
    past_points, past_scores : (K, P)
    evaluated : (K, R) bool; a stage that is not evaluated costs nothing and may not be used.
    noise_paths : (K, M, 3) or None; ξ_m of step k is Σ_b noise_paths[k, m, b] ζ_b with ζ the three coordinates of the
        step's Brownian path (:mod:`srkverify.brownian`). None if the noises are not functionals of one path; the
        law of the output does not depend on it.

    Raises
    ------
    ValueError
        If shapes disagree, an entry is not finite, a stage uses a later or an unevaluated stage, a step uses an
        evaluation that no earlier step has made, or the rows of ``noise_paths`` are not orthonormal in each step.
    """

    name: str
    times: Array
    stage_times: Array
    stage_state: Array
    stage_scores: Array
    stage_noise: Array
    stage_past_points: Array
    stage_past_scores: Array
    state: Array
    scores: Array
    noise: Array
    past_points: Array
    past_scores: Array
    evaluated: NDArray[np.bool_]
    noise_paths: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", check_times(self.times))
        steps, stages = len(self.times) - 1, np.shape(self.stage_times)[-1]
        noises, memory = np.shape(self.noise)[-1], np.shape(self.past_points)[-1]
        shapes = {
            "stage_times": (steps, stages),
            "stage_state": (steps, stages),
            "stage_scores": (steps, stages, stages),
            "stage_noise": (steps, stages, noises),
            "stage_past_points": (steps, stages, memory),
            "stage_past_scores": (steps, stages, memory),
            "state": (steps,),
            "scores": (steps, stages),
            "noise": (steps, noises),
            "past_points": (steps, memory),
            "past_scores": (steps, memory),
            "evaluated": (steps, stages),
        }
        if self.noise_paths is not None:
            shapes["noise_paths"] = (steps, noises, 3)
        for name, shape in shapes.items():
            kind = np.bool_ if name == "evaluated" else np.float64
            value: NDArray[np.generic] = np.array(getattr(self, name), dtype=kind)
            if value.shape != shape:
                raise ValueError(f"{name} must have shape {shape} (see Tableau); got {value.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite; got {value[~np.isfinite(value)][0]}")
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        self._check_causality()
        self._check_noise_paths()

    def _check_causality(self) -> None:
        if self.stage_times.size and self.stage_times[self.evaluated].min(initial=np.inf) <= 0.0:
            raise ValueError(f"stage_times must be positive; got {self.stage_times[self.evaluated].min()}")
        if np.triu(self.stage_scores).any():
            raise ValueError("stage_scores must be strictly lower triangular: a stage may use earlier stages only")
        skipped = ~self.evaluated
        if self.scores[skipped].any() or np.swapaxes(self.stage_scores, 1, 2)[skipped].any():
            raise ValueError("scores and stage_scores must be 0 for stages that are not evaluated")
        absent = self.made[:, None] <= np.arange(self.memory)
        uses = (
            (self.past_points != 0)
            | (self.past_scores != 0)
            | ((self.stage_past_points != 0) | (self.stage_past_scores != 0)).any(axis=1)
        )
        if (uses & absent).any():
            step = int(np.argwhere(uses & absent)[0, 0])
            raise ValueError(f"past_points and past_scores of step {step} must be 0: no such earlier evaluation exists")

    def _check_noise_paths(self) -> None:
        if self.noise_paths is None:
            return
        products = self.noise_paths @ np.swapaxes(self.noise_paths, 1, 2)
        wrong = (np.abs(products - np.eye(self.noise_paths.shape[1])) > 1e-9).any(axis=(1, 2))
        if wrong.any():
            step = int(np.argmax(wrong))
            raise ValueError(
                "noise_paths must have orthonormal rows within 1e-9, because the noises of a step are independent and "
                f"of variance 1; got rows with the products {products[step].tolist()} in step {step}"
            )

    @property
    def steps(self) -> int:
        """Number of steps K."""
        return len(self.state)

    @property
    def memory(self) -> int:
        """Number P of earlier evaluations that a step may use."""
        return self.past_points.shape[1]

    @property
    def nfe(self) -> int:
        """Number of score evaluations of a whole run."""
        return int(self.evaluated.sum())

    @property
    def made(self) -> NDArray[np.int64]:
        """(K,) number of score evaluations before each step."""
        counts = self.evaluated.sum(axis=1)
        return np.cumsum(counts) - counts

    @property
    def past_times(self) -> Array:
        """(K, P) forward times of the remembered evaluations; NaN where a step has none yet."""
        times = self.stage_times[self.evaluated]
        index = self.made[:, None] - 1 - np.arange(self.memory)
        if times.size == 0:
            return np.full(index.shape, np.nan)
        return np.where(index >= 0, times[np.maximum(index, 0)], np.nan)

    def first(self, steps: int) -> Tableau:
        """Return the tableau of the first ``steps`` steps, whose output is the state after them.

        Its KL is that of the state against q at the time reached: where in a run an error arises, and what later steps
        forget of it.

        Raises
        ------
        ValueError
            If ``steps`` is not an integer from 1 to K.
        """
        count = _check.integer("steps", steps, at_least=1, below=self.steps + 1)
        given: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in given.items():
            if isinstance(value, np.ndarray):
                given[name] = value[: count + 1 if name == "times" else count]
        return Tableau(**given)

    def without_stage_noise(self) -> Tableau:
        """Return the tableau whose stages see no noise, everything else unchanged: the scheme "with g ≡ 0"."""
        return replace(self, name=f"{self.name}_without_stage_noise", stage_noise=np.zeros_like(self.stage_noise))


@dataclass(frozen=True, eq=False)
class Drawn:
    """A sampler that draws which tableau to use, in each step anew: a randomised midpoint, for example.

    The draw of a step is independent of all else, and one for all coordinates. A scheme that draws a number from a
    continuous law is written with the nodes and weights of a quadrature over it.

    Attributes
    ----------
    name : the scheme's name.
    weights : (Q,) probabilities.
    members : Q tableaus on the same times.

    Raises
    ------
    ValueError
        If the weights are no probabilities of the members, or the members' times differ.
    """

    name: str
    weights: Array
    members: tuple[Tableau, ...]

    def __post_init__(self) -> None:
        weights = _check.finite_array("weights", self.weights, dimensions=(1,))
        members = tuple(self.members)
        if len(members) == 0 or len(weights) != len(members) or weights.min() < 0.0 or abs(weights.sum() - 1.0) > 1e-12:
            raise ValueError(
                f"weights must be one probability for each member, with the sum 1; got {weights} for "
                f"{len(members)} members"
            )
        if any(not np.array_equal(member.times, members[0].times) for member in members):
            raise ValueError("members must all have the same times; got different grids")
        weights.setflags(write=False)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "members", members)

    @property
    def times(self) -> Array:
        """(K+1,) forward times, decreasing."""
        return self.members[0].times

    @property
    def steps(self) -> int:
        """Number of steps K."""
        return self.members[0].steps

    @property
    def memory(self) -> int:
        """Number of earlier evaluations that a step may use, the largest of the members'."""
        return max(member.memory for member in self.members)

    @property
    def nfe(self) -> int:
        """Number of score evaluations of a whole run, the largest of the members'."""
        return max(member.nfe for member in self.members)

    def first(self, steps: int) -> Drawn:
        """Return the sampler of the first ``steps`` steps, as :meth:`Tableau.first`."""
        return replace(self, members=tuple(member.first(steps) for member in self.members))


def assemble(
    name: str, times: ArrayLike, stages: Sequence[Row], output: Row, noise_paths: ArrayLike | None = None
) -> Tableau:
    """Write a scheme's rows as a :class:`Tableau`; entries that a row leaves out are zero.

    Parameters
    ----------
    name : str
        The scheme's name.
    times : (K+1,) decreasing forward times.
    stages : sequence of Row
        Stage rows in the order of their evaluation.
    output : Row
        The row of Y'.
    noise_paths : (M, 3), the same in all steps, or (K, M, 3)
        What the noises are of the step's Brownian path (see :class:`Tableau`), for all M noises that the rows use;
        None if the scheme does not say.
    """
    grid = check_times(times)
    steps, rows = len(grid) - 1, [*stages, output]
    noises = max(len(row.noise) for row in rows)
    memory = max(max(len(row.past_points), len(row.past_scores)) for row in rows)

    paths = None if noise_paths is None else _check.finite_array("noise_paths", noise_paths, dimensions=(2, 3))
    if paths is not None and paths.ndim == 2:
        paths = np.broadcast_to(paths, (steps, *paths.shape))

    def columns(entries: Sequence[ArrayLike], width: int) -> Array:
        table = np.zeros((steps, width))
        for column, entry in enumerate(entries):
            table[:, column] = entry
        return table

    def stacked(attribute: str, width: int) -> Array:
        tables = [columns(getattr(row, attribute), width) for row in stages]
        return np.stack(tables, axis=1) if tables else np.zeros((steps, 0, width))

    return Tableau(
        name=name,
        times=grid,
        stage_times=columns([row.time for row in stages], len(stages)),
        stage_state=columns([row.state for row in stages], len(stages)),
        stage_scores=stacked("scores", len(stages)),
        stage_noise=stacked("noise", noises),
        stage_past_points=stacked("past_points", memory),
        stage_past_scores=stacked("past_scores", memory),
        state=columns([output.state], 1)[:, 0],
        scores=columns(output.scores, len(stages)),
        noise=columns(output.noise, noises),
        past_points=columns(output.past_points, memory),
        past_scores=columns(output.past_scores, memory),
        evaluated=columns([row.evaluated for row in stages], len(stages)) != 0,
        noise_paths=paths,
    )
