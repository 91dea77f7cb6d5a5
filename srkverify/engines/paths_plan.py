"""A tableau as the path engine reads it: what each step's noisy rows are, and are linearised."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.tableau import Tableau

JOINT: Any = np.int64(0)  # what is proposed: state and stage points that see noise,
GIVEN_STATE: Any = np.int64(1)  # or the latter given the state

_LOG_2PI = float(np.log(2.0 * np.pi))

Integers = NDArray[np.int64]


class Plan(NamedTuple):
    """A tableau as the path engine reads it; index v is JOINT or GIVEN_STATE.

    The step's noisy rows (stage points that see noise, then the output), multiplied by a matrix that makes their noises
    independent and of variance 1, are

        x_weight x + y_weight Y + Σ_j (point_weights_j U_j + score_weights_j S_j) + Σ_p (past …),

    with x the later state. Linearised at the base points b_t = x_base_t x + y_base_t Y they are affine in the unknowns.
    Where the tableau has memory, so are the next step's rows, in which all but this step's evaluations is known; they
    are counted behind the step's own, up to M rows in all, M = N or 2 N.

    Attributes
    ----------
    steps, stages, memory, most, width, rows : K, R, P, N, T and M.
    data : T + 3 + M − N, how many panels means are linear in.
    times : (K+1,)
    unknowns : (K,) n.
    looks : (K,) number of times at which scores are linearised.
    look_times : (K, T)
    x_base, y_base : (2, K, T) base points.
    stage_look, past_look : (K, R), (K, P) which of the times a stage or a remembered evaluation has.
    evaluated, noisy : (K, R) whether a stage is evaluated, and sees noise.
    row_of : (K, R) the unknown that a noisy stage point is.
    state, scores, past_points, past_scores : (K, R), (K, R, R), (K, R, P), (K, R, P) rows of stages without noise.
    x_weight, y_weight : (K, N)
    point_weights, score_weights : (K, N, R)
    past_point_weights, past_score_weights : (K, N, P)
    log_scale : (K,) log density of the rows at 0, per coordinate.
    later : (K,) number of rows of the next step that look at this step's evaluations.
    maker : (K, P) the stage of this step whose evaluation is the next step's p-th remembered one, or −1.
    constant : (2, K, M, N) derivatives of the linearised rows by the unknowns, but for what slopes λ_t of scores give.
    slope : (2, K, M, T, N) their derivatives by λ_t.
    given : (2, K, M, 2) coefficients of x and Y in them.
    look_weights : (2, K, M, T) coefficients of the scores at the base points.
    past_scale : (K, P) e^{−(t_p − τ_k)}: what a remembered point is expected to be, in units of the state.
    made, number : (K,), (K, R) evaluations before the step, and before the stage's.
    """

    steps: int
    stages: int
    memory: int
    most: int
    width: int
    rows: int
    data: int
    times: Array
    unknowns: Integers
    looks: Integers
    look_times: Array
    x_base: Array
    y_base: Array
    stage_look: Integers
    past_look: Integers
    evaluated: Integers
    noisy: Integers
    row_of: Integers
    state: Array
    scores: Array
    past_points: Array
    past_scores: Array
    x_weight: Array
    y_weight: Array
    point_weights: Array
    score_weights: Array
    past_point_weights: Array
    past_score_weights: Array
    log_scale: Array
    later: Integers
    maker: Integers
    constant: Array
    slope: Array
    given: Array
    look_weights: Array
    past_scale: Array
    made: Integers
    number: Integers


def make_plan(tableau: Tableau) -> Plan:
    """Return the path engine's form of a tableau.

    Raises
    ------
    ValueError
        If the output of some step has no noise of its own: its law given the state then has no density.
    """
    steps, stages = tableau.stage_times.shape
    memory, times = tableau.memory, tableau.times
    noisy = tableau.evaluated & (tableau.stage_noise != 0.0).any(axis=2)
    unknowns = 1 + noisy.sum(axis=1)
    most = int(unknowns.max())
    listed = [_look_times(tableau, step) for step in range(steps)]
    looks = np.array([len(each) for each in listed])
    width = int(looks.max())
    rows = most * (2 if memory else 1)

    def zeros(*shape: int) -> Array:
        return np.zeros(shape)

    plan = Plan(
        steps=steps,
        stages=stages,
        memory=memory,
        most=most,
        width=width,
        rows=rows,
        data=width + 3 + rows - most,
        times=np.array(times),
        unknowns=unknowns,
        looks=looks,
        look_times=np.ones((steps, width)),
        x_base=zeros(2, steps, width),
        y_base=zeros(2, steps, width),
        stage_look=np.zeros((steps, stages), np.int64),
        past_look=np.zeros((steps, memory), np.int64),
        evaluated=tableau.evaluated.astype(np.int64),
        noisy=noisy.astype(np.int64),
        row_of=np.cumsum(noisy, axis=1) - noisy,
        state=np.array(tableau.stage_state),
        scores=np.array(tableau.stage_scores),
        past_points=np.array(tableau.stage_past_points),
        past_scores=np.array(tableau.stage_past_scores),
        x_weight=zeros(steps, most),
        y_weight=zeros(steps, most),
        point_weights=zeros(steps, most, stages),
        score_weights=zeros(steps, most, stages),
        past_point_weights=zeros(steps, most, memory),
        past_score_weights=zeros(steps, most, memory),
        log_scale=zeros(steps),
        later=np.zeros(steps, np.int64),
        maker=np.full((steps, memory), -1),
        constant=zeros(2, steps, rows, most),
        slope=zeros(2, steps, rows, width, most),
        given=zeros(2, steps, rows, 2),
        look_weights=zeros(2, steps, rows, width),
        past_scale=np.exp(times[:-1, None] - np.where(np.isnan(tableau.past_times), np.inf, tableau.past_times)),
        made=tableau.made,
        number=tableau.made[:, None] + np.cumsum(tableau.evaluated, axis=1) - tableau.evaluated,
    )
    for step in range(steps):
        _write_looks(plan, tableau, step, listed[step])
        _write_rows(plan, tableau, step)
    for step in range(steps):
        _write_makers(plan, step)
        for variant in (JOINT, GIVEN_STATE):
            _linearise(plan, variant, step)
    return plan


def _look_times(tableau: Tableau, step: int) -> list[float]:
    """Return the different times of the scores that a step uses, the first evaluated one first."""
    found = list(tableau.stage_times[step, tableau.evaluated[step]])
    points = np.vstack([tableau.stage_past_points[step], tableau.past_points[step]])
    scores = np.vstack([tableau.stage_past_scores[step], tableau.past_scores[step]])
    found += list(tableau.past_times[step, (points != 0.0).any(axis=0) | (scores != 0.0).any(axis=0)])
    return list(dict.fromkeys(found)) or [float(tableau.times[step])]


def _write_looks(plan: Plan, tableau: Tableau, step: int, times: list[float]) -> None:
    """Where the step's scores are linearised: at the means of the forward process, given x and then given Y too."""
    begin, end = tableau.times[step], tableau.times[step + 1]
    for look, time in enumerate(times):
        plan.look_times[step, look] = time
        plan.x_base[JOINT, step, look] = np.exp(end - time)
        if time >= begin:
            plan.y_base[GIVEN_STATE, step, look] = np.exp(begin - time)
        else:  # between the two
            plan.x_base[GIVEN_STATE, step, look] = np.sinh(begin - time) / np.sinh(begin - end)
            plan.y_base[GIVEN_STATE, step, look] = np.sinh(time - end) / np.sinh(begin - end)
    for stage in np.flatnonzero(plan.evaluated[step]):
        plan.stage_look[step, stage] = times.index(tableau.stage_times[step, stage])
    for past, time in enumerate(tableau.past_times[step]):
        if time in times:
            plan.past_look[step, past] = times.index(time)


