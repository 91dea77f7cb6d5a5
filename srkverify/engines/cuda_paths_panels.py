"""What the path engine's functions call, for CUDA: those of ``panels`` that it uses, on the thread's own lane.

Layouts, names and arguments are those of :mod:`srkverify.engines.panels`; the sums of a tile's four rows stay in
registers there and here.
"""

from __future__ import annotations

import math
from typing import Any

from srkverify.engines import cuda_device
from srkverify.engines.cuda_paths_lanes import device, own_lane
from srkverify.engines.panels import TILE as _TILE
from srkverify.engines.rng import LANES

TILE = _TILE
_ROWS = TILE * LANES  # from a tile of a panel to the next

_weight = cuda_device.weight["float64"]  # of a logit minus the highest


@device
def add(out: Any, out_at: Any, factor: Any, x: Any, x_at: Any, rows: Any) -> None:
    """Add f·x to ``rows`` rows of ``out``."""
    lane = own_lane()
    for i in range(rows):
        out[out_at + i * LANES + lane] += x[x_at + i * LANES + lane] * factor


@device
def squares(x: Any, x_at: Any, d: Any, out: Any) -> None:
    """Write Σ_j x_j² to the first row of ``out``."""
    lane, total = own_lane(), 0.0
    for j in range(d):
        value = x[x_at + j * LANES + lane]
        total += value * value
    out[lane] = total


@device
def weighted_squares(x: Any, x_at: Any, weights: Any, weights_at: Any, d: Any, out: Any, out_at: Any) -> None:
    """Write Σ_j w_j x_j² to a row of ``out``, lane by lane."""
    lane, total = own_lane(), 0.0
    for j in range(d):
        value = x[x_at + j * LANES + lane]
        total += value * weights[weights_at + j * LANES + lane] * value
    out[out_at + lane] = total


@device
def distances(means: Any, at: Any, tiles: Any, d: Any, x: Any, x_at: Any, out: Any) -> None:
    """Write Σ_j (x_j − m_ij)² to row i of ``out``."""
    lane = own_lane()
    for tile in range(tiles):
        entry = at + tile * d * TILE
        zeroth = first = second = third = 0.0
        for j in range(d):
            value = x[x_at + j * LANES + lane]
            gap = value - means[entry]
            zeroth += gap * gap
            gap = value - means[entry + 1]
            first += gap * gap
            gap = value - means[entry + 2]
            second += gap * gap
            gap = value - means[entry + 3]
            third += gap * gap
            entry += TILE
        _write_tile(out, tile * _ROWS + lane, zeroth, first, second, third)


@device
def weighted_distances(means: Any, weights: Any, at: Any, tiles: Any, d: Any, x: Any, x_at: Any, out: Any) -> None:
    """Write Σ_j a_ij (x_j − m_ij)² to row i of ``out``."""
    lane = own_lane()
    for tile in range(tiles):
        entry = at + tile * d * TILE
        zeroth = first = second = third = 0.0
        for j in range(d):
            value = x[x_at + j * LANES + lane]
            gap = value - means[entry]
            zeroth += gap * weights[entry] * gap
            gap = value - means[entry + 1]
            first += gap * weights[entry + 1] * gap
            gap = value - means[entry + 2]
            second += gap * weights[entry + 2] * gap
            gap = value - means[entry + 3]
            third += gap * weights[entry + 3] * gap
            entry += TILE
        _write_tile(out, tile * _ROWS + lane, zeroth, first, second, third)


@device
def _write_tile(out: Any, at: Any, zeroth: Any, first: Any, second: Any, third: Any) -> None:
    out[at] = zeroth
    out[at + LANES] = first
    out[at + 2 * LANES] = second
    out[at + 3 * LANES] = third


@device
def whitened_distance(
    means: Any, weights: Any, at: Any, tiles: Any, factor: Any, x: Any, x_at: Any, out: Any, out_at: Any
) -> None:
    """Write Σ_j a_j (f x_j − m_j)² to a row of ``out``; the m_j and a_j of whole tiles begin at ``at``."""
    lane, total = own_lane(), 0.0
    for j in range(tiles * TILE):
        gap = x[x_at + j * LANES + lane] * factor - means[at + j]
        total += gap * weights[at + j] * gap
    out[out_at + lane] = total


