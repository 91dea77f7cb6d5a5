"""The proposal of a step: a Gaussian for the unknowns, given the later state.

Its mean and root are those of every coordinate's own problem (``solve``), the *bulk*, changed along the few directions
along which component scores differ.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from srkverify.engines import lanes, panels, rng
from srkverify.engines.cpu_memory import DIAGONAL
from srkverify.engines.lanes import own_lanes
from srkverify.engines.paths_directions import CHUNK, spread
from srkverify.engines.paths_frames import ONE, score_apart, turn
from srkverify.engines.paths_memory import DIRECTIONS, LANES, view
from srkverify.engines.paths_mixtures import curvatures, look, pick, score
from srkverify.engines.paths_plan import JOINT
from srkverify.engines.paths_solve import counts, free_unknowns, room, root_entry, solve
from srkverify.engines.simd import flat, floats, inlined, integers, jit

# A literal number as an argument has a function compiled anew, a NumPy integer has not.
_FIRST, _LANES = np.int64(0), np.int64(LANES)
_COLUMN = DIRECTIONS * LANES
_LOG_2PI = math.log(2.0 * math.pi)


@jit
def draw(seed: Any, particle: Any, step: Any, stream: Any, scratch: Any, out: Any, dimension: Any) -> None:
    """Write standard normals to a panel."""
    spare = (integers(scratch.words, (4 * LANES,)), integers(scratch.more_words, (4 * LANES,)))
    m = flat(scratch.memory)
    for group in range(scratch.coordinates // rng.GROUP):
        at = out + group * rng.GROUP * LANES
        rng.draw_group_apart(seed, particle, step, stream, group, m, at, _LANES, spare)
    lanes.fill(m, out + dimension * LANES, scratch.coordinates - dimension, 0.0)


@jit
def add_squares(scratch: Any, at: Any, factor: Any, panel: Any, dimension: Any) -> None:
    """Add ``factor`` times a panel's squared lengths to a row."""
    m = flat(scratch.memory)
    panels.squares(m, panel, dimension, view(scratch, scratch.pull))
    lanes.add_scaled(m, at, factor, m, scratch.pull)


@jit
def _add_log(scratch: Any, at: Any, factor: Any, x: Any) -> None:
    m = flat(scratch.memory)
    for lane in own_lanes():
        m[at + lane] += factor * math.log(m[x + lane])


@jit
def add_base_point(plan: Any, variant: Any, step: Any, look: Any, scratch: Any, x: Any, y: Any, out: Any) -> None:
    """Add a base point to the panel at ``out``."""
    m = flat(scratch.memory)
    x_base = floats(plan.x_base, (2, plan.steps, plan.width))
    y_base = floats(plan.y_base, (2, plan.steps, plan.width))
    panels.add(m, out, x_base[variant, step, look], m, x, scratch.coordinates)
    if y_base[variant, step, look] != 0.0:
        panels.add(m, out, y_base[variant, step, look], m, y, scratch.coordinates)


@jit
def _slot(plan: Any, step: Any, i: Any) -> Any:
    """Return the i-th of the mixtures that a step uses: the truth at its times, then the shadow."""
    looks = integers(plan.looks, (plan.steps,))
    return i if i < looks[step] else plan.width


@jit
def _slots(plan: Any, variant: Any, step: Any) -> Any:
    """Return how many they are."""
    looks = integers(plan.looks, (plan.steps,))
    return looks[step] + (1 if variant == JOINT else 0)


