"""Full covariances: points and scores in the bases of components.

A panel of the present step is in the eigenbasis of one component, its *frame*: there that component, the likeliest one,
has a curvature of its own for each coordinate. Tableau and noises look the same in all frames. A product with a matrix
leads from the frame to the original one, and others from there into the components' own coordinates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from srkverify.engines import lanes, panels
from srkverify.engines.cpu_memory import DIAGONAL
from srkverify.engines.lanes import together
from srkverify.engines.paths_memory import LANES, ORIGINAL, view
from srkverify.engines.simd import flat, integers, jit

ONE, TWO = np.int64(1), np.int64(2)  # points that are looked at together
INTO, OUT_OF = np.bool_(True), np.bool_(False)  # a component's own coordinates

_NOTHING = 1e-18  # posterior weight that changes no digit of a score


@jit
def _add_rotated(law: Any, matrix: Any, scratch: Any, sides: Any, x: Any, x_gap: Any, out: Any, out_gap: Any) -> None:
    """Add the product of a d×d matrix, at address ``matrix``, with one or two panels."""
    m, entries = flat(scratch.memory), flat(matrix)
    tiles = scratch.coordinates // panels.TILE
    if sides == 1:
        panels.add_products(entries, 0, tiles, law.dimension, m, x, m, out)
    else:
        panels.add_products_twice(entries, 0, tiles, law.dimension, m, x, x_gap, m, out, out_gap)


@jit
def rotate(law: Any, scratch: Any, into: Any, i: Any, sides: Any, x: Any, x_gap: Any, out: Any, out_gap: Any) -> None:
    """Write one or two panels, in component i's own coordinates, in the original ones; or ``into`` the own ones."""
    m, d = flat(scratch.memory), scratch.coordinates
    matrix = (law.into if into else law.out_of) + 8 * i * d * law.dimension
    for side in range(sides):
        lanes.fill(m, out + side * out_gap, d, 0.0)
    _add_rotated(law, matrix, scratch, sides, x, x_gap, out, out_gap)


@jit
def turn(law: Any, scratch: Any, sides: Any, point: Any, gap: Any) -> None:
    """Write one or two points in the coordinates of each component to ``turned``, if covariances are full."""
    if law.kind <= DIAGONAL:
        return
    m, frame = flat(scratch.memory), integers(scratch.frame, (1,))[0]
    d = scratch.coordinates
    size, stride = d * LANES, law.components * d * LANES
    original, original_gap = point, gap
    if frame != ORIGINAL:
        original, original_gap = scratch.lifted, size
        rotate(law, scratch, OUT_OF, frame, sides, point, gap, original, original_gap)
    for i in range(law.components):
        if i == frame:
            for side in range(sides):
                lanes.copy(m, scratch.turned + side * stride + i * size, d, m, point + side * gap)
        else:
            into = scratch.turned + i * size
            rotate(law, scratch, INTO, i, sides, original, original_gap, into, stride)


@jit
def to_original(law: Any, scratch: Any, x: Any, out: Any) -> None:
    """Write a panel in the original frame."""
    m, frame = flat(scratch.memory), integers(scratch.frame, (1,))[0]
    if frame == ORIGINAL:
        lanes.copy(m, out, scratch.coordinates, m, x)
    else:
        rotate(law, scratch, OUT_OF, frame, ONE, x, x, out, out)


@jit
def _matters(law: Any, scratch: Any, sides: Any, i: Any) -> Any:
    """Whether a component's posterior weight shows in some lane."""
    m = flat(scratch.memory)
    largest = 0.0
    together()
    for side in range(sides):
        for lane in range(LANES):
            largest = max(largest, m[scratch.shares + (side * scratch.components + i) * LANES + lane])
    together()
    return largest > _NOTHING


@jit
def _own_pulls(law: Any, slot: Any, scratch: Any, sides: Any, scale: Any, i: Any, out: Any, out_gap: Any) -> None:
    """Write what a component contributes to scores, in its own coordinates."""
    m = flat(scratch.memory)
    means, weights = view(scratch, scratch.means), view(scratch, scratch.weights)
    c, d = scratch.components, scratch.coordinates
    at = (slot * c + i) * d
    for side in range(sides):
        own = scratch.turned + (side * law.components + i) * d * LANES
        share = scratch.shares + (side * c + i) * LANES
        panels.whitened_pull(means, weights, at, d // panels.TILE, scale, m, own, m, share, m, out + side * out_gap)


@jit
def full_score(law: Any, slot: Any, scratch: Any, sides: Any, scale: Any, out: Any, out_gap: Any) -> None:
    """Write the scores of one or two points, which have been turned and looked at, to panels at ``out``."""
    m, frame = flat(scratch.memory), integers(scratch.frame, (1,))[0]
    d = scratch.coordinates
    size, matrix = d * LANES, d * law.dimension * 8
    for side in range(sides):
        lanes.fill(m, scratch.lifted + side * size, d, 0.0)
    for i in range(law.components):
        if i == frame or not _matters(law, scratch, sides, i):
            continue
        _own_pulls(law, slot, scratch, sides, scale, i, scratch.own, size)
        _add_rotated(law, law.out_of + i * matrix, scratch, sides, scratch.own, size, scratch.lifted, size)
    if frame == ORIGINAL:
        for side in range(sides):
            lanes.copy(m, out + side * out_gap, d, m, scratch.lifted + side * size)
    else:
        _own_pulls(law, slot, scratch, sides, scale, frame, out, out_gap)
        _add_rotated(law, law.into + frame * matrix, scratch, sides, scratch.lifted, size, out, out_gap)


@jit
def score_apart(law: Any, slot: Any, scratch: Any, scale: Any, out: Any) -> None:
    """Write the score of one point, of full covariances, and those of the picked components to ``spread``.

    The latter, and the score at ``lifted``, are in the original frame.
    """
    m, frame = flat(scratch.memory), integers(scratch.frame, (1,))[0]
    means, weights = view(scratch, scratch.means), view(scratch, scratch.weights)
    rank = integers(scratch.rank, (law.components,))
    c, d = scratch.components, scratch.coordinates
    size, matrix = d * LANES, d * law.dimension * 8
    lanes.fill(m, scratch.lifted, d, 0.0)
    for i in range(law.components):
        if rank[i] >= 0:
            turned, at, place = scratch.turned + i * size, (slot * c + i) * d, scratch.spread + rank[i] * size
            panels.whitened_pull(
                means, weights, at, d // panels.TILE, scale, m, turned, m, scratch.ones, m, scratch.own
            )
            rotate(law, scratch, OUT_OF, i, ONE, scratch.own, size, place, size)
            for j in range(0, size, LANES):
                lanes.add_product(m, scratch.lifted + j, m, place + j, m, scratch.shares + i * LANES)
        elif _matters(law, scratch, ONE, i):
            _own_pulls(law, slot, scratch, ONE, scale, i, scratch.own, size)
            _add_rotated(law, law.out_of + i * matrix, scratch, ONE, scratch.own, size, scratch.lifted, size)
    rotate(law, scratch, INTO, frame, ONE, scratch.lifted, size, out, size)
