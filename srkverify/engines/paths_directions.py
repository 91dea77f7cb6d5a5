"""The few directions along which component scores differ: there the posterior is wider than curvatures say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from srkverify.engines import lanes, panels
from srkverify.engines.cpu_memory import DIAGONAL, ISOTROPIC
from srkverify.engines.lanes import anywhere, own_lanes, together
from srkverify.engines.paths_frames import INTO, TWO, rotate
from srkverify.engines.paths_memory import DIRECTIONS, LANES, view
from srkverify.engines.simd import flat, integers, jit

CHUNK = 16  # coordinates of all directions at a time, for them to stay in cache

_FLAT, _SMALL = 2e-3, 1e-4  # a variance of scores, of a component's part, times a step's, that is not worth directions
_THIN = 1e-6  # directions with less than this share of the largest variance are left out
_NOISE = _THIN / DIRECTIONS  # of the sum of variances: less will be left out, and is rounding, which must not decide
_SWEEPS = 4
_SKEW = 1e-6  # squared cosine of the angle between directions that is left to the last step
_LEAST_PIVOT = 1e-2
_COLUMN = DIRECTIONS * LANES  # from a row of a small matrix to the next one


@jit
def spread(law: Any, slot: Any, scratch: Any, count: Any, point: Any, score: Any, worth: Any) -> Any:
    """Write orthonormal directions along which component scores differ, and the posterior variances of them there.

    Of the ``count`` components that were picked, after the score. Returns the number of directions: none if the
    variance times ``worth`` is negligible.
    """
    m = flat(scratch.memory)
    d, kept, most = scratch.coordinates, np.int64(0), 0.0
    lanes.assign(m, scratch.total, 0.0)
    for a in range(count):
        _write_gap(law, slot, scratch, a, point, score, scratch.spread + kept * d * LANES)
        lanes.add_scaled(m, scratch.total, 1.0, m, scratch.work)
        largest = 0.0
        together()
        for lane in range(LANES):
            largest = max(largest, m[scratch.work + lane])
            most = max(most, m[scratch.total + lane])
        together()
        if largest * worth > _SMALL:
            kept += 1
    if not most * worth > _FLAT:
        return 0
    _write_axes(scratch, kept)
    if law.kind > DIAGONAL:
        frame, size = integers(scratch.frame, (1,))[0], d * LANES
        for a in range(0, kept, 2):
            at = a * size
            rotate(law, scratch, INTO, frame, TWO, scratch.axes + at, size, scratch.spread + at, size)
        lanes.copy(m, scratch.axes, kept * d, m, scratch.spread)
    return kept


@jit
def _write_gap(law: Any, slot: Any, scratch: Any, a: Any, point: Any, score: Any, out: Any) -> None:
    """Write r_i^{1/2} (s_i − s) of the a-th picked component to a panel, and its squared length to ``work``."""
    m = flat(scratch.memory)
    back, weights = view(scratch, scratch.back), view(scratch, scratch.back_weights)
    i = integers(scratch.picked, (DIRECTIONS,))[a]
    c, d = scratch.components, scratch.coordinates
    root, total, rows = scratch.other, scratch.work, d // panels.TILE
    lanes.assign(m, total, 0.0)
    for lane in own_lanes():
        m[root + lane] = math.sqrt(m[scratch.shares + i * LANES + lane])
    at, factor = slot * c * d + i * panels.TILE, m[scratch.factors + slot * c + i]
    if law.kind == ISOTROPIC:
        panels.isotropic_gaps(back, back, at, c, factor, m, point, m, score, m, root, rows, m, out, m, total)
    elif law.kind == DIAGONAL:
        panels.diagonal_gaps(back, weights, at, c, factor, m, point, m, score, m, root, rows, m, out, m, total)
    else:
        own, mean = scratch.spread + a * d * LANES, scratch.lifted
        panels.gaps(m, own, m, mean, m, root, rows, m, out, m, total)


@jit
def _write_axes(scratch: Any, count: Any) -> None:
    """Write the orthonormal directions that the first ``count`` panels of ``spread`` span."""
    m = flat(scratch.memory)
    d = scratch.coordinates
    size = d * LANES
    whole = (count + panels.TILE - 1) // panels.TILE * panels.TILE
    lanes.fill(m, scratch.spread + count * size, (whole - count) * d, 0.0)
    lanes.fill(m, scratch.gram, count * DIRECTIONS, 0.0)
    for first in range(0, d, CHUNK):
        part, at = min(CHUNK, d - first), scratch.spread + first * LANES
        for a in range(count):
            tile = a // panels.TILE * panels.TILE
            row, tiles = scratch.gram + a * _COLUMN + tile * LANES, (whole - tile) // panels.TILE
            panels.add_inner(m, at + tile * size, tiles, d, part, m, at + a * size, m, row)
    for a in range(count):
        for other in range(a):
            lanes.copy(m, scratch.gram + a * _COLUMN + other * LANES, 1, m, scratch.gram + other * _COLUMN + a * LANES)
    _diagonalise(scratch, count)
    _orthonormalise(scratch, count)
    lanes.fill(m, scratch.axes, whole * d, 0.0)
    for first in range(0, d, CHUNK):
        tiles, shift = min(CHUNK, d - first) // panels.TILE, first * LANES
        for a in range(count):
            row, out = scratch.rotation + a * _COLUMN, scratch.axes + a * size + shift
            panels.add_combination(m, scratch.spread + shift, count, d, m, row, tiles, m, out)


@jit
def _diagonalise(scratch: Any, n: Any) -> None:
    """Make ``gram`` almost diagonal, by Jacobi's rotations, whose product is written to ``rotation``."""
    m = flat(scratch.memory)
    gram, rotation = scratch.gram, scratch.rotation
    cosines, sines = scratch.work, scratch.other
    for i in range(n):
        lanes.fill(m, rotation + i * _COLUMN, n, 0.0)
        lanes.assign(m, rotation + i * _COLUMN + i * LANES, 1.0)
    for _ in range(_SWEEPS):
        rotated = False
        for p in range(n):
            for q in range(p + 1, n):
                large = False
                for lane in own_lanes():
                    entry = m[gram + p * _COLUMN + q * LANES + lane]
                    first = m[gram + p * _COLUMN + p * LANES + lane]
                    other = m[gram + q * _COLUMN + q * LANES + lane]
                    least = _NOISE * m[scratch.total + lane]
                    large |= entry * entry > _SKEW * max(first, least) * max(other, least)
                    gap = other - first
                    twice = 2.0 * entry if gap >= 0.0 else -2.0 * entry
                    tangent = twice / (abs(gap) + math.sqrt(gap * gap + 4.0 * entry * entry) + 1e-300)
                    cosine = 1.0 / math.sqrt(1.0 + tangent * tangent)
                    m[cosines + lane] = cosine
                    m[sines + lane] = cosine * tangent
                if anywhere(large):
                    rotated = True
                    lanes.rotate(m, gram + p * _COLUMN, gram + q * _COLUMN, n, LANES, m, cosines, sines)
                    lanes.rotate(m, gram + p * LANES, gram + q * LANES, n, _COLUMN, m, cosines, sines)
                    lanes.rotate(m, rotation + p * _COLUMN, rotation + q * _COLUMN, n, LANES, m, cosines, sines)
        if not rotated:
            return