@jit
def linearise(law: Any, plan: Any, variant: Any, step: Any, scratch: Any, x: Any, y: Any) -> Any:
    """Write scores and their slopes at the base points; returns the number of directions."""
    m = flat(scratch.memory)
    times = floats(plan.times, (plan.steps + 1,))
    x_base = floats(plan.x_base, (2, plan.steps, plan.width))
    d, base, bent = scratch.coordinates, scratch.base, scratch.rows * LANES
    h = times[step] - times[step + 1]
    directions = 0
    for i in range(_slots(plan, variant, step)):
        slot = _slot(plan, step, i)
        out, scale = scratch.scores + slot * d * LANES, 1.0
        lanes.fill(m, base, d, 0.0)
        if slot < plan.width:
            add_base_point(plan, variant, step, slot, scratch, x, y, base)
        else:
            panels.add(m, base, math.exp(-h), m, x, d)
        if variant != JOINT:
            turn(law, scratch, ONE, base, base)
        elif slot < plan.width:  # x has been turned
            scale = x_base[variant, step, slot]
        else:
            scale = math.exp(-h)
        look(law, slot, scratch, _FIRST, scale, base, scratch.work)
        count = pick(law, scratch) if slot == 0 else 0
        if slot == 0 and law.kind > DIAGONAL:
            score_apart(law, slot, scratch, scale, out)
        else:
            score(law, slot, scratch, ONE, scale, base, base, out, out)
        curvatures(law, slot, scratch)
        for row in range(0, bent, LANES):
            for k in own_lanes():
                m[scratch.bends + slot * bent + row + k] = -m[scratch.pull + row + k]
        if slot == 0:
            directions = spread(law, slot, scratch, count, base, out, -math.expm1(-2.0 * h))
    return directions


@jit
def solve_bulk(plan: Any, variant: Any, step: Any, scratch: Any, dimension: Any, first: Any, free: Any) -> None:
    """Solve the problem of every coordinate, or of all at once; log det of unknowns from ``first`` goes to the gain."""
    rows = scratch.rows
    for row in range(1 if rows == 1 else dimension):
        out = scratch.solved + row * room(plan)
        solve(plan, variant, step, scratch, scratch.bends + row * LANES, rows * LANES, out)
        for i in range(first, free):
            _add_log(scratch, scratch.gain, float(dimension) if rows == 1 else 1.0, out + root_entry(plan, i, i))