@device
def whitened_pull(
    means: Any,
    weights: Any,
    at: Any,
    tiles: Any,
    factor: Any,
    x: Any,
    x_at: Any,
    share: Any,
    share_at: Any,
    out: Any,
    out_at: Any,
) -> None:
    """Write −r a_j (f x_j − m_j) to row j of ``out``, with r a row of ``share``; as ``whitened_distance``."""
    lane = own_lane()
    scale = share[share_at + lane]
    for j in range(tiles * TILE):
        gap = means[at + j] - x[x_at + j * LANES + lane] * factor
        out[out_at + j * LANES + lane] = gap * weights[at + j] * scale


@device
def logits(constants: Any, at: Any, factors: Any, factors_at: Any, rows: Any, out: Any) -> None:
    """Turn distances q_i, the rows of ``out``, into c_i − f_i q_i/2."""
    lane = own_lane()
    for i in range(rows):
        out[i * LANES + lane] = out[i * LANES + lane] * (factors[factors_at + i] * -0.5) + constants[at + i]


@device
def responsibilities(at: Any, tiles: Any, shares: Any, peak: Any, total: Any) -> None:
    """Turn logits, the rows of ``shares``, into r_i ∝ exp(logit); log Σ exp(logit) is ``peak`` + log ``total``.

    The two are written at ``at``.
    """
    lane, rows = own_lane(), tiles * TILE
    highest, mass = -math.inf, 0.0
    for i in range(rows):
        highest = max(highest, shares[i * LANES + lane])
    for i in range(rows):
        weight = _weight(shares[i * LANES + lane] - highest)
        mass += weight
        shares[i * LANES + lane] = weight
    scale = 1.0 / mass
    for i in range(rows):
        shares[i * LANES + lane] *= scale
    peak[at + lane] = highest
    total[at + lane] = mass


@device
def _add_rows(
    matrix: Any, at: Any, tiles: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any, kept: Any
) -> None:
    """Write Σ_j a_ij x_j, plus ``kept`` times what is there, to row i of ``out``."""
    lane = own_lane()
    for tile in range(tiles):
        entry, row = at + tile * depth * TILE, out_at + tile * _ROWS + lane
        zeroth = first = second = third = 0.0
        if kept:
            zeroth, first, second, third = out[row], out[row + LANES], out[row + 2 * LANES], out[row + 3 * LANES]
        for j in range(depth):
            value = x[x_at + j * LANES + lane]
            zeroth += value * matrix[entry]
            first += value * matrix[entry + 1]
            second += value * matrix[entry + 2]
            third += value * matrix[entry + 3]
            entry += TILE
        _write_tile(out, row, zeroth, first, second, third)


