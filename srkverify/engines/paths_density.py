"""A step's true density: of the later state and the noisy stage points, given the state before."""

from __future__ import annotations

from typing import Any

import numpy as np

from srkverify.engines import lanes, panels
from srkverify.engines.paths_frames import INTO, ONE, rotate, to_original, turn
from srkverify.engines.paths_memory import LANES, ORIGINAL
from srkverify.engines.paths_mixtures import look, score
from srkverify.engines.paths_proposal import add_squares
from srkverify.engines.simd import flat, floats, inlined, integers, jit

NOWHERE = np.int64(-1)


@jit
def _past(plan: Any, step: Any, scratch: Any, side: Any, p: Any, actual: Any) -> Any:
    """Where the p-th remembered point is, and its score: as expected, or the true one."""
    made = integers(plan.made, (plan.steps,))
    size = scratch.coordinates * LANES
    if actual:
        at = scratch.ring + (made[step] - 1 - p) % (plan.memory + plan.stages) * size
        return at, at + (plan.memory + plan.stages) * size
    at = scratch.past + (2 * side * plan.memory + p) * size
    return at, at + plan.memory * size


@jit
def expect_past(law: Any, plan: Any, step: Any, scratch: Any, sides: Any, y: Any, gap: Any) -> None:
    """Write remembered points as they are to be expected, given one or two states, and the scores there."""
    m = flat(scratch.memory)
    past_look = integers(plan.past_look, (plan.steps, plan.memory))
    past_scale = floats(plan.past_scale, (plan.steps, plan.memory))
    d, past_gap = scratch.coordinates, 2 * plan.memory * scratch.coordinates * LANES
    for p in range(plan.memory):
        slot = past_look[step, p]
        point, out = _past(plan, step, scratch, np.int64(0), p, np.bool_(False))
        for side in range(sides):
            lanes.fill(m, point + side * past_gap, d, 0.0)
            panels.add(m, point + side * past_gap, past_scale[step, p], m, y + side * gap, d)
        turn(law, scratch, sides, point, past_gap)
        for side in range(sides):
            look(law, slot, scratch, side, 1.0, point + side * past_gap, scratch.work)
        score(law, slot, scratch, sides, 1.0, point, past_gap, out, past_gap)


@jit
def _at_state(plan: Any, step: Any, stage: Any) -> Any:
    """Whether a stage evaluates at a multiple of the state."""
    scores = floats(plan.scores, (plan.steps, plan.stages, plan.stages))
    past_points = floats(plan.past_points, (plan.steps, plan.stages, plan.memory))
    past_scores = floats(plan.past_scores, (plan.steps, plan.stages, plan.memory))
    others = integers(plan.noisy, (plan.steps, plan.stages))[step, stage] != 0
    for j in range(stage):
        others |= scores[step, stage, j] != 0.0
    for p in range(plan.memory):
        others |= past_points[step, stage, p] != 0.0 or past_scores[step, stage, p] != 0.0
    return not others


@jit
def _write_point(plan: Any, step: Any, stage: Any, scratch: Any, side: Any, y: Any, actual: Any, out: Any) -> None:
    """Write the point of a stage without noise."""
    m = flat(scratch.memory)
    state = floats(plan.state, (plan.steps, plan.stages))
    scores = floats(plan.scores, (plan.steps, plan.stages, plan.stages))
    past_points = floats(plan.past_points, (plan.steps, plan.stages, plan.memory))
    past_scores = floats(plan.past_scores, (plan.steps, plan.stages, plan.memory))
    d = scratch.coordinates
    lanes.fill(m, out, d, 0.0)
    panels.add(m, out, state[step, stage], m, y, d)
    for j in range(stage):
        if scores[step, stage, j] != 0.0:
            score = scratch.stage_scores + (side * plan.stages + j) * d * LANES
            panels.add(m, out, scores[step, stage, j], m, score, d)
    for p in range(plan.memory):
        past_point, past_score = _past(plan, step, scratch, side, p, actual)
        if past_points[step, stage, p] != 0.0:
            panels.add(m, out, past_points[step, stage, p], m, past_point, d)
        if past_scores[step, stage, p] != 0.0:
            panels.add(m, out, past_scores[step, stage, p], m, past_score, d)