@jit
def _orthonormalise(scratch: Any, n: Any) -> None:
    """Divide the rows of ``rotation`` by the roots of their sizes, and make right angles of what is nearly that.

    Rows that are short, or depend on those before, become zero.
    """
    m = flat(scratch.memory)
    gram, rotation, sizes, roots = scratch.gram, scratch.rotation, scratch.sizes, scratch.roots
    for lane in own_lanes():
        most = 0.0
        for i in range(n):
            most = max(most, m[gram + i * _COLUMN + i * LANES + lane])
        for i in range(n):
            size = m[gram + i * _COLUMN + i * LANES + lane]
            kept = size > _THIN * most
            m[sizes + i * LANES + lane] = size if kept else 0.0
            m[roots + i * LANES + lane] = 1.0 / math.sqrt(size) if kept else 0.0
    for i in range(n):  # Cholesky's factor L of the cosines; its diagonal is kept inverted
        row, turned, own, pivot = gram + i * _COLUMN, rotation + i * _COLUMN, i * LANES, scratch.work
        for k in range(n):
            lanes.multiply(m, turned + k * LANES, m, roots + own)
        lanes.assign(m, pivot, 1.0)
        for k in range(i):
            entry, before = row + k * LANES, gram + k * _COLUMN
            lanes.multiply(m, entry, m, roots + own)
            lanes.multiply(m, entry, m, roots + k * LANES)
            for other in range(k):
                lanes.subtract_product(m, entry, m, row + other * LANES, m, before + other * LANES)
            lanes.multiply(m, entry, m, before + k * LANES)
            lanes.subtract_product(m, pivot, m, entry, m, entry)
            for other in range(n):
                lanes.subtract_product(m, turned + other * LANES, m, entry, m, rotation + k * _COLUMN + other * LANES)
        for lane in own_lanes():
            kept = m[pivot + lane] > _LEAST_PIVOT
            m[sizes + own + lane] = m[sizes + own + lane] if kept else 0.0
            m[row + own + lane] = 1.0 / math.sqrt(m[pivot + lane]) if kept else 0.0
        for k in range(n):
            lanes.multiply(m, turned + k * LANES, m, row + own)
