"""The tableau of a scheduler of diffusers, read off its own code.

A scheduler's step is linear in the image, in what the model has returned so far, and in the noise. So it is called with
unit vectors in their place, one coordinate for each unknown, and what it returns are its coefficients. A second run, on
random numbers, has to be what the table says; a scheduler that clips, or draws numbers in some other way, is refused.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from srkverify import _check
from srkverify._check import Array
from srkverify.diffusers._calls import Driver, Form, noise_from, probe, times_of_calls
from srkverify.diffusers._run import Run
from srkverify.score import DENOISING
from srkverify.tableau import Row, Tableau, assemble

_LINEAR = 1e-4  # of the largest number of a run; schedulers compute in single precision, in long formulas
_LARGE = 10.0  # far outside what is clipped


def tableau_of(scheduler: Any, steps: int | None = None, *, name: str | None = None, **options: Any) -> Tableau:
    """Return the exact tableau of what a scheduler of diffusers does, times being t = −½ log ᾱ.

    Each call of the scheduler is a step, with one evaluation; a scheduler of two calls a step remembers the first.
    Schedulers that correct the last step when they are next called (SA-Solver, UniPC) become a stage at the predicted
    point and a corrected state. Images of a variance-exploding scheduler (Euler's) are scaled to those of the
    preserving process. The last step is left out if it ends at ᾱ = 1, where time is 0, or goes nowhere.

    Parameters
    ----------
    scheduler : one of diffusers, or an object with the same methods; it is copied and stays as it is.
    steps : number for its ``set_timesteps``; None if its timesteps are set.
    name : of the tableau; default the scheduler's class.
    options : keyword arguments for each call of its ``step``, such as ``eta=1.0`` for DDIM.

    Raises
    ------
    ValueError
        If a step is not linear (``clip_sample``, ``thresholding``), makes noise otherwise than by diffusers'
        ``randn_tensor`` or mixes that of several steps, if two calls are at the same time (Heun, KDPM2, PNDM), or if
        the scheduler's kind of prediction is none of epsilon, sample and v_prediction.
    """
    kind = getattr(getattr(scheduler, "config", None), "prediction_type", None)
    _check.choice("prediction_type of the scheduler", kind, DENOISING)
    times = _kept_times(_fresh(scheduler, steps))
    repeated = np.flatnonzero(np.diff(times) >= 0.0)
    if len(repeated):
        raise ValueError(
            f"scheduler must go on to an earlier time in each call; {type(scheduler).__name__} is called at "
            f"{times[repeated[0]]:g}, then at {times[repeated[0] + 1]:g}"
        )
    returned, kept = probe(_fresh(scheduler, steps), options)
    label = type(scheduler).__name__ if name is None else name
    tableau = _corrected(label, times, returned, kept) if kept else _plain(label, times, returned)
    _verify(_fresh(scheduler, steps), options, tableau)
    return tableau


def times_of(scheduler: Any, steps: int | None = None) -> Array:
    """Return the grid of :func:`tableau_of`: the forward times of a scheduler's calls and, if it is one, of its end."""
    return _kept_times(_fresh(scheduler, steps))


def _fresh(scheduler: Any, steps: int | None) -> Any:
    """Return a copy of a scheduler at the beginning of a run."""
    new = copy.deepcopy(scheduler)
    if steps is not None:
        new.set_timesteps(_check.integer("steps", steps, at_least=2))
    elif getattr(new, "num_inference_steps", None) is None:
        raise ValueError("steps must be given, for the scheduler's timesteps are not set; got None")
    return new


def _kept_times(scheduler: Any) -> Array:
    times = times_of_calls(scheduler)
    ends = times[-1] <= 0.0 or abs(times[-1] - times[-2]) < 1e-9 * times[-2]
    return times[:-1] if ends else times


def _plain(name: str, times: Array, returned: list[Form]) -> Tableau:
    """Return the tableau of a scheduler whose images are its states."""
    lines = []
    for k, form in enumerate(returned[: len(times) - 1]):
        line = _Line(float(form.points[k]), np.array([form.scores[k]]), form.only(k).noise[k])
        lines.append(line.remembering(form, k - 1))
    return assemble(name, times, [Row(state=1.0, time=times[:-1])], _row(lines))


def _corrected(name: str, times: Array, returned: list[Form], kept: list[Form]) -> Tableau:
    """Return the tableau of a scheduler that, in each call, corrects the state that it keeps and predicts from it.

    Call k corrects to Y_k and returns the point U_{k+1} predicted from it. So step k has a stage at U_{k+1}, its score
    is what call k + 1 gets, and Y_{k+1} is the state to which that call corrects; a last call's point is the output.
    """
    steps, calls = len(times) - 1, len(returned)
    points, outputs = [], []
    for k in range(steps):
        predicted = returned[k]
        if k > 0:  # in terms of the state that this call has corrected to, instead of the one before
            share = predicted.kept[k - 1] / kept[k].kept[k - 1]
            predicted = predicted.plus(-share, kept[k])
            predicted.kept[k - 1 : k + 1] = 0.0, share
        points.append(_line(predicted.only(k), k, ahead=False))
        if k + 1 < calls:
            corrected = kept[k + 1]
            outputs.append(_line(corrected.only(k), k, ahead=True).plus(float(corrected.points[k + 1]), points[-1]))
        else:
            outputs.append(points[-1])
    stage, evaluated = _row(points), np.arange(1, steps + 1) < calls
    stages = [
        Row(state=1.0, time=times[:-1], evaluated=np.arange(steps) == 0),
        Row(stage.state, stage.scores, stage.noise, stage.past_points, stage.past_scores, times[1:], evaluated),
    ]
    return assemble(name, times, stages, _row(outputs))


def _line(form: Form, k: int, ahead: bool) -> _Line:
    """Return a line of step k in terms of Y_k, which is the first point or kept; ``ahead`` takes the stage's score."""
    line = _Line(float(form.kept[k]), np.array([0.0, form.scores[k + 1] if ahead else 0.0]), form.noise[k])
    if k > 0:
        return line.remembering(form, k)
    line.state += float(form.points[0])
    line.scores[0] = form.scores[0]
    return line


@dataclass(eq=False)
class _Line:
    """The coefficients of one row in one step."""

    state: float
    scores: Array
    noise: Array
    past_points: Array = field(default_factory=lambda: np.zeros(0))
    past_scores: Array = field(default_factory=lambda: np.zeros(0))

    def remembering(self, form: Form, latest: int) -> _Line:
        """Add the coefficients of the evaluations of calls ``latest``, ``latest`` − 1, … 0."""
        if latest >= 0:
            self.past_points, self.past_scores = form.points[latest::-1], form.scores[latest::-1]
        return self

    def plus(self, factor: float, other: _Line) -> _Line:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Line(*(mine + factor * theirs for mine, theirs in pairs))


def _row(lines: list[_Line]) -> Row:
    """Collect the lines of all steps in a row, without the columns that are never used."""

    def columns(values: list[Array], all_of_them: bool = False) -> list[Array]:
        table = np.zeros((len(values), max(len(value) for value in values)))
        for k, value in enumerate(values):
            table[k, : len(value)] = value
        used = np.flatnonzero(table.any(axis=0)).max(initial=-1) + 1
        return list(table.T if all_of_them else table.T[:used])

    return Row(
        state=np.array([line.state for line in lines]),
        scores=columns([line.scores for line in lines], all_of_them=True),
        noise=columns([line.noise for line in lines]),
        past_points=columns([line.past_points for line in lines]),
        past_scores=columns([line.past_scores for line in lines]),
    )


def _verify(scheduler: Any, options: dict[str, Any], tableau: Tableau) -> None:
    """Run a scheduler on random numbers and raise unless the table gives the same."""
    rng = np.random.default_rng(0)
    drive = Driver(scheduler, options)
    drawn: list[Array] = []

    def numbers() -> Array:
        return rng.normal(0.0, _LARGE, 4)

    def noise() -> Array:
        drawn.append(numbers())
        return drawn[-1]

    point, largest = numbers(), 0.0
    run = Run(tableau, point, denoised=False)
    with noise_from(scheduler, noise):
        for index in range(tableau.nfe):
            score = numbers()
            drawn.clear()  # also of what the last call drew and had no use for
            made = drive.call(index, point, score)
            expected = run.advance(point, score, lambda: drawn.pop(0))
            kept = drive.kept(index)
            if index == tableau.steps and kept is not None:
                made = kept  # the table ends with this call's correction
            largest = max(largest, float(np.abs(expected).max()))
            if not np.allclose(made, expected, rtol=0.0, atol=_LINEAR * largest):
                raise ValueError(
                    f"scheduler must be linear and take its noise from randn_tensor; {type(scheduler).__name__} "
                    f"returned {made[0]:.6g} in call {index} where its coefficients give {expected[0]:.6g} "
                    "(are clip_sample and thresholding off?)"
                )
            run.shift(made - expected)  # what rounding has made must not add up
            point = made