@device
def products(matrix: Any, at: Any, tiles: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> None:
    """Write Σ_j a_ij x_j to row i of ``out``."""
    _add_rows(matrix, at, tiles, depth, x, x_at, out, out_at, False)


@device
def add_products(matrix: Any, at: Any, tiles: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> None:
    """Add Σ_j a_ij x_j to row i of ``out``."""
    _add_rows(matrix, at, tiles, depth, x, x_at, out, out_at, True)


@device
def add_products_twice(
    matrix: Any,
    at: Any,
    tiles: Any,
    depth: Any,
    x: Any,
    x_at: Any,
    x_gap: Any,
    out: Any,
    out_at: Any,
    out_gap: Any,
) -> None:
    """Do ``add_products`` for two panels, the second one a gap behind the first."""
    for side in range(2):
        _add_rows(matrix, at, tiles, depth, x, x_at + side * x_gap, out, out_at + side * out_gap, True)


@device
def pulls(
    matrix: Any,
    at: Any,
    tiles: Any,
    depth: Any,
    shares: Any,
    x: Any,
    x_at: Any,
    pull: Any,
    stride: Any,
    factor: Any,
    out: Any,
    out_at: Any,
) -> None:
    """Add f·(Σ_i a_ji r_i − x_j p_j) to row j of ``out``; ``stride`` is 0 if all rows share one p, else the width."""
    lane = own_lane()
    for tile in range(tiles):
        entry = at + tile * depth * TILE
        zeroth = first = second = third = 0.0
        for i in range(depth):
            share = shares[i * LANES + lane]
            zeroth += share * matrix[entry]
            first += share * matrix[entry + 1]
            second += share * matrix[entry + 2]
            third += share * matrix[entry + 3]
            entry += TILE
        row = tile * _ROWS + lane
        for r in range(TILE):
            total = zeroth if r == 0 else first if r == 1 else second if r == 2 else third
            value = total - x[x_at + row + r * LANES] * pull[(tile * TILE + r) * stride + lane]
            out[out_at + row + r * LANES] += value * factor


@device
def isotropic_gaps(
    back: Any,
    weights: Any,
    at: Any,
    depth: Any,
    factor: Any,
    x: Any,
    x_at: Any,
    mean: Any,
    mean_at: Any,
    root: Any,
    root_at: Any,
    tiles: Any,
    out: Any,
    out_at: Any,
    total: Any,
    total_at: Any,
) -> None:
    """Write ρ (s_i − s) to the panel at ``out`` and add its squared length to ``total``; s_ij is (b_j − x_j) f."""
    lane = own_lane()
    scale, length = root[root_at + lane], total[total_at + lane]
    for j in range(tiles * TILE):
        entry, row = at + j // TILE * depth * TILE + j % TILE, j * LANES + lane
        gap = ((back[entry] - x[x_at + row]) * factor - mean[mean_at + row]) * scale
        length += gap * gap
        out[out_at + row] = gap
    total[total_at + lane] = length


@device
def diagonal_gaps(
    back: Any,
    weights: Any,
    at: Any,
    depth: Any,
    factor: Any,
    x: Any,
    x_at: Any,
    mean: Any,
    mean_at: Any,
    root: Any,
    root_at: Any,
    tiles: Any,
    out: Any,
    out_at: Any,
    total: Any,
    total_at: Any,
) -> None:
    """Do the same where s_ij is b_j − a_j x_j."""
    lane = own_lane()
    scale, length = root[root_at + lane], total[total_at + lane]
    for j in range(tiles * TILE):
        entry, row = at + j // TILE * depth * TILE + j % TILE, j * LANES + lane
        gap = (back[entry] - x[x_at + row] * weights[entry] - mean[mean_at + row]) * scale
        length += gap * gap
        out[out_at + row] = gap
    total[total_at + lane] = length


@device
def gaps(
    own: Any,
    own_at: Any,
    mean: Any,
    mean_at: Any,
    root: Any,
    root_at: Any,
    tiles: Any,
    out: Any,
    out_at: Any,
    total: Any,
    total_at: Any,
) -> None:
    """Do the same for scores s_i that are in memory; ``out`` may be the same panel."""
    lane = own_lane()
    scale, length = root[root_at + lane], total[total_at + lane]
    for j in range(tiles * TILE):
        row = j * LANES + lane
        gap = (own[own_at + row] - mean[mean_at + row]) * scale
        length += gap * gap
        out[out_at + row] = gap
    total[total_at + lane] = length


@device
def add_inner(rows: Any, at: Any, tiles: Any, stride: Any, d: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> None:
    """Add Σ_j y_ij x_j, j < d, to row i of ``out``, lane by lane: the y_i are panels of ``stride`` rows."""
    lane, panel = own_lane(), stride * LANES
    for tile in range(tiles):
        row, y = out_at + tile * _ROWS + lane, at + tile * TILE * panel + lane
        zeroth, first, second, third = out[row], out[row + LANES], out[row + 2 * LANES], out[row + 3 * LANES]
        for j in range(d):
            value = x[x_at + j * LANES + lane]
            zeroth += rows[y] * value
            first += rows[y + panel] * value
            second += rows[y + 2 * panel] * value
            third += rows[y + 3 * panel] * value
            y += LANES
        _write_tile(out, row, zeroth, first, second, third)


@device
def add_combination(
    rows: Any,
    at: Any,
    count: Any,
    stride: Any,
    weights: Any,
    weights_at: Any,
    tiles: Any,
    out: Any,
    out_at: Any,
) -> None:
    """Add Σ_i w_i y_i to ``tiles`` of a panel, lane by lane: the y_i are panels of ``stride`` rows."""
    lane = own_lane()
    for tile in range(tiles):
        row, y = out_at + tile * _ROWS + lane, at + tile * _ROWS + lane
        zeroth, first, second, third = out[row], out[row + LANES], out[row + 2 * LANES], out[row + 3 * LANES]
        for i in range(count):
            weight = weights[weights_at + i * LANES + lane]
            zeroth += rows[y] * weight
            first += rows[y + LANES] * weight
            second += rows[y + 2 * LANES] * weight
            third += rows[y + 3 * LANES] * weight
            y += stride * LANES
        _write_tile(out, row, zeroth, first, second, third)
