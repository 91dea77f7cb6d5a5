"""A step along a path of the truth: the state comes from the forward process instead of the proposal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from srkverify.engines import lanes, panels
from srkverify.engines.lanes import own_lanes
from srkverify.engines.paths_memory import DIRECTIONS, LANES
from srkverify.engines.paths_plan import JOINT
from srkverify.engines.paths_proposal import add_directions, add_squares, draw, linearise, solve_bulk, write_means
from srkverify.engines.paths_solve import free_unknowns, room, root_entry
from srkverify.engines.simd import flat, floats, inlined, jit

_COLUMN = DIRECTIONS * LANES
_LOG_2PI = math.log(2.0 * math.pi)


@inlined
def follow_truth(law: Any, plan: Any, seed: Any, particle: Any, step: Any, stream: Any, scratch: Any, x: Any) -> None:
    """Draw the state from the forward process, to ``states``.

    Minus the log density that the proposal has there becomes the gain, and log(forward process/proposal) there
    ``drawn``; its mean, a KL of two Gaussians, becomes the extra.
    """
    m = flat(scratch.memory)
    times = floats(plan.times, (plan.steps + 1,))
    d, dimension = scratch.coordinates, law.dimension
    free = free_unknowns(plan, JOINT, step)
    last = free - 1
    h = times[step] - times[step + 1]
    variance = -math.expm1(-2.0 * h)
    deviation = math.sqrt(variance)
    mean, noise = scratch.deviations + last * d * LANES, scratch.noises + last * d * LANES
    directions = linearise(law, plan, JOINT, step, scratch, x, x)
    lanes.assign(m, scratch.gain, 0.0)
    solve_bulk(plan, JOINT, step, scratch, dimension, last, free)
    draw(seed, particle, step, stream, scratch, noise, dimension)
    add_squares(scratch, scratch.drawn, -0.5, noise, dimension)
    lanes.fill(m, mean, d, 0.0)
    if directions > 0:
        add_directions(law, plan, JOINT, step, scratch, directions, x, x, np.bool_(True))
        moved = scratch.moved + last * _COLUMN
        panels.add_combination(m, scratch.axes, directions, d, m, moved, d // panels.TILE, m, mean)
    write_means(plan, JOINT, step, scratch, dimension, last, free, x, x)
    for lane in own_lanes():  # so far the gain is log det
        m[scratch.extra + lane] += m[scratch.gain + lane] - dimension * (math.log(deviation) + 0.5)
        m[scratch.gain + lane] += 0.5 * dimension * _LOG_2PI
    _take(plan, scratch, last, dimension, directions, x, math.exp(-h), deviation)
    lanes.fill(m, scratch.states + dimension * LANES, d - dimension, 0.0)
    _add_length(scratch, scratch.extra, mean, dimension, last, directions)
    _add_length(scratch, scratch.gain, noise, dimension, last, directions)
    for lane in own_lanes():
        m[scratch.drawn + lane] += m[scratch.gain + lane] - dimension * (math.log(deviation) + 0.5 * _LOG_2PI)


@jit
def _take(
    plan: Any, scratch: Any, last: Any, dimension: Any, directions: Any, x: Any, decay: Any, deviation: Any
) -> None:
    """Write the state, and put its deviation from the proposal's mean, and this mean, in units of the bulk's root.

    Half the trace of the forward process's covariance over the proposal's goes to the extra.
    """
    m = flat(scratch.memory)
    d = scratch.coordinates
    mean, noise = scratch.deviations + last * d * LANES, scratch.noises + last * d * LANES
    for j in range(dimension):
        root = scratch.solved + (j * room(plan) if scratch.rows > 1 else 0) + root_entry(plan, last, last)
        for lane in own_lanes():
            at = j * LANES + lane
            drawn, scale = deviation * m[noise + at], 1.0 / m[root + lane]
            m[scratch.states + at] = decay * m[x + at] + drawn
            m[noise + at] = (drawn - m[mean + at]) * scale
            m[mean + at] *= scale
            trace = 1.0
            for axis in range(directions):
                along = m[scratch.axes + axis * d * LANES + at]
                own = m[scratch.bent + last * _COLUMN + axis * LANES + lane]
                trace += along * along * (1.0 / (own * own) - 1.0)
            m[scratch.extra + lane] += 0.5 * (deviation * scale) ** 2 * trace


@jit
def _add_length(scratch: Any, row: Any, panel: Any, dimension: Any, last: Any, directions: Any) -> None:
    """Add half the squared length of a panel, in units of the bulk's root, in those of the proposal's root."""
    m = flat(scratch.memory)
    add_squares(scratch, row, 0.5, panel, dimension)
    if directions == 0:
        return
    tiles = (directions + panels.TILE - 1) // panels.TILE
    lanes.fill(m, scratch.onto, DIRECTIONS, 0.0)
    panels.add_inner(m, scratch.axes, tiles, scratch.coordinates, dimension, m, panel, m, scratch.onto)
    for axis in range(directions):
        for lane in own_lanes():
            own = m[scratch.bent + last * _COLUMN + axis * LANES + lane]
            along = m[scratch.onto + axis * LANES + lane]
            m[row + lane] += 0.5 * along * along * (1.0 / (own * own) - 1.0)
