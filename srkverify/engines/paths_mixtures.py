"""The mixtures that a step looks at: posterior weights of components, log densities and scores at panels of points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from srkverify.engines import lanes, panels
from srkverify.engines.cpu_memory import DIAGONAL, ISOTROPIC
from srkverify.engines.lanes import own_lanes, own_share, together
from srkverify.engines.paths_frames import ONE, full_score, turn
from srkverify.engines.paths_memory import DIRECTIONS, LANES, ORIGINAL, view
from srkverify.engines.simd import flat, floats, integers, jit

_NEGLIGIBLE = 1e-9  # posterior weight of a component that does not matter to the spread of scores
_LOG_2PI = math.log(2.0 * math.pi)
_FACTORS = 8  # variances that are multiplied before a logarithm is taken


@jit
def prepare(law: Any, plan: Any, step: Any, scratch: Any) -> None:
    """Write the mixtures that a step looks at: the truth at its times, and the shadow before it."""
    looks = integers(plan.looks, (plan.steps,))
    look_times = floats(plan.look_times, (plan.steps, plan.width))
    means = floats(law.means, (law.components, law.dimension))
    variances = floats(law.variances, (law.components, law.columns))
    scales = floats(law.shadow_scales, (law.steps, law.components, law.columns))
    shadow_variances = floats(law.shadow_variances, (law.steps, law.components, law.columns))
    for slot in range(looks[step] + 1):
        shadow = slot == looks[step]
        time = 0.0 if shadow else look_times[step, slot]
        shrink, spread, grown = math.exp(-time), math.exp(-2.0 * time), -math.expm1(-2.0 * time)
        place = plan.width if shadow else slot
        for i in own_share(law.components):
            for j in range(law.dimension):
                v = 0 if law.columns == 1 else j
                if shadow:
                    _write_entry(
                        law, scratch, place, i, j, scales[step, i, v] * means[i, j], shadow_variances[step, i, v]
                    )
                else:
                    _write_entry(law, scratch, place, i, j, shrink * means[i, j], spread * variances[i, v] + grown)
        _write_constants(law, scratch, place, step, shadow, spread, grown)


@jit
def _write_entry(law: Any, scratch: Any, slot: Any, i: Any, j: Any, mean: Any, variance: Any) -> None:
    """Write mean and variance of one coordinate of one component."""
    m = flat(scratch.memory)
    c, d = scratch.components, scratch.coordinates
    base, inverse = slot * c * d, 1.0 / variance
    forth = base + (i // panels.TILE * law.dimension + j) * panels.TILE + i % panels.TILE
    back = base + (j // panels.TILE * c + i) * panels.TILE + j % panels.TILE
    if law.kind == ISOTROPIC:
        m[scratch.means + forth] = mean
        m[scratch.back + back] = mean
    elif law.kind == DIAGONAL:
        m[scratch.means + forth] = mean
        m[scratch.weights + forth] = inverse
        m[scratch.back + back] = mean * inverse
        m[scratch.back_weights + back] = inverse
    else:
        m[scratch.means + base + i * d + j] = mean
        m[scratch.weights + base + i * d + j] = inverse


@jit
def _write_constants(law: Any, scratch: Any, slot: Any, step: Any, shadow: Any, spread: Any, grown: Any) -> None:
    """Write the logarithms of weights and normalisation, and factors and averages of 1/variance."""
    m = flat(scratch.memory)
    log_weights = floats(law.log_weights, (law.components,))
    variances = floats(law.variances, (law.components, law.columns))
    shadow_variances = floats(law.shadow_variances, (law.steps, law.components, law.columns))
    for i in own_share(scratch.components):
        constant, average, product = -1e30, 0.0, 1.0
        if i < law.components:
            constant = log_weights[i] - 0.5 * law.dimension * _LOG_2PI
            for v in range(law.columns):
                variance = shadow_variances[step, i, v] if shadow else spread * variances[i, v] + grown
                product *= variance
                average += 1.0 / variance
                if v % _FACTORS == _FACTORS - 1 or v == law.columns - 1:
                    constant -= 0.5 * math.log(product) * (law.dimension // law.columns)
                    product = 1.0
        m[scratch.constants + slot * scratch.components + i] = constant
        m[scratch.averages + slot * scratch.components + i] = average / law.columns
        alike = law.kind == ISOTROPIC and i < law.components
        m[scratch.factors + slot * scratch.components + i] = average if alike else 1.0


@jit
def look(law: Any, slot: Any, scratch: Any, side: Any, scale: Any, point: Any, out: Any) -> None:
    """Write posterior weights to ``shares`` of a side, and the log density at ``out``.

    If covariances are full the point is ``scale`` times the one that was turned, else the one at ``point``.
    """
    m = flat(scratch.memory)
    shares = view(scratch, scratch.shares + side * scratch.components * LANES)
    weighted, pull = view(scratch, scratch.weighted), view(scratch, scratch.pull)
    c, d = scratch.components, scratch.coordinates
    base, tiles = slot * c * d, c // panels.TILE
    means, weights = view(scratch, scratch.means), view(scratch, scratch.weights)
    if law.kind == ISOTROPIC:
        panels.distances(means, base, tiles, law.dimension, m, point, shares)
    elif law.kind == DIAGONAL:
        panels.weighted_distances(means, weights, base, tiles, law.dimension, m, point, shares)
    else:
        for i in range(law.components):
            own = scratch.turned + (side * law.components + i) * d * LANES
            at = base + i * d
            panels.whitened_distance(means, weights, at, d // panels.TILE, scale, m, own, shares, i * LANES)
    panels.logits(view(scratch, scratch.constants), slot * c, view(scratch, scratch.factors), slot * c, c, shares)
    panels.responsibilities(0, tiles, shares, weighted, pull)
    for lane in own_lanes():
        m[out + lane] = weighted[lane] + math.log(pull[lane])


@jit
def settle(law: Any, plan: Any, step: Any, scratch: Any, x: Any) -> None:
    """Choose the frame of a step from the later states, and rotate these into it; they stay turned.

    The choice depends on nothing else, so that what is proposed has a density given the later states.
    """
    chosen = integers(scratch.frame, (1,))
    together()
    chosen[0] = ORIGINAL
    if law.kind <= DIAGONAL:
        return
    m = flat(scratch.memory)
    x_base = floats(plan.x_base, (2, plan.steps, plan.width))
    turn(law, scratch, ONE, x, x)
    look(law, np.int64(0), scratch, np.int64(0), x_base[0, step, 0], x, scratch.work)
    best, frame = -1.0, 0
    together()
    for i in range(law.components):
        total = 0.0
        for lane in range(LANES):
            total += m[scratch.shares + i * LANES + lane]
        if total > best:
            best, frame = total, i
    together()
    chosen[0] = frame
    size = scratch.coordinates * LANES
    lanes.copy(m, x, scratch.coordinates, m, scratch.turned + frame * size)


@jit
def pick(law: Any, scratch: Any) -> Any:
    """Write which components matter to ``picked``, at most DIRECTIONS, and return how many; after ``look``."""
    m = flat(scratch.memory)
    picked = integers(scratch.picked, (DIRECTIONS,))
    rank = integers(scratch.rank, (law.components,))
    uncertainty = view(scratch, scratch.weighted)
    count = least = 0
    for i in range(law.components):
        size = 0.0
        together()
        for lane in range(LANES):
            share = m[scratch.shares + i * LANES + lane]
            size += share * (1.0 - share)
        uncertainty[i] = size
        if size <= _NEGLIGIBLE:
            continue
        place = least
        if count < DIRECTIONS:
            place = count
            count += 1
        elif not size > uncertainty[picked[least]]:
            continue
        together()
        picked[place] = i
        least = 0
        for k in range(1, count):
            if uncertainty[picked[k]] < uncertainty[picked[least]]:
                least = k
    for i in range(law.components):
        rank[i] = -1
    for k in range(count):
        rank[picked[k]] = k
    together()
    return count


@jit
def curvatures(law: Any, slot: Any, scratch: Any) -> None:
    """Write the posterior mean of 1/variance, coordinate by coordinate, to ``pull``; after ``score``.

    In a frame, a component that it does not belong to counts with its average: bases that have nothing to do with each
    other see little else.
    """
    m = flat(scratch.memory)
    c, d = scratch.components, scratch.coordinates
    if law.kind <= DIAGONAL:
        return
    frame = integers(scratch.frame, (1,))[0]
    own = scratch.shares + frame * LANES
    lanes.assign(m, scratch.work, 0.0)
    for i in range(law.components):
        if i != frame:
            lanes.add_scaled(m, scratch.work, m[scratch.averages + slot * c + i], m, scratch.shares + i * LANES)
    for j in range(d):
        lanes.copy(m, scratch.pull + j * LANES, 1, m, scratch.work)
        weight = m[scratch.weights + (slot * c + frame) * d + j]
        lanes.add_scaled(m, scratch.pull + j * LANES, weight, m, own)


@jit
def score(
    law: Any, slot: Any, scratch: Any, sides: Any, scale: Any, point: Any, gap: Any, out: Any, out_gap: Any
) -> None:
    """Write the scores of one or two points, which have been looked at, to panels at ``out``.

    If covariances are not full, ``pull`` becomes the posterior mean of 1/variance (of the last point).
    """
    m = flat(scratch.memory)
    c, d = scratch.components, scratch.coordinates
    base, rows = slot * c * d, d // panels.TILE
    if law.kind > DIAGONAL:
        full_score(law, slot, scratch, sides, scale, out, out_gap)
        return
    back, weights = view(scratch, scratch.back), view(scratch, scratch.back_weights)
    weighted, pull = view(scratch, scratch.weighted), view(scratch, scratch.pull)
    for side in range(sides):
        shares = scratch.shares + side * c * LANES
        lanes.fill(m, out + side * out_gap, d, 0.0)
        if law.kind == ISOTROPIC:
            lanes.assign(pull, 0, 0.0)
            for i in range(c):
                lanes.assign(weighted, i * LANES, 0.0)
                lanes.add_scaled(weighted, i * LANES, m[scratch.factors + slot * c + i], m, shares + i * LANES)
                lanes.add_scaled(pull, 0, 1.0, weighted, i * LANES)
            panels.pulls(back, base, rows, c, weighted, m, point + side * gap, pull, 0, 1.0, m, out + side * out_gap)
        else:
            panels.products(weights, base, rows, c, m, shares, pull, 0)
            own = view(scratch, shares)
            panels.pulls(back, base, rows, c, own, m, point + side * gap, pull, LANES, 1.0, m, out + side * out_gap)