@jit
def _write_row(plan: Any, step: Any, r: Any, scratch: Any, side: Any, x: Any, y: Any, actual: Any, known: Any) -> None:
    """Write a noisy row, multiplied as ``Plan`` says, to ``rest``; if ``known``, without the former step's part."""
    m = flat(scratch.memory)
    x_weight = floats(plan.x_weight, (plan.steps, plan.most))
    y_weight = floats(plan.y_weight, (plan.steps, plan.most))
    point_weights = floats(plan.point_weights, (plan.steps, plan.most, plan.stages))
    score_weights = floats(plan.score_weights, (plan.steps, plan.most, plan.stages))
    past_point_weights = floats(plan.past_point_weights, (plan.steps, plan.most, plan.memory))
    past_score_weights = floats(plan.past_score_weights, (plan.steps, plan.most, plan.memory))
    maker = integers(plan.maker, (plan.steps, plan.memory))
    d, rest = scratch.coordinates, scratch.rest
    lanes.fill(m, rest, d, 0.0)
    panels.add(m, rest, x_weight[step, r], m, x, d)
    panels.add(m, rest, y_weight[step, r], m, y, d)
    for stage in range(plan.stages):
        shift = (side * plan.stages + stage) * d * LANES
        if point_weights[step, r, stage] != 0.0:
            panels.add(m, rest, point_weights[step, r, stage], m, scratch.points + shift, d)
        if score_weights[step, r, stage] != 0.0:
            panels.add(m, rest, score_weights[step, r, stage], m, scratch.stage_scores + shift, d)
    for p in range(plan.memory):
        if known and maker[step - 1, p] >= 0:
            continue
        past_point, past_score = _past(plan, step, scratch, side, p, actual)
        if past_point_weights[step, r, p] != 0.0:
            panels.add(m, rest, past_point_weights[step, r, p], m, past_point, d)
        if past_score_weights[step, r, p] != 0.0:
            panels.add(m, rest, past_score_weights[step, r, p], m, past_score, d)


@jit
def evaluate(
    law: Any, plan: Any, step: Any, scratch: Any, sides: Any, x: Any, y: Any, gap: Any, turned: Any, actual: Any
) -> None:
    """Write the log density of x and the noisy ``points``, given the state, of one or two candidates, to ``density``.

    The second one's state is ``gap`` behind the first one's; ``turned`` is the place of the points that are turned.
    """
    m = flat(scratch.memory)
    unknowns = integers(plan.unknowns, (plan.steps,))
    stage_look = integers(plan.stage_look, (plan.steps, plan.stages))
    evaluated = integers(plan.evaluated, (plan.steps, plan.stages))
    noisy = integers(plan.noisy, (plan.steps, plan.stages))
    state = floats(plan.state, (plan.steps, plan.stages))
    log_scale = floats(plan.log_scale, (plan.steps,))
    size, stages = scratch.coordinates * LANES, plan.stages
    for stage in range(stages):
        if not evaluated[step, stage]:
            continue
        slot, point, scale = stage_look[step, stage], scratch.points + stage * size, 1.0
        for side in range(sides):
            if not noisy[step, stage]:
                _write_point(plan, step, stage, scratch, side, y + side * gap, actual, point + side * stages * size)
        if _at_state(plan, step, stage):
            scale = state[step, stage]
            if turned != y:
                turn(law, scratch, sides, y, gap)
                turned = y
        else:
            turn(law, scratch, sides, point, stages * size)
            turned = point
        for side in range(sides):
            look(law, slot, scratch, side, scale, point + side * stages * size, scratch.work)
        out = scratch.stage_scores + stage * size
        score(law, slot, scratch, sides, scale, point, stages * size, out, stages * size)
    for side in range(sides):
        out = scratch.density + side * LANES
        lanes.assign(m, out, law.dimension * log_scale[step])
        for r in range(unknowns[step]):
            _write_row(plan, step, r, scratch, side, x, y + side * gap, actual, np.bool_(False))
            add_squares(scratch, out, -0.5, scratch.rest, law.dimension)