def _write_rows(plan: Plan, tableau: Tableau, step: int) -> None:
    """Write the noisy rows, value minus all but noise, multiplied by the inverse root of their noises' covariance."""
    stages, memory = tableau.stage_times.shape[1], tableau.memory
    seen = np.flatnonzero(plan.noisy[step])
    noise = np.vstack([tableau.stage_noise[step, seen], tableau.noise[step]])
    lengths = np.linalg.norm(noise, axis=1, keepdims=True)
    singular = len(noise) > noise.shape[1] or not lengths.all()
    singular = singular or np.linalg.svd(noise / lengths, compute_uv=False).min() < 1e-6
    if singular:
        raise ValueError(
            f"tableau must give every output noise that its stages do not determine, for method 'path'; "
            f"got noises {noise.tolist()} of stages and output in step {step} of {tableau.name}"
        )
    n = len(noise)
    rows = np.zeros((n, 2 + 2 * stages + 2 * memory))  # x, Y, U, S, u, s
    parts = np.split(rows, np.cumsum([1, 1, stages, stages, memory]), axis=1)
    x, y, points, scores, past_points, past_scores = parts
    x[-1] = 1.0
    y[:, 0] = -np.append(tableau.stage_state[step, seen], tableau.state[step])
    points[np.arange(n - 1), seen] = 1.0
    scores[:] = -np.vstack([tableau.stage_scores[step, seen], tableau.scores[step]])
    past_points[:] = -np.vstack([tableau.stage_past_points[step, seen], tableau.past_points[step]])
    past_scores[:] = -np.vstack([tableau.stage_past_scores[step, seen], tableau.past_scores[step]])
    root = np.linalg.cholesky((noise / lengths) @ (noise / lengths).T)
    rows[:] = np.linalg.solve(root, rows / lengths)
    plan.x_weight[step, :n], plan.y_weight[step, :n] = x[:, 0], y[:, 0]
    plan.point_weights[step, :n], plan.score_weights[step, :n] = points, scores
    plan.past_point_weights[step, :n], plan.past_score_weights[step, :n] = past_points, past_scores
    plan.log_scale[step] = -np.log(np.diag(root)).sum() - np.log(lengths).sum() - 0.5 * n * _LOG_2PI