@jit
def _solve_along(law: Any, plan: Any, variant: Any, step: Any, scratch: Any, axis: Any) -> None:
    """Solve the problem of one direction without and with the spread of component scores, to ``along``."""
    m = flat(scratch.memory)
    times = floats(plan.times, (plan.steps + 1,))
    look_times = floats(plan.look_times, (plan.steps, plan.width))
    rows, size, slopes = scratch.rows, scratch.sizes + axis * LANES, scratch.slopes
    worth = -math.expm1(2.0 * (times[step + 1] - times[step]))
    for k in range(_slots(plan, variant, step)):
        slot = _slot(plan, step, k)
        if rows == 1:
            lanes.copy(m, slopes + slot * LANES, _FIRST + 1, m, scratch.bends + slot * LANES)
            continue
        own = scratch.axes + axis * scratch.coordinates * LANES
        panels.weighted_squares(m, own, m, scratch.bends + slot * rows * LANES, law.dimension, m, slopes + slot * LANES)
    if rows > 1:
        solve(plan, variant, step, scratch, slopes, _LANES, scratch.along)
    elif axis == 0:
        lanes.copy(m, scratch.along, room(plan) // LANES, m, scratch.solved)
    lanes.copy(m, scratch.other, _FIRST + 1, m, slopes)
    for k in range(_slots(plan, variant, step)):
        slot = _slot(plan, step, k)
        time = look_times[step, slot] if slot < plan.width else times[step]
        shrink = math.exp(look_times[step, 0] - time)
        for lane in own_lanes():  # scores of components differ by e^{-t} times what their means do, over variances
            first, slope, variance = m[scratch.other + lane], slopes + slot * LANES + lane, m[size + lane]
            ratio = shrink * m[slope] / first if first != 0.0 else 0.0
            # less where the curvature changes within a step
            m[slope] += ratio * ratio * variance / math.sqrt(1.0 + worth * variance)
    solve(plan, variant, step, scratch, slopes, _LANES, scratch.along + room(plan))


@jit
def _backsolve(plan: Any, scratch: Any, free: Any, out: Any, axis: Any) -> None:
    """Replace column ``axis`` of ``out`` (N, DIRECTIONS, lanes) by the bulk's root⁻¹ of it."""
    m = flat(scratch.memory)
    for i in range(free - 1, -1, -1):
        at = out + i * _COLUMN + axis * LANES
        for k in range(i + 1, free):
            entry = scratch.along + root_entry(plan, i, k)
            lanes.subtract_product(m, at, m, entry, m, out + k * _COLUMN + axis * LANES)
        lanes.divide(m, at, m, scratch.along + root_entry(plan, i, i))


@jit
def _datum(plan: Any, scratch: Any, q: Any, x: Any, y: Any) -> Any:
    """Where the q-th panel is that means are linear in: x, Y, scores at base points, the shadow's, known rows."""
    if q == 0:
        return x
    if q == 1:
        return y
    if q > plan.width + 2:
        return scratch.later + (q - plan.width - 3) * scratch.coordinates * LANES
    return scratch.scores + (q - 2) * scratch.coordinates * LANES


@jit
def _write_onto(plan: Any, variant: Any, step: Any, scratch: Any, directions: Any, x: Any, y: Any) -> None:
    """Write components of data and noises along the directions to ``onto``."""
    m = flat(scratch.memory)
    d, data, free = scratch.coordinates, plan.data, free_unknowns(plan, variant, step)
    tiles = (directions + panels.TILE - 1) // panels.TILE
    lanes.fill(m, scratch.onto, (data + free) * DIRECTIONS, 0.0)
    for first in range(0, d, CHUNK):
        part, shift = min(CHUNK, d - first), first * LANES
        for q in range(data + free):
            if q < data and not counts(plan, variant, step, q):
                continue
            panel = _datum(plan, scratch, q, x, y) if q < data else scratch.noises + (q - data) * d * LANES
            panels.add_inner(m, scratch.axes + shift, tiles, d, part, m, panel + shift, m, scratch.onto + q * _COLUMN)


@jit
def add_directions(
    law: Any, plan: Any, variant: Any, step: Any, scratch: Any, directions: Any, x: Any, y: Any, truth: Any
) -> None:
    """Write what the directions add to means (``moved``) and to noises (``bent``), in units of the bulk's root.

    Along each, log det is added to the gain. If the state is drawn from the truth, ``bent`` is instead the root of
    its own direction over the bulk's, and only the state's part of log det counts.
    """
    m = flat(scratch.memory)
    data, free = plan.data, free_unknowns(plan, variant, step)
    bulk, own, onto = scratch.along, scratch.along + room(plan), scratch.onto
    _write_onto(plan, variant, step, scratch, directions, x, y)
    for axis in range(directions):
        _solve_along(law, plan, variant, step, scratch, axis)
        for i in range(free):
            moved, bent = scratch.moved + i * _COLUMN + axis * LANES, scratch.bent + i * _COLUMN + axis * LANES
            lanes.assign(m, moved, 0.0)
            lanes.assign(m, bent, 0.0)
            for q in range(data):
                if counts(plan, variant, step, q):
                    entry, seen = (i * data + q) * LANES, onto + q * _COLUMN + axis * LANES
                    lanes.add_product(m, moved, m, own + entry, m, seen)
                    lanes.subtract_product(m, moved, m, bulk + entry, m, seen)
            for k in range(i, free):
                lanes.add_product(
                    m, bent, m, own + root_entry(plan, i, k), m, onto + (data + k) * _COLUMN + axis * LANES
                )
            if not truth or i == free - 1:
                _add_log(scratch, scratch.gain, 1.0, own + root_entry(plan, i, i))
                _add_log(scratch, scratch.gain, -1.0, bulk + root_entry(plan, i, i))
        _backsolve(plan, scratch, free, scratch.moved, axis)
        if truth:
            bent, last = scratch.bent + (free - 1) * _COLUMN + axis * LANES, root_entry(plan, free - 1, free - 1)
            lanes.copy(m, bent, _FIRST + 1, m, own + last)
            lanes.divide(m, bent, m, bulk + last)
            continue
        _backsolve(plan, scratch, free, scratch.bent, axis)
        for i in range(free):
            seen = onto + (data + i) * _COLUMN + axis * LANES
            lanes.add_scaled(m, scratch.bent + i * _COLUMN + axis * LANES, -1.0, m, seen)


@jit
def write_means(
    plan: Any, variant: Any, step: Any, scratch: Any, dimension: Any, first: Any, free: Any, x: Any, y: Any
) -> None:
    """Write the means of unknowns from ``first`` on, deviations from their base points, to ``deviations``.

    These hold what directions add, in units of the bulk's root.
    """
    m = flat(scratch.memory)
    d, data, total = scratch.coordinates, plan.data, scratch.work
    for j in range(dimension):
        solved = scratch.solved + (j * room(plan) if scratch.rows > 1 else 0)
        for i in range(first, free):
            lanes.assign(m, total, 0.0)
            for k in range(i, free):
                unit = scratch.deviations + (k * d + j) * LANES
                lanes.add_product(m, total, m, solved + root_entry(plan, i, k), m, unit)
            for q in range(data):
                if counts(plan, variant, step, q):
                    datum = _datum(plan, scratch, q, x, y) + j * LANES
                    lanes.add_product(m, total, m, solved + (i * data + q) * LANES, m, datum)
            lanes.copy(m, scratch.deviations + (i * d + j) * LANES, _FIRST + 1, m, total)


@jit
def _scale_noises(plan: Any, scratch: Any, dimension: Any, free: Any) -> None:
    """Multiply noises by the bulk's root."""
    m = flat(scratch.memory)
    d, total = scratch.coordinates, scratch.work
    for j in range(dimension):
        solved = scratch.solved + (j * room(plan) if scratch.rows > 1 else 0)
        for i in range(free):
            lanes.assign(m, total, 0.0)
            for k in range(i, free):
                unit = scratch.noises + (k * d + j) * LANES
                lanes.add_product(m, total, m, solved + root_entry(plan, i, k), m, unit)
            lanes.copy(m, scratch.noises + (i * d + j) * LANES, _FIRST + 1, m, total)


@inlined
def propose(
    law: Any, plan: Any, variant: Any, seed: Any, particle: Any, step: Any, stream: Any, scratch: Any, x: Any, y: Any
) -> None:
    """Write means of the unknowns to ``deviations`` and what noise adds to them to ``noises``.

    Noise i is drawn from ``stream`` + i. Minus the log density of the proposal is added to the gain.
    """
    m = flat(scratch.memory)
    d, dimension, free = scratch.coordinates, law.dimension, free_unknowns(plan, variant, step)
    size = d * LANES
    directions = linearise(law, plan, variant, step, scratch, x, y)
    solve_bulk(plan, variant, step, scratch, dimension, _FIRST, free)
    for lane in own_lanes():
        m[scratch.gain + lane] += 0.5 * free * dimension * _LOG_2PI
    for i in range(free):
        draw(seed, particle, step, stream + i, scratch, scratch.noises + i * size, dimension)
        add_squares(scratch, scratch.gain, 0.5, scratch.noises + i * size, dimension)
        lanes.fill(m, scratch.deviations + i * size, d, 0.0)
    if directions > 0:
        add_directions(law, plan, variant, step, scratch, directions, x, y, np.bool_(False))
        for first in range(0, d, CHUNK):
            tiles, at = min(CHUNK, d - first) // panels.TILE, first * LANES
            for i in range(free):
                noise, mean = scratch.noises + i * size + at, scratch.deviations + i * size + at
                bent, moved = scratch.bent + i * _COLUMN, scratch.moved + i * _COLUMN
                panels.add_combination(m, scratch.axes + at, directions, d, m, bent, tiles, m, noise)
                panels.add_combination(m, scratch.axes + at, directions, d, m, moved, tiles, m, mean)
    write_means(plan, variant, step, scratch, dimension, _FIRST, free, x, y)
    _scale_noises(plan, scratch, dimension, free)