@jit
def add_later(law: Any, plan: Any, step: Any, scratch: Any, side: Any, out: Any) -> None:
    """Add the log density of the next step's rows that remember this one's evaluations, but for a constant."""
    m = flat(scratch.memory)
    later = integers(plan.later, (plan.steps,))
    maker = integers(plan.maker, (plan.steps, plan.memory))
    point_weights = floats(plan.past_point_weights, (plan.steps, plan.most, plan.memory))
    score_weights = floats(plan.past_score_weights, (plan.steps, plan.most, plan.memory))
    d = scratch.coordinates
    for r in range(later[step]):
        lanes.copy(m, scratch.rest, d, m, scratch.later + r * d * LANES)
        for p in range(plan.memory):
            if maker[step, p] >= 0:
                made = (side * plan.stages + maker[step, p]) * d * LANES
                panels.add(m, scratch.rest, point_weights[step + 1, r, p], m, scratch.points + made, d)
                panels.add(m, scratch.rest, score_weights[step + 1, r, p], m, scratch.stage_scores + made, d)
        add_squares(scratch, out, -0.5, scratch.rest, law.dimension)


@jit
def recall_later(law: Any, plan: Any, step: Any, scratch: Any, panel: Any) -> None:
    """Write what is known of the next step's rows, in the panel's frame, to ``later``."""
    m, frame = flat(scratch.memory), integers(scratch.frame, (1,))[0]
    later = integers(plan.later, (plan.steps,))
    d = scratch.coordinates
    for r in range(later[step]):
        known, out = scratch.known + (panel * plan.most + r) * d * LANES, scratch.later + r * d * LANES
        if frame == ORIGINAL:
            lanes.copy(m, out, d, m, known)
        else:
            rotate(law, scratch, INTO, frame, ONE, known, known, out, out)


@jit
def keep_known(law: Any, plan: Any, step: Any, scratch: Any, panel: Any, x: Any) -> None:
    """Keep what is known of this step's rows, for the step before."""
    unknowns = integers(plan.unknowns, (plan.steps,))
    later = integers(plan.later, (plan.steps,))
    if step == 0 or later[step - 1] == 0:
        return
    for r in range(unknowns[step]):
        _write_row(plan, step, r, scratch, np.int64(0), x, scratch.states, np.bool_(False), np.bool_(True))
        out = scratch.known + (panel * plan.most + r) * scratch.coordinates * LANES
        to_original(law, scratch, scratch.rest, out)


@inlined
def replay(law: Any, plan: Any, step: Any, scratch: Any, panel: Any, final: Any) -> None:
    """Write the log density of a step of a whole path, forwards, to ``density``; ``final`` is the last state."""
    m = flat(scratch.memory)
    unknowns = integers(plan.unknowns, (plan.steps,))
    evaluated = integers(plan.evaluated, (plan.steps, plan.stages))
    noisy = integers(plan.noisy, (plan.steps, plan.stages))
    row_of = integers(plan.row_of, (plan.steps, plan.stages))
    number = integers(plan.number, (plan.steps, plan.stages))
    d, stages, slots = scratch.coordinates, plan.stages, plan.memory + plan.stages
    size = d * LANES
    place = scratch.kept + (panel * plan.steps + step) * plan.most * size
    x, y = final, place + (unknowns[step] - 1) * size
    if step < plan.steps - 1:
        x = place + (plan.most + unknowns[step + 1] - 1) * size
    for stage in range(stages):
        if noisy[step, stage]:
            lanes.copy(m, scratch.points + stage * size, d, m, place + row_of[step, stage] * size)
    evaluate(law, plan, step, scratch, ONE, x, y, y, NOWHERE, np.bool_(True))
    for stage in range(stages):
        if evaluated[step, stage]:
            at = scratch.ring + number[step, stage] % slots * size
            lanes.copy(m, at, d, m, scratch.points + stage * size)
            lanes.copy(m, at + slots * size, d, m, scratch.stage_scores + stage * size)