def _write_makers(plan: Plan, step: int) -> None:
    """Find what the next step remembers of this one."""
    if step == plan.steps - 1:
        return
    for stage in np.flatnonzero(plan.evaluated[step]):
        p = plan.made[step + 1] - 1 - plan.number[step, stage]
        if p < plan.memory and (
            plan.past_point_weights[step + 1, :, p].any() or plan.past_score_weights[step + 1, :, p].any()
        ):
            plan.maker[step, p] = stage
            plan.later[step] = plan.unknowns[step + 1]


def _linearise(plan: Plan, variant: int, step: int) -> None:
    """Write the rows as affine functions of the unknowns: the noisy stage points' and the state's deviations."""
    n = plan.unknowns[step]
    joint = variant == JOINT
    x_base, y_base = plan.x_base[variant, step], plan.y_base[variant, step]
    state = np.zeros(n)
    state[n - 1] = 1.0 if joint else 0.0
    past = plan.past_scale[step][:, None] * state
    points = np.zeros((len(plan.evaluated[step]), n))
    for stage in np.flatnonzero(plan.evaluated[step]):
        if plan.noisy[step, stage]:
            points[stage, plan.row_of[step, stage]] = 1.0
        else:  # −1 stands for the slope of the scores that it uses
            points[stage] = plan.state[step, stage] * state - plan.scores[step, stage] @ points
            points[stage] += (plan.past_points[step, stage] - plan.past_scores[step, stage]) @ past
    y = plan.y_weight[step, :n]
    weights, past_weights = plan.point_weights[step, :n], plan.past_point_weights[step, :n]
    scores, past_scores = plan.score_weights[step, :n], plan.past_score_weights[step, :n]
    here, before = plan.stage_look[step], plan.past_look[step]
    decay = np.exp(plan.times[step + 1] - plan.times[step])
    plan.constant[variant, step, :n, :n] = np.outer(y, state) + weights @ points + past_weights @ past
    plan.given[variant, step, :n, 0] = plan.x_weight[step, :n] + weights @ x_base[here] + past_weights @ x_base[before]
    plan.given[variant, step, :n, 1] = weights @ y_base[here] + past_weights @ y_base[before]
    plan.given[variant, step, :n, 0 if joint else 1] += y * (decay if joint else 1.0)
    for look in range(plan.looks[step]):
        stages, pasts = here == look, before == look
        plan.slope[variant, step, :n, look, :n] = (
            scores[:, stages] @ points[stages] + past_scores[:, pasts] @ past[pasts]
        )
        plan.look_weights[variant, step, :n, look] = scores[:, stages].sum(axis=1) + past_scores[:, pasts].sum(axis=1)
    for p in np.flatnonzero(plan.maker[step] >= 0):
        stage, rows = plan.maker[step, p], slice(n, n + plan.later[step])
        look, now = plan.stage_look[step, stage], slice(plan.later[step])
        weights, scores = plan.past_point_weights[step + 1, now, p], plan.past_score_weights[step + 1, now, p]
        plan.constant[variant, step, rows, :n] += np.outer(weights, points[stage])
        plan.slope[variant, step, rows, look, :n] += np.outer(scores, points[stage])
        plan.given[variant, step, rows] += np.outer(weights, [x_base[look], y_base[look]])
        plan.look_weights[variant, step, rows, look] += scores
